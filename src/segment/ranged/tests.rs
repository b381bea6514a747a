//! The same answers as a loaded segment gives, and how many requests they take.

use super::*;
use crate::base::Code;
use crate::base::ids::Seq;
use crate::base::metrics::Metrics;
use crate::base::spill::Spill;
use crate::index::{IndexParams, Metric, Threads};
use crate::segment::layout::FileBuilder;
use crate::segment::{Segment, SegmentBuilder};
use crate::store::layers::{Count, Usage};
use crate::store::memory::MemoryStore;
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};

fn key() -> Key {
    Key::raw("segment")
}

fn id(row: usize) -> String {
    format!("id-{row}")
}

/// A store that counts, with `file` in it.
async fn store_of(file: &[u8]) -> DynStore {
    let store: DynStore =
        Arc::new(Count::new(Arc::new(MemoryStore::default()), Arc::new(Metrics::default())));
    store.put(&key(), Bytes::copy_from_slice(file)).await.unwrap();
    store
}

async fn open(store: &DynStore, file: &[u8]) -> Result<RangedSegment> {
    RangedSegment::open(store, &key(), file.len() as u64).await
}

/// The answers for `ids`, and the requests that they took.
async fn find(segment: &RangedSegment, store: &DynStore, ids: &[&str]) -> (Vec<Option<u32>>, u64) {
    let usage = Usage::default();
    let rows = usage.scope(segment.find(store, ids)).await.unwrap();
    (rows, usage.requests())
}

fn real(rows: usize) -> Vec<u8> {
    let mut builder = SegmentBuilder::new(2, Metric::Euclidean);
    for row in 0..rows {
        let vector = [row as f32, (row * 7 % 13) as f32];
        builder.push(&id(row), Seq(row as u64 + 1), &vector, "", None).unwrap();
    }
    builder.finish(IndexParams { m: 4, ..IndexParams::default() }, Threads::One).unwrap().into()
}

/// A file with nothing right in it but what finds ids: row n has id n.
fn ids_alone(rows: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let names: Vec<String> = (0..rows).map(id).collect();
    let hashed: Vec<_> = names.iter().map(|id| (record_hash(id), id.as_str())).collect();
    let mut sections = ids::IdSections::build(&hashed).unwrap();
    change(&mut sections.blocks);
    let mut file = FileBuilder::new(&Spill::none(), 0).unwrap();
    for name in Name::ALL {
        file.section(name, |out| match name {
            Name::Vectors | Name::IdPlaces => out.extend_from_slice(&vec![0; 4 * rows]),
            Name::Written => out.extend_from_slice(&vec![0; 8 * rows]),
            Name::Ids => out.extend_from_slice(&sections.blocks),
            Name::IdBlocks => out.extend_from_slice(&sections.list),
            Name::IdFilter => out.extend_from_slice(&sections.filter),
            _ => Ok(()),
        })
        .unwrap();
    }
    let metric = Metric::Cosine;
    let (written, hashes) = ((Seq(1), Seq(2)), (0, u64::MAX));
    file.finish(Contents { rows: rows as u32, dimensions: 1, metric, written, hashes })
        .unwrap()
        .into()
}

#[tokio::test]
async fn answers_are_those_of_the_loaded_segment() {
    let file = real(3_000);
    let loaded = Segment::from_bytes(file.clone().into()).unwrap();
    let store = store_of(&file).await;
    let usage = Usage::default();
    let segment = usage.scope(open(&store, &file)).await.unwrap();
    assert_eq!((usage.requests(), segment.contents()), (1, loaded.contents()));
    assert!((3_000..8_000).contains(&segment.memory_bytes()), "{}", segment.memory_bytes());

    // Every other one is not here.
    let names: Vec<String> = (0..3_000).flat_map(|row| [id(row), format!("other-{row}")]).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let expected: Vec<_> = names.iter().map(|id| loaded.find(id).unwrap()).collect();
    assert_eq!(expected.iter().flatten().count(), 3_000);
    assert_eq!(find(&segment, &store, &names).await, (expected.clone(), 1), "all at once");
    let mut wasted = 0;
    for (at, expected) in expected.iter().enumerate() {
        let (rows, requests) = find(&segment, &store, &names[at..=at]).await;
        assert_eq!(rows, [*expected], "{}", names[at]);
        match expected {
            Some(_) => assert_eq!(requests, 1, "{}", names[at]),
            None => wasted += requests,
        }
    }
    assert!(wasted < 40, "{wasted} requests for 3,000 ids that are not here");
    assert_eq!(find(&segment, &store, &[]).await, (vec![], 0));
    let twice = [names[0], names[1], names[0]];
    let rows = vec![expected[0], None, expected[0]];
    assert_eq!(find(&segment, &store, &twice).await.0, rows);
}

