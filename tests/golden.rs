//! Files of every format version still open and say the same. A format that changes gets a new
//! version and a new file; the old ones stay.
//!
//! `BRAINY_TEST_BLESS=1 cargo test --test golden` writes files that are missing, never others.

use brainy::base::Timestamp;
use brainy::base::ids::{CollectionName, Seq, Totals, Ulid, WriteId};
use brainy::filter::Filter;
use brainy::filter::index::{FilterIndex, FilterIndexBuilder};
use brainy::index::{Effort, IndexParams, Metric, Scratch, Search, Threads};
use brainy::log::chunk::{Chunk, ChunkBuilder, Operation};
use brainy::log::entry::{Draft, Entry, Part};
use brainy::manifest::{CollectionSettings, DeletionsMeta, Manifest, Partition, SegmentMeta};
use brainy::partition::{HashRange, PartitionerKind, PrefixRule};
use brainy::segment::{Deletions, Segment, SegmentBuilder};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

/// The file's bytes; what this build would write must be the same while the version is current.
fn golden(name: &str, written_now: &[u8]) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if !path.exists() && std::env::var_os("BRAINY_TEST_BLESS").is_some() {
        std::fs::write(&path, written_now).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(kept, written_now, "{name}: the format has changed; give it a new version");
    kept.into()
}

fn chunk(vectors: [[f32; 2]; 2]) -> Bytes {
    let mut builder = ChunkBuilder::new(2);
    builder.upsert("first", &vectors[0], "{\"n\":1}", Some("text"));
    builder.delete("gone");
    builder.upsert("zweites ö", &vectors[1], "", None);
    builder.finish().unwrap()
}

#[test]
fn chunks_of_version_1() {
    for (name, vectors) in [
        ("chunk-v1-f32.bin", [[0.1, -2.5], [1e-20, 3e38]]),
        ("chunk-v1-f16.bin", [[0.5, -2.5], [255.0, 0.0]]),
    ] {
        let chunk = Chunk::open(golden(name, &chunk(vectors))).unwrap();
        let operations: Vec<_> = chunk.iter().collect();
        let Operation::Upsert { id, vector, metadata, text } = operations[0] else { panic!() };
        assert_eq!((id, metadata, text), ("first", "{\"n\":1}", Some("text")));
        assert_eq!(vector.to_vec(), vectors[0]);
        assert_eq!(operations[1], Operation::Delete { id: "gone", limit: None });
        let Operation::Upsert { id, vector, text: None, .. } = operations[2] else { panic!() };
        assert_eq!((id, vector.to_vec()), ("zweites ö", vectors[1].to_vec()));
    }
}

/// Only what has a limit is written in it: builds that do not know limits read all else.
#[test]
fn chunks_of_version_2() {
    let mut builder = ChunkBuilder::new(2);
    builder.upsert("first", &[0.1, -2.5], "{\"n\":1}", Some("text"));
    builder.delete_until("seen at 41", Seq(41));
    builder.delete("gone");
    builder.delete_until("zweites ö", Seq(1 << 40));
    let chunk = Chunk::open(golden("chunk-v2.bin", &builder.finish().unwrap())).unwrap();
    let operations: Vec<_> = chunk.iter().collect();
    assert_eq!(operations[0].id(), "first");
    assert_eq!(operations[1], Operation::Delete { id: "seen at 41", limit: Some(Seq(41)) });
    assert_eq!(operations[2], Operation::Delete { id: "gone", limit: None });
    let last = Operation::Delete { id: "zweites ö", limit: Some(Seq(1 << 40)) };
    assert_eq!(operations[3], last);
}

#[test]
fn entries_of_version_1() {
    let inline = chunk([[1.0, 2.0], [3.0, 4.0]]);
    let parts = [
        Part::Inline { operations: 3, chunk: inline },
        Part::Object { operations: 7, id: Ulid(1 << 100), length: 1_234, crc: 99 },
    ];
    let draft = Draft::data(2, WriteId([7; 16]), Timestamp(1_768_473_000_000), &parts);
    let header = draft.header(Seq(41), Totals { records: 100, bytes: 10_000 });
    let entry = Entry::decode(&golden("entry-v1.wal", &draft.encode(&header))).unwrap();
    assert_eq!((entry.header.seq, entry.header.incarnation), (Seq(41), 2));
    assert_eq!(entry.header.totals.records, 110);
    assert_eq!(entry.parts, parts);

    let seal = Draft::seal(2, WriteId([8; 16]), Timestamp(1_768_473_000_000));
    let header = seal.header(Seq(42), entry.header.totals);
    let entry = Entry::decode(&golden("seal-v1.wal", &seal.encode(&header))).unwrap();
    assert!(entry.header.seal && entry.parts.is_empty());
}

