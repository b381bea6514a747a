//! Roles that change while clients go on.

use crate::cluster::{Cluster, PATIENCE, code, until};
use crate::load::Load;
use crate::support::say;
use serde_json::json;
use tokio::time::Instant;

#[tokio::test]
async fn a_reader_is_promoted_while_the_only_writer_is_dead_and_demoted_again() {
    let cluster = Cluster::new();
    let mut writer = cluster.start("writer", "writer-1").await;
    let chosen = cluster.start("reader", "reader-1").await;
    let reader = cluster.start("reader", "reader-2").await;
    reader.sees(3).await;
    let mut load = Load::new(&cluster.http);
    for client in ["client-1", "client-2"] {
        load.add(client, &[&writer.url, &chosen.url, &reader.url]);
    }
    load.goes_on(5).await;

    let killed = Instant::now();
    writer.kill();
    // The operator asks any node that lives.
    reader.order("reader-1", "writer").await;
    let went_on =
        until("writes go on", PATIENCE, async || load.ledger().next_after("", killed)).await;
    say(&format!("promotion: writes stood still for {:.1?}", went_on - killed));
    load.goes_on(20).await;
    let status = chosen.status().await;
    assert_eq!(status["node"]["role"], "writer", "{status}");

    // It is the last one that takes writes as soon as the other counts as dead.
    until("the killed writer counts as dead", PATIENCE, async || {
        reader.status_of("writer-1").await.is_none_or(|status| status == "dead").then_some(())
    })
    .await;
    let (status, refused) = reader.ask_for_role("reader-1", &json!({ "role": "reader" })).await;
    assert_eq!((status, code(&refused)), (409, "last_writer"), "{refused}");

    // Back to a reader under the same load: what is in flight is finished, the next is refused.
    let forced = json!({ "role": "reader", "force": true });
    let (status, answer) = reader.ask_for_role("reader-1", &forced).await;
    assert_eq!(status, 200, "{answer}");
    let refused = until("it takes no more writes", PATIENCE, async || {
        let (status, answer) = chosen.write("late").await;
        assert!(status == 200 || status == 403, "{status}: {answer}");
        (status == 403).then_some(answer)
    })
    .await;
    assert_eq!(code(&refused), "read_only_instance", "{refused}");
    until("it says that it is a reader", PATIENCE, async || {
        let node = chosen.status().await["node"].take();
        (node["role"] == "reader" && node["status"] == "active").then_some(())
    })
    .await;
    assert!(chosen.shows("client-1-0").await, "it answers reads again");
    load.ledger().leave_open("late");
    load.check(&reader, &cluster.store).await;
}

#[tokio::test]
async fn a_standby_steps_in_for_a_writer_that_leaves_and_does_not_before() {
    let cluster = Cluster::new();
    let mut writer = cluster.start("writer", "writer-1").await;
    let standby = cluster
        .start_with("writer", "writer-2", |command| {
            command.args(["--set", "standby=true"]);
        })
        .await;
    standby.sees(2).await;
    let (status, refused) = standby.write("early").await;
    assert_eq!((status, code(&refused)), (403, "read_only_instance"), "{refused}");
    assert_eq!(refused["error"]["details"]["writers"], json!([writer.url]));
    assert_eq!(writer.write("first").await.0, 200);

    writer.terminate();
    assert_eq!(writer.ended().await.code(), Some(0), "{}", writer.log_tail());
    let left = Instant::now();
    let wrote = until("the standby writes", PATIENCE, async || {
        (standby.write("second").await.0 == 200).then(Instant::now)
    })
    .await;
    let took = wrote - left;
    say(&format!("standby: wrote {took:.1?} after the writer had left"));
    // It need not wait until it counts the writer as dead.
    assert!(took < cluster.setting("instance_timeout_ms"), "{took:?}");
}
