//! Randomness as a dependency, so that one seed gives one run.

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

/// A source of random numbers. Not for secrets.
pub trait Rng: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// A uniform 64-bit number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A uniform number in `0..bound`, or 0 where `bound` is 0.
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // Multiply-shift: the bias is at most bound / 2^64, far below what jitter can show.
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// A uniform number in `0.0..1.0`.
    fn unit(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Full jitter: a uniform duration up to `max`.
    fn jitter(&self, max: Duration) -> Duration {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(nanos))
    }
}

/// A generator behind a lock, seeded by the operating system or by hand.
pub struct SeededRng(Mutex<ChaCha8Rng>);

impl fmt::Debug for SeededRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededRng")
    }
}

impl SeededRng {
    /// A generator that gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        SeededRng(Mutex::new(ChaCha8Rng::seed_from_u64(seed)))
    }

    /// A generator seeded by the operating system.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the operating system")]
    pub fn from_os() -> Self {
        SeededRng::new(rand::random())
    }
}

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        let mut rng = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        rng.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let (a, b) = (SeededRng::new(7), SeededRng::new(7));
        let pairs = (0..100).map(|_| (a.next_u64(), b.next_u64()));
        assert!(pairs.into_iter().all(|(x, y)| x == y));
    }

    #[test]
    fn bounds_hold() {
        let rng = SeededRng::new(1);
        assert_eq!(rng.below(0), 0);
        assert!((0..1000).all(|_| rng.below(10) < 10));
        assert!((0..1000).all(|_| (0.0..1.0).contains(&rng.unit())));
    }
}
