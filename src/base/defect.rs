//! Deliberately broken builds: the simulation must catch each of them, or it proves nothing.
//!
//! They are there in builds with `debug_assertions` only. In a release every question is answered `false` at
//! compile time.

/// One way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Defect {
    /// Acknowledges a write before its log entry is durable.
    AckBeforePut,
    /// Treats an ambiguous conditional PUT as lost without reading it back.
    AmbiguousIsLost,
    /// Acknowledges without looking at the log's floor again.
    SkipFloorCheck,
    /// Names segments and deletions in the manifest before they are durable.
    CommitBeforePut,
    /// Forgets, when a compaction is committed, the rows that died since it began.
    DropDeletions,
    /// Commits an indexing pass although another one has committed the same range of the log.
    SameRange,
    /// Appends without ever taking along what other writers wait with.
    HogTheLog,
    /// Takes along what other writers wait with without looking whether it is in the log already.
    JoinTwice,
    /// Appends a write to whatever its collection's name means by then, not to what it was checked for.
    WriteToNextLife,
    /// Makes a collection that was deleted again with other settings than it had.
    ForgetSettings,
    /// Calls a collection deleted before its log is sealed.
    DeleteWithoutSeal,
    /// Deletes what a filter matched, whatever was written to it since.
    DeleteWithoutLimit,
    /// Kills, when the log is indexed, every older row of a deleted id, also those that the delete spares.
    IndexWithoutLimit,
}

impl Defect {
    /// Every defect with the name that the simulation's command line uses.
    pub const ALL: &'static [(Defect, &'static str)] = &[
        (Defect::AckBeforePut, "ack-before-put"),
        (Defect::AmbiguousIsLost, "ambiguous-is-lost"),
        (Defect::SkipFloorCheck, "skip-floor-check"),
        (Defect::CommitBeforePut, "commit-before-put"),
        (Defect::DropDeletions, "drop-deletions"),
        (Defect::SameRange, "same-range"),
        (Defect::HogTheLog, "hog-the-log"),
        (Defect::JoinTwice, "join-twice"),
        (Defect::WriteToNextLife, "write-to-next-life"),
        (Defect::ForgetSettings, "forget-settings"),
        (Defect::DeleteWithoutSeal, "delete-without-seal"),
        (Defect::DeleteWithoutLimit, "delete-without-limit"),
        (Defect::IndexWithoutLimit, "index-without-limit"),
    ];
}

/// The defects that are switched on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Defects {
    #[cfg(debug_assertions)]
    active: Option<Defect>,
}

impl Defects {
    /// Switches one defect on.
    #[cfg(debug_assertions)]
    pub fn only(defect: Defect) -> Self {
        Defects { active: Some(defect) }
    }

    /// Whether `defect` is on.
    #[cfg(debug_assertions)]
    pub fn has(self, defect: Defect) -> bool {
        self.active == Some(defect)
    }

    /// Whether `defect` is on: never, in a release.
    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub const fn has(self, _defect: Defect) -> bool {
        false
    }
}
