//! How does a write become durable?
//!
//! [`vector_json`] decodes vectors, [`validate`] checks records, [`admission`] says whether there is memory for them, and
//! [`writer`] appends them to the log.

pub mod admission;
pub mod validate;
pub mod vector_json;
pub mod writer;
