//! Segments, objects that name dead rows, and manifests are missing or damaged.

use super::*;

/// Two segments, the second of which is damaged.
async fn with_a_damaged_segment(store: &DynStore, gone: bool) -> (Key, Bytes) {
    let writer = instance(store, Role::Hybrid, by_hand(), 1).await;
    write(&writer, 0..6).await;
    writer.index(&things()).await.unwrap();
    let known = keys(store, "seg").await;
    write(&writer, 6..9).await;
    writer.index(&things()).await.unwrap();
    let mut added = keys(store, "seg").await;
    added.retain(|key| !known.contains(key));
    let (key, true) = (added.pop().unwrap(), added.is_empty()) else { panic!("one was added") };
    let sound = get(&**store, &key).await.unwrap().required(&key).unwrap().bytes;
    match gone {
        true => drop(take_away(store, &key).await),
        false => flip(store, &key).await,
    }
    (key, sound)
}

#[tokio::test(start_paused = true)]
async fn a_damaged_segment_is_left_out_and_the_rest_is_served() {
    for gone in [true, false] {
        let (odd, store) = world();
        let (key, sound) = with_a_damaged_segment(&store, gone).await;
        let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
        for _ in 0..3 {
            let found = search(&reader, Consistency::Strong).await.unwrap();
            let partial = found.partial.expect("it says that it is not all");
            assert_eq!((partial[0].kind, &*partial[0].place), (DamageKind::Segment, key.as_str()));
            assert_eq!(found.hits.len(), 6);
        }
        assert!(odd.segments.load(Ordering::Relaxed) <= 9, "it is not read again and again");
        let page = reader.list(&things(), 100, None, true).await.unwrap();
        assert!(page.records.len() == 6 && page.partial.is_some());
        let export = reader.export(&things(), true).await.unwrap();
        assert!(export.partial.is_some());
        let lines: Vec<Bytes> = export.lines.try_collect().await.unwrap();
        assert_eq!(lines.concat().iter().filter(|byte| **byte == b'\n').count(), 6);
        assert_eq!(reader.get(&things(), "r1").await.unwrap().record.id, "r1");
        let error = reader.get(&things(), "r7").await.unwrap_err();
        assert_eq!((error.code(), &error.details()["key"]), (Code::Corrupt, &json!(key.as_str())));
        let fetched = reader.fetch(&things(), &["r1".into(), "r7".into()], false).await.unwrap();
        assert!(fetched.records.len() == 1 && fetched.partial.is_some());
        assert!(says(&reader, key.as_str()));
        // Deleting by a filter what can be seen would leave the rest, and nobody would know.
        let writer = instance(&store, Role::Hybrid, by_hand(), 3).await;
        let filter = Filter::parse(&json!({"id": {"$exists": true}})).unwrap();
        let deleted = writer.delete(&things(), DeleteTarget::Filter(filter)).await;
        let error = deleted.unwrap_err();
        assert_eq!((error.code(), &error.details()["key"]), (Code::Corrupt, &json!(key.as_str())));
        store.put(&key, sound).await.unwrap();
        sleep(Duration::from_secs(31)).await;
        let found = search(&reader, Consistency::Strong).await.unwrap();
        assert!(found.hits.len() == 9 && found.partial.is_none());
        assert!(reader.condition().degraded.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn where_dead_rows_are_not_known_no_deleted_record_returns() {
    for gone in [true, false] {
        let (_, store) = world();
        let writer = instance(&store, Role::Hybrid, by_hand(), 1).await;
        write(&writer, 0..6).await;
        writer.index(&things()).await.unwrap();
        let target = DeleteTarget::Ids(vec!["r1".into()]);
        writer.delete(&things(), target).await.unwrap();
        write(&writer, 6..9).await;
        writer.index(&things()).await.unwrap();
        let key = keys(&store, "del").await.pop().expect("there are dead rows");
        let sound = get(&*store, &key).await.unwrap().required(&key).unwrap().bytes;
        match gone {
            true => drop(take_away(&store, &key).await),
            false => flip(&store, &key).await,
        }
        let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
        let found = search(&reader, Consistency::Strong).await.unwrap();
        let partial = found.partial.expect("it says that it is not all");
        assert_eq!((partial[0].kind, &*partial[0].place), (DamageKind::Deletions, key.as_str()));
        let mut ids: Vec<&str> = found.hits.iter().map(|hit| &*hit.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["r6", "r7", "r8"], "the segment that has no dead rows");
        assert!(says(&reader, key.as_str()));
        let error = reader.get(&things(), "r1").await.unwrap_err();
        assert_eq!((error.code(), &error.details()["key"]), (Code::Corrupt, &json!(key.as_str())));
        store.put(&key, sound).await.unwrap();
        for _ in 0..40 {
            sleep(Duration::from_secs(1)).await;
            search(&reader, Consistency::Eventual).await.unwrap();
        }
        let found = search(&reader, Consistency::Strong).await.unwrap();
        assert!(found.hits.len() == 8 && found.partial.is_none());
        assert!(reader.condition().degraded.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_cannot_be_read_is_named_and_writes_are_refused() {
    let (_, store) = world();
    let hybrid = instance(&store, Role::Hybrid, by_hand(), 1).await;
    write(&hybrid, 0..3).await;
    search(&hybrid, Consistency::Eventual).await.unwrap();
    let key = paths::manifest(&things());
    let sound = get(&*store, &key).await.unwrap().required(&key).unwrap().bytes;
    store.put(&key, "{\"formatVersion\": 2,".into()).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let error = search(&hybrid, Consistency::Eventual).await.unwrap_err();
    assert_eq!(error.code(), Code::Corrupt);
    let error = hybrid.upsert(&things(), vec![record("new")]).await.unwrap_err();
    assert_eq!((error.code(), &error.details()["key"]), (Code::Corrupt, &json!(key.as_str())));
    let other = instance(&store, Role::Reader, Settings::default(), 2).await;
    search(&other, Consistency::Eventual).await.unwrap_err();
    assert!(says(&hybrid, key.as_str()) && says(&other, key.as_str()));
    store.put(&key, sound).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    for instance in [&hybrid, &other] {
        assert_eq!(search(instance, Consistency::Strong).await.unwrap().hits.len(), 3);
        assert!(instance.condition().degraded.is_empty());
    }
    write(&hybrid, 3..4).await;
}
