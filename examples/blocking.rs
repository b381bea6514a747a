//! Without async. `cargo run --example blocking`
use brainy::{NewRecord, blocking};

fn main() -> brainy::Result<()> {
    let db = blocking::Brainy::open("memory:")?;
    let points = db.collection("points");
    let rows = (0..1_000).map(|number| {
        let angle = number as f32 / 100.0;
        NewRecord::new(format!("at {angle}"), vec![angle.cos(), angle.sin()])
    });
    let written = db.run(points.upsert(rows))?;
    println!("{} records as version {}", written.upserted, written.version.0);
    for hit in db.run(points.search([1.0, 0.0]).limit(3))?.hits {
        println!("{} at {:.6}", hit.id, hit.distance);
    }
    db.shutdown()?;
    Ok(())
}
