//! How far has every instance come?
//!
//! Instances tell in their heartbeats which version of each collection they show; the newest that anybody
//! tells of is the head. A reader's lag in bytes is what the running totals in the headers of two log
//! entries differ by, and in seconds how long ago the reader last found nothing newer in the log.

use crate::base::Result;
use crate::base::ids::{CollectionName, Seq};
use crate::base::metrics::{Metrics, NodeLabels};
use crate::cluster::{ClusterView, InstanceMetrics, Node, Standing};
use crate::log::read::header_at;
use crate::store::DynStore;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// Headers of log entries that are read at a time.
const AT_A_TIME: usize = 16;
/// Headers of log entries that are read for one answer; bytes beyond are not known.
const HEADERS_MAX: usize = 256;

/// How far one instance is behind in one collection.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionLag {
    /// The collection.
    pub collection: String,
    /// The version that the instance shows.
    pub applied: u64,
    /// The newest version that is known of.
    pub head: u64,
    /// Bytes of log between the two; `None` where the log no longer tells.
    pub bytes: Option<u64>,
}

/// How far one instance is behind.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeLag {
    /// The instance.
    pub id: String,
    /// In each collection that it has open.
    pub collections: Vec<CollectionLag>,
    /// Versions, over all collections.
    pub versions: u64,
    /// Bytes of log, over all collections; `None` where one is not known.
    pub bytes: Option<u64>,
    /// Seconds since it last found nothing newer in the log, when it told so.
    pub seconds: f64,
}

/// How far everybody is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Replication {
    /// The newest version of each collection that is known of.
    pub heads: BTreeMap<String, u64>,
    /// Every live instance that reads.
    pub readers: Vec<NodeLag>,
}

/// What each live instance shows; `own` is fresher than its heartbeat.
fn living<'a>(
    view: &'a ClusterView,
    own: &'a InstanceMetrics,
) -> impl Iterator<Item = (Node<'a>, &'a InstanceMetrics)> {
    let metrics =
        move |node: &Node<'a>| if *node.id == *view.id { own } else { &node.entry.metrics };
    view.nodes().filter(|node| node.alive).map(move |node| (node, metrics(&node)))
}

pub(super) fn heads(view: &ClusterView, own: &InstanceMetrics) -> BTreeMap<String, u64> {
    let mut heads = BTreeMap::new();
    for (_, metrics) in living(view, own) {
        for (collection, version) in &metrics.applied_versions {
            let head = heads.entry(collection.clone()).or_insert(0);
            *head = (*version).max(*head);
        }
    }
    heads
}

/// How far every live reader is, or `only` one, by what the heartbeats say.
pub(super) async fn replication(
    store: &DynStore,
    view: &ClusterView,
    own: &InstanceMetrics,
    only: Option<&str>,
) -> Result<Replication> {
    let heads = heads(view, own);
    let readers: Vec<_> = living(view, own)
        .filter(|(node, _)| node.entry.role.reads() && only.is_none_or(|id| node.id == id))
        .collect();
    let mut wanted = BTreeSet::new();
    for (collection, applied) in readers.iter().flat_map(|(_, told)| &told.applied_versions) {
        let head = heads[collection];
        if *applied < head {
            wanted.extend([(collection.clone(), *applied), (collection.clone(), head)]);
        }
    }
    let reads = wanted.into_iter().take(HEADERS_MAX).map(|(collection, version)| async move {
        let bytes = match CollectionName::new(&collection) {
            // An entry that cannot be read keeps nobody from the others' bytes.
            Ok(name) => match header_at(store, &name, Seq(version)).await {
                Err(error) if error.is_about_content() => None,
                header => header?.map(|header| header.totals.bytes),
            },
            Err(_) => None,
        };
        Ok::<_, crate::base::Error>(((collection, version), bytes))
    });
    let totals: BTreeMap<_, _> = stream::iter(reads).buffered(AT_A_TIME).try_collect().await?;
    let total = |collection: &String, version: u64| {
        totals.get(&(collection.clone(), version)).copied().flatten()
    };
    let lag = |(collection, applied): (&String, &u64)| {
        let head = heads[collection];
        let bytes = match *applied == head {
            true => Some(0),
            false => total(collection, head)
                .zip(total(collection, *applied))
                .map(|(head, applied)| head.saturating_sub(applied)),
        };
        CollectionLag { collection: collection.clone(), applied: *applied, head, bytes }
    };
    let readers = readers.iter().map(|(node, told)| {
        let collections: Vec<_> = told.applied_versions.iter().map(lag).collect();
        NodeLag {
            id: node.id.to_owned(),
            versions: collections.iter().map(|lag| lag.head - lag.applied).sum(),
            bytes: collections.iter().map(|lag| lag.bytes).sum(),
            seconds: told.lag_seconds,
            collections,
        }
    });
    Ok(Replication { readers: readers.collect(), heads })
}

/// Sets the gauges of the cluster.
pub(super) fn measure(metrics: &Metrics, view: &ClusterView, own: &InstanceMetrics) {
    let nodes = view.nodes().count();
    let healthy = view.nodes().filter(Node::is_healthy).count();
    metrics.cluster_nodes.set(nodes as i64);
    metrics.cluster_healthy_nodes.set(healthy as i64);
    metrics.replication_lag_seconds.clear();
    let listed = living(view, own).filter(|(node, _)| node.entry.role.reads());
    let unlisted = (view.standing == Standing::Unlisted).then_some((&*view.id, own));
    metrics.cluster_unlisted.set(unlisted.is_some().into());
    for (id, told) in listed.map(|(node, told)| (node.id, told)).chain(unlisted) {
        let labels = NodeLabels { node: id.to_owned() };
        metrics.replication_lag_seconds.get_or_create(&labels).set(told.lag_seconds);
    }
}
