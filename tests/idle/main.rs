//! What does an instance ask of the store when nobody asks it for anything, and how does upkeep fare beside
//! thousands of collections?
//!
//! The bounds here are those of docs/stores.md. What collecting asks for is not among them: `gc_grace_ms` is so
//! long that it never runs.

#[path = "../support/nobody.rs"]
mod nobody;
mod store;

use brainy::base::clock::VirtualClock;
#[cfg(debug_assertions)]
use brainy::base::defect::{Defect, Defects};
use brainy::base::ids::{CollectionName, Seq};
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Env, Timestamp};
use brainy::engine::Brainy;
use brainy::engine::model::*;
use brainy::manifest::{self, Manifest};
use brainy::store::{DynStore, paths};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use store::{Counting, dollars};
use tokio::time::{Instant, sleep};

const HOUR: Duration = Duration::from_secs(3_600);

fn name(n: usize) -> CollectionName {
    CollectionName::new(format!("c{n:05}")).unwrap()
}

fn record(id: &str) -> Vec<NewRecord> {
    let vector = vec![1.0, 0.0];
    vec![NewRecord { id: Some(id.to_owned()), vector, metadata: None, text: None }]
}

fn search() -> SearchRequest {
    SearchRequest::nearest(vec![1.0, 0.0], 10)
}

fn settings() -> Settings {
    Settings { gc_grace_ms: 30 * 24 * 3_600_000, ..Settings::default() }
}

/// A store, as it is counted and as instances see it.
fn store() -> (Arc<Counting>, DynStore) {
    let counting = Arc::new(Counting::default());
    (counting.clone(), counting)
}

async fn instance(store: &DynStore, role: Role, settings: Settings, seed: u64) -> Brainy {
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
    Brainy::start(settings, role, store.clone(), Env::deterministic(seed, clock)).await.unwrap()
}

/// Makes so many collections of one indexed record.
async fn fill(store: &DynStore, collections: usize) {
    let maker = instance(store, Role::Hybrid, settings(), 99).await;
    for n in 0..collections {
        maker.upsert(&name(n), record("x")).await.unwrap();
        maker.index(&name(n)).await.unwrap();
    }
    maker.env().tasks.kill();
    sleep(Duration::from_secs(1)).await;
}

async fn load(store: &DynStore, n: usize) -> Manifest {
    manifest::load(store, &name(n)).await.unwrap().unwrap().value
}

