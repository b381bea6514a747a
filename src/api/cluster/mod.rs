//! Calls about the cluster: any node answers for all of it, as it was read last.

pub mod state;

use crate::api::error::ApiError;
use crate::api::extract::{Input, NodeId, Query, check_type};
use crate::api::types::cluster::*;
use crate::api::{App, Reply, Shared, json};
use crate::base::Result;
use crate::base::ids::{CollectionName, Seq};
use crate::base::settings::Role;
use crate::cluster::{ClusterView, Node};
use crate::engine::model::Consistency;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// Views up to so old are shown as they are: a few clients that ask all the time cost no more than this.
const VIEW_AGE_MAX_MS: u64 = 1_000;
/// How long whoever asks waits for a newer one.
const LOOK_MAX: Duration = Duration::from_secs(2);

impl App {
    /// The cluster as it is now, or, where the store does not answer, as it was read last.
    async fn cluster_view(&self) -> Result<Arc<ClusterView>> {
        let membership = self.brainy.cluster().membership()?;
        let view = membership.view();
        let now = self.brainy.env().clock.now();
        let fresh = view.read_at.is_some_and(|read| now.0.saturating_sub(read.0) < VIEW_AGE_MAX_MS);
        if fresh {
            return Ok(view);
        }
        match tokio::time::timeout(LOOK_MAX, membership.refresh()).await {
            Ok(Ok(view)) => Ok(view),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the cluster could not be looked at");
                Ok(membership.view())
            }
            Err(_) => Ok(membership.view()),
        }
    }
}

/// This instance, and the cluster around it
#[utoipa::path(get, path = "/cluster/status", tag = "cluster",
    operation_id = "getClusterStatus",
    responses((status = 200, body = StatusBody)))]
pub async fn status(State(app): State<Shared>) -> Reply {
    let view = app.cluster_view().await.ok();
    let vitals = app.brainy.cluster().vitals();
    let (start_time, uptime_seconds) = app.health.running();
    let own = view.as_ref().and_then(|view| view.node(&view.id));
    let unlisted = app.brainy.cluster().is_unlisted();
    let own = own.filter(|_| !unlisted);
    let vacant = LeaderBody { id: None, epoch: 0, state: "vacant" };
    let condition = app.brainy.condition();
    let (total, healthy) = match &view {
        Some(view) => (view.nodes().count(), view.nodes().filter(Node::is_healthy).count()),
        None => (0, 0),
    };
    let failover = view.as_ref().map(|view| FailoverBody {
        in_progress: view.failover.in_progress,
        last_at: view.failover.last_at,
        count: view.failover.count,
    });
    let body = StatusBody {
        node: SelfBody {
            id: app.brainy.instance_id(),
            role: app.brainy.role().name(),
            wanted_role: own.and_then(|own| own.entry.wanted_role).map(Role::name),
            configured_role: app.brainy.cluster().configured_role().name(),
            standby: app.brainy.cluster().is_standby(),
            endpoint: own.and_then(|own| own.entry.endpoint.as_deref()),
            status: match (own.as_ref(), unlisted) {
                (_, true) => "unlisted",
                (own, false) => own.map_or("left", Node::status),
            },
            start_time,
            uptime_seconds,
            version: env!("CARGO_PKG_VERSION"),
        },
        leader: view.as_ref().map_or(vacant, |view| LeaderBody::from(&view.leader)),
        replication: AppliedBody {
            applied_versions: vitals.applied_versions,
            lag_seconds: vitals.lag_seconds,
        },
        total_nodes: total as u64,
        healthy_nodes: healthy as u64,
        unhealthy_nodes: (total - healthy) as u64,
        failover: failover.unwrap_or_default(),
        warnings: [condition.fatal, condition.degraded, condition.warnings].concat(),
    };
    json(StatusCode::OK, &body)
}

/// All instances
#[utoipa::path(get, path = "/cluster/nodes", tag = "cluster",
    operation_id = "listNodes",
    responses((status = 200, body = NodesBody)))]
pub async fn nodes(State(app): State<Shared>) -> Reply {
    let view = app.cluster_view().await?;
    let nodes = view.nodes().map(|node| NodeBody::of(&view, node)).collect();
    json(StatusCode::OK, &NodesBody { nodes })
}

