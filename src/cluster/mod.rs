//! Which instance does which job?
//!
//! Instances find, watch and replace each other through the bucket alone. [`Membership`] is one
//! instance's place in the cluster: it writes heartbeats into the shared config ([`config`]), judges by its
//! own clock who is alive, stands for election ([`election`]), and publishes a [`ClusterView`].
//! [`SharedState`] keeps small values for all instances. A [`lease`] gives a job that needs only one instance to one
//! at a time.
//!
//! Nothing here is needed for the safety of data, which comes from the compare-and-swap on the object that is
//! changed. Error semantics: the code says what the caller can do (`instance_id_in_use`,
//! `settings_conflict`, `shared_config_invalid`, ...). If the store does not answer, the membership's own task tries
//! again, and the view shows it.

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
mod unlisted;
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
