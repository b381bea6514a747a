//! Brainy: a vector store whose only shared infrastructure is one object-storage bucket.

pub mod api;
pub mod base;
pub mod embed;
pub mod engine;
pub mod filter;
pub mod index;
pub mod log;
pub mod manifest;
pub mod store;