/// One instance
#[utoipa::path(get, path = "/cluster/nodes/{id}", tag = "cluster",
    operation_id = "getNode",
    params(NodeId),
    responses((status = 200, body = NodeBody)))]
pub async fn node(State(app): State<Shared>, NodeId(id): NodeId) -> Reply {
    let view = app.cluster_view().await?;
    let node = view.node(&id).ok_or_else(|| no_such_node(&id))?;
    json(StatusCode::OK, &NodeBody::of(&view, node))
}

/// How the cluster is
///
/// As the instance that is asked can tell: `unhealthy` also where it does not reach the store.
#[utoipa::path(get, path = "/cluster/health", tag = "cluster",
    operation_id = "getClusterHealth",
    responses((status = 200, body = ClusterHealthBody)))]
pub async fn health(State(app): State<Shared>) -> Reply {
    let view = app.cluster_view().await?;
    // Of itself an instance knows more than its last heartbeat says, which may not have got through.
    let own = app.brainy.condition();
    let fit = own.fatal.is_empty() && own.degraded.is_empty();
    let is_healthy = |node: &Node<'_>| node.is_healthy() && (fit || *node.id != *view.id);
    let unhealthy: Vec<&str> =
        view.nodes().filter(|node| !is_healthy(node)).map(|node| node.id).collect();
    let total = view.nodes().count();
    // One that is not listed knows of itself at least.
    let own = usize::from(app.brainy.cluster().is_unlisted());
    let (writers, readers) = (view.serving(true).count(), view.serving(false).count() + own);
    let mut warnings = Vec::new();
    if let Some(fault) = app.store_fault().await {
        warnings.push(format!(
            "{fault}; what is said here of the others is what this instance read last, and nothing that goes \
             through it can be written"
        ));
    }
    if writers == 0 {
        warnings.push("no live instance takes writes; start a writer, or promote one".to_owned());
    }
    if readers == 0 {
        warnings.push(
            "no live instance that is listed answers reads; start a reader, or let it write its heartbeats"
                .to_owned(),
        );
    }
    let idle = !warnings.is_empty();
    if view.leader.id.is_none() {
        warnings.push("there is no leader; one is being elected".to_owned());
    }
    warnings.extend(unhealthy.iter().map(|id| format!("instance {id} is not healthy")));
    warnings.extend(view.fault.iter().map(|fault| fault.message.clone()));
    let status = match warnings.is_empty() {
        true => "healthy",
        false if idle => "unhealthy",
        false => "degraded",
    };
    let body = ClusterHealthBody {
        status,
        total_nodes: total as u64,
        healthy_nodes: (total - unhealthy.len()) as u64,
        unhealthy,
        writers: writers as u64,
        readers: readers as u64,
        warnings,
    };
    json(StatusCode::OK, &body)
}

/// The shared config that is in force
///
/// From an instance that has not joined: as it stands in the store, where a dead instance may still be
/// called active.
#[utoipa::path(get, path = "/cluster/config", tag = "cluster",
    operation_id = "getClusterConfig",
    responses((status = 200, body = ConfigBody)))]
pub async fn config(State(app): State<Shared>) -> Reply {
    let (config, fault) = app.brainy.cluster().shared_config().await?;
    let fault = fault.as_ref().map(FaultBody::from);
    json(StatusCode::OK, &ConfigBody { config: &config, fault })
}

/// How far every reader has come
#[utoipa::path(get, path = "/cluster/replication/stats", tag = "cluster",
    operation_id = "getReplicationStats",
    responses((status = 200, body = ReplicationBody)))]
pub async fn replication(State(app): State<Shared>) -> Reply {
    let replication = app.brainy.cluster().replication().await?;
    json(StatusCode::OK, &ReplicationBody::from(&replication))
}

/// Wait until this instance shows a version
///
/// What writers with `replication_mode = "sync"` ask every live reader.
#[utoipa::path(get, path = "/cluster/replication/applied", tag = "cluster",
    operation_id = "awaitAppliedVersion",
    params(AppliedQuery),
    responses((status = 200, body = AppliedVersionBody)))]
