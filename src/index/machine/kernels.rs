//! The inner loops: raw sums of one query against many rows, one instantiation per instruction set.
//!
//! The loop is written once, as a macro over four small functions (load, load what is left over,
//! multiply-add, sum up) that each instruction set provides. The tests hold the portable kernel to
//! plain `f64`, and the others to the portable one.
//!
//! `unsafe` appears in two places only: loads through raw pointers whose bounds a slice or an array
//! guarantees, and calls of functions that need CPU features, which an [`Isa`] proves.
#![allow(unsafe_code)]

use crate::index::machine::isa::{Isa, Kind};

/// Rows measured at once: the query's part stays in a register for all of them.
const ROWS: usize = 4;

/// What to sum over the dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::index) enum Sum {
    /// The products.
    Products,
    /// The squares of the differences.
    SquaredDifferences,
}

impl Isa {
    /// Writes the sum for each row of `rows` into `out`. `rows` holds `out.len()` rows, each as
    /// long as `query`, which is not empty.
    pub(in crate::index) fn sums(self, sum: Sum, query: &[f32], rows: &[f32], out: &mut [f32]) {
        // SAFETY: an `Isa` exists only for features that the CPU was seen to have.
        match self.kind() {
            Kind::Portable => portable::sums(sum, query, rows, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2::sums(sum, query, rows, out) },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 | Kind::Avx512Vnni => unsafe { avx512::sums(sum, query, rows, out) },
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => unsafe { neon::sums(sum, query, rows, out) },
        }
    }
}

