#![doc = include_str!("../README.md")]

// What programs build on: everything that is not hidden. `docs/embedding.md` shows it at work.
pub use base::ids::{CollectionName, Seq};
pub use base::settings::{Role, Settings};
pub use base::{Code, Error, ErrorKind, Result, Timestamp};
pub use engine::damage::Damage;
pub use engine::model::{
    CollectionInfo, CollectionPage, CollectionSpec, CollectionStats, Consistency, DeleteTarget,
    Deleted, Effort, Export, FetchedRecords, Field, FoundRecord, Hit, ImportFault, ImportReport,
    IntoJson, Metric, NewRecord, Partial, Partition, PartitionerKind, PrefixRule, Query,
    RecallQueries, RecallReport, RecallRequest, Record, RecordPage, Reworked, SearchRequest,
    SearchResponse, SearchStats, SegmentMeta, StoredAs, UnnamedObject, Upserted, VectorField,
    Warmed,
};
pub use engine::node::condition::Condition;
pub use filter::Filter;
pub use library::{Brainy, Builder, Collection, Create, IntoFilter, Search, blocking};
pub use partition::Partitioner;
pub use store::DynStore;

/// The samples of docs/embedding.md are tried.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Samples;

// The rooms of the house, for its own programs, tests and benchmarks: they may change with any version.
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod api;
#[doc(hidden)]
pub mod base;
#[doc(hidden)]
pub mod cache;
#[doc(hidden)]
pub mod cluster;
#[doc(hidden)]
pub mod embed;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod filter;
#[doc(hidden)]
pub mod index;
mod library;
#[doc(hidden)]
pub mod log;
#[doc(hidden)]
pub mod manifest;
#[doc(hidden)]
pub mod partition;
#[doc(hidden)]
pub mod segment;
#[doc(hidden)]
pub mod store;
