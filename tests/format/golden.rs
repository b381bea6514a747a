//! The kept files of every version hold what `tests/golden.rs` says.

use crate::decode::bitmap::Form;
use crate::decode::chunk::{self, Deed, Operation};
use crate::decode::entry::{self, Body, Kind};
use crate::decode::filter_values::Number;
use crate::decode::manifest::{self, Totals};
use crate::decode::partitioner::Partitioner;
use crate::decode::{bitmap, bytes::Bytes, deletions, filter_index, keys, segment};
use crate::{codes, filters};
use std::path::Path;

/// A kept file.
pub fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

fn bits(vector: &[f32]) -> Option<Vec<u32>> {
    Some(vector.iter().map(|value| value.to_bits()).collect())
}

fn operation(kind: u8, id: &str) -> Operation {
    let (metadata, text, vector, limit) = (String::new(), None, None, None);
    Operation { kind, id: id.to_owned(), metadata, text, vector, limit }
}

fn three(vectors: [[f32; 2]; 2]) -> [Operation; 3] {
    let first = Operation {
        metadata: "{\"n\":1}".to_owned(),
        text: Some("text".to_owned()),
        vector: bits(&vectors[0]),
        ..operation(5, "first")
    };
    let last = Operation { vector: bits(&vectors[1]), ..operation(1, "zweites ö") };
    [first, operation(2, "gone"), last]
}

#[test]
fn chunks() {
    let found = chunk::decode(&golden("chunk-v1-f32.bin")).unwrap();
    assert_eq!(found.operations, three([[0.1, -2.5], [1e-20, 3e38]]));
    assert_eq!(found.dimensions, 2);
    let found = chunk::decode(&golden("chunk-v1-f16.bin")).unwrap();
    assert_eq!(found.operations, three([[0.5, -2.5], [255.0, 0.0]]));

    let found = chunk::decode(&golden("chunk-v2.bin")).unwrap();
    let [first, ..] = three([[0.1, -2.5], [0.0, 0.0]]);
    let limited = |id, limit| Operation { limit: Some(limit), ..operation(10, id) };
    let expected =
        [first, limited("seen at 41", 41), operation(2, "gone"), limited("zweites ö", 1 << 40)];
    assert_eq!(found.operations, expected);
    let deeds: Vec<Deed> = found.operations.iter().map(Operation::deed).collect();
    assert_eq!(deeds, [Deed::Upsert, Deed::Delete, Deed::Delete, Deed::Delete]);
}

#[test]
fn entries() {
    let found = entry::decode(&golden("entry-v1.wal")).unwrap();
    assert_eq!((found.kind, found.position, found.incarnation), (Kind::Data, 41, 2));
    assert_eq!((found.write_id, found.created_ms), ([7; 16], 1_768_473_000_000));
    assert_eq!((found.total_operations, found.total_bytes), (110, 10_000 + 285 + 1_234));
    assert_eq!(found.own_totals(285), (10, 285 + 1_234));
    let [inline, object] = &found.parts[..] else { panic!("{:?}", found.parts) };
    let Body::Inline { chunk, submission: 0 } = &inline.body else { panic!("{:?}", inline.body) };
    assert_eq!(chunk::decode(chunk).unwrap().operations, three([[1.0, 2.0], [3.0, 4.0]]));
    assert_eq!((object.operations, object.length, object.crc), (7, 1_234, 99));
    assert_eq!(object.body, Body::Object(1 << 100));

    let found = entry::decode(&golden("seal-v1.wal")).unwrap();
    assert_eq!((found.kind, found.position, found.parts.len()), (Kind::Seal, 42, 0));
    assert_eq!((found.total_operations, found.total_bytes), (110, 10_000 + 285 + 1_234 + 80));
}

#[test]
fn segments() {
    let found = segment::decode(&golden("segment-v1.seg")).unwrap();
    assert_eq!((found.contents.rows, found.contents.dimensions), (60, 3));
    assert_eq!((&found.contents.metric[..], found.contents.written), ("euclidean", (1, 60)));
    assert!(!found.kernel.head.by_length && found.passed_by.is_empty());
    filters::check(&found);
    codes::check(&found);
    let mut rows = found.rows;
    rows.sort_by_key(|row| row.written);
    for (number, row) in (0u16..).zip(&rows) {
        let id = if number == 7 { "zweites ö".to_owned() } else { format!("id-{number}") };
        let vector = [f32::from(number), 0.5, -1.0 / (f32::from(number) + 1.0)];
        assert_eq!((&row.id, Some(&row.vector)), (&id, bits(&vector).as_ref()));
        assert_eq!(row.metadata, format!("{{\"n\":{number}}}"));
        assert_eq!(row.text, (number % 2 == 1).then(|| format!("text {number}")));
        assert_eq!(row.written, u64::from(number) + 1);
    }
    assert_eq!((found.kernel.head.places, &found.kernel.clusters[..]), (8, &[0, 60][..]));
    assert_eq!(found.filter.fields[0].path, "n");
    assert_eq!(found.filter.fields[0].plain.numbers.len(), 60);
}

#[test]
fn dead_rows() {
    let found = deletions::decode(&golden("deletions-v1.del")).unwrap();
    let expected: Vec<(u128, Vec<u32>)> = vec![
        (7, (1_000..3_000).collect()),
        (1 << 100, vec![3, 70_000, 1 << 30]),
        (u128::MAX, (0..30_000).step_by(3).collect()),
    ];
    assert_eq!(found.dead.into_iter().collect::<Vec<_>>(), expected);
}

