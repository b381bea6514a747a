//! With NEON: four registers hold a line.

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
