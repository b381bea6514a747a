//! Plain Rust; what the others are held to.

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
    sum + products.map(|(&byte, &factor)| i32::from(byte) * i32::from(factor as i8)).sum::<i32>()
}

#[inline]
fn add_up(sums: [i32; 4]) -> [i32; 4] {
    sums
}

loops!();
