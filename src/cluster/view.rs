//! The whole cluster as one instance sees it.

use super::config::{Instance, SharedConfig, Status};
use super::shared::ConfigFault;
use crate::base::Timestamp;
use crate::base::settings::Role;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The cluster as this instance read it last and judges it. Never changes.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// This instance.
    pub id: Arc<str>,
    /// This life of this instance.
    pub session: Arc<str>,
    /// Whether this instance is a member.
    pub standing: Standing,
    /// The shared config in force; its instances are all that there are.
    pub config: Arc<SharedConfig>,
    /// When it was read last, `None` before that.
    pub read_at: Option<Timestamp>,
    /// The instances of which this one has heard nothing for too long.
    pub silent: BTreeSet<String>,
    /// Who leads.
    pub leader: LeaderView,
    /// How many leaders there were.
    pub elections: u64,
    /// How often somebody stepped in for another.
    pub failover: FailoverView,
    /// Why the shared config in the store is not in force.
    pub fault: Option<ConfigFault>,
    /// How this instance's own heartbeats get through.
    pub heartbeat: HeartbeatView,
}

/// Whether an instance is a member of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has left its first heartbeat, and the shared config does not show it yet.
    Joining,
    /// The shared config shows it.
    Member,
    /// It is a reader that may not write to the store: it serves, and the shared config does not show it.
    Unlisted,
    /// Another process took over its id: it must stop, and does nothing here any more.
    Superseded,
    /// It has left.
    Left,
}

/// The leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderView {
    /// The instance, where one is known.
    pub id: Option<String>,
    /// Which leader it is, from 1; 0 before the first.
    pub epoch: u64,
    /// Whether it leads.
    pub state: LeaderState,
}

/// Whether there is a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaderState {
    /// This instance leads.
    Acting,
    /// Another instance leads.
    Following,
    /// Nobody leads: an election is under way.
    Vacant,
}

impl LeaderState {
    /// The name in answers.
    pub fn name(self) -> &'static str {
        match self {
            LeaderState::Acting => "acting",
            LeaderState::Following => "following",
            LeaderState::Vacant => "vacant",
        }
    }
}

/// How often somebody stepped in for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverView {
    /// Whether a leader, or a writer that a standby waits for, is missing right now.
    pub in_progress: bool,
    /// When somebody stepped in last.
    pub last_at: Option<Timestamp>,
    /// How often.
    pub count: u64,
}

/// How an instance's own heartbeats get through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeartbeatView {
    /// When the last one was written.
    pub last_at: Option<Timestamp>,
    /// How many attempts have failed since.
    pub failures: u32,
    /// Why the last one failed.
    pub error: Option<String>,
    /// Whether the last one was left beside the shared config.
    pub overflowed: bool,
}

/// What an operator, or the loss of the active writer, asks of this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Orders {
    /// The role that it should have; `None` where nobody asked for one.
    pub role: Option<Role>,
    /// Whether it waits to write until nobody else does.
    pub standby: bool,
}

/// One instance in a view.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its entry.
    pub entry: &'a Instance,
    /// Whether it lives, as this instance judges.
    pub alive: bool,
}

impl<'a> Node<'a> {
    /// Its status: what it says itself while it lives.
    pub fn status(&self) -> &'a str {
        if self.alive { self.entry.status.name() } else { Status::Dead.name() }
    }

    /// Whether it lives and is as it should be.
    pub fn is_healthy(&self) -> bool {
        self.alive && !matches!(self.entry.status, Status::Degraded)
    }
}

impl ClusterView {
    /// Every instance, by id.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.config.instances.iter().map(|(id, entry)| self.judged(id, entry))
    }

    /// One instance.
    pub fn node(&self, id: &str) -> Option<Node<'_>> {
        let (id, entry) = self.config.instances.get_key_value(id)?;
        Some(self.judged(id, entry))
    }

    fn judged<'a>(&'a self, id: &'a str, entry: &'a Instance) -> Node<'a> {
        // An entry under the id of one that is not listed is another life's.
        let own = *self.id == *id && self.standing != Standing::Unlisted;
        let alive = own || !(self.silent.contains(id) || entry.status == Status::Dead);
        Node { id, entry, alive }
    }

    /// Living instances that take writes, or that answer reads.
    pub fn serving(&self, writes: bool) -> impl Iterator<Item = Node<'_>> {
        self.nodes().filter(move |node| {
            let fits = if writes {
                node.entry.is_active_writer()
            } else {
                node.entry.role.reads() && node.entry.status.serves()
            };
            node.alive && fits
        })
    }
}