/// How long it takes until all of the log is indexed.
async fn indexed_after(store: &DynStore, n: usize, end: Seq, at_most: Duration) -> Duration {
    let started = Instant::now();
    while load(store, n).await.wal_indexed < end {
        assert!(started.elapsed() < at_most, "not indexed after {at_most:?}");
        sleep(Duration::from_secs(1)).await;
    }
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_asks_for_next_to_nothing() {
    for collections in [1, 100, 1_000] {
        for role in [Role::Reader, Role::Writer, Role::Hybrid] {
            for opens in [false, true] {
                let (counting, store) = store();
                fill(&store, collections).await;
                let one = instance(&store, role, settings(), 1).await;
                for n in (0..collections).filter(|_| opens) {
                    match role.writes() {
                        true => drop(one.upsert(&name(n), record("y")).await.unwrap()),
                        false => drop(one.search(&name(n), search()).await.unwrap()),
                    }
                }
                // What was written is indexed and merged, and everything is closed.
                sleep(HOUR / 2).await;
                assert_eq!(one.env().metrics.collections_open.get(), 0);
                assert_eq!(one.env().metrics.tail_bytes.get(), 0);
                counting.take();
                sleep(10 * HOUR).await;
                let (counts, count) = (counting.take(), collections as u64);
                let (asked, cost) = (counts.values().sum::<u64>(), dollars(&counts) * 73.0);
                println!("{role:?}, {count}, opened: {opens}: {counts:?}, ${cost:.4} a month");
                // Two GETs a collection for each scan, and a dozen requests for the lease and the listing;
                // ten hours have 20 scans at most.
                let bound = if role.writes() { 20 * (2 * count + 12) } else { 0 };
                assert!(asked <= bound, "{asked} requests, {bound} at most: {counts:?}");
                one.env().tasks.kill();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_for_a_minute_is_not_polled() {
    let (counting, store) = store();
    fill(&store, 50).await;
    for role in [Role::Reader, Role::Hybrid] {
        let one = instance(&store, role, settings(), 1).await;
        for n in 0..50 {
            one.search(&name(n), search()).await.unwrap();
        }
        sleep(Duration::from_secs(62)).await;
        counting.take();
        // They are still open.
        assert_eq!(one.condition().degraded, Vec::<String>::new());
        sleep(Duration::from_secs(300)).await;
        assert_eq!(counting.take_total(), 0, "{role:?}");
        one.env().tasks.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_reads_manifests_and_opens_nothing() {
    let (counting, store) = store();
    fill(&store, 50).await;
    let one = instance(&store, Role::Reader, settings(), 1).await;
    counting.take();
    let page = one.collections(50, None).await.unwrap();
    assert_eq!(counting.take(), [("get", 50), ("list", 1)].into());
    let counts = page.collections.iter().map(|info| info.vector_count);
    assert!(page.collections.len() == 50 && counts.into_iter().all(|count| count == Some(1)));
    sleep(HOUR).await;
    assert_eq!(counting.take_total(), 0);
    // An instance that has written what is not indexed yet says so.
    let two = instance(&store, Role::Hybrid, settings(), 2).await;
    let version = two.upsert(&name(7), record("y")).await.unwrap().version;
    let page = two.collections(50, None).await.unwrap();
    assert_eq!(page.collections[7].vector_count, Some(2));
    assert_eq!(page.collections[7].version, version);
    assert_eq!(page.collections[6].vector_count, Some(1));
}

#[tokio::test(start_paused = true)]
async fn one_manifest_that_cannot_be_read_keeps_nobody_from_the_others() {
    let (_, store) = store();
    fill(&store, 30).await;
    store.put(&paths::manifest(&name(3)), "{".into()).await.unwrap();
    // A writer dies over two of them.
    let dead = instance(&store, Role::Writer, settings(), 1).await;
    let end = dead.upsert(&name(20), record("y")).await.unwrap().version;
    dead.env().tasks.kill();
    let one = instance(&store, Role::Hybrid, settings(), 2).await;
    let (mut cursor, mut found, mut damaged) = (None, Vec::new(), Vec::new());
    loop {
        let page = one.collections(7, cursor).await.unwrap();
        assert!(page.collections.len() + page.damaged.len() <= 7);
        found.extend(page.collections.into_iter().map(|info| info.name));
        damaged.extend(page.damaged);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, (0..30).filter(|n| *n != 3).map(name).collect::<Vec<_>>());
    assert_eq!(damaged.len(), 1);
    assert_eq!((&damaged[0].0, damaged[0].1.code()), (&name(3), Code::Corrupt));
    indexed_after(&store, 20, end, Duration::from_secs(180)).await;
    assert_eq!(one.env().metrics.collections_unreadable.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_rarely_is_indexed_merged_and_closed() {
    let (_, store) = store();
    let one = instance(&store, Role::Writer, settings(), 1).await;
    for n in 0..5 {
        let end = one.upsert(&name(0), record(&format!("{n}"))).await.unwrap().version;
        let took = indexed_after(&store, 0, end, Duration::from_secs(60)).await;
        assert!(took <= Duration::from_secs(15), "{took:?}");
        sleep(Duration::from_secs(2)).await;
    }
    assert!(load(&store, 0).await.segments().count() > 1);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(load(&store, 0).await.segments().count(), 1);
    sleep(HOUR).await;
    assert_eq!(one.env().metrics.collections_open.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_was_closed_goes_on_where_it_ended() {
    let (_, store) = store();
    let one = instance(&store, Role::Hybrid, settings(), 1).await;
    let mut last = Seq(0);
    for n in 0..5 {
        let written = one.upsert(&name(0), record(&format!("{n}"))).await.unwrap().version;
        let shown = one.search(&name(0), search()).await.unwrap();
        assert!(shown.version >= written && shown.version >= last);
        assert_eq!(shown.hits.len(), n + 1);
        last = shown.version;
        sleep(HOUR).await;
        assert_eq!(one.env().metrics.collections_open.get(), 0);
        assert_eq!(one.env().metrics.vector_count.get(), 0);
    }
    // Nobody who asks about it without reading it opens it.
    assert_eq!(one.applied(&name(0), Consistency::Eventual).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_writer_left_is_indexed() {
    let (_, store) = store();
    // One that was there before, is in no cluster, and finds it with its next scan.
    let one = instance(&store, Role::Writer, settings(), 1).await;
    sleep(Duration::from_secs(120)).await;
    let dead = instance(&store, Role::Writer, settings(), 2).await;
    let end = dead.upsert(&name(0), record("x")).await.unwrap().version;
    dead.env().tasks.kill();
    let took = indexed_after(&store, 0, end, 2 * HOUR).await;
    println!("found by a scan after {took:?}");
    one.env().tasks.kill();
    // One that starts later.
    let dead = instance(&store, Role::Writer, settings(), 3).await;
    let end = dead.upsert(&name(1), record("x")).await.unwrap().version;
    dead.env().tasks.kill();
    let one = instance(&store, Role::Writer, settings(), 4).await;
    let took = indexed_after(&store, 1, end, Duration::from_secs(120)).await;
    println!("found after a start after {took:?}");
    one.env().tasks.kill();
}

#[cfg(debug_assertions)]
#[tokio::test(start_paused = true)]
async fn builds_that_leave_logs_alone_are_noticed() {
    let soon = Settings { collection_idle_ms: 1_000, ..settings() };
    for (defect, at_once) in [(Defect::SkipScan, false), (Defect::CloseUnindexed, true)] {
        let (_, store) = store();
        // Each with a seed of its own: write ids must not come twice in one store.
        for (broken, seed) in [(true, 1), (false, 3)] {
            let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
            let mut env = Env::deterministic(seed, clock);
            if broken {
                env.defects = Defects::only(defect);
            }
            let dead = instance(&store, Role::Writer, settings(), seed + 1).await;
            let end = dead.upsert(&name(0), record("x")).await.unwrap().version;
            dead.env().tasks.kill();
            let one = Brainy::start(soon.clone(), Role::Writer, store.clone(), env).await.unwrap();
            if at_once {
                // The scan at the start is over.
                sleep(Duration::from_secs(120)).await;
            }
            let end = match at_once {
                true => one.upsert(&name(0), record("y")).await.unwrap().version,
                false => end,
            };
            sleep(Duration::from_secs(120)).await;
            assert_eq!(load(&store, 0).await.wal_indexed < end, broken, "{defect:?}");
            one.env().tasks.kill();
        }
    }
}

async fn member(store: &DynStore, role: Role, seed: u64) -> Brainy {
    let one = instance(store, role, settings(), seed).await;
    one.cluster().join(nobody::invitation()).await.unwrap();
    one
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_member_left_is_indexed_soon_after_its_death_is_noticed() {
    let (_, store) = store();
    let others = [member(&store, Role::Writer, 1).await, member(&store, Role::Writer, 2).await];
    let dead = member(&store, Role::Writer, 3).await;
    sleep(Duration::from_secs(300)).await;
    let end = dead.upsert(&name(0), record("x")).await.unwrap().version;
    dead.env().tasks.kill();
    // It is dead after a minute; then half a minute for others to be first, and two looks.
    let took = indexed_after(&store, 0, end, Duration::from_secs(180)).await;
    println!("indexed {took:?} after the death");
    // One of the two has scanned for both.
    let read = |one: &Brainy| one.env().metrics.index_passes.get();
    assert_eq!(others.iter().map(read).sum::<u64>(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_member_asks_for_no_more_the_more_collections_it_has_open() {
    let mut asked = Vec::new();
    for collections in [0, 50] {
        let (counting, store) = store();
        fill(&store, collections).await;
        let one = member(&store, Role::Reader, 1).await;
        for n in 0..collections {
            one.search(&name(n), search()).await.unwrap();
        }
        sleep(Duration::from_secs(90)).await;
        counting.take();
        sleep(Duration::from_secs(480)).await;
        asked.push(counting.take_total());
    }
    assert!(asked[1] <= asked[0] + 10, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_member_takes_up_what_others_say_they_have_written() {
    let (_, store) = store();
    let (writer, reader) =
        (member(&store, Role::Writer, 1).await, member(&store, Role::Reader, 2).await);
    writer.upsert(&name(0), record("x")).await.unwrap();
    reader.search(&name(0), search()).await.unwrap();
    sleep(Duration::from_secs(120)).await;
    let end = writer.upsert(&name(0), record("y")).await.unwrap().version;
    // A heartbeat of each, and looks at them.
    sleep(Duration::from_secs(95)).await;
    let lag = writer.cluster().replication().await.unwrap();
    let shown = lag.readers.iter().map(|reader| reader.collections[0].applied);
    assert_eq!(shown.collect::<Vec<_>>(), [end.0]);
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_keeps_failing_backs_off() {
    let (counting, store) = store();
    let one = instance(&store, Role::Hybrid, settings(), 1).await;
    one.upsert(&name(0), record("x")).await.unwrap();
    one.upsert(&name(1), record("x")).await.unwrap();
    counting.deny_segments.store(true, Ordering::Relaxed);
    sleep(HOUR).await;
    let attempts = counting.segments_denied.load(Ordering::Relaxed);
    assert!((20..100).contains(&attempts), "{attempts}");
    counting.deny_segments.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(310)).await;
    assert!(
        load(&store, 0).await.wal_indexed > Seq(0) && load(&store, 1).await.wal_indexed > Seq(0)
    );
}

/// The longest time in which nothing of a collection that is written each second was indexed.
async fn longest_gap(others: usize) -> Duration {
    let (counting, store) = store();
    fill(&store, others).await;
    counting.latency_ms.store(20, Ordering::Relaxed);
    let one = instance(&store, Role::Writer, settings(), 1).await;
    let busy = name(99_999);
    let (started, mut since) = (Instant::now(), Instant::now());
    let (mut indexed, mut longest) = (Seq(0), Duration::ZERO);
    while started.elapsed() < Duration::from_secs(300) {
        one.upsert(&busy, record("x")).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let now = manifest::load(&store, &busy).await.unwrap().unwrap().value.wal_indexed;
        if now > indexed {
            longest = longest.max(since.elapsed());
            (indexed, since) = (now, Instant::now());
        }
    }
    one.env().tasks.kill();
    longest.max(since.elapsed())
}

#[tokio::test(start_paused = true)]
async fn other_collections_do_not_delay_indexing() {
    let (alone, beside) = (longest_gap(0).await, longest_gap(2_000).await);
    println!("{alone:?} alone, {beside:?} beside 2,000");
    assert!(beside < 2 * alone);
}
