//! How does this instance work together with the others?
//!
//! [`Cluster`] is its seat among them. It joins and leaves the membership that [`crate::cluster`] keeps,
//! carries out what is asked of it ([`orders`]), reports how it is doing ([`vitals`]), makes synchronous writes
//! wait for the readers ([`replicate`]), and says how far every instance has come ([`lag`]).
//!
//! An instance that has not joined works all the same: nothing about a collection depends on the cluster.

mod lag;
mod orders;
mod replicate;
mod vitals;

pub use lag::{CollectionLag, NodeLag, Replication};
pub use replicate::Peers;

use crate::base::ids::{CollectionName, Seq, record_hash};
use crate::base::settings::{
    DistanceMetric, ReplicationMode, Role, Settings, check_service_endpoint,
};
use crate::base::{Code, Error, Result};
use crate::cluster::{
    ClusterSettings, ClusterView, ConfigFault, InstanceMetrics, MemberOptions, Membership,
    ParsedConfigs, SharedConfig, SharedState, Standing, Status, Timing, Vitals, read_shared_config,
};
use crate::engine::catalog::PARTITIONS_MAX;
use crate::engine::collections::Collections;
use crate::engine::context::Context;
use crate::engine::model::{CollectionSpec, Metric};
use crate::engine::node::condition::{self, Condition};
use crate::engine::node::duty::Others;
use crate::store::paths;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the others may take to hear that this instance is about to leave.
const DRAIN_NOTICE_MAX: Duration = Duration::from_secs(2);

/// How others reach this instance, and how it reaches them.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// The URL under which others reach this instance; `None` where they cannot.
    pub endpoint: Option<String>,
    /// How to ask the others.
    pub peers: Arc<dyn Peers>,
}

/// This instance's seat in the cluster. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: Context,
    collections: Arc<Collections>,
    settings: Settings,
    state: SharedState,
    vitals: Arc<dyn Vitals>,
    /// The role that the settings say.
    configured: Role,
    invitation: Mutex<Option<Invitation>>,
    membership: Mutex<Option<Membership>>,
    /// Bytes of log that this instance is behind, as it found out last.
    lag_bytes: AtomicU64,
    /// Held while somebody joins or leaves.
    moving: tokio::sync::Mutex<()>,
    /// Cancelled once another process has taken over our id.
    ousted: CancellationToken,
}

impl Cluster {
    /// Of an instance that has not joined.
    pub(in crate::engine) fn new(
        context: Context,
        collections: Arc<Collections>,
        settings: Settings,
    ) -> Cluster {
        Cluster(Arc::new(Inner {
            state: SharedState::new(context.store.clone(), context.env.clone()),
            vitals: Arc::new(vitals::Sampled::new(context.clone(), collections.clone())),
            configured: context.duty.station().role,
            context,
            collections,
            settings,
            invitation: Mutex::default(),
            membership: Mutex::default(),
            lag_bytes: AtomicU64::new(0),
            moving: tokio::sync::Mutex::default(),
            ousted: CancellationToken::new(),
        }))
    }

    /// Joins, as others can reach it by `invitation`. Refuses with `settings_conflict` where the cluster
    /// has other settings, and with `instance_id_in_use` where another process has this instance's id.
    pub async fn join(&self, invitation: Invitation) -> Result<()> {
        invitation.endpoint.as_deref().map_or(Ok(()), check_service_endpoint)?;
        *lock(&self.0.invitation) = Some(invitation);
        self.rejoin().await
    }

    /// Joins again as before; nothing happens where it has not left.
    pub async fn rejoin(&self) -> Result<()> {
        let _moving = self.0.moving.lock().await;
        if self.member().is_some() {
            return Ok(());
        }
        let invitation = lock(&self.0.invitation).clone().ok_or_else(|| {
            let hint = "this instance does not serve others: start it with brainy serve to join";
            Error::new(Code::NotAMember, hint)
        })?;
        let membership = Membership::join(self.options(&invitation)).await?;
        *lock(&self.0.membership) = Some(membership.clone());
        self.0.context.duty.refer_to(Arc::new(Directory(membership.clone())));
        let orders = orders::Orders::new(self.clone(), membership.clone());
        self.0.context.env.tasks.spawn("orders", orders.run());
        // One that is not listed has said so.
        if membership.view().standing != Standing::Unlisted {
            tracing::info!(target: "brainy::cluster", id = %membership.id(), "joined the cluster");
        }
        Ok(())
    }

