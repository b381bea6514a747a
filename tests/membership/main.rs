//! The real membership code of many instances in one process, under paused time, against a store that
//! takes 60 ms for a request and 15 conditional PUTs a second on one key.
//!
//! ```text
//! cargo test --test membership                                   # scenarios, and 300 instances for 5 minutes
//! cargo test --release --test membership -- --ignored --nocapture  # 1,000 for an hour, 4,000 and 10,000 for minutes
//! ```

mod scale;
mod scenarios;
mod support;
mod takeover;
mod unlisted;
