//! Data objects that no entry names, and those that one does.

use super::*;

async fn appender(store: &DynStore, env: &Env, name: &CollectionName) -> Appender {
    let view = ManifestView::open(store.clone(), env.clone(), name.clone()).await.unwrap();
    let (store, env) = (store.clone(), env.clone());
    Appender::open(store, env, name.clone(), Arc::new(view), GRACE).await.unwrap()
}

/// Visits until `time` has passed.
async fn collect_for(visitor: &Visitor, known: &mut Known, name: &CollectionName, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        visitor.visit(name, known).await.unwrap();
        sleep(visitor.pause()).await;
    }
}

/// A collection with a data object that entry 1 names.
async fn with_one_named(env: &Env) -> (Arc<Watched>, DynStore, CollectionName, Ulid) {
    let (watched, things) = (Watched::new(env, Duration::ZERO), name("things"));
    let store: DynStore = watched.clone();
    commit(&store, env, &things, |_| {}).await;
    let named = body(&store, env, &things).await;
    entry(&store, env, &things, 1, &[named]).await;
    (watched, store, things, named)
}

#[tokio::test(start_paused = true)]
async fn bodies_without_a_name_are_deleted_and_others_are_not() {
    let env = env(1);
    let (watched, store, things, named) = with_one_named(&env).await;
    let (visitor, mut known) = (visitor(&store, &env), Known::default());
    // What is named is no reason for a fence.
    collect_for(&visitor, &mut known, &things, 2 * HOUR).await;
    assert_eq!(tail(&store, &things).await, Seq(1));
    assert!(known.bodies.rests(&visitor, known.version().unwrap()));
    let lost = body(&store, &env, &things).await;
    assert_eq!(bodies(&store, &things).await, [named, lost]);
    let found = unnamed_bodies(&store, &things).await.unwrap();
    assert_eq!(
        found.iter().map(|found| &found.key).collect::<Vec<_>>(),
        [&paths::wal_data(&things, lost)]
    );
    collect_for(&visitor, &mut known, &things, 26 * HOUR).await;
    assert_eq!(bodies(&store, &things).await, [named]);
    assert_eq!(unnamed_bodies(&store, &things).await.unwrap(), []);
    // One fence, which readers apply like any entry.
    assert_eq!(tail(&store, &things).await, Seq(2));
    let fence = store.get(&paths::wal_entry(&things, Seq(2)), GetOptions::default()).await.unwrap();
    let Fetched::Found(fence) = fence else { panic!("no fence") };
    let fence = Entry::decode(&fence.bytes).unwrap();
    assert!(fence.parts.is_empty() && !fence.header.seal);
    watched.check();
}

