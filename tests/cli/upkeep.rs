//! Segments: seen, made few, made many.

use super::{Store, fails, ok, ok_json};
use serde_json::{Value, json};

/// A store whose collection `things` has 60 records, `id-0` to `id-59`.
fn sixty() -> Store {
    let store = Store::new();
    let line = |n: u32| format!("{{\"id\": \"id-{n}\", \"vector\": [{n}, 1]}}\n");
    let file = store.file("in.jsonl", (0..60).map(line).collect::<String>());
    let metric = ["--dimensions", "2", "--metric", "euclidean"];
    let to = ["--store", &store.url, "-c", "things"];
    ok(&[&["import", &file], &metric[..], &to[..]].concat());
    store
}

fn segments(json: &Value) -> Vec<&Value> {
    let partitions = json["partitions"].as_array().unwrap().iter();
    partitions.flat_map(|partition| partition["segments"].as_array().unwrap()).collect()
}

#[test]
fn segments_are_made_shown_and_split_and_every_record_stays() {
    let store = sixty();
    let to = ["--store", &store.url, "-c", "things"];
    let ask = |args: &[&str]| ok(&[args, &to[..]].concat());
    let ask_json = |args: &[&str]| ok_json(&[args, &to[..]].concat());
    let everything = || {
        let found = ask_json(&["search", "--vector", "[0, 1]", "-k", "100"]);
        let hits = found["results"].as_array().unwrap().iter();
        hits.map(|hit| hit["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = everything();
    assert_eq!((all.len(), all[0].as_str()), (60, "id-0"));
    let picture = ask(&["segments"]);
    assert!(picture.contains("things: 0 segments in 1 partition"), "{picture}");
    assert!(picture.contains("[##################]          60 rows"), "{picture}");

    let said = ask(&["compact"]);
    assert!(said.contains("1 partition written anew"), "{said}");
    let one = ask_json(&["segments"]);
    assert_eq!((segments(&one).len(), &one["tail"]["entries"]), (1, &json!(0)));
    assert_eq!(one["indexedVersion"], one["version"]);
    assert_eq!(everything(), all);
    let stats = ask(&["stats"]);
    assert!(stats.contains("`brainy segments`") && !stats.contains('{'), "{stats}");

    let file = store.file("more.jsonl", "{\"id\": \"id-59\", \"vector\": [59, 1]}\n");
    ask(&["import", &file]);
    let said = ask(&["compact"]);
    assert!(said.contains("1 partition written anew"), "{said}");
    assert_eq!(everything(), all);

    let said = ask_json(&["reshard", "--partitions", "4"]);
    assert_eq!((&said["rewritten"], &said["partitionCount"]), (&json!(1), &json!(4)));
    let picture = ask(&["segments"]);
    assert!(picture.contains("in 4 partitions") && picture.contains("4000..7fff"), "{picture}");
    assert!(picture.lines().all(|line| line.chars().count() <= 80), "{picture}");
    assert_eq!(everything(), all);
    let said = ask(&["reshard", "--partitions", "2"]);
    assert!(said.contains("never fewer"), "{said}");

    let unnamed = ask_json(&["segments", "--unnamed"]);
    let objects = unnamed["objects"].as_array().unwrap();
    // The first segment, the one of the changed record with its deletions, and what became of both.
    assert_eq!(objects.len(), 4, "{unnamed}");
    let first = segments(&one)[0]["id"].as_str().unwrap();
    assert!(objects.iter().any(|object| object["key"].as_str().unwrap().contains(first)));
    let table = ask(&["segments", "--unnamed"]);
    assert!(table.contains(first) && table.contains("4 objects"), "{table}");
}

#[test]
fn ids_with_a_prefix_have_partitions_of_their_own() {
    let store = Store::new();
    let at = ["--store", &store.url];
    let rules = ["--prefix-group", "eu-=europe", "--prefix-group", "a=b=c"];
    let create = ["collections", "create", "things", "--dimensions", "2"];
    ok(&[&create[..], &rules[..], &at[..]].concat());
    let lines = ["eu-1", "eu-2", "a=b1", "us-1"]
        .map(|id| format!("{{\"id\": \"{id}\", \"vector\": [1, 1]}}\n"));
    let file = store.file("in.jsonl", lines.concat());
    ok(&[&["import", &file, "-c", "things"], &at[..]].concat());
    ok(&[&["compact", "-c", "things"], &at[..]].concat());
    let shown = ok_json(&[&["segments", "-c", "things"], &at[..]].concat());
    let partitions = shown["partitions"].as_array().unwrap().iter();
    let mut groups: Vec<(&str, u64)> = partitions
        .map(|one| (one["group"].as_str().unwrap(), one["vectors"].as_u64().unwrap()))
        .collect();
    groups.sort_unstable();
    assert_eq!(groups, [("", 1), ("c", 1), ("europe", 2)]);
    let picture = ok(&[&["segments", "-c", "things"], &at[..]].concat());
    assert!(picture.contains("group \"europe\""), "{picture}");

    for wrong in ["eu-", "=europe", "eu-="] {
        let err = fails(&[&create[..], &["--prefix-group", wrong], &at[..]].concat(), 2);
        assert!(err.contains("PREFIX=GROUP"), "{err}");
    }
    let none = fails(&[&["compact", "-c", "nothing"], &at[..]].concat(), 1);
    assert!(none.contains("(collection_not_found)"), "{none}");
    fails(&[&["reshard", "--partitions", "4097", "-c", "things"], &at[..]].concat(), 2);
}
