//! With AVX2: two registers hold a line.

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
