//! What is on in a run: drawn from the seed, so that 200 seeds meet every combination of few.

use crate::guarantees;
use brainy::base::ids::CollectionName;
use brainy::base::rng::Rng;
use std::time::Duration;

/// Which kind of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything at once.
    Mixed,
    /// Two or four writers with equal load in good weather.
    Fair,
    /// Objects vanish, or change, and come back.
    Damage,
}

impl Mode {
    pub const ALL: &[(Mode, &str)] =
        &[(Mode::Mixed, "mixed"), (Mode::Fair, "fair"), (Mode::Damage, "damage")];
}

/// What is on.
#[derive(Debug, Clone)]
pub struct Profile {
    pub mode: Mode,
    pub collections: Vec<CollectionName>,
    /// Collections are created on purpose, and deleted.
    pub deletes: bool,
    /// Instances stand still as a whole.
    pub freezes: bool,
    /// Wall clocks are set, and both clocks of an instance that stands still may do so, too.
    pub clocks: bool,
    /// Computations wait for threads, at most so long.
    pub computing: Duration,
    /// Conditional PUTs arrive twice.
    pub resends: bool,
    /// Instances have settings of their own.
    pub own_settings: bool,
    /// What is in the log stays there for minutes before it is indexed.
    pub indexes_late: bool,
    /// Simulated time during which actors act.
    pub active: Duration,
    /// Whether it rests in the end for as long as it takes to find what a PUT that was held up left behind.
    pub rests_long: bool,
}

impl Profile {
    pub fn draw(mode: Mode, rng: &dyn Rng) -> Profile {
        let one_in = |n: u64| rng.below(n) == 0;
        let profile = Profile {
            mode,
            deletes: one_in(3),
            freezes: one_in(3),
            clocks: one_in(3),
            resends: one_in(3) && guarantees::OWN_PUTS_ARE_RECOGNISED,
            own_settings: one_in(2),
            computing: match rng.below(4) {
                0 => Duration::from_secs(4),
                1 => Duration::from_millis(200),
                _ => Duration::ZERO,
            },
            collections: names([1, 1, 2, 3][rng.below(4) as usize]),
            indexes_late: false,
            active: Duration::from_secs(90),
            rests_long: one_in(32),
        };
        match mode {
            Mode::Mixed => profile,
            Mode::Damage => Profile {
                deletes: false,
                freezes: false,
                clocks: false,
                resends: false,
                collections: names(1),
                indexes_late: one_in(2),
                active: Duration::from_secs(240),
                rests_long: false,
                ..profile
            },
            Mode::Fair => Profile {
                deletes: false,
                freezes: false,
                clocks: false,
                resends: false,
                own_settings: false,
                computing: Duration::ZERO,
                collections: names(1),
                active: Duration::from_secs(30),
                rests_long: false,
                ..profile
            },
        }
    }
}

fn names(count: usize) -> Vec<CollectionName> {
    ["sim", "second", "third"][..count]
        .iter()
        .map(|name| CollectionName::new(*name).expect("a valid name"))
        .collect()
}
