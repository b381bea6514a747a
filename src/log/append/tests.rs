//! What is taken along, when, and how often.

use super::tail::unsure;
use super::*;
use crate::base::Timestamp;
use crate::base::clock::{Clock, VirtualClock};
use crate::base::defect::Defects;
use crate::log::read::head_at;
use crate::log::turns::WINDOW;
use crate::log::waiting::{Left, remove_old};
use crate::store::memory::MemoryStore;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
struct Fixed(Arc<VirtualClock>, Arc<AtomicBool>);

#[async_trait]
impl BoundsSource for Fixed {
    async fn look(&self) -> Result<Bounds> {
        let (floor, base) = (Seq(1), Totals::default());
        if self.1.load(Ordering::Relaxed) {
            return Err(gone(&CollectionName::new("c")?));
        }
        Ok(Bounds {
            incarnation: 1,
            floor,
            indexed: Seq(0),
            base,
            looked: self.0.mark(),
            grace: None,
        })
    }
}

/// A collection with a log and some who append to it.
struct World {
    store: DynStore,
    clock: Arc<VirtualClock>,
    env: Env,
    name: CollectionName,
    /// Whether the collection's life is over.
    ended: Arc<AtomicBool>,
}

impl World {
    fn new(defects: Defects) -> Self {
        let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
        let env = Env { defects, ..Env::deterministic(1, clock.clone()) };
        let name = CollectionName::new("c").unwrap();
        let (store, ended) = (Arc::new(MemoryStore::default()), Arc::default());
        World { store, clock, env, name, ended }
    }

    async fn appender(&self) -> Appender {
        let source = Arc::new(Fixed(self.clock.clone(), self.ended.clone()));
        let (store, env) = (self.store.clone(), self.env.clone());
        let grace = Duration::from_secs(300);
        Appender::open(store, env, self.name.clone(), source, grace).await.unwrap()
    }

    /// Leaves `parts` where a holder finds them, as the writer `from`.
    async fn post(&self, from: u64, incarnation: u64, base: Seq, parts: &[Part]) -> Submission {
        let (store, env) = (self.store.clone(), self.env.clone());
        let submission = Submission { writer: from, number: self.env.rng.next_u64() };
        let mut places = Places::new(store, env, self.name.clone(), from);
        places.post(incarnation, submission, base, parts).await.unwrap();
        submission
    }

    /// The entries that hold a submission.
    async fn holding(&self, submission: Submission) -> Vec<u64> {
        let mut holding = Vec::new();
        for seq in 1.. {
            let Some(head) = head_at(&self.store, &self.name, Seq(seq)).await.unwrap() else {
                return holding;
            };
            if head.submissions.contains(&submission) {
                holding.push(seq);
            }
        }
        unreachable!("a log ends")
    }
}

fn part(text: &'static str) -> Vec<Part> {
    vec![Part::Inline { operations: 1, chunk: Bytes::from_static(text.as_bytes()) }]
}

/// Slowly enough to look for others now and then, and quickly enough to go on meeting them.
async fn append(appender: &mut Appender, times: u64) {
    for _ in 0..times {
        tokio::time::sleep(LIST_INTERVAL * 3 / 5).await;
        assert!(matches!(appender.append(&part("own"), None).await, Ok(Tried::Appended(_))));
    }
}

/// Enough for one that appends alone to look for others.
const A_WHILE: u64 = 24;

