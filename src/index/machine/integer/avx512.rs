//! With AVX-512 and VNNI: one register holds a line, and one instruction multiplies and adds.

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
    let half = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64::<1>(abcd));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
    let mut out = [0; 4];
    // SAFETY: `out` has the 16 bytes that are written; no alignment is needed.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
    out
}

loops!(#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]);
