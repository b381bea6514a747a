//! What was put in comes out, and no byte can change unnoticed.

use super::*;
use crate::base::Code;
use crate::filter::Filter;
use crate::index::{IndexParams, Metric, Scratch, Search, Threads};
use proptest::prelude::*;
use std::collections::BTreeMap;

const DIMENSIONS: usize = 3;

/// Vector, metadata and text of a record.
type Content = (Vec<f32>, String, Option<String>);

/// In order of their ids; row n is written by position n + 1.
fn build(records: &BTreeMap<String, Content>) -> Vec<u8> {
    let mut builder = SegmentBuilder::new(DIMENSIONS, Metric::Euclidean);
    for (row, (id, (vector, metadata, text))) in records.iter().enumerate() {
        let text = text.as_deref();
        builder.push(id, Seq(row as u64 + 1), vector, metadata, text).expect("memory");
    }
    assert_eq!(builder.rows(), records.len());
    builder.finish(IndexParams::default(), Threads::One).expect("rows can be built").into()
}

/// What a reader does that brings a file from the bucket.
fn load(file: &[u8]) -> Result<Segment> {
    let segment = Segment::from_bytes(bytes::Bytes::copy_from_slice(file))?;
    segment.verify()?;
    Ok(segment)
}

fn numbered(count: usize) -> BTreeMap<String, Content> {
    let record = |row: usize| {
        let metadata = format!("{{\"n\":{row}}}");
        let text = row.is_multiple_of(3).then(|| "text ".repeat(row % 40));
        (vec![row as f32, (row * 7 % 13) as f32, 0.5], metadata, text)
    };
    (0..count).map(|row| (format!("id-{row}"), record(row))).collect()
}

fn contents() -> impl Strategy<Value = BTreeMap<String, Content>> {
    let vector = prop::collection::vec(-1e3f32..1e3, DIMENSIONS);
    let metadata = prop_oneof![Just(String::new()), "\\{\"k\":\"[a-zö]{0,40}\"\\}"];
    let content = (vector, metadata, prop::option::of("[a-zß ]{0,60}"));
    prop::collection::btree_map("[a-zäé0-9]{1,12}", content, 1..80)
}

