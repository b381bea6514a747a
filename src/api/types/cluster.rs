//! The cluster on the wire.

use crate::api::types::{Decode, Limits, brief};
use crate::base::json;
use crate::base::settings::Role;
use crate::base::{Code, Error, Result, Timestamp};
use crate::cluster::state::VALUE_BYTES_MAX;
use crate::cluster::{
    ClusterView, ConfigFault, InstanceMetrics, LeaderView, Node, SharedConfig, StateEntry,
};
use crate::engine::node::cluster::{CollectionLag, NodeLag, Replication};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// This instance and the cluster around it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusBody<'a> {
    /// This instance.
    pub node: SelfBody<'a>,
    /// Who leads.
    pub leader: LeaderBody<'a>,
    /// How far this instance has come.
    pub replication: AppliedBody,
    /// Instances, dead ones that are still listed included.
    pub total_nodes: u64,
    /// Those that live and are not degraded.
    pub healthy_nodes: u64,
    /// The others.
    pub unhealthy_nodes: u64,
    /// How often somebody stepped in for another.
    pub failover: FailoverBody,
    /// What deserves a look.
    pub warnings: Vec<String>,
}

/// The instance that answers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelfBody<'a> {
    /// Its name.
    #[schema(example = "writer-01")]
    pub id: &'a str,
    /// `writer`, `reader` or `hybrid`.
    pub role: &'a str,
    /// The role that an operator wants it to have.
    pub wanted_role: Option<&'static str>,
    /// The role that its settings say.
    pub configured_role: &'static str,
    /// Whether it waits to write until nobody else does.
    pub standby: bool,
    /// The URL under which others reach it.
    pub endpoint: Option<&'a str>,
    /// `starting`, `active`, `degraded`, `draining`, `left`, or `unlisted` for a reader that may only read the
    /// store: it serves, and the other instances do not know of it.
    pub status: &'a str,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub start_time: Timestamp,
    /// Seconds since then.
    #[serde(serialize_with = "brief")]
    pub uptime_seconds: f64,
    /// The version of Brainy that it runs.
    pub version: &'static str,
}

/// The leader: one instance that keeps the shared config tidy.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeaderBody<'a> {
    /// The instance, where one is known.
    pub id: Option<&'a str>,
    /// Which leader it is, from 1; 0 before the first.
    pub epoch: u64,
    /// `acting` (this instance leads), `following`, or `vacant`.
    pub state: &'static str,
}

impl<'a> From<&'a LeaderView> for LeaderBody<'a> {
    fn from(leader: &'a LeaderView) -> Self {
        LeaderBody { id: leader.id.as_deref(), epoch: leader.epoch, state: leader.state.name() }
    }
}

/// What an instance shows.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedBody {
    /// The version of each collection that it has open.
    pub applied_versions: BTreeMap<String, u64>,
    /// Seconds since it last found nothing newer in the log.
    #[serde(serialize_with = "brief")]
    pub lag_seconds: f64,
}

/// How often somebody stepped in for another.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverBody {
    /// Whether a leader, or a writer that a standby waits for, is missing right now.
    pub in_progress: bool,
    /// When somebody stepped in last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_at: Option<Timestamp>,
    /// How often.
    pub count: u64,
}

/// All instances.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodesBody<'a> {
    /// In the order of their ids.
    pub nodes: Vec<NodeBody<'a>>,
}

/// An instance as the cluster knows it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeBody<'a> {
    /// Its name.
    #[schema(example = "reader-01")]
    pub id: &'a str,
    /// `writer`, `reader` or `hybrid`.
    pub role: &'a str,
    /// The role that an operator wants it to have: an order that stands, also over restarts, until
    /// `DELETE /cluster/nodes/{id}/role`.
    pub wanted_role: Option<&'static str>,
    /// The role that its settings say.
    pub configured_role: Option<&'static str>,
    /// Whether it waits to write until nobody else does.
    pub standby: bool,
    /// `starting`, `active`, `degraded`, `draining` or `dead`.
    pub status: &'a str,
    /// Whether it leads.
    pub leader: bool,
    /// The URL under which others reach it.
    pub endpoint: Option<&'a str>,
    /// When it wrote its last heartbeat, by its own clock.
    #[schema(value_type = String, format = DateTime)]
    pub last_heartbeat: Timestamp,
    /// When it started, by its own clock.
    #[schema(value_type = String, format = DateTime)]
    pub start_time: Timestamp,
    /// The version of Brainy that it runs.
    pub version: &'a str,
    /// How it is doing.
    #[schema(value_type = Object)]
    pub metrics: &'a InstanceMetrics,
}

