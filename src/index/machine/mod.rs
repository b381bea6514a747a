//! Which machine code runs here, and on how many threads?
//!
//! [`isa`] finds out what the processor can. [`distance`] measures full-precision vectors with the code in [`kernels`],
//! [`integer`] the codes of quantized ones. [`buffer`] keeps arrays aligned for both, and [`parallel`] spreads work over the pool.

pub(in crate::index) mod buffer;
pub(in crate::index) mod distance;
pub(in crate::index) mod integer;
pub(in crate::index) mod isa;
pub(in crate::index) mod kernels;
pub(in crate::index) mod parallel;
