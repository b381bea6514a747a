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
//! The loops over rows are written once, as a macro; a file for each instruction set has the steps.
//! `unsafe` appears in two places only: loads and stores of 64 bytes through a reference to 64
//! bytes, and calls of functions that need CPU features, which an [`Isa`] proves.
#![allow(unsafe_code)]

use crate::index::machine::isa::{Isa, Kind};

/// 255 x 128 x this stays below 2^31.
pub(in crate::index) const ROW_BYTES_MAX: usize = 65_536;

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
pub(in crate::index) struct Nibbles<'a> {
    pub(in crate::index) masks: &'a [Line],
    pub(in crate::index) low: &'a [Line],
    pub(in crate::index) high: &'a [Line],
}

impl Isa {
    /// For each of `rows`, rows of `stride` lines in `codes`, the sum over its bytes of
    /// `(byte & mask) * low + (byte >> 4) * high`.
    ///
    /// # Panics
    ///
    /// If a row lies beyond `codes` or `out` is shorter than `rows`: defects of the caller.
    pub(in crate::index) fn nibble_dots(
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
    pub(in crate::index) fn nibble_run(self, query: Nibbles<'_>, codes: &[Line], out: &mut [i32]) {
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
    pub(in crate::index) fn nibble_tile(
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
    pub(in crate::index) fn byte_dots<const PARTS: usize>(
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

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(test)]
mod tests;
