//! What is checked. Each is named after the guarantee; one that is `false` waits for its mend.

/// A write enters the life of a name that it was checked against, or none.
pub const WRITES_STAY_IN_THEIR_LIFE: bool = true;
/// A deleted collection comes back with the settings that it had, or with those that a client asked for.
pub const RETURNS_WITH_ITS_SETTINGS: bool = true;
/// `collection_not_found` and `shutting_down` are said only where that is so.
pub const NOT_FOUND_WHERE_IT_IS_NOT: bool = true;
/// Log entries stay for a whole grace period after the floor has passed them, however slow the look at it was.
pub const LOG_ENTRIES_STAY_A_GRACE_PERIOD: bool = true;
/// What a manifest has named stays for a whole grace period after none does.
pub const SEGMENTS_STAY_A_GRACE_PERIOD: bool = true;
/// An eventual read is no older than the poll interval and one look, or than may be while the store is out of reach.
pub const EVENTUAL_IS_BOUNDED: bool = true;
/// A conditional PUT that was sent twice and answered 412 costs nothing.
pub const OWN_PUTS_ARE_RECOGNISED: bool = true;
/// Instances with other settings for what must be agreed on lose nothing.
pub const GRACE_IS_AGREED_ON: bool = true;
/// Bodies that no entry names are collected.
pub const ORPHANS_ARE_COLLECTED: bool = true;
/// Writers on one collection get a fair share.
pub const WRITERS_ARE_FAIR: bool = true;
/// Metadata come back as the same value on one line, however they were sent.
pub const METADATA_ARE_COMPACT: bool = true;
/// Ties are broken by id, at the end of an answer too.
pub const TIES_GO_BY_ID: bool = true;
/// An instance that nobody uses asks for next to nothing.
pub const IDLE_IS_CHEAP: bool = true;
