//! Does a cluster survive what docs/failures.md says it survives? Real processes that share only a
//! store, spoken to over HTTP: killed, stopped, cut off, and given a broken shared config.
//!
//! The store is a temporary folder, or a fresh prefix below `BRAINY_TEST_S3_URL` where that is set:
//! `scripts/s3-server with seaweedfs cargo test --test cluster`. Bounds on time are generous, because the
//! machine may be busy; what was measured is printed.

mod clock;
mod cluster;
mod config_file;
mod lives;
mod load;
mod loss;
mod partition;
mod proxy;
mod replication;
mod roles;
mod sampler;
mod stopped;
#[path = "../blackbox/support/mod.rs"]
#[expect(dead_code, reason = "the other black-box tests use more of it")]
mod support;
