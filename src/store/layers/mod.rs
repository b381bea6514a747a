//! Features as wrappers around [`Store`](super::Store), one file each.
//!
//! [`open`](super::open::open) composes them, from the caller to the store:
//! [`retry`] > [`limit`] > [`count`] > [`whole`] > [`timeout`] > the store. So every attempt is counted and has
//! its own time limit, waiting for a permit uses up no attempt's time, and a retry that sleeps
//! holds no permit. [`faults`] stands in for a bad network in tests and in the simulation.

pub mod count;
pub mod faults;
pub mod limit;
pub mod retry;
#[cfg(test)]
mod tests;
pub mod timeout;
pub mod whole;

pub use count::{Count, Usage, Used};
pub use faults::{FaultSettings, Faults, RequestCounts};
pub use limit::Limit;
pub use retry::Retry;
pub use timeout::Timeout;
pub use whole::Whole;
