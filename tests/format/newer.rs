//! What newer builds may add is gone past, and what must not be skipped is refused as newer.

use crate::decode::chunk::{self, Deed, Operation};
use crate::decode::entry::{self, Body, Kind};
use crate::decode::{Fault, Result, deletions, filter_index, manifest, segment, shared};
use crate::golden::golden;
use crate::make::{self, Part, operation};
use serde_json::{Value, json};

fn is_newer<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Fault::Newer(_))), "{result:?}");
}

fn is_corrupt<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Fault::Corrupt(_))), "{result:?}");
}

#[test]
fn operations() {
    let skipped =
        [128, 128 | 1, 128 | 2 | 8, 128 | 5, 128 | 64 | 4].map(|kind| operation(kind, "x", 3.0));
    let known = [operation(5, "a", 1.0), operation(10, "b", 7.0), operation(1, "c", 2.0)];
    let mixed: Vec<Operation> =
        skipped.into_iter().zip(known.iter().cloned().cycle()).flat_map(|(a, b)| [a, b]).collect();
    let found = chunk::decode(&make::chunk(2, &mixed)).unwrap();
    assert_eq!(found.operations, mixed);
    assert!(found.fits(2) && !found.fits(3));
    let deeds = found.operations.iter().step_by(2).map(Operation::deed);
    assert!(deeds.eq([Deed::Skipped; 5]));
    is_newer(chunk::decode(&make::chunk(3, &known)));
    // With one of any other kind it is not known what the columns hold, and nobody applies any of them.
    for kind in [0, 3, 4, 6, 9, 16, 17, 64] {
        let mut other = operation(kind, "b", 1.0);
        other.vector = None;
        let found = chunk::decode(&make::chunk(2, &[operation(1, "a", 1.0), other])).unwrap();
        assert_eq!((found.count, found.operations.len(), found.fits(2)), (2, 0, false), "{kind}");
    }
}

#[test]
fn entries() {
    let chunk = make::chunk(1, &[operation(1, "a", 1.0)]);
    let parts = [Part::Inline(1, &chunk), Part::Object(3, &chunk, 5 << 80)];
    let of_kind = |kind| make::entry((kind, 8, 1), (10, 1_000), &parts);
    let data = of_kind(1 << 15 | 9);
    let found = entry::decode(&data).unwrap();
    assert_eq!((found.kind, found.parts.len()), (Kind::Skipped(1 << 15 | 9), 1));
    assert_eq!((&found.parts[0].body, found.parts[0].marked), (&Body::Object(5 << 80), true));
    let bytes = (data.len() + chunk.len()) as u64;
    assert_eq!((found.total_operations, found.total_bytes), (14, 1_000 + bytes));
    let found = entry::decode(&of_kind(1)).unwrap();
    assert_eq!(found.own_totals(data.len() as u64), (4, bytes));
    is_newer(entry::decode(&of_kind(3)));
    is_newer(entry::decode(&of_kind(0)));
    is_corrupt(entry::decode(&of_kind(2)));
    let mut data = of_kind(1);
    data[8] = 2;
    is_newer(entry::decode(&data));
}

#[test]
fn sections_and_footers() {
    let data = golden("segment-v1.seg");
    let plain = segment::decode(&data).unwrap();
    for section in [
        json!({"name": "colours", "optional": true}),
        json!({"name": "vectors", "field": "title", "optional": true, "deep": [1]}),
    ] {
        let found = segment::decode(&make::with_section(&data, b"new", section.clone())).unwrap();
        assert_eq!(found.passed_by, [section["name"].as_str().unwrap()]);
        assert_eq!((&found.rows, &found.filter), (&plain.rows, &plain.filter));
    }
    for section in [
        json!({"name": "colours"}),
        json!({"name": "colours", "optional": false}),
        json!({"name": "vectors", "field": "title"}),
    ] {
        is_newer(segment::decode(&make::with_section(&data, b"new", section)));
    }
    // Once each, and all of them.
    is_corrupt(segment::decode(&make::with_section(&data, b"new", json!({"name": "ids"}))));
    let (sections, mut footer) = make::footer(&data);
    footer["new"] = json!({"a": 1});
    footer["contents"]["new"] = json!([1]);
    footer["sections"][3]["new"] = json!(null);
    assert_eq!(segment::decode(&make::segment(sections.clone(), &footer)).unwrap(), plain);
    footer["sections"].as_array_mut().unwrap().remove(15);
    is_corrupt(segment::decode(&make::segment(sections, &footer)));
    let mut data = data;
    let version = data.len() - 16;
    data[version] = 2;
    is_newer(segment::decode(&data));
}

