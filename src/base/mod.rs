//! What every layer may use: errors, ids, time, randomness, tasks, the compute pool, settings, metrics,
//! and how busy this process is.
//!
//! Nothing here knows about stores, logs or HTTP. [`Env`] bundles the sources of nondeterminism
//! (clock, randomness, tasks, threads), so that the simulation can replace all of them at once.

pub mod backoff;
pub mod clock;
pub mod codec;
pub mod compute;
pub mod defect;
pub mod env;
pub mod error;
pub mod gate;
#[cfg(any(feature = "s3", feature = "server"))]
pub mod http;
pub mod ids;
pub mod json;
pub mod mapped;
pub mod memory;
pub mod metrics;
pub mod once;
pub mod process;
pub mod request;
pub mod rng;
pub mod runtime;
pub mod settings;
pub mod spill;
pub mod strings;
pub mod tasks;
pub mod traffic;
pub mod units;
pub mod watched;

pub use clock::{Clock, Timestamp};
pub use env::Env;
pub use error::{Code, Error, ErrorKind, Result};
