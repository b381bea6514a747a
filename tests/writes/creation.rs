//! Collections come and go as a whole, and come back only as they were.

use crate::support::*;
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Result};
use brainy::engine::model::*;
use brainy::manifest::State;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use std::sync::Arc;
use std::time::Duration;

fn euclidean() -> CollectionSpec {
    CollectionSpec {
        partition_count: Some(4),
        description: Some("kept".to_owned()),
        ..spec(2, Metric::Euclidean)
    }
}

/// A collection whose deletion stopped behind the seal, which is all of it that this instance knows.
async fn half_deleted(store: &Arc<Hooked>) {
    let one = instance(store, Role::Hybrid, 1).await;
    one.create_collection(euclidean()).await.unwrap();
    one.upsert(&things(), vec![record("x", &[1.0, 0.0], 1)]).await.unwrap();
    store.deny("things/manifest.json");
    let error = one.delete_collection(&things()).await.unwrap_err();
    assert!(error.is_ambiguous(), "{error}");
    assert!(error.message().contains("delete it again"), "{error}");
    // For this instance, too, it is gone.
    let gone = one.describe(&things()).await.unwrap_err();
    assert_eq!(gone.code(), Code::CollectionNotFound);
    store.allow();
    one.env().tasks.kill();
    assert_eq!(manifest(store).await.unwrap().state, State::Live);
}

/// The same, of somebody who died.
async fn half_deleted_by_another(store: &Arc<Hooked>) {
    let one = instance(store, Role::Hybrid, 1).await;
    one.create_collection(euclidean()).await.unwrap();
    one.upsert(&things(), vec![record("x", &[1.0, 0.0], 1)]).await.unwrap();
    one.env().tasks.kill();
    appender(store).await.seal().await.unwrap();
}

