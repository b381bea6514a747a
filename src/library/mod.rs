//! What does a program that embeds Brainy work with?
//!
//! [`Brainy`] is the engine's facade; here is what makes it short to use: a [`Builder`] that opens it, a
//! [`Collection`] handle, a [`Search`] that is awaited, and all of it without a runtime of one's own in
//! [`blocking`]. Nothing here does anything that the facade cannot do.

pub mod blocking;
mod builder;
mod collection;
mod search;

pub use crate::engine::Brainy;
pub use builder::Builder;
pub use collection::{Collection, Create};
pub use search::{IntoFilter, Search};
