//! The shared config as it stands in the store: one JSON object that people read and edit.
//!
//! Every level keeps the fields that it does not know, because a newer version may have written them.
//! What people steer (the settings, the wanted roles) and what instances report (everything else about
//! an instance) have different owners, and [`SharedConfig::restore`] tells them apart.

use crate::base::settings::{DistanceMetric, Role, bare_endpoint};
use crate::base::{Code, Error, Result, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Wanted roles of instances that are away, at most; the oldest are forgotten first.
const ABSENT_ROLES_MAX: usize = 256;
/// Most bytes of a shared config: 1,000 instances with all that they may tell take half of it.
pub(super) const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// Collections whose applied version stands in a heartbeat, at most: it must stay small.
const APPLIED_VERSIONS_MAX: usize = 32;

/// The shared config.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SharedConfig {
    /// Grows with every change and never repeats, whatever people upload.
    pub version: u64,
    /// When the last change was made, by its writer's clock; for people.
    pub updated: Timestamp,
    /// What all instances have in common.
    pub settings: ClusterSettings,
    /// The leader that wrote last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<LeaderNote>,
    /// How often somebody had to step in.
    pub failover: Failover,
    /// The wanted roles of instances that are away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub absent_roles: BTreeMap<String, AbsentRole>,
    /// Every instance by its id.
    pub instances: BTreeMap<String, Instance>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What all instances of a cluster have in common; unset is not decided yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterSettings {
    /// How ids are assigned to partitions: `hash`, or a name of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_strategy: Option<String>,
    /// Partitions of a new collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_count: Option<u64>,
    /// The model behind the vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_model: Option<String>,
    /// The length of the vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u64>,
    /// `cosine`, `euclidean` or `dot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance_metric: Option<DistanceMetric>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What an instance is doing, as it says itself, except for `dead`, which the leader says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is not ready yet.
    Starting,
    /// It does its work.
    #[default]
    Active,
    /// It works, but something is wrong.
    Degraded,
    /// It finishes what it has begun and is about to leave.
    Draining,
    /// Nothing was heard of it for too long.
    Dead,
    /// It has left; stands in an overflow heartbeat only.
    Left,
    /// What a newer version calls it.
    #[serde(untagged)]
    Other(String),
}

impl Status {
    /// Whether the instance takes work, as far as it says itself.
    pub fn serves(&self) -> bool {
        !matches!(self, Status::Draining | Status::Dead | Status::Left)
    }

    /// The name in the shared config.
    pub fn name(&self) -> &str {
        match self {
            Status::Starting => "starting",
            Status::Active => "active",
            Status::Degraded => "degraded",
            Status::Draining => "draining",
            Status::Dead => "dead",
            Status::Left => "left",
            Status::Other(name) => name,
        }
    }
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// What it does.
    pub role: Role,
    /// How it is.
    #[serde(default)]
    pub status: Status,
    /// When it wrote its last heartbeat, by its own clock; for people.
    #[serde(default)]
    pub last_heartbeat: Timestamp,
    /// The URL under which others reach it; without user, password and query, whoever wrote them.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bare")]
    pub endpoint: Option<String>,
    /// How it is doing.
    #[serde(default)]
    pub metrics: InstanceMetrics,
    /// Which life of this id it is: a ULID that a process makes when it joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The number of its last heartbeat in this life.
    #[serde(default)]
    pub beat: u64,
    /// When this life began, by its own clock; for people.
    #[serde(default)]
    pub started: Timestamp,
    /// The version of Brainy that it runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build: String,
    /// How often it writes a heartbeat, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// The role that its settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_role: Option<Role>,
    /// The role that an operator wants it to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_role: Option<Role>,
    /// Whether it waits to write until nobody else does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standby: bool,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Builds before wrote the endpoint as it was given.
fn bare<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let endpoint = Option::<String>::deserialize(deserializer)?;
    Ok(endpoint.map(|endpoint| bare_endpoint(&endpoint)))
}

impl Instance {
    /// Whether it takes writes now, as far as it says itself.
    pub fn is_active_writer(&self) -> bool {
        self.role.writes() && !self.standby && self.status.serves()
    }

    /// Whether its settings say the role that they said when something was asked of it. Where they do not,
    /// somebody has changed them since, and that is what counts.
    fn is_configured_as(&self, before: Option<Role>) -> bool {
        let roles = before.zip(self.configured_role);
        roles.is_none_or(|(before, now)| before == now)
    }

    /// Takes `news` of this instance in, and keeps what is not the instance's to say.
    pub(super) fn renew(&mut self, news: &Instance) {
        let wanted_role = self.wanted_role.filter(|_| news.is_configured_as(self.configured_role));
        let mut extra = std::mem::take(&mut self.extra);
        extra.extend(news.extra.clone());
        *self = Instance { wanted_role, extra, ..news.clone() };
    }
}

/// How an instance is doing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceMetrics {
    /// Live vectors that it knows of.
    pub vector_count: u64,
    /// Share of segment look-ups that memory answered, 0..=1.
    pub cache_hit_rate: f64,
    /// Resident memory, in bytes.
    pub memory_usage: u64,
    /// Requests answered per second.
    pub requests_per_second: f64,
    /// Mean time of a request, in milliseconds.
    pub average_latency_ms: f64,
    /// Share of requests that failed, 0..=1.
    pub error_rate: f64,
    /// The version of each collection that it shows; the first 32 by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub applied_versions: BTreeMap<String, u64>,
    /// Segments in its memory.
    pub resident_segments: u64,
    /// Seconds since it last found nothing newer in the log of the collection that it is behind in most.
    pub lag_seconds: f64,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl InstanceMetrics {
    /// Cut to what a heartbeat may carry, with numbers as exact as people read them.
    pub(super) fn bounded(mut self) -> Self {
        let brief = |value: f64| (value * 1_000.0).round() / 1_000.0;
        self.cache_hit_rate = brief(self.cache_hit_rate);
        self.requests_per_second = brief(self.requests_per_second);
        self.average_latency_ms = brief(self.average_latency_ms);
        self.error_rate = brief(self.error_rate);
        self.lag_seconds = brief(self.lag_seconds);
        while self.applied_versions.len() > APPLIED_VERSIONS_MAX {
            self.applied_versions.pop_last();
        }
        self
    }
}

/// A leader, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderNote {
    /// The instance.
    pub id: String,
    /// Which leader it is, from 1.
    pub epoch: u64,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How often somebody had to step in for another: a leader, or a standby writer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failover {
    /// How often.
    pub count: u64,
    /// When it was last, by the clock of whoever stepped in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The role that an operator wants an instance to have that is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AbsentRole {
    /// The role.
    pub role: Role,
    /// The role that the instance's settings said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_role: Option<Role>,
    /// When the instance left.
    pub since: Timestamp,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl SharedConfig {
    /// Refuses an object that is too large to be a shared config: nobody holds it in memory.
    pub(super) fn check_size(size: u64) -> Result<()> {
        if size <= CONFIG_BYTES_MAX {
            return Ok(());
        }
        Err(Error::new(
            Code::SharedConfigInvalid,
            format!(
                "the shared config has {size} bytes, and no more than {CONFIG_BYTES_MAX} are read; correct \
                 it in the store, or delete it and it is written again"
            ),
        )
        .with("bytes", size)
        .with("maxBytes", CONFIG_BYTES_MAX))
    }

    /// Parses what stands in the store; the error says where it is broken.
    pub fn parse(bytes: &[u8]) -> Result<SharedConfig> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::new(
                Code::SharedConfigInvalid,
                format!(
                    "the shared config is not valid: {error}; correct it in the store, or delete it \
                     and it is written again"
                ),
            )
            .with("line", error.line())
            .with("column", error.column())
        })
    }

    /// The text for the store: for people, so every instance has a line of its own.
    pub fn encode(&self) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Page<'a> {
            version: u64,
            updated: Timestamp,
            settings: &'a ClusterSettings,
            #[serde(skip_serializing_if = "Option::is_none")]
            leader: Option<&'a LeaderNote>,
            failover: &'a Failover,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            absent_roles: &'a BTreeMap<String, AbsentRole>,
            instances: BTreeMap<&'a str, Box<RawValue>>,
            #[serde(flatten)]
            extra: &'a Map<String, Value>,
        }
        let failed = |error| Error::internal("could not write JSON").caused_by(error);
        type Line<'a> = serde_json::Result<(&'a str, Box<RawValue>)>;
        fn line<'a>((id, instance): (&'a String, &Instance)) -> Line<'a> {
            serde_json::value::to_raw_value(instance).map(|raw| (id.as_str(), raw))
        }
        let page = Page {
            version: self.version,
            updated: self.updated,
            settings: &self.settings,
            leader: self.leader.as_ref(),
            failover: &self.failover,
            absent_roles: &self.absent_roles,
            instances: self.instances.iter().map(line).collect::<Result<_, _>>().map_err(failed)?,
            extra: &self.extra,
        };
        serde_json::to_vec_pretty(&page).map_err(failed)
    }

    /// Enters `instance` under `id`, with the role that was wanted of it when it was here last, unless its
    /// settings say another role since.
    pub(super) fn enter(&mut self, id: &str, instance: &Instance) {
        match self.instances.get_mut(id) {
            Some(entry) => entry.renew(instance),
            None => {
                let absent = self.absent_roles.remove(id);
                let absent = absent.filter(|it| instance.is_configured_as(it.configured_role));
                let wanted_role = instance.wanted_role.or(absent.map(|absent| absent.role));
                self.instances.insert(id.to_owned(), Instance { wanted_role, ..instance.clone() });
            }
        }
    }

    /// Takes `id` out, and remembers the role that was wanted of it.
    pub(super) fn take_out(&mut self, id: &str, now: Timestamp) {
        let Some(Instance { wanted_role: Some(role), configured_role, .. }) =
            self.instances.remove(id)
        else {
            return;
        };
        let absent = AbsentRole { role, configured_role, since: now, extra: Map::new() };
        self.absent_roles.insert(id.to_owned(), absent);
        while self.absent_roles.len() > ABSENT_ROLES_MAX {
            let oldest = self.absent_roles.iter().min_by_key(|(_, absent)| absent.since);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else { return };
            self.absent_roles.remove(&oldest);
        }
    }

    /// What is in force after somebody put `uploaded` in the place of `self`, which is newer: a person
    /// who took an older copy. What people steer is as they left it; what instances report is not for
    /// them to turn back.
    pub(super) fn restore(&self, uploaded: &SharedConfig) -> SharedConfig {
        let mut instances = uploaded.instances.clone();
        for (id, known) in &self.instances {
            match instances.get_mut(id) {
                // Sessions are ULIDs: the later life of an id has the greater one.
                Some(entry) if entry.session > known.session => {}
                Some(entry) if entry.session == known.session && entry.beat > known.beat => {}
                Some(entry) if entry.session == known.session => entry.renew(known),
                Some(entry) => *entry = known.clone(),
                None => {
                    instances.insert(id.clone(), known.clone());
                }
            }
        }
        let epoch = |note: &Option<LeaderNote>| note.as_ref().map_or(0, |note| note.epoch);
        let newer = if epoch(&uploaded.leader) > epoch(&self.leader) { uploaded } else { self };
        SharedConfig {
            version: self.version,
            leader: newer.leader.clone(),
            failover: newer.failover.clone(),
            instances,
            ..uploaded.clone()
        }
    }
}

