//! How does a vector become a code?
//!
//! [`space`] places the vectors of an index so that one form of score serves every metric; [`code`] has the two codes of a
//! placed vector, of 8 bits and of 4 a component or fewer; [`codes`] holds them for all rows.

pub(in crate::index) mod code;
pub(in crate::index) mod codes;
pub(in crate::index) mod space;
