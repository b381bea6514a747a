//! Which vector stands for a text?
//!
//! An [`Embedder`] turns text into a vector of fixed length. The one built in,
//! [`HashingEmbedder`], needs no model and no download, and is lexical: it finds texts that share
//! words, word pairs and parts of words, not texts that mean the same in other words. Use vectors
//! of a trained model where meaning matters; Brainy stores and searches those just as well.
//!
//! Error semantics: embedding never fails; every text has a vector of length 1.

mod hashing;
mod sample;

pub use hashing::{DIMENSIONS_DEFAULT, HashingEmbedder};
pub use sample::{SampleRecord, sample};

/// Turns text into vectors.
pub trait Embedder: Send + Sync {
    /// The length of every vector.
    fn dimensions(&self) -> usize;

    /// The vector of `text`, of L2 norm 1. The same text always has the same vector.
    fn embed(&self, text: &str) -> Vec<f32>;

    /// What made the vectors, for people and for a collection's description. Vectors of embedders
    /// with different names are not comparable.
    fn name(&self) -> &str;
}