#[tokio::test(start_paused = true)]
async fn a_deleted_collection_leaves_no_bodies_and_its_next_life_keeps_its_own() {
    let env = env(1);
    let (watched, store, things, _) = with_one_named(&env).await;
    body(&store, &env, &things).await;
    crate::engine::catalog::delete(&store, &env, GRACE, &things).await.unwrap();
    let (visitor, mut known) = (visitor(&store, &env), Known::default());
    collect_for(&visitor, &mut known, &things, HOUR).await;
    assert!(bodies(&store, &things).await.is_empty());
    assert_eq!(tail(&store, &things).await, Seq(0));
    // The name is used again.
    commit(&store, &env, &things, |manifest| {
        *manifest = Manifest {
            state: State::Live,
            incarnation: manifest.incarnation + 1,
            ..manifest.clone()
        };
    })
    .await;
    let next = body(&store, &env, &things).await;
    let mut appender = appender(&store, &env, &things).await;
    let part = Part::Object { operations: 1, id: next, length: 4, crc: 0 };
    let uploaded = Some(env.clock.mark());
    assert!(matches!(appender.append(&[part], uploaded).await.unwrap(), Tried::Appended(_)));
    collect_for(&visitor, &mut known, &things, 26 * HOUR).await;
    assert_eq!(bodies(&store, &things).await, [next]);
    watched.check();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_while_an_entry_is_missing() {
    let (env, things) = (env(1), name("things"));
    let store: DynStore = Watched::new(&env, Duration::ZERO);
    commit(&store, &env, &things, |_| {}).await;
    for seq in [1, 2, 3] {
        let id = body(&store, &env, &things).await;
        entry(&store, &env, &things, seq, &[id]).await;
    }
    store.delete(&paths::wal_entry(&things, Seq(2))).await.unwrap();
    let _collections = run(&store, &env);
    sleep(24 * HOUR).await;
    assert_eq!(bodies(&store, &things).await.len(), 3);
    assert!(env.metrics.collector_failures.get() > 0);
    env.tasks.kill();
}

/// A writer stands still between uploading a body and taking a position in the log, or while its entry is on its
/// way there; meanwhile the collector finds the body without a name.
async fn a_writer_stands_still(on_the_way: bool, defects: Defects) -> (Option<String>, bool) {
    let (env, things) = (Env { defects, ..env(1) }, name("things"));
    let watched = Watched::new(&env, Duration::ZERO);
    let store: DynStore = watched.clone();
    commit(&store, &env, &things, |_| {}).await;
    let mut writer = appender(&store, &env, &things).await;
    let uploaded = Some(env.clock.mark());
    let id = body(&store, &env, &things).await;
    let part = Part::Object { operations: 1, id, length: 4, crc: 0 };
    let (visitor, mut known) = (visitor(&store, &env), Known::default());
    let collect = collect_for(&visitor, &mut known, &things, 8 * HOUR);
    let tried = if on_the_way {
        let held = watched.gate.write().await;
        let append = writer.append(std::slice::from_ref(&part), uploaded);
        let collect = async {
            collect.await;
            drop(held);
        };
        tokio::join!(append, collect).0
    } else {
        collect.await;
        writer.append(std::slice::from_ref(&part), uploaded).await
    };
    let mut tried = tried.unwrap();
    if tried == Tried::Lost {
        // As the writer does.
        tried = writer.append(std::slice::from_ref(&part), uploaded).await.unwrap();
    }
    (watched.fault(), matches!(tried, Tried::Appended(_)))
}

#[tokio::test(start_paused = true)]
async fn what_grows_old_while_names_are_read_is_left() {
    let env = env(1);
    let (watched, store, things, named) = with_one_named(&env).await;
    let (visitor, mut known) = (visitor(&store, &env), Known::default());
    let lost = body(&store, &env, &things).await;
    visitor.visit(&things, &mut known).await.unwrap();
    sleep(HOUR).await;
    // Uploaded before the fence, named behind it, and old when that is read.
    let mut writer = appender(&store, &env, &things).await;
    let (uploaded, young) = (env.clock.mark(), body(&store, &env, &things).await);
    let part = Part::Object { operations: 1, id: young, length: 4, crc: 0 };
    *watched.slow.lock().unwrap() = Some((paths::wal_entry(&things, Seq(2)), 2 * GRACE));
    let (visited, ()) = tokio::join!(visitor.visit(&things, &mut known), async {
        sleep(Duration::from_secs(1)).await;
        // It has not heard of the fence yet.
        for expected in [false, true] {
            let tried = writer.append(std::slice::from_ref(&part), Some(uploaded)).await.unwrap();
            let appended = matches!(tried, Tried::Appended(at) if at.seq == Seq(3));
            assert_eq!(appended, expected, "{tried:?}");
        }
    });
    visited.unwrap();
    watched.check();
    let left = bodies(&store, &things).await;
    assert!(!left.contains(&lost) && left.contains(&named) && left.contains(&young), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_stood_still_names_nothing_that_is_gone() {
    for on_the_way in [false, true] {
        let (fault, appended) = a_writer_stands_still(on_the_way, Defects::default()).await;
        assert_eq!((fault, appended), (None, false), "on the way: {on_the_way}");
    }
    for (on_the_way, defect) in [(false, Defect::NameOldBodies), (true, Defect::SweepWithoutFence)]
    {
        let (fault, _) = a_writer_stands_still(on_the_way, Defects::only(defect)).await;
        assert!(fault.is_some(), "{defect:?} goes unnoticed");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_deleted_although_they_are_named_are_noticed() {
    let env = Env { defects: Defects::only(Defect::SweepNamedBodies), ..env(1) };
    let (watched, store, things, _) = with_one_named(&env).await;
    body(&store, &env, &things).await;
    let (visitor, mut known) = (visitor(&store, &env), Known::default());
    collect_for(&visitor, &mut known, &things, 2 * HOUR).await;
    assert!(watched.fault().unwrap().contains("above the floor"));
}

#[tokio::test(start_paused = true)]
async fn what_an_entry_named_that_is_gone_goes_too() {
    let env = env(1);
    let (_, store, things, named) = with_one_named(&env).await;
    let left = body(&store, &env, &things).await;
    let (visitor, mut known) = (visitor(&store, &env), Known::default());
    // Its name is known, since the other is looked for.
    collect_for(&visitor, &mut known, &things, 2 * HOUR).await;
    assert_eq!(bodies(&store, &things).await, [named], "{left} is nobody's");
    // A person removes the entry, and it is indexed all the same by one that has read it.
    store.delete(&paths::wal_entry(&things, Seq(1))).await.unwrap();
    commit(&store, &env, &things, |manifest| manifest.wal_indexed = Seq(1)).await;
    collect_for(&visitor, &mut known, &things, 26 * HOUR).await;
    assert_eq!(bodies(&store, &things).await, []);
}
