//! Entries of the log, or what they name, are missing or damaged.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_log_entry_that_is_gone_is_found_by_a_reader_and_named() {
    let (_, store) = world();
    let writer = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&writer, 0..11).await;
    let key = paths::wal_entry(&things(), Seq(4));
    let bytes = take_away(&store, &key).await;
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    let found = search(&reader, Consistency::Eventual).await.unwrap();
    assert_eq!((found.hits.len(), found.version), (3, Seq(3)));
    let partial = found.partial.expect("it says that it is not all");
    assert_eq!((partial[0].kind, &*partial[0].place), (DamageKind::LogEntry, key.as_str()));
    assert_eq!(partial[0].position, Some(Seq(4)));
    assert!(says(&reader, key.as_str()), "{:?}", reader.condition());
    let late = Consistency::AtLeast { version: Seq(9), wait: Duration::from_secs(30) };
    for beyond in [Consistency::Strong, late] {
        let error = search(&reader, beyond).await.unwrap_err();
        assert_eq!(
            (error.code(), &error.details()["key"]),
            (Code::LogDamaged, &json!(key.as_str()))
        );
    }
    let lost = reader.get(&things(), "r7").await.unwrap_err();
    assert_eq!(lost.code(), Code::LogDamaged, "nobody knows whether it is there");
    let there = reader.get(&things(), "r1").await.unwrap();
    assert_eq!(there.record.id, "r1");
    // It may have been overwritten where nobody can look.
    assert!(there.partial.is_some_and(|missing| missing[0].place == key.as_str()));
    let page = reader.list(&things(), 100, None, false).await.unwrap();
    assert!(page.records.len() == 3 && page.partial.is_some());
    assert_eq!(reader.stats(&things()).await.unwrap().damaged.len(), 1);
    // Restored, it is as if nothing had been.
    store.put(&key, bytes).await.unwrap();
    sleep(Duration::from_secs(6)).await;
    let found = search(&reader, Consistency::Strong).await.unwrap();
    assert!(found.hits.len() == 11 && found.partial.is_none());
    assert!(reader.condition().degraded.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_last_gap_is_found_by_the_listing_once_a_minute_and_an_idle_log_costs_nothing() {
    let (odd, store) = world();
    let writer = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&writer, 0..3).await;
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    search(&reader, Consistency::Eventual).await.unwrap();
    // What follows first vanishes before this reader has seen it, and only one entry is behind it.
    odd.away.store(true, Ordering::Relaxed);
    write(&writer, 3..5).await;
    odd.inner.delete(&paths::wal_entry(&things(), Seq(4))).await.unwrap();
    odd.away.store(false, Ordering::Relaxed);
    odd.lists.store(0, Ordering::Relaxed);
    let mut told_after = None;
    for second in 0..150 {
        sleep(Duration::from_secs(1)).await;
        let found = search(&reader, Consistency::Eventual).await.unwrap();
        assert_eq!(found.version, Seq(3));
        told_after = told_after.or(found.partial.map(|_| second));
    }
    assert!(told_after.is_some_and(|seconds| seconds <= 62), "{told_after:?}");
    assert!((2..=3).contains(&odd.lists.load(Ordering::Relaxed)), "one a minute");
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_could_not_be_confirmed_is_not_forgotten() {
    let (odd, store) = world();
    let writer = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&writer, 0..3).await;
    odd.inner.delete(&paths::wal_entry(&things(), Seq(1))).await.unwrap();
    odd.headers_away.store(true, Ordering::Relaxed);
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    let error = search(&reader, Consistency::Eventual).await.unwrap_err();
    assert_eq!(error.code(), Code::StoreUnavailable);
    odd.headers_away.store(false, Ordering::Relaxed);
    let found = search(&reader, Consistency::Eventual).await.unwrap();
    assert_eq!((found.version, found.partial.is_some()), (Seq(0), true));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_well_is_listed_once_a_minute_while_it_is_read_and_not_when_idle() {
    let (odd, store) = world();
    let writer = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&writer, 0..3).await;
    writer.shutdown().await;
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    search(&reader, Consistency::Eventual).await.unwrap();
    odd.lists.store(0, Ordering::Relaxed);
    for _ in 0..300 {
        sleep(Duration::from_secs(1)).await;
        search(&reader, Consistency::Eventual).await.unwrap();
    }
    assert!((4..=6).contains(&odd.lists.swap(0, Ordering::Relaxed)));
    sleep(Duration::from_secs(120)).await;
    odd.lists.store(0, Ordering::Relaxed);
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(odd.lists.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_appends_into_a_gap_or_behind_it() {
    for missing in [1, 4, 10] {
        for role in [Role::Writer, Role::Hybrid] {
            let (_, store) = world();
            write(&instance(&store, Role::Writer, unindexed(), 1).await, 0..11).await;
            let key = paths::wal_entry(&things(), Seq(missing));
            let bytes = take_away(&store, &key).await;
            let entries = keys(&store, "wal").await;
            let next = instance(&store, role, unindexed(), 2).await;
            for _ in 0..3 {
                let error = next.upsert(&things(), vec![record("new")]).await.unwrap_err();
                assert_eq!(error.code(), Code::LogDamaged, "{error}");
                assert_eq!(error.details()["key"], json!(key.as_str()));
                assert_eq!(error.details()["position"], json!(missing));
                assert!(!error.is_ambiguous());
            }
            assert_eq!(keys(&store, "wal").await, entries);
            assert!(says(&next, key.as_str()));
            if role.reads() {
                let found = search(&next, Consistency::Eventual).await.unwrap();
                assert!(found.partial.is_some() && found.version == Seq(missing - 1));
            }
            store.put(&key, bytes).await.unwrap();
            sleep(Duration::from_secs(31)).await;
            let written = next.upsert(&things(), vec![record("new")]).await.unwrap();
            assert_eq!(written.version, Seq(12));
            assert!(!says(&next, key.as_str()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_at_work_notices_within_a_minute_that_the_log_lost_its_next_entry() {
    let (_, store) = world();
    let one = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&one, 0..3).await;
    let other = instance(&store, Role::Writer, unindexed(), 2).await;
    write(&other, 3..6).await;
    let key = paths::wal_entry(&things(), Seq(4));
    take_away(&store, &key).await;
    sleep(Duration::from_secs(61)).await;
    let error = one.upsert(&things(), vec![record("new")]).await.unwrap_err();
    assert_eq!((error.code(), &error.details()["key"]), (Code::LogDamaged, &json!(key.as_str())));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_log_can_be_deleted() {
    let (_, store) = world();
    write(&instance(&store, Role::Writer, unindexed(), 1).await, 0..6).await;
    take_away(&store, &paths::wal_entry(&things(), Seq(4))).await;
    let next = instance(&store, Role::Hybrid, unindexed(), 2).await;
    next.upsert(&things(), vec![record("new")]).await.unwrap_err();
    next.delete_collection(&things()).await.unwrap();
    write(&next, 0..2).await;
    assert_eq!(search(&next, Consistency::Strong).await.unwrap().hits.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_below_what_is_indexed_does_not_matter() {
    let (_, store) = world();
    let first = instance(&store, Role::Hybrid, by_hand(), 1).await;
    write(&first, 0..11).await;
    first.index(&things()).await.unwrap();
    take_away(&store, &paths::wal_entry(&things(), Seq(4))).await;
    let next = instance(&store, Role::Hybrid, by_hand(), 2).await;
    write(&next, 11..12).await;
    let found = search(&next, Consistency::Strong).await.unwrap();
    assert!(found.hits.len() == 12 && found.partial.is_none());
    assert!(next.condition().degraded.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_stops_the_writers_who_know_of_it() {
    let (_, store) = world();
    let writer = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&writer, 0..11).await;
    let key = paths::wal_entry(&things(), Seq(5));
    let sound = get(&*store, &key).await.unwrap().required(&key).unwrap().bytes;
    flip(&store, &key).await;
    // It reads the log because it finds that nobody indexes it.
    let indexer = instance(&store, Role::Writer, Settings::default(), 2).await;
    indexer.describe(&things()).await.unwrap();
    sleep(Duration::from_secs(120)).await;
    let error = indexer.upsert(&things(), vec![record("new")]).await.unwrap_err();
    assert_eq!((error.code(), &error.details()["key"]), (Code::LogDamaged, &json!(key.as_str())));
    assert!(says(&indexer, key.as_str()));
    let reader = instance(&store, Role::Reader, Settings::default(), 3).await;
    let found = search(&reader, Consistency::Eventual).await.unwrap();
    assert!(found.hits.len() == 4 && found.partial.is_some());
    store.put(&key, sound).await.unwrap();
    sleep(Duration::from_secs(70)).await;
    indexer.upsert(&things(), vec![record("new")]).await.unwrap();
    assert_eq!(search(&reader, Consistency::Strong).await.unwrap().hits.len(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_data_object_that_is_gone_or_damaged_is_named() {
    for gone in [true, false] {
        let (_, store) = world();
        let settings = Settings { wal_inline_max_bytes: 10, batch_max_bytes: 10, ..unindexed() };
        let writer = instance(&store, Role::Writer, settings, 1).await;
        let records = |id: &str| (0..50).map(|n| record(&format!("{id}{n}"))).collect();
        writer.upsert(&things(), records("a")).await.unwrap();
        let known = keys(&store, "bin").await;
        writer.upsert(&things(), records("b")).await.unwrap();
        let mut added = keys(&store, "bin").await;
        added.retain(|key| !known.contains(key));
        let key = added.pop().expect("a large write is an object");
        match gone {
            true => drop(take_away(&store, &key).await),
            false => flip(&store, &key).await,
        }
        let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
        let found = search(&reader, Consistency::Eventual).await.unwrap();
        let partial = found.partial.unwrap();
        assert_eq!((partial[0].kind, &*partial[0].place), (DamageKind::LogData, key.as_str()));
        assert_eq!(partial[0].position, Some(Seq(2)));
        assert!(found.hits.len() == 50 && says(&reader, key.as_str()));
    }
}