/// The rows are those of the values in `tests/golden.rs`.
#[test]
fn filter_indexes() {
    let long = "long".repeat(20);
    let hash = xxhash_rust::xxh3::xxh3_64(long.as_bytes()) as u32;
    let found = filter_index::decode(&golden("filter-index-v1.bin")).unwrap();
    assert_eq!((found.rows, found.string_max, found.left_out), (43, 64, vec![]));
    let paths: Vec<&str> = found.fields.iter().map(|field| &field.path[..]).collect();
    assert_eq!(paths, ["kind", "n", "tags", "x", "x.y", "x.z"]);
    let [kind, n, tags, x, x_y, x_z] = &found.fields[..] else { panic!() };
    assert_eq!(kind.rows, (0..40).chain([41]).collect::<Vec<_>>());
    let rows = |of: &str, from: u32, step| (of.to_owned(), (from..40).step_by(step).collect());
    let (text, mut others): (String, Vec<u32>) = rows("b", 0, 1);
    others.retain(|row| row % 4 != 0);
    assert_eq!(kind.plain.strings, [rows("a", 0, 4), (text, others)]);
    assert_eq!((&kind.plain.unkept[..], &kind.plain.hashes[..]), (&[41][..], &[(hash, 41)][..]));
    for (tens, (number, rows)) in (0u8..).zip(&n.plain.numbers) {
        assert_eq!(*number, Number::Integer(tens.into()));
        let first = u32::from(tens) * 10;
        assert_eq!(*rows, (first..first + 10).collect::<Vec<_>>());
    }
    assert_eq!((&tags.rows[..], &tags.plain.null[..]), (&[40, 41][..], &[41][..]));
    assert_eq!((&tags.elements.yes[..], &tags.elements.unkept[..]), (&[40][..], &[40][..]));
    assert_eq!(tags.elements.strings, [("a".to_owned(), vec![40])]);
    assert_eq!(tags.elements.hashes, [(hash, 40)]);
    assert_eq!(x.rows, [40, 41]);
    let expected = [(Number::Integer(-1), vec![41]), (Number::Float(0.5), vec![40])];
    assert_eq!(x_y.plain.numbers, expected);
    let most = Number::Integer(u64::MAX.into());
    assert_eq!(x_z.plain.numbers, [(Number::Float(1e-3), vec![41]), (most, vec![40])]);
}

#[test]
fn manifests() {
    for version in 1..=3 {
        let found = manifest::decode(&golden(&format!("manifest-v{version}.json")), "golden");
        let found = found.unwrap();
        assert_eq!((found.format_version, found.live, found.incarnation), (version, true, 1));
        assert_eq!((found.settings.dimensions, &found.settings.metric[..]), (384, "cosine"));
        assert_eq!(found.settings.description.as_deref(), Some("kept"));
        assert_eq!(found.stamp.recent_writes, ["0123456789abcdef"]);
        assert_eq!(found.indexed, Totals { records: 0, bytes: 0 });
        let ranges: Vec<_> = found.partitions[..4].iter().map(|part| part.hashes).collect();
        let quarter = 1u64 << 62;
        let expected: Vec<_> = (0..4).map(|n| (n * quarter, n * quarter + (quarter - 1))).collect();
        assert_eq!(ranges, expected);
        let times = (found.grace_ms, found.history_ms);
        assert_eq!(
            times,
            if version == 3 { (Some(60_000), Some(86_400_000)) } else { (None, None) }
        );
        if version == 1 {
            assert_eq!((found.partitions.len(), found.deletions.len()), (4, 0));
            assert_eq!((found.settings.partitioner, found.wal_indexed), (Partitioner::Hash, 0));
            continue;
        }
        assert_eq!(found.settings.partitioner.group("eu-1"), Some("europe"));
        assert_eq!(found.settings.partitioner.group("e"), Some(""));
        let segment = &found.partitions[4].segments[0];
        assert_eq!((segment.id, segment.rows, segment.dead), (1 << 80, 100, 3));
        assert_eq!((segment.bytes, segment.crc32c, segment.written), (1_000, 7, (1, 9)));
        let deletions = &found.deletions[0];
        assert_eq!((deletions.id, deletions.rows, deletions.bytes), (2 << 80, 3, 64));
        assert_eq!((keys::ulid_ms(deletions.id), found.wal_indexed), (2, 9));
        assert_eq!(found.swept_before.as_deref(), Some("2026-01-15T10:30:00.001Z"));
    }
    assert!(manifest::decode(&golden("manifest-v3.json"), "other").is_err());
}

/// The decoder of bitmaps against the crate's, in every form.
#[test]
fn bitmaps() {
    for rows in [
        Vec::new(),
        vec![0, 70_000, u32::MAX],
        (5..9_000).collect(),
        (0..200_000).filter(|row| row % 3 == 0 || row / 7 % 5 == 0).collect(),
        (0..400_000).filter(|row| row / 65_536 % 2 == 0 || row % 1_000 == 0).collect::<Vec<u32>>(),
    ] {
        let mut bitmap: roaring::RoaringBitmap = rows.iter().copied().collect();
        for optimize in [false, true] {
            if optimize {
                bitmap.optimize();
            }
            let mut data = Vec::new();
            bitmap.serialize_into(&mut data).unwrap();
            let mut bytes = Bytes::new(&data, "bitmap");
            let found = bitmap::decode(&mut bytes).unwrap();
            bytes.end().unwrap();
            assert_eq!(found.rows, rows);
            assert!(found.shortest || !optimize, "{:?}", found.forms);
            assert!(optimize || !found.forms.contains(&Form::Run));
        }
    }
}
