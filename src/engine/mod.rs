//! What happens between a request and the bucket?
//!
//! A write: [`duty`] admits it, [`validate`] checks the records, [`writer`] makes them durable. A
//! search: [`brainy`] pins a [`snapshot`] that [`follower`] published, [`search`] asks its [`segments`] and
//! its [`tail`]. [`upkeep`] turns the log into segments and keeps them few.
//! [`cluster`] is the instance's seat among the others, [`condition`] says whether it is as it should be, [`damage`]
//! what is known to be missing or damaged.
//! [`catalog`] creates and deletes collections, [`collector`] removes what nothing names any more.

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
