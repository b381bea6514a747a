//! How instances ask each other: over the same HTTP API as anybody.

use crate::base::ids::{CollectionName, Seq};
use crate::base::{Error, Result};
use crate::cluster::{Peer, PeerProbe, Presence};
use crate::engine::cluster::Peers;
use async_trait::async_trait;
use serde::Deserialize;
use std::time::Duration;

/// How long a peer may take to say that it lives.
const PROBE_MAX: Duration = Duration::from_secs(3);
/// How long an answer may take beyond what was asked for.
const GRACE: Duration = Duration::from_secs(2);

/// Asks over HTTP.
#[derive(Debug, Clone)]
pub struct HttpPeers(reqwest::Client);

/// What matters of `GET /health/live`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Live {
    instance_id: String,
    session: Option<String>,
}

impl HttpPeers {
    /// Connections to peers.
    pub fn new() -> Result<HttpPeers> {
        let client = reqwest::Client::builder()
            .connect_timeout(PROBE_MAX)
            .redirect(reqwest::redirect::Policy::none())
            // Peers are named by their own addresses.
            .no_proxy()
            .user_agent(concat!("brainy/", env!("CARGO_PKG_VERSION")))
            .build();
        let client =
            client.map_err(|error| Error::internal("HTTP could not be set up").caused_by(error))?;
        Ok(HttpPeers(client))
    }
}

#[async_trait]
impl PeerProbe for HttpPeers {
    async fn probe(&self, peer: &Peer) -> Presence {
        let Some(endpoint) = &peer.endpoint else { return Presence::Unknown };
        let url = format!("{}/health/live", endpoint.trim_end_matches('/'));
        let answer = match self.0.get(url).timeout(PROBE_MAX).send().await {
            Ok(answer) => answer,
            Err(error) if is_refused(&error) => return Presence::Gone,
            Err(_) => return Presence::Unknown,
        };
        match answer.json::<Live>().await {
            // Behind one address there may be several: that another answers says nothing of ours.
            Ok(live) if live.instance_id != peer.id => Presence::Unknown,
            Ok(live) if live.session.as_deref() == Some(&*peer.session) => Presence::Alive,
            Ok(_) => Presence::Gone,
            Err(_) => Presence::Unknown,
        }
    }
}

/// Whether the machine answered that nothing listens there.
fn is_refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}

#[async_trait]
impl Peers for HttpPeers {
    async fn applied(
        &self,
        endpoint: &str,
        collection: &CollectionName,
        version: Seq,
        wait: Duration,
    ) -> Result<()> {
        let url = format!("{}/cluster/replication/applied", endpoint.trim_end_matches('/'));
        let query = [
            ("collection", collection.to_string()),
            ("minVersion", version.0.to_string()),
            ("waitMs", wait.as_millis().to_string()),
        ];
        let asked = self.0.get(url).query(&query).timeout(wait + GRACE).send().await;
        let failed = |error| Error::unavailable("a reader did not answer").caused_by(error);
        asked.and_then(reqwest::Response::error_for_status).map(drop).map_err(failed)
    }
}
