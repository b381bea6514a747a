//! Stores that are made by hand, and the records that the document says they have.

use crate::decode::{Fault, keys};
use crate::golden::golden;
use crate::make::{self, Part, operation};
use crate::store::{Collection, Objects, collection};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Objects in memory.
#[derive(Default)]
struct Made(BTreeMap<String, Vec<u8>>);

impl Objects for Made {
    fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn read(&self, key: &str) -> Option<Vec<u8>> {
        self.0.get(key).cloned()
    }
}

/// What a test has appended so far.
struct Log {
    made: Made,
    position: u64,
    totals: (u64, u64),
}

impl Log {
    /// A collection with an empty log behind `indexed`.
    fn new(indexed: u64, change: impl FnOnce(&mut Value)) -> Log {
        let mut manifest: Value = serde_json::from_slice(&golden("manifest-v3.json")).unwrap();
        manifest["settings"]["dimensions"] = 2.into();
        manifest["walIndexed"] = indexed.into();
        manifest["partitions"][4]["segments"] = json!([]);
        manifest["deletions"] = json!([]);
        change(&mut manifest);
        let mut made = Made::default();
        made.0.insert(keys::manifest("golden"), manifest.to_string().into_bytes());
        Log { made, position: indexed, totals: (0, 0) }
    }

    fn append(&mut self, kind: u16, parts: &[Part]) {
        self.position += 1;
        let data = make::entry((kind, self.position, 1), self.totals, parts);
        for part in parts {
            let (Part::Inline(operations, chunk) | Part::Object(operations, chunk, _)) = part;
            self.totals.0 += u64::from(*operations);
            if let Part::Object(_, _, id) = part {
                self.totals.1 += chunk.len() as u64;
                self.made.0.insert(keys::body("golden", *id), chunk.to_vec());
            }
        }
        self.totals.1 += data.len() as u64;
        self.made.0.insert(keys::entry("golden", self.position), data);
    }

    /// An entry of another life.
    fn of_life(&mut self, life: u64, kind: u16, parts: &[Part]) {
        self.append(kind, parts);
        let data = make::entry((kind, self.position, life), (0, 0), parts);
        let mut kept = self.made.0[&keys::entry("golden", self.position)].clone();
        kept[24..32].copy_from_slice(&data[24..32]);
        let crc = crc32c::crc32c(&kept[..76]).to_le_bytes();
        kept[76..80].copy_from_slice(&crc);
        self.made.0.insert(keys::entry("golden", self.position), kept);
    }

    /// An entry of these operations.
    fn operations(&mut self, operations: &[(u8, &str, f32)]) {
        let operations: Vec<_> =
            operations.iter().map(|(kind, id, value)| operation(*kind, id, *value)).collect();
        let chunk = make::chunk(2, &operations);
        self.append(1, &[Part::Inline(operations.len() as u32, &chunk)]);
    }

    fn fold(&self) -> Collection {
        collection(&self.made, "golden").unwrap().unwrap()
    }

    /// Each record's first component and version.
    fn records(&self) -> Vec<(String, f32, u64)> {
        let records = self.fold().records.into_iter();
        records.map(|(id, record)| (id, f32::from_bits(record.vector[0]), record.version)).collect()
    }
}

fn shown(id: &str, value: f32, version: u64) -> (String, f32, u64) {
    (id.to_owned(), value, version)
}

#[test]
fn a_later_operation_wins_and_a_limit_spares_what_is_newer() {
    let mut log = Log::new(9, |_| {});
    log.operations(&[(1, "a", 1.0), (1, "b", 2.0), (1, "a", 3.0), (2, "b", 0.0), (5, "c", 4.0)]);
    assert_eq!(log.records(), [shown("a", 3.0, 10), shown("c", 4.0, 10)]);
    // Deletes that were decided on at version 10 come behind another write of one of them.
    log.operations(&[(1, "a", 5.0)]);
    log.operations(&[(10, "a", 10.0), (10, "c", 10.0), (2, "never", 0.0)]);
    assert_eq!(log.records(), [shown("a", 5.0, 11)]);
    // In the same entry, before or behind: what is written there is newer than any limit.
    log.operations(&[(10, "a", 11.0), (1, "a", 6.0), (10, "a", 12.0), (10, "a", 99.0)]);
    assert_eq!(log.records(), [shown("a", 6.0, 13)]);
    let fold = log.fold();
    assert_eq!((fold.version, fold.tail, fold.segments.len()), (13, 4, 0));
}

