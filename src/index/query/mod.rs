//! How is a query answered?
//!
//! [`search`] takes one through an index: a walk over the graph, or a [`scan`]. [`parts`] does so over several indexes
//! as if they were one, and [`measure`] ends both with exact distances. [`pool`] and [`topk`] keep the closest on the way.

pub(in crate::index) mod measure;
pub(in crate::index) mod parts;
pub(in crate::index) mod pool;
pub(in crate::index) mod scan;
pub(in crate::index) mod search;
pub(in crate::index) mod topk;
