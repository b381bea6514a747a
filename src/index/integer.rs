//! The integer inner loops: dot products of one prepared query with many rows of a code.
//!
//! A row is a few whole cache [`Line`]s of unsigned bytes, picked by number from a table; a query
//! is as many lines of signed bytes. Two loops:
//!
//! - [`Isa::byte_dots`] takes every byte as it is;
//! - [`Isa::nibble_dots`] takes from every byte the bits of a mask (one value, or a lower half) and
//!   its upper four bits (another value), each with a query of its own.
//!
//! All sums are exact, so every instruction set gives the same bits, and an index built on one
//! machine is the index that another would have built. Exactness needs two bounds, which the code
//! formats keep: a masked byte is at most 127 ([`Nibbles`]), and a row has at most
//! [`ROW_BYTES_MAX`] bytes.
//!
//! `unsafe` appears in two places only: loads and stores of 64 bytes through a reference to 64
//! bytes, and calls of functions that need CPU features, which an [`Isa`] proves.
#![allow(unsafe_code)]

use super::isa::{Isa, Kind};

/// 255 x 128 x this stays below 2^31.
pub(super) const ROW_BYTES_MAX: usize = 65_536;

/// One cache line, aligned as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line(pub [u8; Line::BYTES]);

impl Line {
    /// Its size.
    pub const BYTES: usize = 64;
    /// All zeros.
    pub const ZERO: Line = Line([0; Line::BYTES]);
}

/// What [`Isa::nibble_dots`] needs of a query, for each line of a row: the mask of the lower values,
/// their factors, and the factors of the upper four bits (signed bytes, all but -128).
///
/// A masked byte must not exceed 127 where its factor is not 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nibbles<'a> {
    pub(super) masks: &'a [Line],
    pub(super) low: &'a [Line],
    pub(super) high: &'a [Line],
}