#[tokio::test]
async fn far_ids_take_a_request_each_and_near_ones_share_it() {
    const ROWS: usize = 100_000;
    let file = ids_alone(ROWS, |_| {});
    let store = store_of(&file).await;
    let usage = Usage::default();
    // 1.2 bytes a row are more than 64 KiB here.
    let segment = usage.scope(open(&store, &file)).await.unwrap();
    assert_eq!(usage.requests(), 2);
    assert!(segment.memory_bytes() < 2 * ROWS, "{}", segment.memory_bytes());

    let names: Vec<String> = (0..ROWS).map(id).collect();
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable_by_key(|id| record_hash(id));
    let check = async |ids: &[&str], expected: std::ops::RangeInclusive<u64>| {
        let usage = Usage::default();
        let rows = usage.scope(segment.find(&store, ids)).await.unwrap();
        for (id, row) in ids.iter().zip(rows) {
            assert_eq!(id.strip_prefix("id-").and_then(|n| n.parse().ok()), row, "{id}");
        }
        assert!(expected.contains(&usage.requests()), "{} {}", ids.len(), usage.requests());
        usage.bytes()
    };
    // One block of 391.
    assert!(check(&sorted[..1], 1..=1).await < 10_000);
    assert!(check(&[sorted[0], sorted[ROWS - 1]], 2..=2).await < 20_000);
    // Neighbours, in any order.
    let near: Vec<&str> = sorted[40_000..44_000].iter().rev().copied().collect();
    assert!(check(&near, 1..=1).await < 200_000);
    // A twelfth of the file apart: more requests than are made at a time.
    let spread: Vec<&str> = sorted.iter().step_by(ROWS / 12).copied().collect();
    assert!(check(&spread, 13..=13).await < 130_000);
    // So near to each other that the gaps are fetched too, which is all of it then.
    let dense: Vec<&str> = sorted.iter().step_by(ROWS / 200).copied().collect();
    check(&dense, 1..=1).await;
    check(&sorted, 1..=1).await;
}

#[test]
fn near_ranges_are_merged() {
    let wanted = |ranges: &[Range<usize>]| -> Vec<Wanted> {
        let ranges = ranges.iter().cloned().enumerate();
        ranges.map(|(at, range)| Wanted { at, hash: 0, range }).collect()
    };
    let of = |ranges: &[Range<usize>], length: usize| -> Vec<(Range<usize>, usize)> {
        let wanted = wanted(ranges);
        let spans = spans(&wanted, length);
        spans.iter().map(|span| (span.range.clone(), span.wanted.len())).collect()
    };
    let large = 100 << 20;
    assert!(of(&[], large).is_empty() && of(&[], 0).is_empty());
    assert_eq!(of(&[5..9, 5..9, 5..20, 7..9], large), [(5..20, 4)]);
    assert_eq!(of(&[0..10, 10 + GAP_BYTES - 1..80_000], large), [(0..80_000, 2)]);
    let apart = 10 + GAP_BYTES..80_000;
    let two = [(0..10, 1), (apart.start..80_001, 2)];
    assert_eq!(of(&[0..10, apart, 79_999..80_001], large), two);
    // All of it, where more than half of it is wanted.
    assert_eq!(of(&[5..9, 9..50], 89), [(0..89, 2)]);
    assert_eq!(of(&[5..9, 9..50], 90), [(5..50, 2)]);
}

