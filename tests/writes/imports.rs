//! Imports whose writes overtake each other.

use crate::support::{Hooked, instance_with, quiet, things};
use brainy::base::settings::{Role, Settings};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn of_several_lines_with_one_id_the_last_stays_though_an_earlier_write_is_slow() {
    let store = Arc::new(Hooked::default());
    // Writes beside another put data objects of their own, of which the first takes its time.
    let settings = Settings { wal_inline_max_bytes: 1_024, ..quiet() };
    let one = instance_with(&store, Role::Hybrid, settings, 1).await;
    store.before_put("/wal/data/", tokio::time::sleep(Duration::from_secs(10)));
    let mut text = String::new();
    for batch in 0..4 {
        for n in 0..1_000 {
            let id = if n == 0 && batch % 2 == 1 { "x".to_owned() } else { format!("{batch} {n}") };
            text += &format!(
                "{{\"id\": \"{id}\", \"vector\": [1, 2], \"metadata\": {{\"n\": {batch}}}}}\n"
            );
        }
    }
    let report =
        one.import(&things(), stream::iter([Ok(Bytes::from(text))]).boxed()).await.unwrap();
    assert_eq!((report.imported, store.is_done()), (4_000, true));
    let found = one.get(&things(), "x").await.unwrap();
    assert_eq!(&*found.record.metadata, "{\"n\":3}");
    assert_eq!(one.describe(&things()).await.unwrap().vector_count, Some(3_999));
}
