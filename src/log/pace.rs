//! How long a writer waits before it appends, so that lost races stay a small share of its PUTs.
//!
//! Writers do not know of each other. Each learns from its own outcomes: a loss doubles its pause,
//! a win shortens it, in the proportion that settles at [`LOSS_SHARE`] lost PUTs whatever their
//! number. While it waits its next entry fills, so fewer and larger entries carry the same records.

use crate::base::rng::Rng;
use std::time::Duration;

/// The share of lost PUTs at which the pause neither grows nor shrinks.
pub const LOSS_SHARE: f64 = 0.12;
/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(4);
/// A pause below this is none.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const GROWTH: f64 = 2.0;

/// One writer's pause.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    mean: Duration,
}

impl Pace {
    /// After a PUT that won.
    pub fn won(&mut self) {
        // At equilibrium p * ln(growth) = (1 - p) * ln(shrink).
        let shrink = (GROWTH.ln() * LOSS_SHARE / (1.0 - LOSS_SHARE)).exp();
        self.mean = self.mean.div_f64(shrink);
        if self.mean < PAUSE_MIN {
            self.mean = Duration::ZERO;
        }
    }

    /// After a PUT that lost and took `round_trip`, which is what the first pause is measured by.
    pub fn lost(&mut self, round_trip: Duration) {
        let least = round_trip.clamp(PAUSE_MIN, PAUSE_MAX);
        self.mean = self.mean.mul_f64(GROWTH).clamp(least, PAUSE_MAX);
    }

    /// Whether there has been contention lately.
    pub fn is_contended(&self) -> bool {
        !self.mean.is_zero()
    }

    /// The next pause: uniform around the mean, so that writers do not march in step.
    pub fn next(&self, rng: &dyn Rng) -> Duration {
        rng.jitter(self.mean * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SeededRng;

    #[test]
    fn without_losses_there_is_no_pause() {
        let mut pace = Pace::default();
        pace.won();
        assert_eq!(pace.next(&SeededRng::new(1)), Duration::ZERO);
        pace.lost(Duration::from_millis(10));
        assert!(pace.is_contended());
        (0..100).for_each(|_| pace.won());
        assert!(!pace.is_contended());
    }

    /// Writers that append as fast as they may, each PUT taking one round trip: the share of lost
    /// PUTs settles low for any number of them.
    #[test]
    fn losses_stay_a_small_share_for_any_number_of_writers() {
        for writers in [2, 4, 8, 32] {
            let rng = SeededRng::new(writers);
            let round = Duration::from_millis(10);
            let mut paces = vec![Pace::default(); writers as usize];
            let mut next: Vec<Duration> = paces.iter().map(|_| rng.jitter(round)).collect();
            let (mut won, mut lost, mut free) = (0u32, 0u32, Duration::ZERO);
            for _ in 0..20_000 {
                let who = (0..next.len()).min_by_key(|who| next[*who]).unwrap();
                let start = next[who];
                // A PUT is lost where another won between its look at the tail and its end.
                if start < free {
                    lost += 1;
                    paces[who].lost(round);
                } else {
                    won += 1;
                    free = start + round;
                    paces[who].won();
                }
                next[who] = start + round + paces[who].next(&rng);
            }
            let share = f64::from(lost) / f64::from(won + lost);
            assert!(share < 0.2, "{writers} writers lose {share}");
        }
    }
}