/// Written once: the index in it depends on the machine's arithmetic to the last bit, so what this
/// build writes may differ, but not what it reads.
#[test]
fn segments_of_version_1() {
    let mut builder = SegmentBuilder::new(3, Metric::Euclidean);
    let id = |row: u64| if row == 7 { "zweites ö".to_owned() } else { format!("id-{row}") };
    let text = |row: u64| (row % 2 == 1).then(|| format!("text {row}"));
    let vector = |row: u64| [row as f32, 0.5, -1.0 / (row as f32 + 1.0)];
    for row in 0..60 {
        let metadata = format!("{{\"n\":{row}}}");
        let text = text(row);
        builder.push(&id(row), Seq(row + 1), &vector(row), &metadata, text.as_deref()).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/segment-v1.seg");
    if !path.exists() && std::env::var_os("BRAINY_TEST_BLESS").is_some() {
        let params = IndexParams { m: 4, ..IndexParams::default() };
        std::fs::write(&path, builder.finish(params, Threads::One).unwrap()).unwrap();
    }
    let segment = Segment::from_bytes(std::fs::read(&path).unwrap().into()).unwrap();
    segment.verify().unwrap();
    assert_eq!(segment.contents().rows, 60);
    assert_eq!(segment.contents().written, (Seq(1), Seq(60)));
    let mut scratch = Scratch::default();
    for number in 0..60 {
        let row = segment.find(&id(number)).unwrap().unwrap();
        assert_eq!(segment.id(row).unwrap(), id(number));
        assert_eq!(
            (segment.vector(row), segment.written(row)),
            (&vector(number)[..], Seq(number + 1))
        );
        let metadata = format!("{{\"n\":{number}}}");
        let block = segment.records(row).unwrap();
        assert_eq!(block.get(row), Some((metadata.as_str(), text(number).as_deref())));
        let vectors = &segment.vectors();
        let search =
            Search { k: 1, effort: Effort::Default, allowed: None, vectors: Some(vectors) };
        let nearest = segment.index().search(&vector(number), &search, &mut scratch);
        assert_eq!((nearest[0].row, nearest[0].distance), (row, 0.0));
    }
}

#[test]
fn deletions_of_version_1() {
    let mut deletions = Deletions::default();
    // A few rows, a run, and every third row: a bitmap has another form for each.
    [3, 70_000, 1 << 30].iter().for_each(|&row| deletions.insert(Ulid(1 << 100), row));
    (1_000..3_000).for_each(|row| deletions.insert(Ulid(7), row));
    (0..30_000).step_by(3).for_each(|row| deletions.insert(Ulid(u128::MAX), row));
    let kept = Deletions::read(&golden("deletions-v1.del", &deletions.write())).unwrap();
    assert_eq!(kept, deletions);
    assert_eq!(kept.rows(), 3 + 2_000 + 10_000);
    let segments: Vec<Ulid> = kept.iter().map(|(segment, _)| segment).collect();
    assert_eq!(segments, [Ulid(7), Ulid(1 << 100), Ulid(u128::MAX)]);
    assert!(kept.of(Ulid(1 << 100)).unwrap().iter().eq([3, 70_000, 1 << 30]));
    assert_eq!(kept.of(Ulid(8)), None);
}

#[test]
fn filter_indexes_of_version_1() {
    let long = "long".repeat(20);
    let mut builder = FilterIndexBuilder::new();
    for row in 0..40 {
        builder.push(Some(&json!({"kind": if row % 4 == 0 { "a" } else { "b" }, "n": row / 10})));
    }
    builder.push(Some(&json!({"x.y": 0.5, "x": {"z": u64::MAX}, "tags": ["a", true, long]})));
    builder.push(Some(&json!({"x": {"y": -1, "z": 1e-3}, "tags": null, "kind": long})));
    builder.push(None);
    let index = FilterIndex::open(golden("filter-index-v1.bin", &builder.finish())).unwrap();
    for (filter, rows, exact) in [
        (json!({"kind": "a", "n": {"$gte": 2, "$lt": 3}}), vec![20, 24, 28], true),
        (json!({"x.y": {"$lt": 1}}), vec![40, 41], true),
        (json!({"x.z": {"$gt": 1}}), vec![40], true),
        (json!({"tags": {"$in": [null, true]}}), vec![40, 41], true),
        (json!({"tags": long}), vec![40], false),
        (json!({"kind": {"$exists": false}}), vec![40, 42], true),
    ] {
        let selection = Filter::parse(&filter).unwrap().select(&index).unwrap();
        assert_eq!(selection.rows.iter().collect::<Vec<_>>(), rows, "{filter}");
        assert_eq!(selection.exact(), exact, "{filter}");
    }
}

fn golden_manifest(name: &CollectionName) -> Manifest {
    let mut settings = CollectionSettings::new(384, Metric::Cosine, 4);
    settings.description = Some("kept".to_owned());
    let mut manifest = Manifest::create(name, settings, Timestamp(1_768_473_000_000), None);
    manifest.stamp.recent_writes.push("0123456789abcdef".to_owned());
    manifest
}

#[test]
fn manifests_of_version_1() {
    let name = CollectionName::new("golden").unwrap();
    let kept = std::fs::read("tests/golden/manifest-v1.json").unwrap();
    assert_eq!(brainy::manifest::parse(&name, &kept).unwrap(), golden_manifest(&name));
}

#[test]
fn manifests_of_versions_2_and_3() {
    let name = CollectionName::new("golden").unwrap();
    let rules = vec![PrefixRule { prefix: "eu-".to_owned(), group: "europe".to_owned() }];
    let mut manifest = golden_manifest(&name);
    manifest.settings.partitioner = PartitionerKind::Prefix { rules };
    manifest.partitions.push(Partition::new(4, "europe", HashRange::ALL));
    manifest.partitions[4].segments.push(SegmentMeta {
        id: Ulid(1 << 80),
        rows: 100,
        dead: 3,
        bytes: 1_000,
        crc32c: 7,
        written: (Seq(1), Seq(9)),
        extra: Default::default(),
    });
    manifest.deletions.push(DeletionsMeta {
        id: Ulid(2 << 80),
        rows: 3,
        bytes: 64,
        extra: Default::default(),
    });
    manifest.wal_indexed = Seq(9);
    manifest.swept_before = Timestamp(1_768_473_000_001);
    let kept = std::fs::read("tests/golden/manifest-v2.json").unwrap();
    assert_eq!(brainy::manifest::parse(&name, &kept).unwrap(), manifest);
    // Version 3 says what instances agree on.
    manifest = manifest.agreeing(std::time::Duration::from_secs(60));
    manifest.history_ms = Some(86_400_000);
    let written = serde_json::to_vec_pretty(&manifest).unwrap();
    let kept = golden("manifest-v3-fields.json", &written);
    assert_eq!(brainy::manifest::parse(&name, &kept).unwrap(), manifest);
    // Builds that knew of one vector named no fields.
    let kept = std::fs::read("tests/golden/manifest-v3.json").unwrap();
    assert_eq!(brainy::manifest::parse(&name, &kept).unwrap(), manifest);
}

/// Objects of a manifest that newer builds may add to.
const PLACES: [&str; 7] = [
    "",
    "/settings",
    "/settings/fields/vector",
    "/settings/fields/body",
    "/partitions/4",
    "/partitions/4/segments/0",
    "/deletions/0",
];

proptest! {
    /// What a newer build adds to a manifest is there still when this one has written it again.
    #[test]
    fn what_newer_builds_add_to_manifests_stays(
        words in prop::collection::vec("[a-z]{1,8}", PLACES.len()),
        numbers in prop::collection::vec(any::<i64>(), PLACES.len()),
        format in 3u64..9,
    ) {
        let kept = std::fs::read("tests/golden/manifest-v3-fields.json").unwrap();
        let mut newer: Value = serde_json::from_slice(&kept).unwrap();
        newer["settings"]["fields"]["body"] = json!({"type": "text"});
        for (place, (word, number)) in PLACES.iter().zip(words.iter().zip(&numbers)) {
            let object = newer.pointer_mut(place).and_then(Value::as_object_mut).unwrap();
            object.insert(format!("{word}Added"), json!({"deep": [number, null, {"text": word}]}));
        }
        newer["formatVersion"] = format.into();
        newer["minReader"] = 3.into();
        let name = CollectionName::new("golden").unwrap();
        let manifest =
            brainy::manifest::parse(&name, &serde_json::to_vec(&newer).unwrap()).unwrap();
        prop_assert_eq!(serde_json::to_value(&manifest).unwrap(), newer);
    }
}