impl Isa {
    /// For each of `rows`, rows of `stride` lines in `codes`, the sum over its bytes of
    /// `(byte & mask) * low + (byte >> 4) * high`.
    ///
    /// # Panics
    ///
    /// If a row lies beyond `codes` or `out` is shorter than `rows`: defects of the caller.
    pub(super) fn nibble_dots(
        self,
        query: Nibbles<'_>,
        codes: &[Line],
        stride: usize,
        rows: &[u32],
        out: &mut [i32],
    ) {
        // SAFETY: an `Isa` exists only for features that the CPU was seen to have.
        match self.kind() {
            Kind::Portable => portable::nibble_dots(query, codes, stride, rows, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => unsafe {
                avx2::nibble_dots(query, codes, stride, rows, out)
            },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => unsafe { avx512::nibble_dots(query, codes, stride, rows, out) },
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => unsafe { neon::nibble_dots(query, codes, stride, rows, out) },
        }
    }

    /// [`Isa::nibble_dots`] with each of `out.len()` rows that lie one after the other in `codes`, as
    /// many lines each as the query has.
    ///
    /// # Panics
    ///
    /// If `codes` is shorter than that, which is a defect of the caller.
    pub(super) fn nibble_run(self, query: Nibbles<'_>, codes: &[Line], out: &mut [i32]) {
        // SAFETY: an `Isa` exists only for features that the CPU was seen to have.
        match self.kind() {
            Kind::Portable => portable::nibble_run(query, codes, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => unsafe { avx2::nibble_run(query, codes, out) },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => unsafe { avx512::nibble_run(query, codes, out) },
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => unsafe { neon::nibble_run(query, codes, out) },
        }
    }

    /// [`Isa::nibble_dots`] of four queries (with the same masks) with each of `out.len()` rows that
    /// lie one after the other in `codes`, as many lines each as the queries have.
    ///
    /// # Panics
    ///
    /// If `codes` is shorter than that, which is a defect of the caller.
    pub(super) fn nibble_tile(
        self,
        queries: [Nibbles<'_>; 4],
        codes: &[Line],
        out: &mut [[i32; 4]],
    ) {
        // SAFETY: an `Isa` exists only for features that the CPU was seen to have.
        match self.kind() {
            Kind::Portable => portable::nibble_tile(queries, codes, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => unsafe { avx2::nibble_tile(queries, codes, out) },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => unsafe { avx512::nibble_tile(queries, codes, out) },
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => unsafe { neon::nibble_tile(queries, codes, out) },
        }
    }

    /// For each of `rows`, rows of `stride` lines in `codes`, and each part of the query, the sum
    /// over its bytes of `byte * part`. The parts are equally long and not longer than a row.
    ///
    /// # Panics
    ///
    /// If a row lies beyond `codes` or `out` is shorter than `rows`: defects of the caller.
    pub(super) fn byte_dots<const PARTS: usize>(
        self,
        query: [&[Line]; PARTS],
        codes: &[Line],
        stride: usize,
        rows: &[u32],
        out: &mut [[i32; PARTS]],
    ) {
        // SAFETY: an `Isa` exists only for features that the CPU was seen to have.
        match self.kind() {
            Kind::Portable => portable::byte_dots(query, codes, stride, rows, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => unsafe {
                avx2::byte_dots(query, codes, stride, rows, out)
            },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => unsafe { avx512::byte_dots(query, codes, stride, rows, out) },
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => unsafe { neon::byte_dots(query, codes, stride, rows, out) },
        }
    }
}

/// The loops over rows, four at a time, around the `step_nibbles`, `step_bytes`, `zero` and
/// `add_up` of the module that this stands in. Without closures: those would not become part of a
/// function that is compiled for other features.
macro_rules! loops {
    ($(#[$feature:meta])*) => {
        $(#[$feature])*
        pub(super) fn nibble_dots(
            query: super::Nibbles<'_>,
            codes: &[super::Line],
            stride: usize,
            rows: &[u32],
            out: &mut [i32],
        ) {
            // The usual lengths are compiled separately, with the query in registers.
            match query.low.len() {
                1 => nibbles::<1>(query, codes, stride, rows, out),
                2 => nibbles::<2>(query, codes, stride, rows, out),
                _ => nibbles::<0>(query, codes, stride, rows, out),
            }
        }

        /// `LINES` is the length of the query, or 0 for any.
        $(#[$feature])*
        #[inline]
        fn nibbles<const LINES: usize>(
            query: super::Nibbles<'_>,
            codes: &[super::Line],
            stride: usize,
            rows: &[u32],
            out: &mut [i32],
        ) {
            let lines = if LINES == 0 { query.low.len() } else { LINES };
            let (masks, low, high) =
                (&query.masks[..lines], &query.low[..lines], &query.high[..lines]);
            let out = &mut out[..rows.len()];
            for (rows, out) in rows.chunks(4).zip(out.chunks_mut(4)) {
                let block = super::pick(codes, stride, lines, rows);
                let mut sums = [zero(); 4];
                for line in 0..lines {
                    for row in 0..4 {
                        sums[row] = step_nibbles(
                            sums[row], &block[row][line], &masks[line], &low[line], &high[line],
                        );
                    }
                }
                let sums = add_up(sums);
                if out.len() == 4 {
                    out.copy_from_slice(&sums);
                } else {
                    out.copy_from_slice(&sums[..out.len()]);
                }
            }
        }

        $(#[$feature])*
        pub(super) fn nibble_run(
            query: super::Nibbles<'_>,
            codes: &[super::Line],
            out: &mut [i32],
        ) {
            match query.low.len() {
                1 => run::<1>(query, codes, out),
                2 => run::<2>(query, codes, out),
                _ => run::<0>(query, codes, out),
            }
        }

        $(#[$feature])*
        #[inline]
        fn run<const LINES: usize>(
            query: super::Nibbles<'_>,
            codes: &[super::Line],
            out: &mut [i32],
        ) {
            let lines = if LINES == 0 { query.low.len() } else { LINES };
            let (masks, low, high) =
                (&query.masks[..lines], &query.low[..lines], &query.high[..lines]);
            let codes = &codes[..lines * out.len()];
            for (rows, out) in codes.chunks(4 * lines).zip(out.chunks_mut(4)) {
                let mut sums = [zero(); 4];
                for (row, sum) in rows.chunks_exact(lines).zip(&mut sums) {
                    for line in 0..lines {
                        *sum = step_nibbles(*sum, &row[line], &masks[line], &low[line], &high[line]);
                    }
                }
                let sums = add_up(sums);
                if out.len() == 4 {
                    out.copy_from_slice(&sums);
                } else {
                    out.copy_from_slice(&sums[..out.len()]);
                }
            }
        }

        $(#[$feature])*
        pub(super) fn nibble_tile(
            queries: [super::Nibbles<'_>; 4],
            codes: &[super::Line],
            out: &mut [[i32; 4]],
        ) {
            match queries[0].low.len() {
                1 => tile::<1>(queries, codes, out),
                2 => tile::<2>(queries, codes, out),
                _ => tile::<0>(queries, codes, out),
            }
        }

        $(#[$feature])*
        #[inline]
        fn tile<const LINES: usize>(
            queries: [super::Nibbles<'_>; 4],
            codes: &[super::Line],
            out: &mut [[i32; 4]],
        ) {
            let lines = if LINES == 0 { queries[0].low.len() } else { LINES };
            let masks = &queries[0].masks[..lines];
            let [a, b, c, d] = queries;
            let low = [&a.low[..lines], &b.low[..lines], &c.low[..lines], &d.low[..lines]];
            let high = [&a.high[..lines], &b.high[..lines], &c.high[..lines], &d.high[..lines]];
            for (row, out) in codes[..lines * out.len()].chunks_exact(lines).zip(out) {
                let mut sums = [zero(); 4];
                for line in 0..lines {
                    for query in 0..4 {
                        sums[query] = step_nibbles(
                            sums[query], &row[line], &masks[line], &low[query][line],
                            &high[query][line],
                        );
                    }
                }
                *out = add_up(sums);
            }
        }

        $(#[$feature])*
        pub(super) fn byte_dots<const PARTS: usize>(
            query: [&[super::Line]; PARTS],
            codes: &[super::Line],
            stride: usize,
            rows: &[u32],
            out: &mut [[i32; PARTS]],
        ) {
            let lines = query[0].len();
            let mut parts = query;
            for part in &mut parts {
                *part = &part[..lines];
            }
            let out = &mut out[..rows.len()];
            for (rows, out) in rows.chunks(4).zip(out.chunks_mut(4)) {
                let block = super::pick(codes, stride, lines, rows);
                let mut sums = [[zero(); 4]; PARTS];
                for line in 0..lines {
                    for row in 0..4 {
                        for part in 0..PARTS {
                            sums[part][row] =
                                step_bytes(sums[part][row], &block[row][line], &parts[part][line]);
                        }
                    }
                }
                for part in 0..PARTS {
                    let sums = add_up(sums[part]);
                    for (out, sum) in out.iter_mut().zip(sums) {
                        out[part] = sum;
                    }
                }
            }
        }
    };
}

/// The lines of one to four rows; the last one stands in for those that are missing.
#[inline(always)]
fn pick<'a>(codes: &'a [Line], stride: usize, lines: usize, rows: &[u32]) -> [&'a [Line]; 4] {
    let [a, b, c, d] = match *rows {
        [a, b, c, d] => [a, b, c, d],
        [a, b, c] => [a, b, c, c],
        [a, b] => [a, b, b, b],
        [a, ..] => [a; 4],
        [] => unreachable!("a chunk is not empty"),
    };
    [
        &codes[a as usize * stride..][..lines],
        &codes[b as usize * stride..][..lines],
        &codes[c as usize * stride..][..lines],
        &codes[d as usize * stride..][..lines],
    ]
}

/// Plain Rust; what the others are held to.
mod portable {
    use super::Line;

    #[inline]
    fn zero() -> i32 {
        0
    }

    #[inline]
    fn step_nibbles(sum: i32, row: &Line, mask: &Line, low: &Line, high: &Line) -> i32 {
        let mut total = 0;
        for at in 0..Line::BYTES {
            let byte = row.0[at];
            total += i32::from(byte & mask.0[at]) * i32::from(low.0[at] as i8)
                + i32::from(byte >> 4) * i32::from(high.0[at] as i8);
        }
        sum + total
    }

    #[inline]
    fn step_bytes(sum: i32, row: &Line, query: &Line) -> i32 {
        let products = row.0.iter().zip(&query.0);
        sum + products
            .map(|(&byte, &factor)| i32::from(byte) * i32::from(factor as i8))
            .sum::<i32>()
    }

    #[inline]
    fn add_up(sums: [i32; 4]) -> [i32; 4] {
        sums
    }

    loops!();
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Line;
    use std::arch::x86_64::*;

    type Sum = __m256i;

    #[inline]
    #[target_feature(enable = "avx2")]
    fn zero() -> Sum {
        _mm256_setzero_si256()
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn halves(line: &Line) -> [__m256i; 2] {
        let at = line.0.as_ptr();
        // SAFETY: a line has the 64 bytes that are read, aligned to 64.
        unsafe { [_mm256_load_si256(at.cast()), _mm256_load_si256(at.add(32).cast())] }
    }

    /// Products of bytes up to 127 with factors down to -127: two of them fit into 16 bits.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn step_nibbles(sum: Sum, row: &Line, mask: &Line, low: &Line, high: &Line) -> Sum {
        let (row, mask, low, high) = (halves(row), halves(mask), halves(low), halves(high));
        let (ones, nibble) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15));
        let mut sum = sum;
        for half in 0..2 {
            let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(row[half]), nibble);
            let lower = _mm256_and_si256(row[half], mask[half]);
            let upper = _mm256_maddubs_epi16(upper, high[half]);
            let lower = _mm256_maddubs_epi16(lower, low[half]);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(upper, ones));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(lower, ones));
        }
        sum
    }

    /// Through 16 bits: `maddubs` would saturate.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn step_bytes(sum: Sum, row: &Line, query: &Line) -> Sum {
        let (row, query) = (halves(row), halves(query));
        let mut sum = sum;
        for half in 0..2 {
            let row = [_mm256_castsi256_si128(row[half]), _mm256_extracti128_si256::<1>(row[half])];
            let query =
                [_mm256_castsi256_si128(query[half]), _mm256_extracti128_si256::<1>(query[half])];
            for quarter in 0..2 {
                let row = _mm256_cvtepu8_epi16(row[quarter]);
                let query = _mm256_cvtepi8_epi16(query[quarter]);
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(row, query));
            }
        }
        sum
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_up([a, b, c, d]: [Sum; 4]) -> [i32; 4] {
        let ab = _mm256_hadd_epi32(a, b);
        let cd = _mm256_hadd_epi32(c, d);
        let abcd = _mm256_hadd_epi32(ab, cd);
        let sums = _mm_add_epi32(_mm256_castsi256_si128(abcd), _mm256_extracti128_si256::<1>(abcd));
        let mut out = [0; 4];
        // SAFETY: `out` has the 16 bytes that are written; no alignment is needed.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
        out
    }

    loops!(#[target_feature(enable = "avx2")]);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Line;
    use std::arch::x86_64::*;

    type Sum = __m512i;

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn zero() -> Sum {
        _mm512_setzero_si512()
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(line: &Line) -> __m512i {
        // SAFETY: a line has the 64 bytes that are read, aligned to 64.
        unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn step_nibbles(sum: Sum, row: &Line, mask: &Line, low: &Line, high: &Line) -> Sum {
        let row = load(row);
        let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(row), _mm512_set1_epi8(15));
        let sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(row, load(mask)), load(low));
        _mm512_dpbusd_epi32(sum, upper, load(high))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn step_bytes(sum: Sum, row: &Line, query: &Line) -> Sum {
        _mm512_dpbusd_epi32(sum, load(row), load(query))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn add_up([a, b, c, d]: [Sum; 4]) -> [i32; 4] {
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        let abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let half =
            _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64::<1>(abcd));
        let sums = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
        let mut out = [0; 4];
        // SAFETY: `out` has the 16 bytes that are written; no alignment is needed.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
        out
    }

    loops!(#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]);
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::Line;
    use std::arch::aarch64::*;

    type Sum = int32x4_t;

    #[inline]
    #[target_feature(enable = "neon")]
    fn zero() -> Sum {
        vdupq_n_s32(0)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn load(line: &Line, quarter: usize) -> uint8x16_t {
        debug_assert!(quarter < 4);
        // SAFETY: a line has four times the 16 bytes that are read; no alignment is needed.
        unsafe { vld1q_u8(line.0.as_ptr().add(quarter % 4 * 16)) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn step_nibbles(sum: Sum, row: &Line, mask: &Line, low: &Line, high: &Line) -> Sum {
        let mut sum = sum;
        for quarter in 0..4 {
            let row = load(row, quarter);
            // Both are at most 127, so they may be read as signed; two products fit into 16 bits.
            let lower = vreinterpretq_s8_u8(vandq_u8(row, load(mask, quarter)));
            let upper = vreinterpretq_s8_u8(vshrq_n_u8::<4>(row));
            let low = vreinterpretq_s8_u8(load(low, quarter));
            let high = vreinterpretq_s8_u8(load(high, quarter));
            for (values, factors) in [(lower, low), (upper, high)] {
                let products = vmull_s8(vget_low_s8(values), vget_low_s8(factors));
                let products = vmlal_high_s8(products, values, factors);
                sum = vpadalq_s16(sum, products);
            }
        }
        sum
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn step_bytes(sum: Sum, row: &Line, query: &Line) -> Sum {
        let mut sum = sum;
        for quarter in 0..4 {
            let row = load(row, quarter);
            let query = vreinterpretq_s8_u8(load(query, quarter));
            let row = [vmovl_u8(vget_low_u8(row)), vmovl_high_u8(row)];
            let query = [vmovl_s8(vget_low_s8(query)), vmovl_high_s8(query)];
            for half in 0..2 {
                let row = vreinterpretq_s16_u16(row[half]);
                sum = vmlal_s16(sum, vget_low_s16(row), vget_low_s16(query[half]));
                sum = vmlal_high_s16(sum, row, query[half]);
            }
        }
        sum
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn add_up(sums: [Sum; 4]) -> [i32; 4] {
        let [a, b, c, d] = sums;
        [vaddvq_s32(a), vaddvq_s32(b), vaddvq_s32(c), vaddvq_s32(d)]
    }

    loops!(#[target_feature(enable = "neon")]);
}

#[cfg(test)]
mod tests;