/// The loops, over the `LANES`, `Lanes`, `load`, `load_rest`, `sub`, `mul_add` and `add_up` of the
/// module that this stands in. They get the same CPU features, so that all of it becomes one
/// function.
macro_rules! loops {
    ($(#[$feature:meta])*) => {
        $(#[$feature])*
        pub(super) fn sums(sum: super::Sum, query: &[f32], rows: &[f32], out: &mut [f32]) {
            match sum {
                super::Sum::Products => each::<false>(query, rows, out),
                super::Sum::SquaredDifferences => each::<true>(query, rows, out),
            }
        }

        $(#[$feature])*
        #[inline]
        fn each<const L2: bool>(query: &[f32], rows: &[f32], out: &mut [f32]) {
            let dims = query.len();
            let (blocks, rest) = out.as_chunks_mut::<{ super::ROWS }>();
            let (block_rows, rest_rows) = rows.split_at(blocks.len() * super::ROWS * dims);
            for (out, rows) in blocks.iter_mut().zip(block_rows.chunks_exact(super::ROWS * dims)) {
                *out = some::<{ super::ROWS }, L2>(query, rows);
            }
            for (out, row) in rest.iter_mut().zip(rest_rows.chunks_exact(dims)) {
                [*out] = some::<1, L2>(query, row);
            }
        }

        $(#[$feature])*
        #[inline]
        fn some<const N: usize, const L2: bool>(query: &[f32], rows: &[f32]) -> [f32; N] {
            let dims = query.len();
            let (query, query_rest) = query.as_chunks::<LANES>();
            // Cut to the query's length here, so that no index below needs a check.
            let rows: [_; N] = std::array::from_fn(|row| {
                let (row, rest) = rows[row * dims..][..dims].as_chunks::<LANES>();
                (&row[..query.len()], rest)
            });
            let mut sums = [zero(); N];
            for (index, query) in query.iter().enumerate() {
                let query = load(query);
                for row in 0..N {
                    sums[row] = step::<L2>(sums[row], query, load(&rows[row].0[index]));
                }
            }
            if !query_rest.is_empty() {
                let query = load_rest(query_rest);
                for row in 0..N {
                    sums[row] = step::<L2>(sums[row], query, load_rest(rows[row].1));
                }
            }
            let mut out = [0.0; N];
            for row in 0..N {
                out[row] = add_up(sums[row]);
            }
            out
        }

        $(#[$feature])*
        #[inline]
        fn step<const L2: bool>(sum: Lanes, query: Lanes, row: Lanes) -> Lanes {
            if L2 {
                let difference = sub(query, row);
                mul_add(difference, difference, sum)
            } else {
                mul_add(query, row, sum)
            }
        }
    };
}

/// Plain Rust; the compiler vectorises it with what the target has at least (SSE2 on x86-64).
mod portable {
    const LANES: usize = 8;
    type Lanes = [f32; LANES];

    #[inline]
    fn zero() -> Lanes {
        [0.0; LANES]
    }

    #[inline]
    fn load(values: &[f32; LANES]) -> Lanes {
        *values
    }

    #[inline]
    fn load_rest(values: &[f32]) -> Lanes {
        let mut lanes = zero();
        lanes[..values.len()].copy_from_slice(values);
        lanes
    }

    #[inline]
    fn sub(a: Lanes, b: Lanes) -> Lanes {
        std::array::from_fn(|lane| a[lane] - b[lane])
    }

    #[inline]
    fn mul_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        // Not `f32::mul_add`: without the CPU feature that is a call into libm per element.
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }

    #[inline]
    fn add_up(lanes: Lanes) -> f32 {
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    loops!();
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    const LANES: usize = 8;
    type Lanes = __m256;

    /// The mask for `n` leftover values starts at `8 - n`.
    const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn zero() -> Lanes {
        _mm256_setzero_ps()
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn load(values: &[f32; LANES]) -> Lanes {
        // SAFETY: the array is as long as what is read; no alignment is needed.
        unsafe { _mm256_loadu_ps(values.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn load_rest(values: &[f32]) -> Lanes {
        let mask = &MASKS[LANES - values.len()..][..LANES];
        // SAFETY: `mask` is as long as what is read of it, and no more of its lanes are set than
        // `values` has elements; a lane that is not set is not read.
        unsafe {
            let mask = _mm256_loadu_si256(mask.as_ptr().cast());
            _mm256_maskload_ps(values.as_ptr(), mask)
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn sub(a: Lanes, b: Lanes) -> Lanes {
        _mm256_sub_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn mul_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        _mm256_fmadd_ps(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn add_up(lanes: Lanes) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }

    loops!(#[target_feature(enable = "avx2,fma")]);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    const LANES: usize = 16;
    type Lanes = __m512;

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn zero() -> Lanes {
        _mm512_setzero_ps()
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(values: &[f32; LANES]) -> Lanes {
        // SAFETY: the array is as long as what is read; no alignment is needed.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load_rest(values: &[f32]) -> Lanes {
        let mask = !(u16::MAX << values.len().min(LANES - 1));
        // SAFETY: no more lanes of the mask are set than `values` has elements; a lane that is not
        // set is not read.
        unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn sub(a: Lanes, b: Lanes) -> Lanes {
        _mm512_sub_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn mul_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        _mm512_fmadd_ps(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add_up(lanes: Lanes) -> f32 {
        _mm512_reduce_add_ps(lanes)
    }

    loops!(#[target_feature(enable = "avx512f")]);
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    /// Two registers, so that enough additions are under way at once.
    const LANES: usize = 8;
    type Lanes = float32x4x2_t;

    #[inline]
    #[target_feature(enable = "neon")]
    fn zero() -> Lanes {
        float32x4x2_t(vdupq_n_f32(0.0), vdupq_n_f32(0.0))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn load(values: &[f32; LANES]) -> Lanes {
        // SAFETY: the array is as long as what the two loads read; no alignment is needed.
        unsafe { float32x4x2_t(vld1q_f32(values.as_ptr()), vld1q_f32(values.as_ptr().add(4))) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn load_rest(values: &[f32]) -> Lanes {
        let mut lanes = [0.0; LANES];
        lanes[..values.len()].copy_from_slice(values);
        load(&lanes)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn sub(a: Lanes, b: Lanes) -> Lanes {
        float32x4x2_t(vsubq_f32(a.0, b.0), vsubq_f32(a.1, b.1))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn mul_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        float32x4x2_t(vfmaq_f32(c.0, a.0, b.0), vfmaq_f32(c.1, a.1, b.1))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn add_up(lanes: Lanes) -> f32 {
        vaddvq_f32(vaddq_f32(lanes.0, lanes.1))
    }

    loops!(#[target_feature(enable = "neon")]);
}
