//! An engine at work on a folder, and what the decoder finds there after every step: the same records, bit by bit.

use crate::decode::segment::Segment;
use crate::decode::{keys, shared};
use crate::store::{self, Folder, Objects, Record};
use crate::{codes, filters, nobody};
use brainy::base::ids::CollectionName;
use brainy::base::settings::Role;
use brainy::cluster::Expected;
use brainy::{Brainy, Metric, NewRecord, PartitionerKind, PrefixRule};
use futures::TryStreamExt;
use futures::future::join_all;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tempfile::TempDir;

/// Metadata that are easily stored wrongly.
const ODD: [&str; 16] = [
    "{}",
    r#"{"a":null,"b":true,"c":false}"#,
    r#"{"n":1.0,"m":1e3,"o":-0.0,"p":0.1,"s":1e300,"t":9007199254740993,"u":-1.5e-7}"#,
    r#"{"n":18446744073709551615,"m":-9223372036854775808,"p":9223372036854775808}"#,
    r#"{"n":123456789012345678901234567890,"m":-9223372036854775809,"p":18446744073709551616}"#,
    r#"{"a.b":1,"a":{"b":2,"c":{"d":[1,2,"x"]}},"":{"x":1},"e":{"":2,"f.g":3}}"#,
    r#"{"a":{"b":"nested","c.d":4},"a.c.d":5}"#,
    r#"{"$x":1,"y":{"$z":2},"$damaged":true}"#,
    r#"{"tags":["a","b",1,1.5,null,true,["deep"],{"o":1},"a",1.0],"none":[]}"#,
    r#"{"tags":"a","none":{},"k":1,"k":"two"}"#,
    "{ \"w\" : [ 1 ,\n 2 ] ,\t\"ä\\u00e4\\n\":\"\\ud83d\\ude00 \\\\ \\\"\" }",
    r#"{"n":0,"s":""}"#,
    r#"{"n":-1,"s":"0123456789012345678901234567890123456789012345678901234567890123"}"#,
    r#"{"n":2,"s":"01234567890123456789012345678901234567890123456789012345678901234"}"#,
    r#"{"deep":{"deep":{"deep":{"deep":{"deep":{"deep":{"deep":[[[[{"deep":1}]]]]}}}}}}}"#,
    r#"{"year":2024,"lang":"en","score":0.25}"#,
];

/// An engine on a folder of its own, where nothing is indexed before a test asks for it.
pub struct World {
    pub folder: TempDir,
    pub db: Brainy,
    name: CollectionName,
}

impl World {
    async fn new(name: &str) -> World {
        World::on(tempfile::tempdir().unwrap(), name).await
    }

    /// On what is in a folder.
    pub async fn on(folder: TempDir, name: &str) -> World {
        let db = open(&folder).await;
        World { folder, db, name: CollectionName::new(name).unwrap() }
    }

    fn objects(&self) -> Folder {
        Folder(self.folder.path().to_owned())
    }

    pub async fn upsert(&self, records: Vec<NewRecord>) {
        self.db.collection(self.name.as_str()).upsert(records).await.unwrap();
    }

    /// Compares everything; returns the segments, and how many entries are in none yet.
    pub async fn check(&self, step: &str) -> (Vec<Segment>, u64) {
        let found = store::collection(&self.objects(), self.name.as_str());
        let found = found.unwrap_or_else(|fault| panic!("{step}: {fault}"));
        let found = found.unwrap_or_else(|| panic!("{step}: the collection is gone"));
        self.compare_listing(step, found.version, &found.records).await;
        self.compare_export(step, found.version, &found.records).await;
        found.segments.iter().for_each(filters::check);
        found.segments.iter().for_each(codes::check);
        let info = self.db.describe(&self.name).await.unwrap();
        assert_eq!(info.dimensions, found.manifest.settings.dimensions, "{step}");
        assert_eq!(info.indexed_version.0, found.manifest.wal_indexed, "{step}");
        assert_eq!(info.vector_count, Some(found.records.len() as u64), "{step}");
        store::decode_all(&self.objects()).unwrap_or_else(|fault| panic!("{step}: {fault}"));
        (found.segments, found.tail)
    }