    /// Leaves the cluster: the others no longer count on this instance. It goes on serving.
    pub async fn leave(&self) -> Result<()> {
        let _moving = self.0.moving.lock().await;
        let membership = self.member().ok_or_else(not_a_member)?;
        let left = membership.leave().await;
        *lock(&self.0.membership) = None;
        self.0.lag_bytes.store(0, Ordering::Relaxed);
        tracing::info!(target: "brainy::cluster", id = %membership.id(), "left the cluster");
        left
    }

    /// The membership, where this instance has joined.
    pub fn member(&self) -> Option<Membership> {
        lock(&self.0.membership).clone()
    }

    /// The membership, or the error that there is none.
    pub fn membership(&self) -> Result<Membership> {
        self.member().ok_or_else(not_a_member)
    }

    /// The whole cluster as this instance sees it, where it has joined.
    pub fn view(&self) -> Option<Arc<ClusterView>> {
        self.member().map(|membership| membership.view())
    }

    /// Small values that all instances share.
    pub fn state(&self) -> &SharedState {
        &self.0.state
    }

    /// Whether this instance serves without being listed in the cluster, because it may only read the store.
    pub fn is_unlisted(&self) -> bool {
        self.view().is_some_and(|view| view.standing == Standing::Unlisted)
    }

    /// Whether this instance waits to write until nobody else does.
    pub fn is_standby(&self) -> bool {
        self.0.context.duty.station().standby
    }

    /// The role that this instance's settings say.
    pub fn configured_role(&self) -> Role {
        self.0.configured
    }

    /// Cancelled once another process has taken over this instance's id: it has to stop.
    pub fn ousted(&self) -> &CancellationToken {
        &self.0.ousted
    }

    /// The shared config as it is in force, and why what stands in the store is not. An instance that has
    /// not joined says what stands in the store.
    pub async fn shared_config(&self) -> Result<(Arc<SharedConfig>, Option<ConfigFault>)> {
        if let Some(view) = self.view() {
            return Ok((view.config.clone(), view.fault.clone()));
        }
        let key = paths::config(&self.0.settings.config_path);
        let config = read_shared_config(&self.0.context.store, &key).await?;
        Ok((Arc::new(config), None))
    }

    /// How far every reader has come.
    pub async fn replication(&self) -> Result<Replication> {
        let view = self.view().ok_or_else(not_a_member)?;
        let own = self.0.vitals.sample();
        lag::replication(&self.0.context.store, &view, &own, None).await
    }

    /// Finds out how many bytes of log this instance is behind, where the settings bound them: that asks
    /// the store, which judging its condition must not.
    async fn weigh_lag(&self) {
        let Inner { context, settings, .. } = &*self.0;
        let Some(view) = self.view().filter(|_| settings.lag_max_bytes > 0) else { return };
        let own = self.0.vitals.sample();
        match lag::replication(&context.store, &view, &own, Some(&*view.id)).await {
            Ok(found) => {
                let bytes = found.readers.first().and_then(|lag| lag.bytes).unwrap_or(0);
                self.0.lag_bytes.store(bytes, Ordering::Relaxed);
            }
            Err(error) => tracing::debug!(%error, "the lag in bytes could not be found out"),
        }
    }

    /// Whether this instance is as it should be, without asking the store.
    pub fn condition(&self) -> Condition {
        let Inner { context, collections, settings, vitals, .. } = &*self.0;
        let (vitals, view) = (vitals.sample(), self.view());
        let lag_bytes = self.0.lag_bytes.load(Ordering::Relaxed);
        Condition::of(settings, context, collections, &vitals, lag_bytes, view.as_deref())
    }

    /// Why this instance must stop: of its condition what a probe asks for, without looking at the rest.
    pub fn fatal(&self) -> Vec<String> {
        condition::fatal(&self.0.context, self.view().as_deref())
    }

    /// How this instance is doing, as its next heartbeat will say.
    pub fn vitals(&self) -> InstanceMetrics {
        self.0.vitals.sample()
    }

    /// Sets the gauges of the cluster to what is known now.
    pub fn measure(&self) {
        if let Some(view) = self.view() {
            lag::measure(&self.0.context.env.metrics, &view, &self.0.vitals.sample());
        }
    }

    /// Waits, where the settings say so, until every live reader has applied `version`.
    pub(in crate::engine) async fn replicated(
        &self,
        collection: &CollectionName,
        version: Seq,
    ) -> Result<()> {
        if self.0.settings.replication_mode == ReplicationMode::Eventual {
            return Ok(());
        }
        let invitation = lock(&self.0.invitation).clone();
        let (Some(membership), Some(invitation)) = (self.member(), invitation) else {
            return Ok(());
        };
        let limit = Duration::from_millis(self.0.settings.replication_timeout_ms);
        replicate::wait(&membership, &*invitation.peers, collection, version, limit).await
    }