#[tokio::test(start_paused = true)]
async fn what_waits_is_taken_along_once_whoever_appends() {
    for (defects, times) in [(Defects::default(), 1), (Defects::only(Defect::JoinTwice), 2)] {
        let world = World::new(defects);
        let mut first = world.appender().await;
        let submission = world.post(7, 1, first.tail().seq, &part("theirs")).await;
        append(&mut first, A_WHILE).await;
        assert_eq!(world.holding(submission).await.len().min(2), times);
        // One that has seen none of it, and finds the object still there.
        let mut second = world.appender().await;
        append(&mut second, A_WHILE).await;
        assert_eq!(world.holding(submission).await.len().min(2), times);
    }
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_taken_along_is_left() {
    let world = World::new(Defects::default());
    let mut appender = world.appender().await;
    append(&mut appender, WINDOW).await;
    let tail = appender.tail().seq;
    let object = [Part::Object { operations: 1, id: crate::base::ids::Ulid(1), length: 1, crc: 0 }];
    let left = [
        world.post(7, 1, Seq(0), &part("of a tail that is too long ago")).await,
        world.post(8, 2, tail, &part("of another life of the collection")).await,
        world.post(9, 1, Seq(tail.0 + 1_000), &part("of a tail that is not there yet")).await,
        world.post(10, 1, tail, &object).await,
    ];
    let taken = world.post(11, 1, tail, &part("as it should be")).await;
    append(&mut appender, A_WHILE).await;
    for submission in left {
        assert_eq!(world.holding(submission).await, Vec::<u64>::new(), "{submission:?}");
    }
    assert_eq!(world.holding(taken).await.len(), 1);
    // Nor what has waited for longer than anybody waits.
    let late = world.post(12, 1, appender.tail().seq, &part("late")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    append(&mut appender, A_WHILE).await;
    assert_eq!(world.holding(late).await, Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_a_turn_has_the_next_one_once() {
    let world = World::new(Defects::default());
    let mut appender = world.appender().await;
    append(&mut appender, 1).await;
    world.post(7, 1, appender.tail().seq, &[]).await;
    let mut named = 0;
    for _ in 0..A_WHILE {
        // The writer never appends: after its turn the holder takes over again.
        if let Ok(Tried::Appended(at)) = appender.append(&part("own"), None).await {
            let head = head_at(&world.store, &world.name, at.seq).await.unwrap().unwrap();
            named += u32::from(head.author.is_some_and(|author| author.next == 7));
        }
    }
    assert_eq!(named, 1);
}

#[tokio::test(start_paused = true)]
async fn a_seal_ends_the_log_for_one_that_goes_on_appending() {
    let world = World::new(Defects::default());
    let (mut busy, mut other) = (world.appender().await, world.appender().await);
    append(&mut busy, 1).await;
    let (sealed, ()) = tokio::join!(other.seal(), async {
        while busy.append(&part("own"), None).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let sealed = sealed.unwrap();
    assert_eq!(busy.sealed(), Some(sealed));
    // Whatever was left to be taken along goes with the collection.
    assert!(busy.append(&part("own"), None).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn data_objects_that_grow_old_while_their_writer_waits_are_not_named() {
    let world = World::new(Defects::default());
    let (mut holder, mut waiting) = (world.appender().await, world.appender().await);
    let uploaded = world.clock.mark();
    tokio::time::sleep(Duration::from_millis(149_999)).await;
    holder.turns.contend();
    append_now(&mut holder).await;
    waiting.turns.contend();
    let object = [Part::Object { operations: 1, id: crate::base::ids::Ulid(1), length: 1, crc: 0 }];
    let tried = waiting.append(&object, Some(uploaded)).await.unwrap();
    assert_eq!((tried, waiting.tail().seq), (Tried::Aged, Seq(1)));
    assert!(waiting.places.has_posted(), "it has waited");
    assert!(head_at(&world.store, &world.name, Seq(2)).await.unwrap().is_none());
}

async fn append_now(appender: &mut Appender) {
    assert!(matches!(appender.append(&part("own"), None).await, Ok(Tried::Appended(_))));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_missing_before_another_is_not_the_end() {
    let world = World::new(Defects::default());
    let (mut one, mut other) = (world.appender().await, world.appender().await);
    for _ in 0..5 {
        append_now(&mut one).await;
    }
    let missing = paths::wal_entry(&world.name, Seq(3));
    world.store.delete(&missing).await.unwrap();
    assert_eq!(other.append(&part("first")[..], None).await.unwrap(), Tried::Lost);
    other.window = STEPS_MAX;
    let error = other.append(&part("second"), None).await.unwrap_err();
    assert_eq!((error.code(), error.is_ambiguous()), (Code::LogDamaged, false));
    assert!(head_at(&world.store, &world.name, Seq(3)).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn of_a_life_that_ended_while_a_writer_stood_still_nobody_says_that_there_is_no_collection() {
    let world = World::new(Defects::default());
    let mut appender = world.appender().await;
    append_now(&mut appender).await;
    let seq = appender.tail().seq;
    // It sent its entry and stood still; meanwhile the collection was deleted, and perhaps made again.
    tokio::time::sleep(Duration::from_secs(151)).await;
    world.ended.store(true, Ordering::Relaxed);
    let error = appender.check_floor(seq).await.unwrap_err();
    assert_eq!((error.code(), error.is_ambiguous()), (Code::StoreUnavailable, true));
    let waiting = unsure(gone(&world.name));
    assert_eq!((waiting.code(), waiting.is_ambiguous()), (Code::StoreUnavailable, true));
}

#[tokio::test(start_paused = true)]
async fn what_the_dead_leave_is_removed_when_it_is_old() {
    let world = World::new(Defects::default());
    world.post(7, 1, Seq(0), &part("left")).await;
    let age = Duration::from_secs(300);
    for (deleted, others) in [(0, true), (1, false), (0, false)] {
        let now = world.clock.now();
        let left = remove_old(&world.store, &world.name, now, age).await.unwrap();
        assert_eq!(left, Left { deleted, others });
        tokio::time::sleep(age + Duration::from_secs(1)).await;
    }
}