    async fn compare_listing(&self, step: &str, version: u64, records: &BTreeMap<String, Record>) {
        let (mut expected, mut cursor) = (records.iter(), None);
        loop {
            let page = self.db.list(&self.name, 500, cursor, true).await.unwrap();
            assert_eq!(page.version.0, version, "{step}");
            assert!(page.partial.is_none(), "{step}");
            for shown in page.records {
                let (id, record) =
                    expected.next().unwrap_or_else(|| panic!("{step}: {}", shown.id));
                assert_eq!(*id, shown.id, "{step}");
                let vector = shown.vector.unwrap();
                assert!(
                    vector.iter().map(|value| value.to_bits()).eq(record.vector.iter().copied())
                );
                assert_eq!(*shown.metadata, *metadata(record), "{step}: {id}");
                assert_eq!(shown.text.as_deref(), record.text.as_deref(), "{step}: {id}");
                assert_eq!(shown.version.0, record.version, "{step}: {id}");
                assert!(!shown.damaged, "{step}: {id}");
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(expected.next(), None, "{step}");
    }

    async fn compare_export(&self, step: &str, version: u64, records: &BTreeMap<String, Record>) {
        #[derive(serde::Deserialize)]
        struct Line<'a> {
            id: String,
            vector: Vec<f32>,
            #[serde(borrow)]
            metadata: &'a RawValue,
            text: Option<String>,
        }
        let export = self.db.export(&self.name, true).await.unwrap();
        assert_eq!(export.version.0, version, "{step}");
        let pieces: Vec<_> = export.lines.try_collect().await.unwrap();
        let lines = pieces.concat();
        let lines: Vec<Line> = lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(lines.len(), records.len(), "{step}");
        for (line, (id, record)) in lines.iter().zip(records) {
            assert_eq!(line.id, *id, "{step}");
            let vector = line.vector.iter().map(|value| value.to_bits());
            assert!(vector.eq(record.vector.iter().copied()), "{step}: {id}");
            assert_eq!(line.metadata.get(), metadata(record), "{step}: {id}");
            assert_eq!(line.text, record.text, "{step}: {id}");
        }
    }
}

async fn open(folder: &TempDir) -> Brainy {
    let url = format!("file://{}", folder.path().display());
    let settings = |settings: &mut brainy::Settings| {
        settings.index_enabled = false;
        settings.fsync = false;
        settings.segment_max_rows = 1_000;
        settings.wal_inline_max_bytes = 4_096;
    };
    Brainy::builder(url).role(Role::Hybrid).settings(settings).open().await.unwrap()
}

fn metadata(record: &Record) -> &str {
    if record.metadata.is_empty() { "{}" } else { &record.metadata }
}

/// A record of dimensions that 16 bits hold exactly, or not.
fn record(number: u32, dimensions: u32, half: bool) -> NewRecord {
    let group = if number.is_multiple_of(3) { "eu-" } else { "" };
    let value = |at: u32| (number * 31 + at * 7) % 97;
    let vector = (0..dimensions).map(|at| match (half, at) {
        (true, _) => value(at) as f32 / 8.0 - 2.5,
        (false, 0) => -0.0,
        (false, 1) => f32::from_bits(number % 1_000 + 1),
        (false, _) => (value(at) as f32 + 0.1) / 3.0 * 1e7f32.powi(1 - (number % 3) as i32),
    });
    let record = NewRecord::new(format!("{group}id-{number} ö"), vector.collect());
    let odd = ODD[number as usize % ODD.len()];
    let record = match number % 5 {
        0 => record,
        1 => record.metadata(json!({"n": number, "kind": format!("kind {}", number % 7)})),
        _ => record.metadata(odd),
    };
    match number % 4 {
        0 => record,
        1 => record.text(""),
        _ => record.text(format!("text {number} \u{1F600}\n")),
    }
}

fn records(numbers: impl IntoIterator<Item = u32>, dimensions: u32, half: bool) -> Vec<NewRecord> {
    numbers.into_iter().map(|number| record(number, dimensions, half)).collect()
}

fn ids(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    records(numbers, 2, true).into_iter().filter_map(|record| record.id).collect()
}

/// Writes that come together, so that some become data objects.
async fn crowd(world: &World, from: u32, dimensions: u32) {
    let batch = |number: u32| {
        let first = from + number * 100;
        world.upsert(records(first..first + 100, dimensions, number.is_multiple_of(2)))
    };
    join_all((0..12).map(batch)).await;
}

async fn first_life(world: &World) {
    let things = world.db.collection(world.name.as_str());
    let rules = vec![PrefixRule { prefix: "eu-".to_owned(), group: "europe".to_owned() }];
    let kind = PartitionerKind::Prefix { rules };
    things.create(5).metric(Metric::Euclidean).partitions(3).partitioner(kind).await.unwrap();
    world.check("empty").await;
    for batch in 0..8 {
        world.upsert(records(batch * 10..batch * 10 + 16, 5, batch % 2 == 0)).await;
    }
    world.upsert([records(0..8, 5, true), records(4..12, 5, false)].concat()).await;
    crowd(world, 1_000, 5).await;
    things.delete(ids([3, 4, 5, 999])).await.unwrap();
    things.delete_where(json!({"n": {"$gte": 1_100, "$lt": 1_150}})).await.unwrap();
    assert!(world.check("in the log").await.0.is_empty());

    world.db.index(&world.name).await.unwrap();
    let (segments, tail) = world.check("indexed").await;
    assert!(segments.len() > 1 && tail == 0);
    world.upsert(records((0..60).chain(1_000..1_050), 5, false)).await;
    things.delete(ids(1_200..1_300)).await.unwrap();
    things.delete_where(json!({"kind": "kind 3"})).await.unwrap();
    world.upsert(records(1_210..1_220, 5, true)).await;
    assert!(world.check("a tail over segments").await.1 > 0);
    world.db.index(&world.name).await.unwrap();
    world.check("dead rows").await;
    crowd(world, 1_500, 5).await;
    things.delete_where(json!({"tags": "a"})).await.unwrap();
    world.db.index(&world.name).await.unwrap();
    world.check("more dead rows").await;

    things.compact().await.unwrap();
    let (segments, _) = world.check("compacted").await;
    assert!(segments.iter().any(|segment| segment.rows.len() > 256));
    world.upsert(records(500..600, 5, false)).await;
    world.check("a tail over what was compacted").await;
    world.db.reshard(&world.name, 7).await.unwrap();
    world.check("split").await;
    world.upsert(records(550..650, 5, true)).await;
    things.delete(ids([500, 501])).await.unwrap();
    world.check("a tail over what was split").await;
}

async fn second_life(world: &World) {
    let things = world.db.collection(world.name.as_str());
    things.drop().await.unwrap();
    let gone = store::collection(&world.objects(), world.name.as_str()).unwrap();
    assert!(gone.is_none());
    store::decode_all(&world.objects()).unwrap();
    things.create(2).metric(Metric::Dot).await.unwrap();
    assert!(world.check("made again").await.0.is_empty());
    world.upsert(records(0..300, 2, true)).await;
    world.check("written again").await;
    // Under dot, rows of many lengths lie by them.
    world.db.index(&world.name).await.unwrap();
    world.check("indexed again").await;
    things.delete(ids(0..10)).await.unwrap();
    world.check("deleted from again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_decoder_finds_what_the_engine_shows() {
    let mut world = World::new("things").await;
    first_life(&world).await;
    second_life(&world).await;
    let counts = store::decode_all(&world.objects()).unwrap();
    for kind in ["manifest", "earlier manifest", "entry", "body", "segment", "deletions"] {
        assert!(counts.contains_key(kind), "no {kind} among {counts:?}");
    }
    assert!(world.db.shutdown().await);
    world.db = open(&world.folder).await;
    world.check("opened again").await;
    assert!(world.db.shutdown().await);
}

/// Two instances append to one log, and take each other along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_writers_wrote_at_once_is_read() {
    let world = World::new("crowded").await;
    let other = open(&world.folder).await;
    let (here, there) = (world.db.collection("crowded"), other.collection("crowded"));
    here.create(3).metric(Metric::Euclidean).await.unwrap();
    for round in 0..6 {
        let batch = |number: u32| records(round * 50 + number..round * 50 + number + 20, 3, false);
        let ours = join_all((0..6).map(|number| here.upsert(batch(number * 10))));
        let theirs = join_all((0..6).map(|number| there.upsert(batch(number * 10 + 5))));
        let (ours, theirs) = futures::future::join(ours, theirs).await;
        for written in ours.into_iter().chain(theirs) {
            written.unwrap();
        }
        store::decode_all(&world.objects()).unwrap();
    }
    // Whoever wrote last shows at least that.
    world.upsert(records(0..1, 3, true)).await;
    world.check("written by two").await;
    assert!(other.shutdown().await && world.db.shutdown().await);
}

/// More fields and more strings than an index keeps.
#[tokio::test]
async fn filter_indexes_that_leave_something_out() {
    let world = World::new("wide").await;
    for batch in 0..13u32 {
        let records = (batch * 100..batch * 100 + 100).map(|number| {
            let long = format!("prose number {number} that nobody else has written, nor will");
            let mut metadata = json!({"prose": long, "all": number % 2, "list": [long, number]});
            metadata[format!("own {number}")] = json!(number);
            NewRecord::new(format!("{number}"), vec![number as f32, 1.0]).metadata(metadata)
        });
        world.upsert(records.collect()).await;
    }
    world.db.compact(&world.name).await.unwrap();
    let (segments, _) = world.check("compacted").await;
    assert_eq!(segments.len(), 1);
    let filter = &segments[0].filter;
    assert!(!filter.left_out.is_empty());
    let prose = filter.fields.iter().find(|field| field.path == "prose");
    assert!(prose.is_some_and(|field| field.plain.keeps_none && !field.plain.hashes.is_empty()));
    assert!(world.db.shutdown().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cluster_shares_is_read() {
    let world = World::new("shared").await;
    world.db.cluster().join(nobody::invitation()).await.unwrap();
    let state = world.db.cluster().state();
    state.put("kept/a", json!({"any": ["JSON", 1.5]}), &Expected::Anything).await.unwrap();
    state.put("gone", json!(1), &Expected::Absent).await.unwrap();
    state.delete("gone", &Expected::Anything).await.unwrap();
    world.upsert(records(0..10, 3, true)).await;
    world.db.index(&world.name).await.unwrap();
    let objects = world.objects();
    let read = |key: &str| objects.read(key).unwrap();
    let kept = shared::decode_state(&read("_brainy/state/kept/a.json")).unwrap();
    assert_eq!(kept.value, Some(json!({"any": ["JSON", 1.5]})));
    let gone = shared::decode_state(&read("_brainy/state/gone.json")).unwrap();
    assert_eq!(gone.value, None);
    assert_eq!(gone.stamp.recent_writes.len(), 2);
    let config = shared::decode_config(&read("_brainy/config.json")).unwrap();
    let id = world.db.instance_id().to_owned();
    assert_eq!(config.roles, [(id, "hybrid".to_owned())]);
    let counts = store::decode_all(&objects).unwrap();
    assert_eq!(counts.get("state"), Some(&2));
    assert!(counts.contains_key("lease"), "{counts:?}");
    assert!(objects.keys().contains(&keys::manifest("shared")));
    assert!(world.db.shutdown().await);
}
