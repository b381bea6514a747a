//! A collection that grows past what one object may hold, or one merge may take on.

use super::*;

const WRITES: usize = 8;
const ROWS: usize = 200;
/// Characters of a text: it is the bytes that count here, and vectors take longer to index.
const TEXT: usize = 3_000;
const MIB: u64 = 1 << 20;

/// All is indexed, and what is left to do is done: `bounded` says so of the segments' bytes in each partition.
async fn settled(brainy: &Brainy, bounded: impl Fn(&[u64]) -> bool) -> Vec<Partition> {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let stats = brainy.stats(&name()).await.unwrap();
        let bytes = |partition: &Partition| -> Vec<u64> {
            partition.segments.iter().map(|segment| segment.bytes).collect()
        };
        let indexed = stats.info.indexed_version == stats.info.version;
        if indexed && stats.partitions.iter().all(|partition| bounded(&bytes(partition))) {
            return stats.partitions;
        }
        let all: Vec<Vec<u64>> = stats.partitions.iter().map(bytes).collect();
        assert!(Instant::now() < until, "indexed: {indexed}, segments {all:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// An instance and the ids of what it was given, with `after` each write.
async fn grown(settings: Settings, after: impl AsyncFn(&Brainy)) -> (Brainy, BTreeSet<String>) {
    let store: DynStore = Arc::new(MemoryStore::default());
    let env = Env::system(2).unwrap();
    let brainy = Brainy::start(settings, Role::Hybrid, store, env).await.unwrap();
    let rng = SeededRng::new(5);
    let mut ids = BTreeSet::new();
    for write in 0..WRITES {
        let record = |row| {
            let vector: Vec<f32> = (0..DIMENSIONS).map(|_| rng.below(1_000) as f32 + 1.0).collect();
            let text: String = (0..TEXT).map(|_| char::from(b'0' + rng.below(64) as u8)).collect();
            NewRecord::new(format!("{write}-{row}"), vector).text(text)
        };
        let records: Vec<NewRecord> = (0..ROWS).map(record).collect();
        ids.extend(records.iter().filter_map(|record| record.id.clone()));
        brainy.upsert(&name(), records).await.unwrap();
        after(&brainy).await;
    }
    (brainy, ids)
}

async fn check_all_are_there(brainy: &Brainy, ids: &BTreeSet<String>) {
    let export = brainy.export(&name(), false).await.unwrap();
    let lines: Vec<_> = export.lines.try_collect().await.unwrap();
    let text: String = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
    let found: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(found.len(), ids.len());
    assert_eq!(&found.into_iter().collect::<BTreeSet<_>>(), ids);
}

fn growing() -> Settings {
    Settings {
        index_interval_ms: 10,
        index_after_bytes: 1,
        index_after_ms: 100,
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_partition_splits_before_its_segments_are_too_large_for_one_object() {
    let settings = Settings { segment_max_bytes: MIB, ..growing() };
    let (brainy, ids) = grown(settings, async |_| ()).await;
    let bounded = |segments: &[u64]| segments.iter().sum::<u64>() <= MIB;
    let partitions = settled(&brainy, bounded).await;
    // 1,600 texts of 3,000 characters, of 64 different ones, are 3.6 MB and more.
    assert!(partitions.len() >= 4, "{}", partitions.len());
    check_all_are_there(&brainy, &ids).await;
    // Nor by hand is more put into one.
    brainy.compact(&name()).await.unwrap();
    settled(&brainy, bounded).await;
    check_all_are_there(&brainy, &ids).await;
    brainy.shutdown().await;
}

/// A pass of indexing may leave more than a merge may take on: that is split, a few segments at a time.
#[tokio::test]
async fn a_partition_that_no_merge_could_take_on_splits_all_the_same() {
    let bounded = |segments: &[u64]| segments.iter().sum::<u64>() <= MIB;
    let settings = Settings { compaction_max_bytes: MIB, ..growing() };
    let wait = async |brainy: &Brainy| drop(settled(brainy, bounded).await);
    let (brainy, ids) = grown(settings, wait).await;
    let partitions = settled(&brainy, bounded).await;
    assert!(partitions.len() >= 4, "{}", partitions.len());
    check_all_are_there(&brainy, &ids).await;
    brainy.shutdown().await;
}