pub async fn applied(State(app): State<Shared>, Query(query): Query<AppliedQuery>) -> Reply {
    let collection = CollectionName::new(&query.collection)?;
    let wait = Duration::from_millis(query.wait_ms);
    let wanted = Consistency::AtLeast { version: Seq(query.min_version), wait };
    let version = app.brainy.applied(&collection, wanted).await?.map(|version| version.0);
    let member = app.brainy.cluster().member();
    let body = AppliedVersionBody {
        instance_id: app.brainy.instance_id(),
        session: member.as_ref().map(|member| &**member.session()),
        collection: collection.as_str(),
        version,
    };
    json(StatusCode::OK, &body)
}

/// This instance joins the cluster again
///
/// `member` is false where it may only read the store: then it serves, and nobody knows of it.
#[utoipa::path(post, path = "/cluster/join", tag = "cluster",
    operation_id = "joinCluster",
    responses((status = 200, body = MembershipBody)))]
pub async fn join(State(app): State<Shared>, headers: HeaderMap) -> Reply {
    check_type(&headers, &["application/json"])?;
    app.brainy.cluster().rejoin().await?;
    let member = !app.brainy.cluster().is_unlisted();
    json(StatusCode::OK, &MembershipBody { id: app.brainy.instance_id(), member })
}

/// This instance leaves the cluster
///
/// The others no longer count on it. It goes on serving whoever asks it.
#[utoipa::path(post, path = "/cluster/leave", tag = "cluster",
    operation_id = "leaveCluster",
    responses((status = 200, body = MembershipBody)))]
pub async fn leave(State(app): State<Shared>, headers: HeaderMap) -> Reply {
    check_type(&headers, &["application/json"])?;
    app.brainy.cluster().leave().await?;
    json(StatusCode::OK, &MembershipBody { id: app.brainy.instance_id(), member: false })
}

/// Promote or demote an instance
///
/// It takes the role at its next heartbeat, without a restart, and keeps it after one, whatever its settings say,
/// until the order is taken back or the settings change. 409 `last_writer` where nobody would take writes any more,
/// unless `force` is true.
#[utoipa::path(post, path = "/cluster/nodes/{id}/role", tag = "cluster",
    operation_id = "setNodeRole",
    params(NodeId),
    request_body = RoleBody,
    responses((status = 200, body = OrderedBody)))]
pub async fn set_role(
    State(app): State<Shared>,
    NodeId(id): NodeId,
    Input(RoleBody { role, force }, ..): Input<RoleBody>,
) -> Reply {
    app.brainy.cluster().membership()?.set_role(&id, role, force).await?;
    tracing::info!(target: "brainy::role", %id, role = role.name(), "a role was asked for");
    json(StatusCode::OK, &OrderedBody { id: &id, wanted_role: Some(role.name()) })
}

/// Take back what was asked of an instance
///
/// At its next heartbeat it takes the role that its settings say.
#[utoipa::path(delete, path = "/cluster/nodes/{id}/role", tag = "cluster",
    operation_id = "clearNodeRole",
    params(NodeId, ClearQuery),
    responses((status = 200, body = OrderedBody)))]
pub async fn clear_role(
    State(app): State<Shared>,
    NodeId(id): NodeId,
    Query(query): Query<ClearQuery>,
) -> Reply {
    app.brainy.cluster().membership()?.clear_role(&id, query.force).await?;
    tracing::info!(target: "brainy::role", %id, "what was asked of it was taken back");
    json(StatusCode::OK, &OrderedBody { id: &id, wanted_role: None })
}

/// Remove a dead instance
///
/// 409 `instance_alive` for one that lives: stop it, and it leaves by itself.
#[utoipa::path(delete, path = "/cluster/nodes/{id}", tag = "cluster",
    operation_id = "removeNode",
    params(NodeId),
    responses((status = 200, body = RemovedBody)))]
pub async fn remove(
    State(app): State<Shared>,
    NodeId(id): NodeId,
) -> Result<axum::response::Response, ApiError> {
    app.brainy.cluster().membership()?.remove(&id).await?;
    tracing::info!(target: "brainy::cluster", %id, "a dead instance was removed");
    json(StatusCode::OK, &RemovedBody { removed: true })
}
