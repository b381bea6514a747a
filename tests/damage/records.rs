//! Records that nobody can read, and those that are not let in.

use super::*;

/// Metadata that older builds stored, and nobody can read.
const POISON: [&str; 4] = ["{\"t\":\"\\ud83d\"}", "{\"n\":1e999}", "{\"n\":", "[1]"];

/// Appends an entry as an older build did.
async fn append_poison(store: &DynStore) {
    let mut builder = ChunkBuilder::new(2);
    for (n, metadata) in POISON.iter().enumerate() {
        builder.upsert(&format!("bad{n}"), &[1.0, 0.5], metadata, Some("text"));
    }
    builder.upsert("lines", &[1.0, 0.5], "{\n \"kind\" : \"good\"\r\n}", None);
    let entries = keys(store, "wal").await;
    let last = entries.last().expect("the collection has a log");
    let object = get(&**store, last).await.unwrap().required(last).unwrap();
    let Entry { header, .. } = Entry::decode(&object.bytes).unwrap();
    let part = Part::Inline { operations: 5, chunk: builder.finish().unwrap() };
    let id = WriteId([7; 16]);
    let draft = Draft::data(header.incarnation, id, Timestamp(1), &[part]);
    let seq = header.seq.next();
    let entry = draft.encode(&draft.header(seq, header.totals));
    store.put(&paths::wal_entry(&things(), seq), entry).await.unwrap();
}

fn filtered(filter: serde_json::Value) -> SearchRequest {
    SearchRequest { filter: Some(Filter::parse(&filter).unwrap()), ..all(Consistency::Strong) }
}

/// What holds wherever the bad records are.
async fn check_poison(brainy: &Brainy, good: usize) {
    let found = search(brainy, Consistency::Strong).await.unwrap();
    assert_eq!(found.hits.len(), good + 1 + POISON.len());
    assert!(found.partial.is_none(), "nothing is left out");
    for filter in [json!({}), json!({"t": {"$ne": 1}}), json!({"$not": {"id": "r1"}})] {
        let found = brainy.search(&things(), filtered(filter.clone())).await.unwrap();
        assert!(found.hits.iter().all(|hit| !hit.id.starts_with("bad")), "{filter}");
        assert!(found.hits.len() >= good, "{filter}");
    }
    let bad = brainy.get(&things(), "bad0").await.unwrap().record;
    assert_eq!((&*bad.metadata, bad.text.as_deref(), bad.damaged), ("{}", Some("text"), true));
    let page = brainy.list(&things(), 100, None, true).await.unwrap();
    assert_eq!(page.records.iter().filter(|record| record.damaged).count(), POISON.len());
    let export = brainy.export(&things(), true).await.unwrap();
    let lines: Vec<Bytes> = export.lines.try_collect().await.unwrap();
    let lines = lines.concat();
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), good + 1 + POISON.len());
    let copy = CollectionName::new("copy").unwrap();
    let body = futures::stream::iter([Ok(Bytes::from(lines))]).boxed();
    let report = brainy.import(&copy, body).await.unwrap();
    assert_eq!((report.imported, report.failed), ((good + 1 + POISON.len()) as u64, 0));
}

#[tokio::test(start_paused = true)]
async fn records_that_nobody_can_read_are_kept_named_and_in_nobodys_way() {
    let (_, store) = world();
    let brainy = instance(&store, Role::Hybrid, by_hand(), 1).await;
    write(&brainy, 0..5).await;
    append_poison(&store).await;
    check_poison(&brainy, 5).await;
    brainy.index(&things()).await.unwrap();
    check_poison(&brainy, 5).await;
    let warnings = brainy.condition().warnings;
    for n in 0..POISON.len() {
        let named = format!("\"bad{n}\" of version 6 of collection things");
        assert!(warnings.iter().any(|warning| warning.contains(&named)), "{warnings:?}");
    }
    assert!(brainy.condition().degraded.is_empty());
    write(&brainy, 5..8).await;
    brainy.compact(&things()).await.unwrap();
    check_poison(&brainy, 8).await;
    let other = instance(&store, Role::Reader, Settings::default(), 2).await;
    search(&other, Consistency::Strong).await.unwrap();
    assert_eq!(other.stats(&things()).await.unwrap().damaged.len(), POISON.len());
    // A delete by filter leaves them, one by id does not.
    let everything =
        DeleteTarget::Filter(Filter::parse(&json!({"x": {"$exists": false}})).unwrap());
    assert_eq!(brainy.delete(&things(), everything).await.unwrap().deleted, 9);
    assert_eq!(search(&brainy, Consistency::Strong).await.unwrap().hits.len(), POISON.len());
    let ids = (0..POISON.len()).map(|n| format!("bad{n}")).collect();
    brainy.delete(&things(), DeleteTarget::Ids(ids)).await.unwrap();
    brainy.index(&things()).await.unwrap();
    assert_eq!(search(&brainy, Consistency::Strong).await.unwrap().hits.len(), 0);
    assert!(brainy.condition().warnings.is_empty(), "{:?}", brainy.condition().warnings);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_refused_and_what_can_is_stored_on_one_line() {
    let (_, store) = world();
    let brainy = instance(&store, Role::Hybrid, by_hand(), 1).await;
    let upsert = async |metadata: &str| {
        let record = NewRecord::new("a", vec![1.0, 0.5]).metadata(metadata);
        brainy.upsert(&things(), vec![record]).await
    };
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
    for bad in POISON.iter().chain([&deep.as_str(), &"null", &"{} x", &""]) {
        let error = upsert(bad).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidMetadata, "{bad}");
    }
    upsert("{ \"b\" : [ 1 ,\n2.50 ] ,\r\n \"a\" : \"\\u00e9\\n\" , \"b\":3 }").await.unwrap();
    let stored = brainy.get(&things(), "a").await.unwrap().record;
    assert_eq!((&*stored.metadata, stored.damaged), ("{\"a\":\"é\\n\",\"b\":3}", false));
}
