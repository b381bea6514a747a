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
    /// Believes that a conditional PUT which was answered as lost was not its own that won.
    LossIsTheirs,
    /// Relies on the grace period that this instance is set to, not on the collection's.
    OwnGrace,
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
    /// Takes an entry that is missing for the end of the log, when appending.
    AppendIntoGap,
    /// Takes an entry that is missing for the end of the log, when reading.
    GapIsEnd,
    /// Answers eventual reads from what is there, however old that is.
    StaleForEver,
    /// Stores metadata as they were sent.
    MetadataAsSent,
    /// Names data objects in the log however long ago they were uploaded.
    NameOldBodies,
    /// Deletes data objects without asking which of them the log names.
    SweepNamedBodies,
    /// Deletes what no entry names without an entry that younger names would have to come after.
    SweepWithoutFence,
    /// Counts the grace period of a segment from when it was first seen without a name, whatever named it
    /// in between.
    GraceFromFirstSight,
    /// Closes a collection that nobody uses although this instance has not indexed what it wrote.
    CloseUnindexed,
    /// Leaves the log of those that died to whoever asks for it.
    SkipScan,
    /// Believes a body of the store that ended early.
    TruncatedBodyBelieved,
    /// Forgets, when the log is indexed, the older rows of the same ids.
    IndexKillsNothing,
    /// Leaves texts behind when the log is indexed.
    IndexLosesTexts,
    /// Never indexes the log.
    IndexNever,
    /// Takes dead rows along when segments are merged.
    CompactionResurrects,
    /// Leaves the rows of the upper half behind when a partition splits.
    SplitDropsRows,
    /// Forgets deletes when blocks of the tail are merged.
    TombstoneLostInTidy,
    /// Skips what the last of several log entries says that are read together.
    ReaderSkipsEntry,
    /// Answers a strong read without a look at the log.
    StrongDoesNotLook,
    /// Answers a read without waiting for the version that it asks for.
    MinVersionIgnored,
    /// Answers an eventual read without this instance's own writes.
    OwnWritesUnseen,
    /// Believes what the log says of a position, wherever the floor is.
    BelieveBelowFloor,
    /// Deletes log entries as soon as the floor has passed them.
    CollectWithoutGrace,
    /// Deletes segments as soon as no manifest names them.
    SweepWithoutGrace,
    /// Throws the objects of a pass away when it is not known whether it was committed.
    DiscardWhenUnsure,
    /// Counts records twice that are in a segment and in the tail.
    CountForgetsOverwrites,
    /// Begins a page with the last record of the one before.
    PageRepeatsCursor,
    /// Leaves out the first line of each piece of an export.
    ExportDropsLine,
    /// Finds the record by whose id is searched.
    SearchFindsItself,
    /// Lets all rows of the tail pass a filter.
    TailUnfiltered,
    /// Lets rows pass of which the filter index cannot tell.
    UnsureRowsPass,
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
        (Defect::LossIsTheirs, "loss-is-theirs"),
        (Defect::OwnGrace, "own-grace"),
        (Defect::SkipFloorCheck, "skip-floor-check"),
        (Defect::CommitBeforePut, "commit-before-put"),
        (Defect::DropDeletions, "drop-deletions"),
        (Defect::SameRange, "same-range"),
        (Defect::HogTheLog, "hog-the-log"),
        (Defect::JoinTwice, "join-twice"),
        (Defect::AppendIntoGap, "append-into-gap"),
        (Defect::GapIsEnd, "gap-is-end"),
        (Defect::StaleForEver, "stale-for-ever"),
        (Defect::MetadataAsSent, "metadata-as-sent"),
        (Defect::NameOldBodies, "name-old-bodies"),
        (Defect::SweepNamedBodies, "sweep-named-bodies"),
        (Defect::SweepWithoutFence, "sweep-without-fence"),
        (Defect::GraceFromFirstSight, "grace-from-first-sight"),
        (Defect::CloseUnindexed, "close-unindexed"),
        (Defect::SkipScan, "skip-scan"),
        (Defect::TruncatedBodyBelieved, "truncated-body-believed"),
        (Defect::IndexKillsNothing, "index-kills-nothing"),
        (Defect::IndexLosesTexts, "index-loses-texts"),
        (Defect::IndexNever, "index-never"),
        (Defect::CompactionResurrects, "compaction-resurrects"),
        (Defect::SplitDropsRows, "split-drops-rows"),
        (Defect::TombstoneLostInTidy, "tombstone-lost-in-tidy"),
        (Defect::ReaderSkipsEntry, "reader-skips-entry"),
        (Defect::StrongDoesNotLook, "strong-does-not-look"),
        (Defect::MinVersionIgnored, "min-version-ignored"),
        (Defect::OwnWritesUnseen, "own-writes-unseen"),
        (Defect::BelieveBelowFloor, "believe-below-floor"),
        (Defect::CollectWithoutGrace, "collect-without-grace"),
        (Defect::SweepWithoutGrace, "sweep-without-grace"),
        (Defect::DiscardWhenUnsure, "discard-when-unsure"),
        (Defect::CountForgetsOverwrites, "count-forgets-overwrites"),
        (Defect::PageRepeatsCursor, "page-repeats-cursor"),
        (Defect::ExportDropsLine, "export-drops-line"),
        (Defect::SearchFindsItself, "search-finds-itself"),
        (Defect::TailUnfiltered, "tail-unfiltered"),
        (Defect::UnsureRowsPass, "unsure-rows-pass"),
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

    /// The one that is on.
    #[cfg(debug_assertions)]
    pub fn active(self) -> Option<Defect> {
        self.active
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

#[cfg(debug_assertions)]
thread_local! {
    static HERE: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

/// Switches a defect on, or all off, for code on this thread that has no [`Env`](crate::base::Env) at hand:
/// the simulation runs on one.
#[cfg(debug_assertions)]
pub fn set_here(defect: Option<Defect>) {
    HERE.set(defect);
}

/// Whether `defect` is on for this thread.
#[cfg(debug_assertions)]
pub fn is_here(defect: Defect) -> bool {
    HERE.get() == Some(defect)
}

/// Whether `defect` is on for this thread: never, in a release.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn is_here(_defect: Defect) -> bool {
    false
}