#[track_caller]
fn assert_corrupt<T: fmt::Debug>(result: Result<T>) {
    assert_eq!(result.unwrap_err().code(), Code::Corrupt);
}

#[tokio::test]
async fn cut_and_changed_objects_are_errors() {
    let file = ids_alone(2_000, |_| {});
    let store = store_of(&file).await;
    let segment = open(&store, &file).await.unwrap();
    let (first, all) = (id(7), (0..2_000).map(id).collect::<Vec<_>>());
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    // The object is another one now, if only by one byte.
    let mut changed = file.clone();
    changed[file.len() / 2] ^= 1;
    for other in [&changed[..], &file[..file.len() - 1], &file[..200], &[]] {
        store.put(&key(), Bytes::copy_from_slice(other)).await.unwrap();
        assert_corrupt(segment.find(&store, &[&first]).await);
        assert_corrupt(segment.find(&store, &all).await);
    }
    for length in (0..file.len()).step_by(97) {
        store.put(&key(), Bytes::copy_from_slice(&file[..length])).await.unwrap();
        assert_corrupt(open(&store, &file).await);
        assert_corrupt(open(&store, &file[..length]).await);
    }
    store.delete(&key()).await.unwrap();
    assert_corrupt(segment.find(&store, &[&first]).await);
    assert_corrupt(open(&store, &file).await);
}

#[tokio::test]
async fn rows_out_of_range_and_wrong_checksums_are_errors() {
    // The row of the first id of the only block.
    let file = ids_alone(100, |blocks| blocks[8 + 8 * 100..][..4].copy_from_slice(&[100, 0, 0, 0]));
    let store = store_of(&file).await;
    let segment = open(&store, &file).await.unwrap();
    let ids: Vec<String> = (0..100).map(id).collect();
    let first = ids.iter().min_by_key(|id| record_hash(id)).unwrap();
    assert_corrupt(segment.find(&store, &[first]).await);

    let mut file = ids_alone(100, |_| {});
    let start = segment.footer.section(Name::Ids).offset as usize;
    file[start + 8 + 8 * 100] ^= 1;
    let store = store_of(&file).await;
    let segment = open(&store, &file).await.unwrap();
    assert_corrupt(segment.find(&store, &[&ids[0]]).await);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Half of the changes in the lists and the footer, which has its checksum.
    #[test]
    fn damage_never_panics(patches in prop::collection::vec((0usize..1 << 20, any::<u8>()), 1..8)) {
        static FILE: OnceLock<Vec<u8>> = OnceLock::new();
        let mut file = FILE.get_or_init(|| ids_alone(1_000, |_| {})).clone();
        for (number, (at, byte)) in patches.into_iter().enumerate() {
            let near_end = file.len() - 1 - at % 4_000;
            let at = if number % 2 == 0 { near_end } else { at % file.len() };
            file[at] = byte;
        }
        let trailer = file.len() - crate::segment::layout::TRAILER_BYTES;
        let start = Footer::length(&file).ok().and_then(|length| file.len().checked_sub(length));
        if let Some(start) = start {
            let crc = crc32c::crc32c(&file[start..trailer]);
            file[trailer + 4..trailer + 8].copy_from_slice(&crc.to_le_bytes());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = store_of(&file).await;
            let Ok(segment) = open(&store, &file).await else { return };
            let ids: Vec<String> = (0..1_000).map(id).collect();
            for id in &ids {
                let _ = segment.find(&store, &[id]).await;
            }
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let _ = segment.find(&store, &ids).await;
        });
    }
}

/// It is used by tasks.
#[test]
fn its_futures_can_be_sent() {
    fn sent<T: Send>(_: T) {}
    let _ = |segment: &RangedSegment, store: &DynStore| sent(segment.find(store, &["id"]));
    let _ = |key: &Key, store: &DynStore| sent(RangedSegment::open(store, key, 1));
}
