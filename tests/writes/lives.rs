//! A name is looked up once: what is done is done to one life of it.

use crate::support::*;
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Env};
use brainy::engine::Brainy;
use brainy::engine::model::*;
use brainy::log::ChunkBuilder;
use brainy::store::DynStore;
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_write_that_was_checked_against_an_earlier_life_does_not_enter_the_next() {
    let store = Arc::new(Hooked::default());
    let a = instance(&store, Role::Hybrid, 1).await;
    let b = instance(&store, Role::Hybrid, 2).await;
    a.upsert(&things(), vec![record("x", &[1.0, 0.0], 1)]).await.unwrap();
    // Of the same instance or of another: after the check and before the entry is put.
    for who in [a.clone(), b.clone()] {
        store.before_put(".wal", async move {
            who.delete_collection(&things()).await.unwrap();
            who.create_collection(spec(3, Metric::Cosine)).await.unwrap();
        });
        let written = a.upsert(&things(), vec![record("y", &[0.0, 1.0], 1)]).await;
        assert!(store.is_done());
        assert_eq!(written.unwrap_err().code(), Code::DimensionMismatch);
        for one in [&a, &b] {
            assert!(found(one, &[1.0, 0.0, 0.0]).await.unwrap().is_empty());
            assert_eq!(one.stats(&things()).await.unwrap().skipped_writes, 0);
        }
        a.upsert(&things(), vec![record("z", &[1.0, 0.0, 0.0], 1)]).await.unwrap();
        assert_eq!(found(&b, &[1.0, 0.0, 0.0]).await.unwrap(), ["z"]);
        a.delete_collection(&things()).await.unwrap();
        a.create_collection(spec(2, Metric::Cosine)).await.unwrap();
    }
}

