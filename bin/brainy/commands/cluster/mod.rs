//! `brainy cluster`: see and steer the nodes. What is read without a server comes from the shared config
//! in the store, for an operator whose servers are all down.

mod nodes;
mod state;

use crate::args::{ClusterCommand, ServerArgs, TargetArgs};
use crate::failure::{Failure, Result};
use crate::output;
use crate::transport::{Access, Transport, segment};
use axum::http::Method;
use brainy::base::Code;
use serde_json::{Value, json};

/// How `brainy cluster health` ends where the cluster is not healthy.
const DEGRADED: u8 = 3;
const UNHEALTHY: u8 = 4;

/// Runs `brainy cluster`.
pub async fn run(command: &ClusterCommand, json: bool) -> Result<()> {
    match command {
        ClusterCommand::Status(server) => report(server, "/cluster/status", json).await.map(drop),
        ClusterCommand::Health(server) => match &*report(server, "/cluster/health", json).await? {
            "healthy" => Ok(()),
            "degraded" => Err(Failure::said(DEGRADED)),
            _ => Err(Failure::said(UNHEALTHY)),
        },
        ClusterCommand::Nodes { target } => nodes::list(target, json).await,
        ClusterCommand::Node { target, id } => nodes::show(target, id, json).await,
        ClusterCommand::Config { target } => config(target, json).await,
        ClusterCommand::Replication(server) => nodes::replication(server, json).await,
        ClusterCommand::Promote { server, id, role } => {
            order(server, id, role.name(), false, json).await
        }
        ClusterCommand::Demote { server, id, role, force } => {
            order(server, id, role.name(), *force, json).await
        }
        ClusterCommand::ClearRole { server, id, force } => {
            let path = format!("{}/role?force={force}", node_path(id));
            let answer = ask(server, Method::DELETE, &path, None).await?;
            let said = format!("{id} was asked to be what its settings say, within a heartbeat");
            told(&answer, &said, json)
        }
        ClusterCommand::Remove { server, id } => {
            let answer = ask(server, Method::DELETE, &node_path(id), None).await?;
            told(&answer, &format!("removed {id}"), json)
        }
        ClusterCommand::Join(server) => {
            let answer = ask(server, Method::POST, "/cluster/join", None).await?;
            let id = output::cell(&answer["id"]);
            told(&answer, &format!("{id} is in the cluster"), json)
        }
        ClusterCommand::Leave(server) => {
            let answer = ask(server, Method::POST, "/cluster/leave", None).await?;
            let id = output::cell(&answer["id"]);
            let said = format!("{id} has left the cluster, and goes on serving whoever asks it");
            told(&answer, &said, json)
        }
        ClusterCommand::State(command) => state::run(command, json).await,
    }
}

/// One call to a server.
async fn ask(
    server: &ServerArgs,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value> {
    Transport::server(&server.url)?.json(method, path, body).await
}

/// One call that only reads.
async fn read(target: &TargetArgs, path: &str) -> Result<Value> {
    let transport = Transport::open(target, Access::Read).await?;
    let answer = transport.json(Method::GET, path, None).await;
    transport.close().await;
    answer
}

fn node_path(id: &str) -> String {
    format!("/cluster/nodes/{}", segment(id))
}

/// What was done, for programs or for people.
fn told(answer: &Value, said: &str, json: bool) -> Result<()> {
    if json { output::json(answer) } else { output::line(said) }
}

/// An answer as lines of name and value, and what is wrong below it.
///
/// Returns the answer's status.
async fn report(server: &ServerArgs, path: &str, json: bool) -> Result<String> {
    let mut answer = ask(server, Method::GET, path, None).await?;
    let status = output::cell(&answer["status"]);
    if json {
        output::json(&answer)?;
        return Ok(status);
    }
    let warnings = answer.as_object_mut().and_then(|fields| fields.remove("warnings"));
    if let Value::Array(ids) = &answer["unhealthy"] {
        let ids: Vec<String> = ids.iter().map(output::cell).collect();
        answer["unhealthy"] = if ids.is_empty() { Value::Null } else { ids.join(", ").into() };
    }
    output::properties(&answer)?;
    let warnings = warnings.as_ref().and_then(Value::as_array);
    warnings
        .into_iter()
        .flatten()
        .try_for_each(|warning| output::line(&format!("warning: {}", output::cell(warning))))?;
    Ok(status)
}

async fn order(server: &ServerArgs, id: &str, role: &str, force: bool, json: bool) -> Result<()> {
    let path = format!("{}/role", node_path(id));
    let answer =
        ask(server, Method::POST, &path, Some(&json!({ "role": role, "force": force }))).await?;
    let said = format!(
        "{id} was asked to be a {role}: it is one when `brainy cluster nodes` shows it, within a \
         heartbeat, and stays one after a restart, until `brainy cluster clear-role`"
    );
    told(&answer, &said, json)
}

async fn config(target: &TargetArgs, json: bool) -> Result<()> {
    let mut config = read(target, "/cluster/config").await?;
    if json {
        return output::json(&config);
    }
    let instances = config["instances"].as_object().map_or(0, serde_json::Map::len);
    config["instances"] =
        format!("{}; `brainy cluster nodes` lists them", output::count(instances as u64)).into();
    if config["fault"].is_null()
        && let Some(fields) = config.as_object_mut()
    {
        fields.remove("fault");
    }
    output::properties(&config)
}

/// The error for a node that the shared config does not list, as a server says it.
fn no_such_node(id: &str) -> Failure {
    let message = format!("there is no instance {id:?} in the shared config");
    Failure::new(Code::InstanceNotFound, message)
}
