//! Segments that are at hand, and how long they stay.

use super::*;

/// On a folder files are mapped: the cache's budget is for what only this process holds, so segments that are larger
/// than it are not read anew for each search. What a merge has replaced takes no room.
#[tokio::test]
async fn mapped_segments_stay_and_replaced_ones_are_let_go() {
    const WIDE: usize = 512;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_string_lossy().into_owned();
    let settings = Settings { store, cache_max_bytes: 1 << 20, ..settings() };
    let brainy = Brainy::open_with(settings, Role::Hybrid, Vec::new()).await.unwrap();
    let rng = SeededRng::new(17);
    let vector = || -> Vec<f32> { (0..WIDE).map(|_| rng.below(1_000) as f32 + 1.0).collect() };
    for part in 0..4 {
        let records = (0..1_000).map(|row| NewRecord::new(format!("{part}-{row}"), vector()));
        brainy.upsert(&name(), records.collect()).await.unwrap();
        brainy.index(&name()).await.unwrap();
    }
    let search = async || {
        let mut request = SearchRequest::nearest(vector(), 10);
        request.consistency = Consistency::Strong;
        assert_eq!(brainy.search(&name(), request).await.unwrap().hits.len(), 10);
        brainy.stats(&name()).await.unwrap()
    };
    let reached = async |count: u64| {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let stats = search().await;
            let segments: usize = stats.partitions.iter().map(|one| one.segments.len()).sum();
            let known = (segments as u64, stats.tail_rows, stats.cache_segments);
            if known == (count, 0, count) {
                return;
            }
            assert!(Instant::now() < until, "{known:?}, not {count}");
            sleep(Duration::from_millis(20)).await;
        }
    };
    reached(4).await;
    let loaded = || brainy.env().metrics.segments_loaded.get();
    let before = loaded();
    for _ in 0..5 {
        search().await;
    }
    assert_eq!(loaded(), before, "they have 8 MB, and the cache has 1");
    brainy.compact(&name()).await.unwrap();
    reached(1).await;
    brainy.shutdown().await;
}
