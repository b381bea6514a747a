//! What the black-box tests and the benchmarks share: stores, processes, HTTP.

pub mod contention;
pub mod fairness;
pub mod instance;
pub mod store;

/// Says something that the test runner does not swallow, such as why a test was skipped.
pub fn say(text: &str) {
    use std::io::Write;
    // Where nobody can be told, nothing is lost.
    let _ = writeln!(std::io::stderr(), "{text}");
}
