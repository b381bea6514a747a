//! Store three records, find the closest. `cargo run --example quickstart`
use brainy::{Brainy, NewRecord};

#[tokio::main]
async fn main() -> brainy::Result<()> {
    let db = Brainy::open("memory:").await?;
    let fruit = db.collection("fruit");
    let rows = [("apple", [0.9, 0.1]), ("pear", [0.8, 0.3]), ("leek", [0.0, 1.0])];
    fruit.upsert(rows.map(|(id, vector)| NewRecord::new(id, vector.to_vec()))).await?;
    let found = fruit.search([1.0, 0.1]).limit(2).await?;
    found.hits.iter().for_each(|hit| println!("{} at {:.3}", hit.id, hit.distance));
    Ok(())
}