/// A setting of which an instance and the cluster think differently.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// The field of `settings`.
    pub field: &'static str,
    /// What this instance was given.
    pub here: Value,
    /// What the shared config says.
    pub cluster: Value,
}

impl ClusterSettings {
    fn fields(&self) -> [(&'static str, Value); 5] {
        let text = |value: &Option<String>| value.as_deref().map_or(Value::Null, Value::from);
        [
            ("partitionStrategy", text(&self.partition_strategy)),
            ("partitionCount", self.partition_count.map_or(Value::Null, Value::from)),
            ("embeddingModel", text(&self.embedding_model)),
            ("dimensions", self.dimensions.map_or(Value::Null, Value::from)),
            ("distanceMetric", self.distance_metric.map_or(Value::Null, |it| it.name().into())),
        ]
    }

    /// Where `given`, the settings of one instance, contradicts these; what is unset contradicts
    /// nothing.
    pub fn conflicts(&self, given: &ClusterSettings) -> Vec<Conflict> {
        let pairs = given.fields().into_iter().zip(self.fields());
        pairs
            .filter(|((_, here), (_, cluster))| {
                !here.is_null() && !cluster.is_null() && here != cluster
            })
            .map(|((field, here), (_, cluster))| Conflict { field, here, cluster })
            .collect()
    }

    /// Refuses `given` where it contradicts these settings.
    pub fn check(&self, given: &ClusterSettings) -> Result<()> {
        let conflicts = self.conflicts(given);
        if conflicts.is_empty() {
            return Ok(());
        }
        let told = conflicts.iter().map(|conflict| {
            let Conflict { field, here, cluster } = conflict;
            format!("{field} is {here} here and {cluster} in the shared config")
        });
        let told: Vec<String> = told.collect();
        let listed = conflicts.iter().map(|conflict| {
            let Conflict { field, here, cluster } = conflict;
            serde_json::json!({ "field": field, "here": here, "cluster": cluster })
        });
        Err(Error::new(
            Code::SettingsConflict,
            format!(
                "{}; unset it here to follow the cluster, or change the shared config and restart \
                 every instance",
                told.join(", ")
            ),
        )
        .with("conflicts", listed.collect::<Vec<Value>>()))
    }

    /// Decides with `given` what is not decided yet; whether that was anything.
    pub(super) fn fill(&mut self, given: &ClusterSettings) -> bool {
        let before = self.clone();
        fn fill<T: Clone>(own: &mut Option<T>, given: &Option<T>) {
            if own.is_none() {
                own.clone_from(given);
            }
        }
        fill(&mut self.partition_strategy, &given.partition_strategy);
        fill(&mut self.partition_count, &given.partition_count);
        fill(&mut self.embedding_model, &given.embedding_model);
        fill(&mut self.dimensions, &given.dimensions);
        fill(&mut self.distance_metric, &given.distance_metric);
        *self != before
    }
}

#[cfg(test)]
mod tests;
