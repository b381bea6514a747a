//! The handle on an instance's place in the cluster, and what it is made of.

use super::config::{ClusterSettings, InstanceMetrics, Status};
use super::election::Leadership;
use super::member::{Command, LEAVE_MAX, Member, slow_leave};
use super::shared::ParsedConfigs;
use super::view::{ClusterView, LeaderState, LeaderView, Orders};
use crate::base::settings::{Role, Settings};
use crate::base::{Code, Env, Error, Result};
use crate::store::{DynStore, Key};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands that wait for the membership's task.
const COMMANDS_MAX: usize = 64;

/// Another process that may run under our id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The instance.
    pub id: String,
    /// Its life, as its entry says.
    pub session: String,
    /// Where it can be reached, if it says so.
    pub endpoint: Option<String>,
}

/// Whether a peer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It answered with this id and this session.
    Alive,
    /// It certainly does not run: its port refuses, or something else answers there.
    Gone,
    /// Nobody can tell.
    Unknown,
}

/// Asks whether a peer lives.
#[async_trait]
pub trait PeerProbe: fmt::Debug + Send + Sync + 'static {
    /// Asks at the peer's endpoint.
    async fn probe(&self, peer: &Peer) -> Presence;
}

/// A probe that cannot tell: the heartbeat decides.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnknownPeers;

#[async_trait]
impl PeerProbe for UnknownPeers {
    async fn probe(&self, _peer: &Peer) -> Presence {
        Presence::Unknown
    }
}

/// How this instance is doing.
pub trait Vitals: fmt::Debug + Send + Sync + 'static {
    /// The metrics of the next heartbeat; quick.
    fn sample(&self) -> InstanceMetrics;
}

/// An instance that has nothing to tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVitals;

impl Vitals for NoVitals {
    fn sample(&self) -> InstanceMetrics {
        InstanceMetrics::default()
    }
}

/// How often and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats, at most.
    pub heartbeat_interval: Duration,
    /// Without a heartbeat until an instance is dead.
    pub instance_timeout: Duration,
    /// From then until it is removed.
    pub instance_remove: Duration,
    /// How long the leader leads without renewing its lease.
    pub leader_lease: Duration,
}

impl From<&Settings> for Timing {
    fn from(settings: &Settings) -> Self {
        let millis = Duration::from_millis;
        Timing {
            heartbeat_interval: millis(settings.heartbeat_interval_ms),
            instance_timeout: millis(settings.instance_timeout_ms),
            instance_remove: millis(settings.instance_remove_ms),
            leader_lease: millis(settings.leader_lease_ms),
        }
    }
}

/// Everything that joining needs.
#[derive(Debug, Clone)]
pub struct MemberOptions {
    /// The cluster's store.
    pub store: DynStore,
    /// The instance's surroundings.
    pub env: Env,
    /// Where the shared config stands: `paths::config(&settings.config_path)`.
    pub config_key: Key,
    /// The instance's id.
    pub id: Arc<str>,
    /// What it does.
    pub role: Role,
    /// Whether it waits to write until nobody else does.
    pub standby: bool,
    /// The URL under which others reach it.
    pub endpoint: Option<String>,
    /// The version of Brainy that it runs.
    pub build: String,
    /// The cluster settings that it was given explicitly.
    pub settings: ClusterSettings,
    /// How often and how long.
    pub timing: Timing,
    /// Whether another process runs under the same id.
    pub probe: Arc<dyn PeerProbe>,
    /// How it is doing.
    pub vitals: Arc<dyn Vitals>,
    /// Parsed configs; share them among instances of one process.
    pub parsed: ParsedConfigs,
}

/// An instance's place in the cluster. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Membership {
    id: Arc<str>,
    session: Arc<str>,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<Arc<ClusterView>>,
    orders: watch::Receiver<Orders>,
    leadership: Leadership,
}