/// The same, while its records are checked: nothing looks the name up again behind that.
#[tokio::test]
async fn a_write_that_is_checked_while_its_collection_is_made_again_does_not_enter_it() {
    let store: DynStore = Arc::new(Hooked::default());
    let one = Brainy::start(quiet(), Role::Hybrid, store, Env::system(1).unwrap()).await.unwrap();
    one.upsert(&things(), vec![record("x", &[1.0, 0.0], 1)]).await.unwrap();
    found(&one, &[1.0, 0.0]).await.unwrap();
    // The one thread that checks records has something else to do.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let compute = one.env().compute.clone();
    let mut busy = std::pin::pin!(compute.run(move || held.recv()));
    assert!(futures::poll!(&mut busy).is_pending());
    let name = things();
    let mut write = std::pin::pin!(one.upsert(&name, vec![record("y", &[0.0, 1.0], 1)]));
    assert!(futures::poll!(&mut write).is_pending());
    one.delete_collection(&things()).await.unwrap();
    one.create_collection(spec(3, Metric::Cosine)).await.unwrap();
    release.send(()).unwrap();
    assert_eq!(write.await.unwrap_err().code(), Code::DimensionMismatch);
    assert!(found(&one, &[1.0, 0.0, 0.0]).await.unwrap().is_empty());
    assert_eq!(one.stats(&things()).await.unwrap().skipped_writes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_was_made_again_elsewhere_is_found_and_written_at_once() {
    let store = Arc::new(Hooked::default());
    let owner = instance(&store, Role::Hybrid, 1).await;
    let others = [
        instance(&store, Role::Hybrid, 2).await,
        instance(&store, Role::Reader, 3).await,
        instance(&store, Role::Writer, 4).await,
    ];
    owner.create_collection(spec(2, Metric::Cosine)).await.unwrap();
    owner.upsert(&things(), vec![record("old", &[1.0, 0.0], 1)]).await.unwrap();
    for other in &others {
        other.stats(&things()).await.unwrap();
    }
    owner.delete_collection(&things()).await.unwrap();
    // Zeros have no direction, but a length: also what is refused is refused for what there is now.
    owner.create_collection(spec(3, Metric::Euclidean)).await.unwrap();
    let zeros = [0.0, 0.0, 0.0];
    owner.upsert(&things(), vec![record("new", &zeros, 1)]).await.unwrap();
    for other in &others {
        if other.role().reads() {
            assert_eq!(found(other, &zeros).await.unwrap()[0], "new");
            let fetched = other.fetch(&things(), &["old".to_owned()], false).await.unwrap();
            assert_eq!(fetched.missing, ["old"]);
        }
        assert_eq!(other.describe(&things()).await.unwrap().dimensions, 3);
        if other.role().writes() {
            other.upsert(&things(), vec![record("newer", &zeros, 1)]).await.unwrap();
        }
    }
    owner.delete_collection(&things()).await.unwrap();
    // What is shown may be so old, but not older.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for other in &others {
        let gone = other.describe(&things()).await.unwrap_err();
        assert_eq!(gone.code(), Code::CollectionNotFound);
    }
}

/// A read that arrives while the read path finds out that its collection is gone.
#[tokio::test(start_paused = true)]
async fn nobody_hears_that_an_instance_shuts_down_because_a_collection_is_made_again() {
    let store = Arc::new(Hooked::default());
    let owner = instance(&store, Role::Hybrid, 1).await;
    let other = instance(&store, Role::Reader, 2).await;
    owner.upsert(&things(), vec![record("x", &[1.0, 0.0], 1)]).await.unwrap();
    found(&other, &[1.0, 0.0]).await.unwrap();
    owner.delete_collection(&things()).await.unwrap();
    owner.create_collection(spec(2, Metric::Cosine)).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let late = other.clone();
    store.before_get("manifest.json", async move {
        for _ in 0..10 {
            let (late, tell) = (late.clone(), tell.clone());
            #[expect(clippy::disallowed_methods, reason = "a client of its own")]
            tokio::spawn(async move { tell.send(found(&late, &[1.0, 0.0]).await).unwrap() });
        }
        drop(tell);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(found(&other, &[1.0, 0.0]).await.unwrap(), Vec::<String>::new());
    let mut answers = 0;
    while let Some(answer) = told.recv().await {
        answer.unwrap();
        answers += 1;
    }
    assert_eq!(answers, 10);
    // But when it does, it says so.
    other.shutdown().await;
    let error = found(&other, &[1.0, 0.0]).await.unwrap_err();
    assert_eq!(error.code(), Code::ShuttingDown);
}

#[tokio::test(start_paused = true)]
async fn a_listing_does_not_go_on_in_another_life() {
    let store = Arc::new(Hooked::default());
    let one = instance(&store, Role::Hybrid, 1).await;
    let two = || vec![record("a", &[1.0, 0.0], 1), record("b", &[1.0, 0.0], 1)];
    one.upsert(&things(), two()).await.unwrap();
    let cursor = one.list(&things(), 1, None, false).await.unwrap().next_cursor;
    let rest = one.list(&things(), 9, cursor.clone(), false).await.unwrap();
    assert_eq!(rest.records.len(), 1);
    one.delete_collection(&things()).await.unwrap();
    one.upsert(&things(), two()).await.unwrap();
    let error = one.list(&things(), 9, cursor, false).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert!(error.message().contains("list again from the beginning"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_import_stays_in_the_life_that_it_began_with() {
    let store = Arc::new(Hooked::default());
    let one = instance(&store, Role::Hybrid, 1).await;
    let two = instance(&store, Role::Hybrid, 2).await;
    let lines = |from: u32| {
        let lines = (from..from + 1_000).map(|n| format!("{{\"id\":\"{n}\",\"vector\":[1,2]}}\n"));
        Ok(Bytes::from(lines.collect::<String>()))
    };
    let (send, pieces) = futures::channel::mpsc::unbounded();
    send.unbounded_send(lines(0)).unwrap();
    // Of the second entry.
    store.before_put(".wal", async {});
    store.before_put(".wal", async move {
        two.delete_collection(&things()).await.unwrap();
        two.create_collection(spec(2, Metric::Euclidean)).await.unwrap();
    });
    for from in 1..20 {
        send.unbounded_send(lines(from * 1_000)).unwrap();
    }
    drop(send);
    let error = one.import(&things(), pieces.boxed()).await.unwrap_err();
    assert_eq!(error.code(), Code::CollectionNotFound);
    assert!(error.details()["imported"].as_u64().unwrap() >= 1_000, "{:?}", error.details());
    assert!(found(&one, &[1.0, 2.0]).await.unwrap().is_empty(), "records of the earlier life");
}

#[tokio::test(start_paused = true)]
async fn one_write_that_does_not_fit_ends_nothing() {
    let store = Arc::new(Hooked::default());
    let one = instance(&store, Role::Hybrid, 1).await;
    let reader = instance(&store, Role::Reader, 2).await;
    one.create_collection(spec(2, Metric::Cosine)).await.unwrap();
    one.upsert(&things(), vec![record("a", &[1.0, 0.0], 1)]).await.unwrap();
    let mut wide = ChunkBuilder::new(3);
    wide.upsert("wide", &[1.0, 0.0, 0.0], "", None);
    let at = append(&store, wide.finish().unwrap(), 1).await;
    one.upsert(&things(), vec![record("b", &[0.0, 1.0], 1)]).await.unwrap();
    for brainy in [&one, &reader] {
        assert_eq!(found(brainy, &[1.0, 0.0]).await.unwrap(), ["a", "b"]);
        assert_eq!(brainy.stats(&things()).await.unwrap().skipped_writes, 1);
        assert_eq!(brainy.env().metrics.wal_chunks_skipped.get(), 1);
        let warnings = brainy.condition().warnings.join("\n");
        assert!(warnings.contains(&format!("entry {at}")), "{warnings}");
    }
    one.index(&things()).await.unwrap();
    assert!(manifest(&store).await.unwrap().wal_indexed > at);
    for brainy in [one, reader, instance(&store, Role::Reader, 3).await] {
        assert_eq!(found(&brainy, &[1.0, 0.0]).await.unwrap(), ["a", "b"]);
    }
}

/// What is done in the background goes on with the next life, too.
#[tokio::test(start_paused = true)]
async fn the_next_life_is_indexed_by_an_instance_that_had_the_last_one_open() {
    let store = Arc::new(Hooked::default());
    let owner = instance(&store, Role::Hybrid, 1).await;
    let settings = Settings { index_after_ms: 1_000, ..Settings::default() };
    let indexer = instance_with(&store, Role::Writer, settings, 2).await;
    for life in 1..=3 {
        indexer.upsert(&things(), vec![record("x", &[1.0, 0.0], 1)]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        let manifest = manifest(&store).await.unwrap();
        assert_eq!((manifest.incarnation, manifest.live()), (life, 1));
        owner.delete_collection(&things()).await.unwrap();
    }
}

/// What has ended is no version that anybody waits for, and no lag.
#[tokio::test(start_paused = true)]
async fn an_instance_tells_nothing_of_a_collection_that_has_ended() {
    let store = Arc::new(Hooked::default());
    let owner = instance(&store, Role::Hybrid, 1).await;
    let reader = instance(&store, Role::Reader, 2).await;
    owner.upsert(&things(), vec![record("x", &[1.0, 0.0], 1)]).await.unwrap();
    found(&reader, &[1.0, 0.0]).await.unwrap();
    assert_eq!(reader.cluster().vitals().applied_versions["things"], 1);
    owner.delete_collection(&things()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let vitals = reader.cluster().vitals();
    assert!(vitals.applied_versions.is_empty(), "{vitals:?}");
    assert_eq!((vitals.lag_seconds, vitals.vector_count), (0.0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_reworked_by_hand_is_described_as_it_was_left() {
    let store = Arc::new(Hooked::default());
    let one = instance(&store, Role::Hybrid, 1).await;
    for n in 0..3 {
        one.upsert(&things(), vec![record(&format!("{n}"), &[1.0, 0.0], 1)]).await.unwrap();
        one.index(&things()).await.unwrap();
    }
    let done = one.compacted(&things()).await.unwrap();
    assert_eq!((done.rewritten, done.segments, done.partitions), (1, 1, 1));
    let done = one.resharded(&things(), 2).await.unwrap();
    assert_eq!((done.rewritten, done.partitions), (1, 2));
}
