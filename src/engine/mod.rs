//! What happens between a request and the bucket?
//!
//! A write: [`duty`] admits it, [`validate`] checks the records, and [`writer`] makes them durable, once
//! [`admission`] has seen that there is memory for them. A search: [`brainy`] pins a [`snapshot`] that [`follower`]
//! published, and [`search`] asks its [`segments`] and its [`tail`]. [`upkeep`] turns the log into segments and keeps
//! them few. [`cluster`] is the instance's seat among the others. [`condition`] says whether the instance is as it
//! should be, and [`damage`] what is known to be missing or damaged. [`catalog`] creates and deletes collections.
//! [`collector`] removes what nothing names any more.

pub mod admission;
pub mod allowed;
mod brainy;
pub mod catalog;
pub mod cluster;
pub mod collection;
pub mod collections;
pub mod collector;
pub mod condition;
pub mod context;
pub mod damage;
pub mod duty;
pub mod follower;
pub mod identity;
pub mod model;
pub mod records;
pub mod search;
pub mod segments;
pub mod snapshot;
pub mod tail;
pub mod transfer;
pub mod upkeep;
pub mod validate;
pub mod vector_json;
pub mod view;
pub mod writer;

pub use brainy::Brainy;