impl Membership {
    /// Joins the cluster; from then on a task of `env.tasks` keeps the place until the instance stops.
    ///
    /// Refuses with `settings_conflict` where the cluster has other settings, and with
    /// `instance_id_in_use` where another process runs under this id. To find that out may take a
    /// heartbeat interval where the probe cannot tell.
    pub async fn join(options: MemberOptions) -> Result<Membership> {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let tasks = options.env.tasks.clone();
        let mut member = Member::new(options, received);
        let membership = Membership {
            id: member.options.id.clone(),
            session: member.session.clone(),
            commands,
            view: member.view.subscribe(),
            orders: member.orders.subscribe(),
            leadership: member.leadership.clone(),
        };
        member.register().await?;
        tasks.spawn("election", member.election()?.run());
        tasks.spawn("membership", member.run());
        Ok(membership)
    }

    /// This instance's id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// This life of this instance: what a [`PeerProbe`] compares.
    pub fn session(&self) -> &Arc<str> {
        &self.session
    }

    /// The whole cluster as it was read last.
    pub fn view(&self) -> Arc<ClusterView> {
        let view = self.view.borrow().clone();
        let LeaderView { epoch, state, .. } = view.leader;
        if state != LeaderState::Acting || self.leadership.epoch() == Some(epoch) {
            return view;
        }
        // A lease runs out by itself, also where the process stood still and could not say so.
        let leader = LeaderView { id: None, epoch, state: LeaderState::Vacant };
        Arc::new(ClusterView { leader, ..(*view).clone() })
    }

    /// Views as they come.
    pub fn changed(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.view.clone()
    }

    /// What is asked of this instance.
    pub fn orders(&self) -> watch::Receiver<Orders> {
        self.orders.clone()
    }

    /// The epoch under which this instance leads right now; ask again before every action.
    pub fn leadership(&self) -> Option<u64> {
        self.leadership.epoch()
    }

    /// Asks `id` to take a role; it finds out when it looks next, at its next heartbeat at the latest.
    ///
    /// Refuses with `last_writer` where nobody would take writes any more, unless `force` says so.
    pub async fn set_role(&self, id: &str, role: Role, force: bool) -> Result<()> {
        let (id, role) = (id.to_owned(), Some(role));
        self.ask(|reply| Command::SetRole { id, role, force, reply }).await
    }

    /// Takes back what was asked of `id`, which then has the role that its settings say. Refuses as
    /// [`set_role`](Self::set_role) does.
    pub async fn clear_role(&self, id: &str, force: bool) -> Result<()> {
        let id = id.to_owned();
        self.ask(|reply| Command::SetRole { id, role: None, force, reply }).await
    }

    /// Removes a dead instance.
    pub async fn remove(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.ask(|reply| Command::Remove { id, reply }).await
    }

    /// Says what this instance is and does now; the heartbeat that tells others is written at once.
    pub async fn update_self(&self, role: Role, status: Status) -> Result<()> {
        self.ask(|reply| Command::UpdateSelf { role, status, reply }).await
    }

    /// Says how this instance is now, as [`Membership::update_self`] does; one that drains goes on saying so.
    pub async fn report(&self, status: Status) -> Result<()> {
        self.ask(|reply| Command::Report { status, reply }).await
    }

    /// Reads the shared config now.
    pub async fn refresh(&self) -> Result<Arc<ClusterView>> {
        self.ask(|reply| Command::Refresh { reply }).await?;
        Ok(self.view())
    }

    /// Leaves: steps down, takes the entry out and ends the membership's task. What cannot be done
    /// within ten seconds is left to the others, who see this instance die.
    pub async fn leave(&self) -> Result<()> {
        let leave = self.ask(|reply| Command::Leave { reply });
        match tokio::time::timeout(LEAVE_MAX, leave).await {
            Ok(Err(error)) if error.code() == Code::NotAMember => Ok(()),
            Ok(result) => result,
            Err(_) => Err(slow_leave()),
        }
    }

    async fn ask(&self, command: impl FnOnce(Reply) -> Command) -> Result<()> {
        let gone = || Error::new(Code::NotAMember, "this instance has left the cluster");
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Where the outcome of a command goes.
pub(super) type Reply = oneshot::Sender<Result<()>>;
