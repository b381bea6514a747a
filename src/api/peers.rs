//! How instances ask each other: over the same HTTP API as anybody.

use crate::base::ids::{CollectionName, Seq};
use crate::base::{Error, Result, http};
use crate::cluster::{Peer, PeerProbe, Presence};
use crate::engine::node::cluster::Peers;
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

/// What matters of `GET /cluster/replication/applied`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Applied {
    instance_id: String,
    session: Option<String>,
    collection: String,
    /// Null where the collection is not open there.
    version: Option<u64>,
}

impl Applied {
    /// Whether `peer` itself says that nobody can read less than `version` from it.
    fn proves(&self, peer: &Peer, collection: &CollectionName, version: Seq) -> bool {
        self.instance_id == peer.id
            && self.session.as_deref() == Some(&*peer.session)
            && self.collection == collection.as_str()
            && self.version.is_none_or(|shown| shown >= version.0)
    }
}

impl HttpPeers {
    /// Connections to peers.
    pub fn new() -> Result<HttpPeers> {
        let configured = || {
            reqwest::Client::builder()
                .connect_timeout(PROBE_MAX)
                .redirect(reqwest::redirect::Policy::none())
                // Peers are named by their own addresses.
                .no_proxy()
                .user_agent(concat!("brainy/", env!("CARGO_PKG_VERSION")))
        };
        let client = http::client(configured)
            .map_err(|error| Error::internal("HTTP could not be set up").caused_by(error))?;
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
        peer: &Peer,
        collection: &CollectionName,
        version: Seq,
        wait: Duration,
    ) -> Result<()> {
        let Some(endpoint) = &peer.endpoint else {
            return Err(Error::unavailable("the reader does not say where it can be reached"));
        };
        let url = format!("{}/cluster/replication/applied", endpoint.trim_end_matches('/'));
        let query = [
            ("collection", collection.to_string()),
            ("minVersion", version.0.to_string()),
            ("waitMs", wait.as_millis().to_string()),
        ];
        let asked = self.0.get(url).query(&query).timeout(wait + GRACE).send().await;
        let failed = |error| Error::unavailable("a reader did not answer").caused_by(error);
        let answer = asked.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        let applied: Applied = answer.json().await.map_err(failed)?;
        if applied.proves(peer, collection, version) {
            return Ok(());
        }
        Err(Error::unavailable(format!(
            "something else than reader {} answers at {endpoint}; set SERVICE_ENDPOINT of that reader to \
             an address that is its own",
            peer.id
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// What `applied` makes of one answer, whatever was asked.
    async fn believed(answer: String) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let peer =
            Peer { id: "reader".to_owned(), session: "2".to_owned(), endpoint: Some(endpoint) };
        let stranger = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4_096]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let (peers, name) = (HttpPeers::new().unwrap(), CollectionName::new("things").unwrap());
        let asked = peers.applied(&peer, &name, Seq(7), Duration::from_secs(5));
        tokio::join!(asked, stranger).0.is_ok()
    }

    fn said(id: &str, session: &str, collection: &str, version: &str) -> String {
        let body = format!(
            r#"{{"instanceId":"{id}","session":{session},"collection":"{collection}","version":{version}}}"#
        );
        ok("application/json", &body)
    }

    fn ok(kind: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
    }

    #[tokio::test]
    async fn only_the_reader_itself_confirms_a_write() {
        for good in ["7", "8", "null"] {
            assert!(believed(said("reader", r#""2""#, "things", good)).await, "{good}");
        }
        for stranger in [
            said("reader", r#""2""#, "things", "6"),
            said("reader", r#""1""#, "things", "7"),
            said("reader", "null", "things", "7"),
            said("other", r#""2""#, "things", "7"),
            said("reader", r#""2""#, "others", "7"),
            ok("text/html", "<h1>It works!</h1>"),
            ok("application/json", r#"{"version":7}"#),
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            "HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
        ] {
            assert!(!believed(stranger.clone()).await, "{stranger}");
        }
    }
}