    /// What the instances have agreed on, or what this one was given where it has not joined.
    fn agreed(&self) -> ClusterSettings {
        match self.view() {
            Some(view) => view.config.settings.clone(),
            None => shared_settings(&self.0.settings),
        }
    }

    /// In how many partitions a new collection starts, where the cluster's settings say so.
    pub(in crate::engine) fn partition_count(&self) -> Option<u32> {
        let count = u32::try_from(self.agreed().partition_count?).ok();
        // A person may have written anything into the shared config.
        count.map(|count| count.clamp(1, PARTITIONS_MAX))
    }

    /// A collection as the cluster's settings say, for vectors of `dimensions`.
    pub(in crate::engine) fn new_collection(
        &self,
        name: &CollectionName,
        dimensions: usize,
    ) -> Result<CollectionSpec> {
        let agreed = self.agreed();
        if let Some(agreed) = agreed.dimensions.filter(|agreed| *agreed != dimensions as u64) {
            return Err(Error::new(
                Code::DimensionMismatch,
                format!(
                    "the vector has {dimensions} dimensions, the cluster's settings say {agreed}; use the \
                     model that they were made for, or create the collection first"
                ),
            )
            .with("expected", agreed)
            .with("found", dimensions));
        }
        Ok(CollectionSpec {
            name: name.clone(),
            dimensions: u32::try_from(dimensions).unwrap_or(u32::MAX),
            metric: agreed.distance_metric.map_or(Metric::Cosine, measured_by),
            partition_count: None,
            partitioner: None,
            description: None,
        })
    }

    /// Says that this instance is about to leave, so that nobody sends it more.
    pub async fn drain(&self) {
        if let Some(membership) = self.member() {
            let role = self.0.context.duty.station().role;
            let told = membership.update_self(role, Status::Draining);
            // The others learn by the leave at the latest.
            let _ = tokio::time::timeout(DRAIN_NOTICE_MAX, told).await;
        }
    }

    fn options(&self, invitation: &Invitation) -> MemberOptions {
        let Inner { context, settings, .. } = &*self.0;
        MemberOptions {
            store: context.store.clone(),
            env: context.env.clone(),
            config_key: paths::config(&settings.config_path),
            id: context.instance_id.clone(),
            role: self.0.configured,
            standby: settings.standby && self.0.configured.writes(),
            endpoint: invitation.endpoint.clone(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            settings: shared_settings(settings),
            timing: Timing::from(settings),
            probe: invitation.peers.clone(),
            vitals: self.0.vitals.clone(),
            parsed: ParsedConfigs::default(),
        }
    }
}

/// The settings that instances have to agree on, as far as this one was given them.
fn shared_settings(settings: &Settings) -> ClusterSettings {
    ClusterSettings {
        partition_strategy: settings.partition_strategy.map(|strategy| strategy.name().to_owned()),
        partition_count: settings.partition_count.map(u64::from),
        embedding_model: settings.embedding_model.clone(),
        dimensions: settings.dimensions.map(u64::from),
        distance_metric: settings.distance_metric,
        ..ClusterSettings::default()
    }
}

fn measured_by(agreed: DistanceMetric) -> Metric {
    match agreed {
        DistanceMetric::Cosine => Metric::Cosine,
        DistanceMetric::Euclidean => Metric::Euclidean,
        DistanceMetric::Dot => Metric::Dot,
    }
}

/// Who serves what this instance does not, as the cluster knows.
#[derive(Debug)]
struct Directory(Membership);

impl Others for Directory {
    fn endpoints(&self, writes: bool) -> Vec<String> {
        let view = self.0.view();
        if view.standing == Standing::Left {
            return Vec::new();
        }
        let others = view.serving(writes).filter(|node| *node.id != *view.id);
        others.filter_map(|node| node.entry.endpoint.clone()).collect()
    }

    /// Whoever of the writers has the highest hash together with the name: one that comes or goes changes what
    /// falls to the others as little as can be.
    fn falls_to_us(&self, what: &str) -> bool {
        let view = self.0.view();
        if view.standing == Standing::Left {
            return true;
        }
        let rank = |node: &str| (record_hash(&format!("{node}/{what}")), node.to_owned());
        let highest = view.serving(true).map(|node| rank(node.id)).max();
        highest.is_none_or(|(_, node)| *node == *view.id)
    }
}

fn not_a_member() -> Error {
    Error::new(
        Code::NotAMember,
        "this instance is not a member of the cluster: POST /cluster/join first",
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
