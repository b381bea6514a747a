//! A member of a cluster that reaches nobody else.

use async_trait::async_trait;
use brainy::base::Result;
use brainy::base::ids::{CollectionName, Seq};
use brainy::cluster::{Peer, PeerProbe, Presence};
use brainy::engine::node::cluster::{Invitation, Peers};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
struct Nobody;

#[async_trait]
impl PeerProbe for Nobody {
    async fn probe(&self, _: &Peer) -> Presence {
        Presence::Gone
    }
}

#[async_trait]
impl Peers for Nobody {
    async fn applied(&self, _: &Peer, _: &CollectionName, _: Seq, _: Duration) -> Result<()> {
        Ok(())
    }
}

/// To join without an endpoint.
pub fn invitation() -> Invitation {
    Invitation { endpoint: None, peers: Arc::new(Nobody) }
}
