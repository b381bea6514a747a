//! Values for tests: the same for the same seed.

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub(in crate::index) struct Random(u64);

impl Random {
    pub(in crate::index) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(in crate::index) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(in crate::index) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    pub(in crate::index) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// In -1..1.
    pub(in crate::index) fn signed(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// In 0..1.
    pub(in crate::index) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Of mean 0 and variance 1 (Box and Muller, 1958).
    pub(in crate::index) fn normal(&mut self) -> f32 {
        let length = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        length * (std::f32::consts::TAU * self.unit()).cos()
    }

    pub(in crate::index) fn vector(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.signed() * scale).collect()
    }
}
