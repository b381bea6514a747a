//! Synchronous replication: a write is answered when every live reader shows it.

use crate::base::ids::{CollectionName, Seq};
use crate::base::{Code, Error, Result};
use crate::cluster::{Membership, Node, Peer, PeerProbe};
use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Readers that are asked at a time.
const AT_A_TIME: usize = 64;
/// Readers that an error names.
const NAMED_MAX: usize = 16;

/// How to ask other instances.
#[async_trait]
pub trait Peers: PeerProbe {
    /// Waits until `peer` itself shows `version` of a collection, for `wait` at most; not where it does not
    /// have the collection open. Whatever else answers at its endpoint proves nothing and is an error.
    async fn applied(
        &self,
        peer: &Peer,
        collection: &CollectionName,
        version: Seq,
        wait: Duration,
    ) -> Result<()>;
}

/// Waits until no other live reader can show less than `version`: it shows that, or has nothing of the
/// collection open. A reader that dies meanwhile, or reads no more, is not waited for. One that cannot be
/// asked tells by its heartbeats what it shows; that it has nothing open they cannot prove, because it may
/// have opened the collection since.
pub(super) async fn wait(
    membership: &Membership,
    peers: &dyn Peers,
    collection: &CollectionName,
    version: Seq,
    limit: Duration,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    let view = membership.view();
    let readers = view.serving(false).filter(|node| *node.id != *view.id);
    let readers: Vec<(String, Option<Peer>)> =
        readers.map(|node| (node.id.to_owned(), peer_of(&node))).collect();
    let waits = readers.into_iter().map(|(id, peer)| async move {
        let asked = async {
            let Some(peer) = peer else { return std::future::pending().await };
            if let Err(error) = peers.applied(&peer, collection, version, limit).await {
                tracing::debug!(%error, reader = peer.id, "a reader does not say what it shows");
                // Its heartbeats may still tell.
                std::future::pending().await
            }
        };
        // Both at once: one that stands still takes connections and never answers.
        let shown = async {
            tokio::select! {
                biased;
                () = asked => {}
                () = told(membership, &id, collection, version) => {}
            }
        };
        timeout_at(deadline, shown).await.is_err().then_some(id)
    });
    let behind: Vec<String> =
        stream::iter(waits).buffered(AT_A_TIME).filter_map(std::future::ready).collect().await;
    if behind.is_empty() {
        return Ok(());
    }
    let (count, ms) = (behind.len(), limit.as_millis());
    Err(Error::new(
        Code::ReplicationTimeout,
        format!(
            "the write is durable as version {version}, but {count} live readers did not show it within \
             {ms} ms; do not repeat it, wait with minVersion when reading, or raise replication_timeout_ms"
        ),
    )
    .with("version", version.0)
    .with("readers", behind.into_iter().take(NAMED_MAX).collect::<Vec<_>>()))
}

/// An instance as others ask it, where it can be reached and can prove that it is the one.
fn peer_of(node: &Node<'_>) -> Option<Peer> {
    let (session, endpoint) = (node.entry.session.clone()?, node.entry.endpoint.clone()?);
    Some(Peer { id: node.id.to_owned(), session, endpoint: Some(endpoint) })
}

/// Waits until the heartbeats of `id` say that it shows `version`, or that it no longer lives or reads.
async fn told(membership: &Membership, id: &str, collection: &CollectionName, version: Seq) {
    let mut views = membership.changed();
    let shows = |view: &std::sync::Arc<crate::cluster::ClusterView>| {
        let reads = |node: &Node<'_>| node.alive && node.entry.role.reads();
        let Some(node) = view.node(id).filter(reads) else { return true };
        let applied = node.entry.metrics.applied_versions.get(collection.as_str());
        applied.is_some_and(|applied| *applied >= version.0)
    };
    // Without a membership there is nobody to wait for.
    let _ = views.wait_for(shows).await;
}