#[track_caller]
fn assert_holds(segment: &Segment, records: &BTreeMap<String, Content>) {
    assert_eq!(segment.contents().rows as usize, records.len());
    let mut seen = vec![false; records.len()];
    for (at, (id, (vector, metadata, text))) in records.iter().enumerate() {
        let row = segment.find(id).unwrap().expect("every id is found");
        assert!(!std::mem::replace(&mut seen[row as usize], true), "a row of two ids");
        assert_eq!(segment.id(row).unwrap(), id);
        assert_eq!(segment.vector(row), vector);
        assert_eq!(segment.written(row), Seq(at as u64 + 1));
        let block = segment.records(row).unwrap();
        assert_eq!(block.get(row), Some((metadata.as_str(), text.as_deref())));
        if let Some(value) =
            metadata.strip_prefix("{\"k\":").and_then(|rest| rest.strip_suffix('}'))
        {
            let filter = Filter::from_json_str(&format!("{{\"k\":{value}}}")).unwrap();
            let selection = filter.select(segment.filter_index()).unwrap();
            assert!(selection.rows.contains(row));
            let same = records.values().filter(|(_, other, _)| other == metadata).count();
            // Of long strings only hashes are kept, which hardly ever are equal.
            assert_eq!(selection.rows.len(), same as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn what_was_put_in_comes_out(records in contents(), others in contents()) {
        let segment = load(&build(&records)).unwrap();
        assert_holds(&segment, &records);
        for id in others.keys().filter(|id| !records.contains_key(*id)) {
            prop_assert_eq!(segment.find(id).unwrap(), None);
        }
        let hashes: Vec<u64> = records.keys().map(|id| record_hash(id)).collect();
        let ends = (*hashes.iter().min().unwrap(), *hashes.iter().max().unwrap());
        prop_assert_eq!(segment.contents().hashes, ends);
        prop_assert_eq!(segment.contents().written, (Seq(1), Seq(records.len() as u64)));
    }

    /// Any change of a byte is found; before that it leads to errors at worst.
    #[test]
    fn no_byte_changes_unnoticed(place in 0f64..1.0, change in 1u8..) {
        let records = numbered(40);
        let mut file = build(&records);
        let at = (place * file.len() as f64) as usize;
        file[at] ^= change;
        prop_assert!(load(&file).is_err(), "byte {}", at);
        if let Ok(segment) = Segment::from_bytes(file.into()) {
            use_all(&segment, &records);
        }
    }
}

/// The file with one more section, as a newer build might write it; `change` is made to what the footer says of it.
fn with_section(file: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let (footer, magic) = (Footer::length(file).unwrap(), &file[..8]);
    let (body, end) = file.split_at(file.len() - footer);
    let json = &end[..footer - layout::TRAILER_BYTES];
    let mut json: serde_json::Value = serde_json::from_slice(json).unwrap();
    let mut newer = body.to_vec();
    newer.resize(body.len().next_multiple_of(layout::ALIGNMENT), 0);
    let (offset, data) = (newer.len(), b"what a newer build knows");
    newer.extend_from_slice(data);
    let mut section = serde_json::json!({
        "name": "terms", "offset": offset, "length": data.len(), "crc32c": crc32c::crc32c(data), "codec": 7,
    });
    change(&mut section);
    json["sections"].as_array_mut().unwrap().push(section);
    json["contents"]["fields"] = serde_json::json!({"title": {"kind": "text"}});
    json["writer"] = "2.0".into();
    let json = serde_json::to_vec(&json).unwrap();
    newer.extend_from_slice(&json);
    for number in [json.len() as u32, crc32c::crc32c(&json), 1, 0] {
        newer.extend_from_slice(&number.to_le_bytes());
    }
    newer.extend_from_slice(magic);
    newer
}

#[test]
fn a_section_of_a_newer_build_is_passed_by_where_it_is_optional() {
    let records = numbered(40);
    let file = build(&records);
    for more in [r#"{"optional":true}"#, r#"{"optional":true,"name":"vectors","field":"title"}"#] {
        let more: serde_json::Value = serde_json::from_str(more).unwrap();
        let newer = with_section(&file, |section| {
            section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        });
        assert_holds(&load(&newer).unwrap(), &records);
        let mut damaged = newer.clone();
        let at = damaged.windows(6).position(|bytes| bytes == b"a newe").unwrap();
        damaged[at] ^= 1;
        assert!(load(&damaged).is_err(), "its bytes count, too");
    }
    for (needed, code) in [
        (serde_json::json!({}), Code::NewerFormat),
        (serde_json::json!({"name": "vectors", "field": "title"}), Code::NewerFormat),
        (serde_json::json!({"name": "vectors", "optional": true}), Code::Corrupt),
    ] {
        let newer = with_section(&file, |section| {
            section.as_object_mut().unwrap().extend(needed.as_object().unwrap().clone());
        });
        assert_eq!(load(&newer).unwrap_err().code(), code, "{needed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Several changed bytes, half of them in the footer and the lists, with a footer that has its
    /// checksum.
    #[test]
    fn damage_never_panics(patches in prop::collection::vec((0usize..1 << 20, any::<u8>()), 1..8)) {
        static FILE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let records = numbered(40);
        let mut file = FILE.get_or_init(|| build(&records)).clone();
        for (number, (at, byte)) in patches.into_iter().enumerate() {
            let near_end = file.len() - 1 - at % 4_000;
            let at = if number % 2 == 0 { near_end } else { at % file.len() };
            file[at] = byte;
        }
        let trailer = file.len() - layout::TRAILER_BYTES;
        if let Some(start) = Footer::length(&file).ok().and_then(|length| file.len().checked_sub(length)) {
            let crc = crc32c::crc32c(&file[start..trailer]);
            file[trailer + 4..trailer + 8].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(segment) = Segment::from_bytes(file.into()) {
            use_all(&segment, &records);
        }
    }
}

/// Calls everything; only panics matter.
fn use_all(segment: &Segment, records: &BTreeMap<String, Content>) {
    for id in records.keys() {
        let _ = segment.find(id);
    }
    for row in 0..segment.contents().rows {
        let _ = (segment.id(row), segment.written(row), segment.vector(row));
        let _ = segment.records(row).map(|block| block.get(row).is_some());
    }
    let vectors = &segment.vectors();
    let search = Search { k: 5, effort: Default::default(), allowed: None, vectors: Some(vectors) };
    segment.index().search(&[1.0, 2.0, 0.5], &search, &mut Scratch::default());
}

#[test]
fn blocks_and_lists_of_many_rows() {
    let records = numbered(3_000);
    let segment = load(&build(&records)).unwrap();
    assert_holds(&segment, &records);
    use_all(&segment, &records);
    // Rows near each other share blocks.
    let listed = segment.record_directory().block_of(0).unwrap();
    assert!(listed.rows.len() > 100, "{listed:?}");
}

/// Where the bytes are aligned they are used where they lie, else they are copied.
#[test]
fn aligned_bytes_are_not_copied() {
    let records = numbered(40);
    let file = build(&records);
    let mut room: AVec<u8, ConstAlign<64>> = AVec::from_slice(64, &[0; 64]);
    room.extend_from_slice(&file);
    let room = bytes::Bytes::from_owner(room);
    let opened = |bytes: bytes::Bytes| {
        let start = bytes.as_ptr();
        let segment = Segment::from_bytes(bytes).unwrap();
        assert_holds(&segment, &records);
        segment.verify().unwrap();
        segment.file.bytes().as_ptr() == start
    };
    assert!(opened(room.slice(64..)));
    for offset in [1, 4, 8, 32, 63] {
        let mut room: AVec<u8, ConstAlign<64>> = AVec::from_slice(64, &vec![0; offset]);
        room.extend_from_slice(&file);
        assert!(!opened(bytes::Bytes::from_owner(room).slice(offset..)), "{offset}");
    }
}

#[test]
fn every_cut_is_an_error() {
    let file = build(&numbered(9));
    for length in 0..file.len() {
        assert!(load(&file[..length]).is_err(), "cut to {length}");
    }
    assert!(load(&file).is_ok());
}

#[test]
fn a_newer_version_says_so() {
    let mut file = build(&numbered(2));
    let at = file.len() - layout::TRAILER_BYTES + 8;
    file[at] = 9;
    let error = load(&file).unwrap_err();
    assert_eq!(error.code(), Code::NewerFormat);
}

/// What a reader that has only parts of the file does: the list first, then one range of the file.
#[test]
fn an_id_is_found_with_one_range() {
    let records = numbered(3_000);
    let segment = load(&build(&records)).unwrap();
    let directory = segment.id_directory();
    let mut longest = 0;
    for id in records.keys() {
        let hash = record_hash(id);
        let range = directory.find(hash).expect("it is here");
        longest = longest.max(range.len());
        let row = ids::row_of(&segment.section(Name::Ids)[range], hash, id).unwrap();
        assert_eq!(row, segment.find(id).unwrap());
    }
    assert!(longest < 16 << 10, "{longest} bytes");
    // Hardly any id that is not here costs a look.
    let others =
        (0..10_000).filter(|n| directory.find(record_hash(&format!("other-{n}"))).is_some());
    assert!(others.count() < 100);
}

/// A hash that many ids share may cross blocks.
#[test]
fn ids_of_one_hash() {
    let names: Vec<String> = (0..700).map(|n| format!("same-{n:03}")).collect();
    let ids: Vec<(u64, &str)> = names.iter().map(|id| (42, id.as_str())).collect();
    let sections = ids::IdSections::build(&ids).unwrap();
    let directory =
        IdDirectory::open(&sections.list, &sections.filter, sections.blocks.len()).unwrap();
    for (row, id) in names.iter().enumerate() {
        let range = directory.find(42).expect("it is here");
        assert_eq!(ids::row_of(&sections.blocks[range], 42, id).unwrap(), Some(row as u32));
    }
    assert_eq!(ids::row_of(&sections.blocks, 42, "same-700").unwrap(), None);
}

/// A filter whose places would lie outside of it is refused: looking them up would panic.
#[test]
fn a_damaged_filter_is_refused() {
    let ids: Vec<(u64, &str)> =
        (1..400).map(|n| (u64::wrapping_mul(n, 0x9e37_79b9_7f4a_7c15), "id")).collect();
    let sections = ids::IdSections::build(&ids).unwrap();
    let count = u32::from_le_bytes(sections.filter[16..20].try_into().unwrap());
    for count in [0, 1, count - 1, count + 1, count * 2, u32::MAX] {
        let mut filter = sections.filter.clone();
        filter[16..20].copy_from_slice(&count.to_le_bytes());
        let opened = IdDirectory::open(&sections.list, &filter, sections.blocks.len());
        assert!(opened.is_err(), "{count}");
    }
}

#[test]
fn a_segment_has_rows() {
    let empty = SegmentBuilder::new(2, Metric::Dot);
    assert!(empty.finish(IndexParams::default(), Threads::One).is_err());
}
