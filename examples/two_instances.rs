//! A writer and a reader on one store, and how the reader is made to see a write.
//! `cargo run --example two_instances`
use brainy::{Brainy, NewRecord, Role};
use std::time::Duration;

#[tokio::main]
async fn main() -> brainy::Result<()> {
    let folder = std::env::temp_dir().join(format!("brainy-two-{}", std::process::id()));
    let url = folder.to_string_lossy();
    let writer = Brainy::builder(url.as_ref()).role(Role::Writer).open().await?;
    let reader = Brainy::builder(url.as_ref())
        .role(Role::Reader)
        .settings(|settings| settings.poll_interval_ms = 100)
        .open()
        .await?;

    let written =
        writer.collection("events").upsert([NewRecord::new("e1", vec![1.0, 0.0])]).await?;
    let events = reader.collection("events");
    // Whoever has the version sees the write on any reader.
    let wait = Duration::from_secs(5);
    let seen = events.search([1.0, 0.0]).at_least(written.version, wait).await?;
    println!("by version: {}", seen.hits[0].id);
    // Or the search looks at the log first: it sees whatever was acknowledged before it began.
    let seen = events.search([1.0, 0.0]).strong().await?;
    println!("strong: {} at version {}", seen.hits[0].id, seen.version.0);

    let refused =
        events.upsert([NewRecord::new("e2", vec![0.0, 1.0])]).await.expect_err("a reader");
    println!("{:?}: {refused}", refused.kind());
    reader.shutdown().await;
    writer.shutdown().await;
    std::fs::remove_dir_all(&folder).ok();
    Ok(())
}
