//! Compares what a reader said with what is true.

use crate::model::{Contents, Model};
use brainy::base::ids::Seq;

/// What one read was asked for and what it answered.
pub struct Read {
    pub instance: u64,
    /// What the consistency level promises at least.
    pub at_least: Seq,
    /// The largest version that this instance had answered before the read began.
    pub answered_before: Seq,
    pub version: Seq,
    pub contents: Contents,
}

/// Invariants 1, 2 and 5: a read at a version shows exactly what the log holds up to it.
pub fn check(model: &mut Model, read: &Read) {
    let who = read.instance;
    if read.version < read.at_least {
        let (found, least) = (read.version, read.at_least);
        model.violated(format!("instance {who} answered at {found}, it had to reach {least}"));
    }
    if read.version < read.answered_before {
        let (now, before) = (read.version, read.answered_before);
        model.violated(format!("instance {who} went from version {before} back to {now}"));
    }
    let expected = model.contents(read.version);
    if expected != read.contents {
        model.violated(format!(
            "instance {who} at version {} shows {:?}, the log says {expected:?}",
            read.version, read.contents
        ));
    }
}
