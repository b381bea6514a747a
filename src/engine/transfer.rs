//! Import and export: NDJSON of any size in constant memory.

mod body;
mod export;
mod import;
pub mod kind;
pub mod lines;
pub mod under_way;

pub use export::export;
pub use import::import;
