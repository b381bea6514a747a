//! By what figures are told apart. Every set of labels is bounded.

use prometheus_client::encoding::EncodeLabelSet;

/// Labels of a store request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreLabels {
    /// `get`, `put`, `put_if`, `delete` or `list`.
    pub op: &'static str,
    /// `ok`, `missing`, `unmodified`, `won`, `lost`, `ambiguous` or `failed`.
    pub outcome: &'static str,
}

/// Labels of all store requests of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OpLabels {
    /// `get`, `put`, `put_if`, `delete` or `list`.
    pub op: &'static str,
}

/// Labels of background work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TaskLabels {
    /// `index` or `compact`.
    pub task: &'static str,
}

/// Labels of what is missing or damaged in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DamageLabels {
    /// `manifest`, `logEntry`, `logData`, `segment`, `deletions` or `record`.
    pub kind: &'static str,
}

/// Labels of what is known of an instance of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NodeLabels {
    /// The instance's name.
    pub node: String,
}

/// Labels of what is known of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CollectionLabels {
    /// The collection's name.
    pub collection: String,
}

/// Labels of a conditional PUT of the shared config.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClusterLabels {
    /// `won`, `lost`, `ambiguous` or `failed`.
    pub outcome: &'static str,
}

/// Labels of an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HttpLabels {
    /// The route's pattern, never the concrete path.
    pub route: String,
    /// The HTTP method.
    pub method: &'static str,
    /// The status code.
    pub status: u16,
}

/// Labels of the time that HTTP requests took.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The route's pattern, never the concrete path.
    pub route: String,
    /// The HTTP method.
    pub method: &'static str,
}

/// Labels of the program that runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BuildLabels {
    /// The version.
    pub version: &'static str,
    /// The commit that it was built from; empty where nobody said so.
    pub commit: &'static str,
}

impl BuildLabels {
    /// Of this program. Whoever builds it says the commit by the variable `BRAINY_BUILD_COMMIT`.
    pub(super) fn of_this_build() -> BuildLabels {
        let commit = option_env!("BRAINY_BUILD_COMMIT").unwrap_or("");
        BuildLabels { version: env!("CARGO_PKG_VERSION"), commit }
    }
}
