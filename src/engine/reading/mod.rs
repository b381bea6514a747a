//! How is a collection read?
//!
//! [`follower`] applies the log to the [`tail`] and publishes a [`snapshot`] of it above the [`segments`]. A read pins
//! one: [`search`] looks for what is near, [`records`] fetches and lists by id. [`allowed`] remembers which rows filters
//! let through.

pub mod allowed;
pub mod follower;
pub mod records;
pub mod search;
pub mod segments;
pub mod snapshot;
pub mod tail;
