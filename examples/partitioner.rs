//! Records that belong together lie together: a partitioner of one's own. `cargo run --example partitioner`
use brainy::{Brainy, NewRecord, Partitioner, PartitionerKind};

/// Ids are `tenant/id`: each tenant has partitions of its own.
#[derive(Debug)]
struct ByTenant;

impl Partitioner for ByTenant {
    // Other rules need another name: the manifest keeps it, and an instance without it does not write.
    fn name(&self) -> &str {
        "by-tenant-1"
    }

    fn group<'a>(&'a self, id: &'a str) -> &'a str {
        id.split_once('/').map_or("", |(tenant, _)| tenant)
    }
}

#[tokio::main]
async fn main() -> brainy::Result<()> {
    let db = Brainy::builder("memory:").partitioner(ByTenant).open().await?;
    let files = db.collection("files");
    files.create(2).partitioner(PartitionerKind::Custom { name: "by-tenant-1".to_owned() }).await?;
    let rows = ["red/a", "red/b", "blue/a", "green/a"];
    let rows = rows.iter().zip(0u8..).map(|(id, x)| NewRecord::new(*id, vec![f32::from(x), 1.0]));
    files.upsert(rows).await?;
    files.compact().await?;
    for partition in files.stats().await?.partitions {
        println!(
            "partition {} of {:?}: {} rows",
            partition.number,
            partition.group,
            partition.live()
        );
    }
    db.shutdown().await;
    Ok(())
}
