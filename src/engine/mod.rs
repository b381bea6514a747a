//! What happens between a request and the bucket?
//!
//! [`brainy`] is what programs and the server call: it opens [`collections`], each a [`collection`], and hands on. A
//! write is admitted by what the instance is ([`node`]) and goes through [`writing`] into the log. A search goes through
//! [`reading`]: the log's tail above the segments. [`upkeep`] turns the log into segments and keeps them few, and
//! [`collector`] removes what nothing names any more. [`catalog`] creates and deletes collections, [`transfer`] imports and exports them.
//! Every room knows [`context`], what an instance works with; [`model`], what goes in and comes out;
//! [`mod@view`], the manifest as it was seen last; and [`damage`], what is known to be missing.

mod brainy;
pub mod catalog;
pub mod collection;
pub mod collections;
pub mod collector;
pub mod context;
pub mod damage;
pub mod model;
pub mod node;
pub mod reading;
pub mod transfer;
pub mod upkeep;
pub mod view;
pub mod writing;

pub use brainy::Brainy;
