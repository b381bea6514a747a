//! How is an index made?
//!
//! [`clusters`] groups rows, [`merge`] makes one index of several, [`calibrate`] measures which effort finds how much, and
//! [`by_length`] is for products of vectors of different lengths, where a graph does not lead to what is closest.

pub(in crate::index) mod by_length;
pub(in crate::index) mod calibrate;
pub(in crate::index) mod clusters;
pub(in crate::index) mod merge;
#[cfg(test)]
pub(in crate::index) mod random;