#[test]
fn other_files() {
    let mut data = golden("deletions-v1.del");
    data[8] = 2;
    is_newer(deletions::decode(&data));
    let mut data = golden("filter-index-v1.bin");
    data[8] = 2;
    is_newer(filter_index::decode(&data));
}

#[test]
fn manifests() {
    let data = golden("manifest-v3.json");
    let plain = manifest::decode(&data, "golden").unwrap();
    let kept: Value = serde_json::from_slice(&data).unwrap();
    let decode = |value: &Value| manifest::decode(value.to_string().as_bytes(), "golden");
    let added = |place: &str| {
        let mut value = kept.clone();
        value.pointer_mut(place).unwrap()["added"] = json!({"deep": [1, null]});
        decode(&value)
    };
    let open = ["", "/settings", "/partitions/4", "/partitions/4/segments/0", "/deletions/0"];
    open.iter().for_each(|place| assert_eq!(added(place).unwrap(), plain, "{place}"));
    assert_eq!(added("/stamp").unwrap(), plain);
    let closed = ["/indexed", "/floorTotals", "/settings/partitioner"];
    closed.iter().for_each(|place| is_corrupt(added(place)));
    let mut newer = kept.clone();
    newer["formatVersion"] = 9.into();
    is_newer(decode(&newer));
    newer["minReader"] = 4.into();
    is_newer(decode(&newer));
    newer["minReader"] = 3.into();
    newer["minWriter"] = 9.into();
    let found = decode(&newer).unwrap();
    assert_eq!((found.format_version, found.partitions), (9, plain.partitions));
}

#[test]
fn what_instances_share() {
    let stamp =
        json!({"version": 7, "updated": "2026-01-15T10:30:00.000Z", "recentWrites": ["5f"]});
    let lease = json!({"formatVersion": 1, "stamp": stamp, "holder": "writer-1", "epoch": 2,
        "since": "2026-01-15T10:29:00.000Z", "ttlMs": 30_000});
    let state = json!({"formatVersion": 1, "stamp": stamp, "value": {"any": "JSON"}});
    let gone = json!({"formatVersion": 1, "stamp": stamp, "deleted": true, "value": null});
    let beat = json!({"formatVersion": 1, "replaces": null, "instance": {"role": "reader", "status": "active"}});
    let config = json!({"version": 412, "settings": {"distanceMetric": "dot", "colour": 1},
        "instances": {"writer-01": {"role": "writer", "colour": 1}}});
    let text = |value: &Value| value.to_string().into_bytes();
    let found = shared::decode_lease(&text(&lease)).unwrap();
    assert_eq!((found.holder.as_deref(), found.epoch, found.ttl_ms), (Some("writer-1"), 2, 30_000));
    assert_eq!((found.stamp.version, &found.since[..10]), (7, "2026-01-15"));
    let found = shared::decode_state(&text(&state)).unwrap();
    assert_eq!(found.value, Some(json!({"any": "JSON"})));
    assert_eq!(shared::decode_state(&text(&gone)).unwrap().value, None);
    let found = shared::decode_heartbeat(&text(&beat)).unwrap();
    assert_eq!((&found.role[..], found.replaces, found.session), ("reader", None, None));
    let found = shared::decode_config(&text(&config)).unwrap();
    assert_eq!(
        (found.version, found.roles),
        (Some(412), vec![("writer-01".into(), "writer".into())])
    );

    let mut later = beat;
    later["formatVersion"] = 2.into();
    later["minReader"] = 1.into();
    is_newer(shared::decode_heartbeat(&text(&later)));
    let again = |mut value: Value| {
        value["added"] = json!([1]);
        value["formatVersion"] = 2.into();
        let later = text(&value);
        value["minReader"] = 1.into();
        (later, text(&value))
    };
    let (later, readable) = again(lease);
    is_newer(shared::decode_lease(&later));
    shared::decode_lease(&readable).unwrap();
    let (later, readable) = again(state);
    is_newer(shared::decode_state(&later));
    shared::decode_state(&readable).unwrap();
}
