//! A cluster over HTTP: real membership on a store in memory, and a network without sockets.

mod calls;
mod health;
mod orders;
mod state;
mod unlisted;

use crate::support::{Api, memory};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use brainy::base::ids::{CollectionName, Seq};
use brainy::base::settings::{Role, Settings};
use brainy::base::{Error, Result};
use brainy::cluster::{Peer, PeerProbe, Presence};
use brainy::engine::node::cluster::{Invitation, Peers};
use brainy::store::{DynStore, get, paths};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Instances on one store that reach each other.
struct World {
    store: DynStore,
    network: Arc<Network>,
}

/// The routes of every instance by its endpoint.
#[derive(Debug, Default)]
struct Network(Mutex<BTreeMap<String, Router>>);

fn endpoint(id: &str) -> String {
    format!("http://{id}:3000")
}

impl Network {
    /// The answer to a GET, where somebody listens.
    async fn get(&self, endpoint: &str, path: &str) -> Option<Value> {
        let router = self.0.lock().unwrap().get(endpoint).cloned()?;
        let response =
            router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.ok()?;
        let answered = response.status().is_success();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.ok()?;
        serde_json::from_slice(&bytes).ok().filter(|_| answered)
    }
}

#[async_trait]
impl PeerProbe for Network {
    async fn probe(&self, peer: &Peer) -> Presence {
        let Some(endpoint) = &peer.endpoint else { return Presence::Unknown };
        match self.get(endpoint, "/health/live").await {
            Some(live) if live["instanceId"] == peer.id && live["session"] == peer.session => {
                Presence::Alive
            }
            _ => Presence::Gone,
        }
    }
}

#[async_trait]
impl Peers for Network {
    async fn applied(
        &self,
        peer: &Peer,
        collection: &CollectionName,
        version: Seq,
        wait: Duration,
    ) -> Result<()> {
        let (version, wait) = (version.0, wait.as_millis());
        let path = format!(
            "/cluster/replication/applied?collection={collection}&minVersion={version}&waitMs={wait}"
        );
        let answer = self.get(peer.endpoint.as_deref().unwrap_or_default(), &path).await;
        let reached = answer.is_some_and(|answer| {
            answer["instanceId"] == peer.id
                && answer["session"] == peer.session
                && (answer["version"].is_null() || answer["version"].as_u64() >= Some(version))
        });
        reached.then_some(()).ok_or_else(|| Error::unavailable("it did not answer"))
    }
}

impl World {
    fn new() -> World {
        World::on(memory())
    }

    fn on(store: DynStore) -> World {
        World { store, network: Arc::default() }
    }

    /// An instance that has not joined. Its heartbeats come soon, and nobody dies meanwhile.
    async fn apart(&self, id: &str, role: Role, change: impl FnOnce(&mut Settings)) -> Api {
        Api::with(self.store.clone(), role, |settings| {
            settings.instance_id = Some(id.to_owned());
            settings.heartbeat_interval_ms = 200;
            settings.instance_timeout_ms = 600_000;
            change(settings);
        })
        .await
    }

    /// Has an instance join.
    async fn join(&self, api: &Api) -> Result<()> {
        let endpoint = endpoint(api.brainy.instance_id());
        let peers = self.network.clone();
        let invitation = Invitation { endpoint: Some(endpoint.clone()), peers };
        api.brainy.cluster().join(invitation).await?;
        self.network.0.lock().unwrap().insert(endpoint, api.router.clone());
        Ok(())
    }

    async fn node(&self, id: &str, role: Role, change: impl FnOnce(&mut Settings)) -> Api {
        let api = self.apart(id, role, change).await;
        self.join(&api).await.unwrap();
        api
    }

    /// The writer `w` and the reader `r`, which know of each other and who leads.
    async fn pair(&self) -> (Api, Api) {
        let writer = self.node("w", Role::Writer, |_| {}).await;
        let reader = self.node("r", Role::Reader, |_| {}).await;
        for api in [&writer, &reader] {
            until("both are there and one leads", async || {
                let status = api.get("/cluster/status").await.ok();
                status["totalNodes"] == 2 && status["leader"]["id"].is_string()
            })
            .await;
        }
        (writer, reader)
    }

    /// Puts a shared config into the store, as a person does.
    async fn upload(&self, text: &str) {
        let key = paths::config("_brainy/config.json");
        self.store.put(&key, Bytes::from(text.to_owned())).await.unwrap();
    }

    /// The shared config in the store.
    async fn stored(&self) -> Value {
        let key = paths::config("_brainy/config.json");
        let object = get(&*self.store, &key).await.unwrap().required(&key).unwrap();
        serde_json::from_slice(&object.bytes).unwrap()
    }
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let holding = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, holding).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Compares the names of an object's fields.
#[track_caller]
fn has_fields(value: &Value, names: &[&str]) {
    let mut found: Vec<&str> =
        value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect();
    let mut wanted = names.to_vec();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{value}");
}
