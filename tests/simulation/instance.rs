//! One process: its settings, its clock, its connection to the store, and what it has said.

use crate::guarantees;
use crate::model::record::IDS;
use crate::profile::Profile;
use brainy::base::clock::VirtualClock;
use brainy::base::compute::Pauses;
use brainy::base::ids::{CollectionName, Seq};
use brainy::base::rng::{Rng, SeededRng};
use brainy::base::settings::{Role, Settings};
use brainy::base::tasks::Tasks;
use brainy::engine::Brainy;
use brainy::store::layers::Faults;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The grace period: short, so that a run sees many.
pub const GRACE: Duration = Duration::from_secs(10);
/// How old answers may be while the store is out of reach.
pub const STALE_MAX: Duration = Duration::from_secs(6);

/// One process.
pub struct Instance {
    pub number: u64,
    pub role: Role,
    pub brainy: Brainy,
    pub faults: Faults,
    pub tasks: Tasks,
    pub clock: Arc<VirtualClock>,
    pub poll: Duration,
    /// The largest version that it has answered with.
    pub answered: Mutex<BTreeMap<CollectionName, Seq>>,
    /// The largest version that a write through it was answered with.
    pub wrote: Mutex<BTreeMap<CollectionName, Seq>>,
    /// For how long its clocks have stood still.
    pub stood_still: Mutex<Duration>,
}

impl Instance {
    /// It stood still for so long, and its clocks with it.
    pub fn stood_still(&self, paused: Duration) {
        self.clock.stood_still_ms(paused.as_millis() as u64);
        *self.stood_still.lock().unwrap() += paused;
    }

    pub fn answered(&self, name: &CollectionName) -> Seq {
        self.answered.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    pub fn has_answered(&self, name: &CollectionName, version: Seq) {
        raise(&self.answered, name, version);
    }

    pub fn wrote(&self, name: &CollectionName) -> Seq {
        self.wrote.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    pub fn has_written(&self, name: &CollectionName, version: Seq) {
        raise(&self.wrote, name, version);
    }
}

fn raise(of: &Mutex<BTreeMap<CollectionName, Seq>>, name: &CollectionName, version: Seq) {
    let mut of = of.lock().unwrap();
    let known = of.entry(name.clone()).or_default();
    *known = (*known).max(version);
}

/// The settings of an instance: small enough that everything happens within minutes.
pub fn settings(profile: &Profile, rng: &dyn Rng) -> Settings {
    let drawn = drawn(profile, rng);
    match profile.indexes_late {
        true => Settings { index_after_bytes: 1 << 20, index_after_ms: 120_000, ..drawn },
        false => drawn,
    }
}

fn drawn(profile: &Profile, rng: &dyn Rng) -> Settings {
    let common = Settings {
        gc_grace_ms: GRACE.as_millis() as u64,
        manifest_history_ms: 60_000,
        stale_max_ms: STALE_MAX.as_millis() as u64,
        // Small enough that some writes go through data objects.
        wal_inline_max_bytes: 300,
        batch_max_bytes: 600,
        // Everything is indexed soon, and partitions are small enough to be split.
        index_interval_ms: 700,
        index_after_bytes: 2_000,
        index_after_ms: 3_000,
        compaction_fanout: 2,
        partition_max_vectors: IDS / 2,
        lease_ttl_ms: 5_000,
        // Collections are closed between two uses, and what the dead left is found soon.
        collection_idle_ms: 3_000,
        index_scan_interval_ms: 20_000,
        ..Settings::default()
    };
    if !profile.own_settings {
        return common;
    }
    let of = |choices: [u64; 3]| choices[rng.below(3) as usize];
    let (grace, poll, inline) =
        (of([10_000, 15_000, 40_000]), of([200, 1_000, 3_000]), of([0, 300, 5_000]));
    Settings {
        gc_grace_ms: if guarantees::GRACE_IS_AGREED_ON { grace } else { common.gc_grace_ms },
        poll_interval_ms: poll,
        wal_inline_max_bytes: inline,
        batch_max_bytes: of([300, 600, 20_000]),
        batch_linger_ms: of([0, 5, 50]),
        index_interval_ms: of([300, 700, 2_000]),
        index_after_bytes: of([500, 2_000, 20_000]),
        compaction_fanout: of([2, 3, 4]) as usize,
        lease_ttl_ms: of([1_000, 5_000, 20_000]),
        ..common
    }
}

/// Most computations begin at once; some wait, a few of them long.
#[derive(Debug)]
pub struct Busy {
    pub rng: SeededRng,
    pub longest: Duration,
}

impl Pauses for Busy {
    fn next(&self) -> Duration {
        match self.rng.below(16) {
            0 => self.rng.jitter(self.longest),
            1..=4 => self.rng.jitter(self.longest / 20),
            _ => Duration::ZERO,
        }
    }
}