impl<'a> NodeBody<'a> {
    /// One node of a view.
    pub fn of(view: &'a ClusterView, node: Node<'a>) -> Self {
        NodeBody {
            id: node.id,
            role: node.entry.role.name(),
            wanted_role: node.entry.wanted_role.map(Role::name),
            configured_role: node.entry.configured_role.map(Role::name),
            standby: node.entry.standby,
            status: node.status(),
            leader: view.leader.id.as_deref() == Some(node.id),
            endpoint: node.entry.endpoint.as_deref(),
            last_heartbeat: node.entry.last_heartbeat,
            start_time: node.entry.started,
            version: &node.entry.build,
            metrics: &node.entry.metrics,
        }
    }
}

/// How the cluster is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterHealthBody<'a> {
    /// `healthy`; `degraded` where an instance is dead or degraded, or there is no leader; `unhealthy`
    /// where nobody takes writes or nobody answers reads, or the instance that is asked does not reach the store.
    pub status: &'static str,
    /// Instances.
    pub total_nodes: u64,
    /// Those that live and are not degraded.
    pub healthy_nodes: u64,
    /// The others, by id.
    pub unhealthy: Vec<&'a str>,
    /// Live instances that take writes.
    pub writers: u64,
    /// Live instances that answer reads.
    pub readers: u64,
    /// What is wrong, for people.
    pub warnings: Vec<String>,
}

/// The shared config as it is in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfigBody<'a> {
    /// The shared config.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub config: &'a SharedConfig,
    /// Why what stands in the store is not in force.
    pub fault: Option<FaultBody<'a>>,
}

/// Why the shared config in the store is not in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct FaultBody<'a> {
    /// What is wrong and what to do.
    pub message: &'a str,
    /// The line, from 1.
    pub line: u64,
    /// The column.
    pub column: u64,
    /// Since when this instance knows.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

impl<'a> From<&'a ConfigFault> for FaultBody<'a> {
    fn from(fault: &'a ConfigFault) -> Self {
        let ConfigFault { message, line, column, since } = fault;
        FaultBody { message, line: *line, column: *column, since: *since }
    }
}

/// How far everybody has come.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplicationBody<'a> {
    /// The newest version of each collection that anybody tells of.
    pub heads: &'a BTreeMap<String, u64>,
    /// Live instances that answer reads.
    pub readers: Vec<ReaderBody<'a>>,
}

/// How far an instance is behind.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReaderBody<'a> {
    /// The instance.
    pub id: &'a str,
    /// Versions behind, over all collections.
    pub lag_versions: u64,
    /// Bytes of log behind; null where the log no longer tells.
    pub lag_bytes: Option<u64>,
    /// Seconds since it last found nothing newer in the log.
    #[serde(serialize_with = "brief")]
    pub lag_seconds: f64,
    /// In each collection that it has open.
    pub collections: Vec<CollectionLagBody<'a>>,
}

/// How far an instance is behind in one collection.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionLagBody<'a> {
    /// The collection.
    pub collection: &'a str,
    /// The version that the instance shows.
    pub applied_version: u64,
    /// The newest version.
    pub head_version: u64,
    /// Bytes of log between them; null where the log no longer tells.
    pub lag_bytes: Option<u64>,
}

impl<'a> From<&'a Replication> for ReplicationBody<'a> {
    fn from(replication: &'a Replication) -> Self {
        let lag = |lag: &'a CollectionLag| CollectionLagBody {
            collection: &lag.collection,
            applied_version: lag.applied,
            head_version: lag.head,
            lag_bytes: lag.bytes,
        };
        let reader = |node: &'a NodeLag| ReaderBody {
            id: &node.id,
            lag_versions: node.versions,
            lag_bytes: node.bytes,
            lag_seconds: node.seconds,
            collections: node.collections.iter().map(lag).collect(),
        };
        ReplicationBody {
            heads: &replication.heads,
            readers: replication.readers.iter().map(reader).collect(),
        }
    }
}

/// Which version to wait for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AppliedQuery {
    /// The collection.
    #[param(pattern = "^[a-z0-9][a-z0-9_-]{0,62}$")]
    pub collection: String,
    /// The version to wait for.
    pub min_version: u64,
    /// For how long, in milliseconds; at most `wait_ms_max`.
    #[serde(default)]
    pub wait_ms: u64,
}

