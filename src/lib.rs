//! Brainy: a vector store whose only shared infrastructure is one object-storage bucket.

pub mod api;
pub mod base;
pub mod engine;
pub mod filter;
pub mod index;
pub mod store;
