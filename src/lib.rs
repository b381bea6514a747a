#![doc = include_str!("../README.md")]

#[cfg(feature = "server")]
pub mod api;
pub mod base;
pub mod cache;
pub mod cluster;
pub mod embed;
pub mod engine;
pub mod filter;
pub mod index;
pub mod log;
pub mod manifest;
pub mod partition;
pub mod segment;
pub mod store;

pub use engine::Brainy;
