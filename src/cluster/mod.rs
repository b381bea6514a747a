//! Who does what among the instances?
//!
//! Instances find, watch and replace each other through the bucket alone. [`Membership`] is one
//! instance's place in the cluster: it writes heartbeats into the shared config ([`config`]), judges by its
//! own clock who lives, stands for election ([`election`]), and publishes a [`ClusterView`].
//! [`SharedState`] keeps small values for all, and a [`lease`] keeps work that one is enough for to one
//! instance at a time.
//!
//! Nothing here is needed for the safety of data: that is the compare-and-swap on the object that is
//! changed. Error semantics: what the caller can do is in the code (`instance_id_in_use`,
//! `settings_conflict`, `shared_config_invalid`, ...); a store that does not answer is retried by the
//! membership's own task and shows in the view.

pub mod config;
pub mod election;
mod join;
pub mod lease;
mod liveness;
mod member;
mod membership;
mod overflow;
mod round;
mod shared;
mod standby;
pub mod state;
mod view;

pub use config::{ClusterSettings, Instance, InstanceMetrics, SharedConfig, Status};
pub use election::Leadership;
pub use membership::{
    MemberOptions, Membership, NoVitals, Peer, PeerProbe, Presence, Timing, UnknownPeers, Vitals,
};
pub use shared::{ConfigFault, ParsedConfigs, read_shared_config};
pub use state::{Expected, SharedState, StateEntry, StatePage};
pub use view::{
    ClusterView, FailoverView, HeartbeatView, LeaderState, LeaderView, Node, Orders, Standing,
};

#[cfg(test)]
mod tests;