#[test]
fn parts_chunks_and_entries_are_skipped_alike() {
    let mut log = Log::new(9, |_| {});
    let [a, b] =
        [("a", 1.0), ("b", 2.0)].map(|(id, value)| make::chunk(1, &[operation(1, id, value)]));
    log.append(1, &[Part::Inline(1, &a), Part::Object(1, &b, 3 << 80)]);
    // A fence, and an entry of a newer build.
    log.append(1, &[]);
    log.append(1 << 15 | 1, &[Part::Inline(1, &make::chunk(1, &[operation(2, "a", 0.0)]))]);
    // One operation of an unknown kind, and all of its chunk is as if it were not there.
    log.operations(&[(2, "a", 0.0), (3, "b", 1.0)]);
    // One of a newer build is skipped alone.
    log.operations(&[(128 | 2, "a", 0.0), (1, "c", 3.0)]);
    assert_eq!(log.records(), [shown("a", 1.0, 10), shown("b", 2.0, 10), shown("c", 3.0, 14)]);
    log.append(2, &[]);
    assert!(collection(&log.made, "golden").unwrap().is_none());
}

#[test]
fn entries_of_other_lives_change_nothing_or_end_this_one() {
    let mut log = Log::new(9, |manifest| manifest["incarnation"] = 2.into());
    let chunk = make::chunk(1, &[operation(1, "a", 1.0)]);
    log.of_life(1, 1, &[Part::Inline(1, &chunk)]);
    log.of_life(1, 2, &[]);
    log.of_life(2, 1, &[Part::Inline(1, &make::chunk(1, &[operation(1, "b", 2.0)]))]);
    assert_eq!(log.records(), [shown("b", 2.0, 12)]);
    // One that is missing in between is no end.
    let kept = log.made.0.remove(&keys::entry("golden", 11)).unwrap();
    let fault = collection(&log.made, "golden").unwrap_err();
    assert!(matches!(&fault, Fault::Corrupt(what) if what.contains("no entry")), "{fault}");
    log.made.0.insert(keys::entry("golden", 11), kept);
    log.of_life(3, 1, &[]);
    assert!(collection(&log.made, "golden").unwrap().is_none());
}

#[test]
fn chunks_of_other_dimensions_are_skipped() {
    let mut log = Log::new(9, |manifest| manifest["settings"]["dimensions"] = 3.into());
    log.operations(&[(1, "a", 1.0)]);
    log.operations(&[(2, "a", 1.0)]);
    assert_eq!(log.records(), []);
}

/// The kept segment, which an object of dead rows names, below a tail.
#[test]
fn segments_lie_below_the_tail() {
    let data = golden("segment-v1.seg");
    let crc = crc32c::crc32c(&data);
    let mut dead = b"BRNYDEL1".to_vec();
    let bitmap = [0x3030_u16 + 10, 0, 1, 0, 0, 1, 16, 0, 3, 5].map(u16::to_le_bytes).concat();
    dead.extend([1u32, 1].iter().flat_map(|number| number.to_le_bytes()));
    dead.extend((7u128 << 80).to_le_bytes());
    dead.extend((bitmap.len() as u32).to_le_bytes());
    dead.extend(bitmap);
    dead.extend(crc32c::crc32c(&dead).to_le_bytes());
    let mut log = Log::new(60, |manifest| {
        manifest["settings"] = json!({"dimensions": 3, "metric": "euclidean", "partitionCount": 1});
        manifest["partitions"] = json!([{"number": 0, "hashes": ["0000000000000000", "ffffffffffffffff"],
            "segments": [{"id": keys::ulid_text(7 << 80), "rows": 60, "dead": 2, "bytes": data.len(),
                "crc32c": crc, "written": [1, 60]}]}]);
        manifest["deletions"] =
            json!([{"id": keys::ulid_text(8 << 80), "rows": 2, "bytes": dead.len()}]);
    });
    log.made.0.insert(keys::segment("golden", 0, 7 << 80), data);
    log.made.0.insert(keys::deletions("golden", 8 << 80), dead);
    let fold = log.fold();
    assert_eq!((fold.records.len(), fold.version, fold.tail), (58, 60, 0));
    let rows = &fold.segments[0].rows;
    assert!(!fold.records.contains_key(&rows[3].id) && !fold.records.contains_key(&rows[5].id));
    // What was seen at 41 spares the rows of the segment that were written later.
    log.operations(&[(10, "id-40", 41.0), (10, "id-41", 41.0), (2, "id-59", 0.0)]);
    let fold = log.fold();
    assert!(!fold.records.contains_key("id-40") && !fold.records.contains_key("id-59"));
    assert_eq!(fold.records["id-41"].version, 42);
    log.made.0.remove(&keys::deletions("golden", 8 << 80));
    let fault = collection(&log.made, "golden").unwrap_err();
    assert!(matches!(&fault, Fault::Corrupt(what) if what.contains("missing")), "{fault}");
}