/// Each way to leave a deletion half done.
async fn each_half_deleted() -> Vec<Arc<Hooked>> {
    let (one, other) = (Arc::new(Hooked::default()), Arc::new(Hooked::default()));
    half_deleted(&one).await;
    half_deleted_by_another(&other).await;
    vec![one, other]
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_fails_before_the_seal_has_not_happened() {
    let store = Arc::new(Hooked::default());
    let one = instance(&store, Role::Hybrid, 1).await;
    one.create_collection(euclidean()).await.unwrap();
    one.upsert(&things(), vec![record("x", &[1.0, 0.0], 1)]).await.unwrap();
    one.get(&things(), "x").await.unwrap();
    store.deny(".wal");
    let error = one.delete_collection(&things()).await.unwrap_err();
    assert!(!error.is_ambiguous(), "{error}");
    store.allow();
    // It is read as it was, by what was open: a second read path beside it could show less.
    let asked = store.requests();
    one.get(&things(), "x").await.unwrap();
    assert_eq!(store.requests(), asked);
    // What is written from now on is not taken with it by whoever comes by later.
    let writer = instance_with(&store, Role::Writer, Settings::default(), 2).await;
    writer.upsert(&things(), vec![record("y", &[1.0, 0.0], 1)]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1_200)).await;
    assert!(!writer.create_collection(euclidean()).await.unwrap().1);
    assert_eq!(found(&one, &[1.0, 0.0]).await.unwrap(), ["x", "y"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_creates_a_half_deleted_collection_gets_a_new_one() {
    for role in [Role::Writer, Role::Hybrid] {
        for store in each_half_deleted().await {
            let next = instance(&store, role, 2).await;
            let (info, created) = next.create_collection(spec(3, Metric::Dot)).await.unwrap();
            assert_eq!((info.dimensions, info.metric, created), (3, Metric::Dot, true));
            next.upsert(&things(), vec![record("y", &[1.0, 0.0, 0.0], 1)]).await.unwrap();
            assert_eq!(next.describe(&things()).await.unwrap().metric, Metric::Dot);
            let reader = instance(&store, Role::Reader, 3).await;
            assert_eq!(found(&reader, &[1.0, 0.0, 0.0]).await.unwrap(), ["y"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_to_a_half_deleted_collection_makes_it_as_it_was() {
    for role in [Role::Writer, Role::Hybrid] {
        for store in each_half_deleted().await {
            let next = instance(&store, role, 2).await;
            next.upsert(&things(), vec![record("y", &[1.0, 0.0], 1)]).await.unwrap();
            let now = manifest(&store).await.unwrap();
            assert_eq!((now.state, now.incarnation), (State::Live, 2));
            assert_eq!(now.settings.vector().metric, Metric::Euclidean);
            assert_eq!(now.settings.partition_count, 4);
            assert_eq!(now.settings.description.as_deref(), Some("kept"));
            let reader = instance(&store, Role::Reader, 3).await;
            assert_eq!(found(&reader, &[1.0, 0.0]).await.unwrap(), ["y"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn deleting_again_finishes_what_was_begun() {
    for store in each_half_deleted().await {
        let next = instance(&store, Role::Writer, 2).await;
        next.delete_collection(&things()).await.unwrap();
        assert_eq!(manifest(&store).await.unwrap().state, State::Deleted);
        let gone = next.delete_collection(&things()).await.unwrap_err();
        assert_eq!(gone.code(), Code::CollectionNotFound);
        assert!(!gone.is_ambiguous());
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_nobody_comes_back_to_is_finished_in_the_background() {
    for store in each_half_deleted().await {
        let reader = instance(&store, Role::Reader, 3).await;
        let gone = found(&reader, &[1.0, 0.0]).await.unwrap_err();
        assert_eq!(gone.code(), Code::CollectionNotFound);
        let _other = instance_with(&store, Role::Writer, Settings::default(), 2).await;
        tokio::time::sleep(Duration::from_secs(1_200)).await;
        let now = manifest(&store).await.unwrap();
        assert_eq!((now.state, now.incarnation, now.live()), (State::Deleted, 1, 0));
    }
}

/// A writer that has not looked for a while cannot write behind the end of the collection.
#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_after_a_deletion_is_in_the_next_life() {
    let store = Arc::new(Hooked::default());
    let owner = instance(&store, Role::Hybrid, 1).await;
    let writer = instance(&store, Role::Writer, 2).await;
    writer.upsert(&things(), vec![record("x", &[1.0, 0.0], 1)]).await.unwrap();
    owner.delete_collection(&things()).await.unwrap();
    writer.upsert(&things(), vec![record("y", &[1.0, 0.0], 1)]).await.unwrap();
    assert_eq!(found(&owner, &[1.0, 0.0]).await.unwrap(), ["y"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_comes_back_by_a_write_only_with_the_settings_that_it_had() {
    for role in [Role::Writer, Role::Hybrid] {
        let store = Arc::new(Hooked::default());
        let one = instance(&store, role, 1).await;
        one.create_collection(euclidean()).await.unwrap();
        one.delete_collection(&things()).await.unwrap();
        let wide = one.upsert(&things(), vec![record("y", &[1.0, 0.0, 0.0], 1)]).await;
        assert_eq!(wide.unwrap_err().code(), Code::DimensionMismatch);
        let line = Ok(Bytes::from_static(b"{\"id\":\"y\",\"vector\":[1,2,3]}\n"));
        let report = one.import(&things(), stream::iter([line]).boxed()).await.unwrap();
        assert_eq!((report.imported, report.errors[0].code), (0, "dimension_mismatch"));
        assert_eq!(manifest(&store).await.unwrap().state, State::Deleted);
        one.upsert(&things(), vec![record("y", &[1.0, 0.0], 1)]).await.unwrap();
        // So its owner finds what it would have made.
        let (info, created) = one.create_collection(euclidean()).await.unwrap();
        assert_eq!((info.metric, info.partition_count, created), (Metric::Euclidean, 4, false));
        assert_eq!(info.description.as_deref(), Some("kept"));
    }
}

async fn import(brainy: &brainy::engine::Brainy, text: &'static str) -> Result<ImportReport> {
    let body = stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).boxed();
    brainy.import(&things(), body).await
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_creates_nothing() {
    let store = Arc::new(Hooked::default());
    let one = instance(&store, Role::Hybrid, 1).await;
    let good = || record("a", &[1.0, 0.0], 1);
    let mut bad = vec![
        record("", &[1.0, 0.0], 1),
        record("z", &[0.0, 0.0], 1),
        record("w", &[1.0], 1),
        good().metadata("[]"),
    ];
    bad[3].id = Some("m".to_owned());
    for bad in bad {
        for records in [vec![bad.clone()], vec![good(), bad.clone()], vec![bad, good()]] {
            // A record of other dimensions alone is no fault.
            if records.len() == 1 && records[0].vector.len() == 1 {
                continue;
            }
            one.upsert(&things(), records).await.unwrap_err();
            assert!(manifest(&store).await.is_none());
        }
    }
    let report = import(&one, "{\"id\":\"\",\"vector\":[1,2]}\nnothing\n\n").await.unwrap();
    assert_eq!((report.imported, report.failed), (0, 2));
    assert!(manifest(&store).await.is_none());
    // A line that is refused does not decide what the collection is like.
    let text = "{\"id\":\"\",\"vector\":[1,2,3]}\n{\"id\":\"a\",\"vector\":[1,2]}\n";
    let report = import(&one, text).await.unwrap();
    assert_eq!((report.imported, report.failed), (1, 1));
    assert_eq!(manifest(&store).await.unwrap().settings.vector().dimensions, 2);
}

#[tokio::test(start_paused = true)]
async fn bad_lines_for_a_collection_that_is_not_there_cost_no_requests_each() {
    let store = Arc::new(Hooked::default());
    let one = instance(&store, Role::Writer, 1).await;
    let lines = "{\"id\":\"\",\"vector\":[1,2]}\n".repeat(5_000);
    let before = store.requests();
    let body = stream::iter([Ok(Bytes::from(lines))]).boxed();
    let report = one.import(&things(), body).await.unwrap();
    assert_eq!(report.failed, 5_000);
    assert!(store.requests() - before < 20, "{}", store.requests() - before);
}

#[tokio::test(start_paused = true)]
async fn others_that_create_the_collection_meanwhile_are_joined_or_heard() {
    let store = Arc::new(Hooked::default());
    let one = instance(&store, Role::Writer, 1).await;
    let two = instance(&store, Role::Writer, 2).await;
    for (dimensions, metric, fits) in [(2, Metric::Dot, true), (3, Metric::Cosine, false)] {
        let creator = two.clone();
        let spec = spec(dimensions, metric);
        store.before_put("things/manifest.json", async move {
            creator.create_collection(spec).await.unwrap();
        });
        let written = one.upsert(&things(), vec![record("x", &[1.0, 0.0], 1)]).await;
        assert!(store.is_done());
        match fits {
            true => drop(written.unwrap()),
            false => assert_eq!(written.unwrap_err().code(), Code::DimensionMismatch),
        }
        assert_eq!(manifest(&store).await.unwrap().settings.vector().metric, metric);
        // Gone without a trace, as if it had never been there.
        one.delete_collection(&things()).await.unwrap();
        let key = brainy::store::paths::manifest(&things());
        brainy::store::Store::delete(&*store, &key).await.unwrap();
        for n in 1..9 {
            let key = brainy::store::paths::manifest_history(&things(), n);
            brainy::store::Store::delete(&*store, &key).await.unwrap();
        }
        for n in 1..9 {
            let key = brainy::store::paths::wal_entry(&things(), brainy::base::ids::Seq(n));
            brainy::store::Store::delete(&*store, &key).await.unwrap();
        }
    }
}
