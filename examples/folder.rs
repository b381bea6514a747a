//! A folder keeps everything: written, changed, deleted, and there again the next time.
//! `cargo run --example folder -- /tmp/brainy-example`
use brainy::{Brainy, NewRecord};

#[tokio::main]
async fn main() -> brainy::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| {
        std::env::temp_dir().join("brainy-example").to_string_lossy().into_owned()
    });
    let db = Brainy::open(&folder).await?;
    let notes = db.collection("notes");
    let before = notes.info().await.map_or(0, |info| info.vector_count.unwrap_or_default());
    println!("{before} notes in {folder}");

    let id = format!("note-{before}");
    let note = NewRecord::new(&id, vec![before as f32, 1.0]).text("remember the milk");
    let written = notes.upsert([note]).await?;
    println!("{id} is durable as version {}", written.version.0);

    let found = notes.get(&id).await?.record;
    println!("{}: {}", found.id, found.text.unwrap_or_default());
    let page = notes.list(1_000, None).await?;
    if let Some(oldest) = page.records.first().filter(|_| page.records.len() > 5) {
        notes.delete([oldest.id.as_str()]).await?;
        println!("{} is gone", oldest.id);
    }
    // Waits for what is in flight; without it the program may end too, and nothing acknowledged is lost.
    db.shutdown().await;
    Ok(())
}
