//! What happens between a request and the bucket?

pub mod brainy;
pub mod model;

pub use brainy::Brainy;