/// What is shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedVersionBody<'a> {
    /// The instance that answers: whoever waits for another must not believe it.
    pub instance_id: &'a str,
    /// Its life; null where it has not joined the cluster.
    pub session: Option<&'a str>,
    /// The collection that was asked for.
    pub collection: &'a str,
    /// The version; null where the collection is not open here: the first read will find everything that
    /// was acknowledged before it.
    pub version: Option<u64>,
}

/// A role for an instance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleBody {
    /// `writer`, `reader` or `hybrid`.
    #[schema(value_type = String, pattern = "^(writer|reader|hybrid)$", example = "writer")]
    pub role: Role,
    /// Do it although nobody will take writes any more.
    #[serde(default)]
    pub force: bool,
}

impl Decode for RoleBody {
    type Wire<'a> = RoleBody;

    fn decode(wire: RoleBody, _: &Limits) -> Result<Self> {
        Ok(wire)
    }
}

/// How an order is taken back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClearQuery {
    /// Do it although nobody will take writes any more.
    #[serde(default)]
    pub force: bool,
}

/// What was asked of an instance.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderedBody<'a> {
    /// The instance.
    pub id: &'a str,
    /// The role that it takes at its next heartbeat; `null` for the one that its settings say.
    pub wanted_role: Option<&'static str>,
}

/// Whether this instance is in the cluster.
#[derive(Debug, Serialize, ToSchema)]
pub struct MembershipBody<'a> {
    /// This instance.
    pub id: &'a str,
    /// Whether it is a member now.
    pub member: bool,
}

/// An instance was removed.
#[derive(Debug, Serialize, ToSchema)]
pub struct RemovedBody {
    /// Always true.
    pub removed: bool,
}

/// Entries of the shared state.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatePageBody<'a> {
    /// In the order of their keys.
    pub entries: Vec<StateBody<'a>>,
    /// Entries of this page that cannot be read; left out where there are none. Put or delete them anew.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedStateBody<'a>>,
    /// Where the next page begins; null after the last.
    pub next_cursor: Option<&'a str>,
}

/// An entry of the shared state that cannot be read.
#[derive(Debug, Serialize, ToSchema)]
pub struct DamagedStateBody<'a> {
    /// Its key.
    pub key: &'a str,
    /// Why, and what to do.
    pub reason: String,
}

/// An entry of the shared state.
#[derive(Debug, Serialize, ToSchema)]
pub struct StateBody<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its value.
    #[schema(value_type = Value)]
    pub value: &'a Value,
    /// Names this very change of it; for `If-Match`.
    pub etag: &'a str,
    /// How often it was changed.
    pub version: u64,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub updated: Timestamp,
}

impl<'a> From<&'a StateEntry> for StateBody<'a> {
    fn from(entry: &'a StateEntry) -> Self {
        let StateEntry { key, value, etag, version, updated } = entry;
        StateBody { key, value, etag, version: *version, updated: *updated }
    }
}

/// A value for the shared state.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StateValueBody<'a> {
    /// Any JSON, up to 64 KiB.
    #[serde(borrow)]
    #[schema(value_type = Value)]
    pub value: &'a RawValue,
}

/// Longest JSON of a value as it comes, which may have blanks that are not stored.
const VALUE_JSON_BYTES_MAX: usize = 4 * VALUE_BYTES_MAX;

/// A value for the shared state.
pub struct StateValue(pub Value);

impl Decode for StateValue {
    type Wire<'a> = StateValueBody<'a>;

    fn decode(wire: StateValueBody<'_>, _: &Limits) -> Result<Self> {
        let text = wire.value.get();
        if let Some(bytes) = json::longer_than(VALUE_JSON_BYTES_MAX, text) {
            return Err(Error::new(
                Code::PayloadTooLarge,
                format!("the value has {bytes} bytes of JSON: use at most {VALUE_BYTES_MAX}"),
            ));
        }
        let value = serde_json::from_str(text)
            .map_err(|error| Error::invalid(format!("value: {error}")).with("path", "value"))?;
        Ok(StateValue(value))
    }
}

/// An entry was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct StateDeletedBody {
    /// Whether there was one.
    pub deleted: bool,
}

/// Which entries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StateQuery {
    /// What their keys start with.
    #[serde(default)]
    pub prefix: String,
    /// How many, 1..=1,000.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u64>,
    /// `nextCursor` of the page before.
    pub cursor: Option<String>,
}

/// The error for an instance that the cluster does not list.
pub fn no_such_node(id: &str) -> Error {
    let shown: String = id.chars().take(128).collect();
    Error::new(
        Code::InstanceNotFound,
        format!("there is no instance {shown:?} in the cluster; GET /cluster/nodes lists all"),
    )
    .with("id", shown)
}
