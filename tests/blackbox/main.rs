//! Does the whole thing work from outside? Real processes that share only a store, spoken to over
//! HTTP, killed where it hurts.
//!
//! The store is a temporary folder, or a fresh prefix below `BRAINY_TEST_S3_URL` where that is set:
//! `scripts/s3-server with seaweedfs cargo test --test blackbox`.

mod contention;
mod minilm;
mod roles;
#[expect(dead_code, reason = "the tests of clusters use more of it")]
mod support;
