//! The index kernel, as the crate has it.

#[path = "../../../src/index/mod.rs"]
pub mod index;
