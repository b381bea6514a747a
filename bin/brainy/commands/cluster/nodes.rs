//! `brainy cluster nodes`, `node` and `replication`.

use super::{ask, no_such_node, node_path, read};
use crate::args::{ServerArgs, TargetArgs};
use crate::failure::Result;
use crate::output;
use axum::http::Method;
use brainy::base::Timestamp;
use brainy::base::clock::{Clock, SystemClock};
use serde_json::{Map, Value, json};

/// What the store cannot say about a node.
const AS_WRITTEN: &str = "no server was asked: a node's status is the one that was last written, and \
                          one that died since is still called active";

/// Prints all nodes.
pub async fn list(target: &TargetArgs, json: bool) -> Result<()> {
    let nodes = all(target).await?;
    if json {
        return output::json(&json!({ "nodes": nodes }));
    }
    if nodes.is_empty() {
        return output::line("no nodes");
    }
    output::print(&table(&nodes))
}

/// Prints one node.
pub async fn show(target: &TargetArgs, id: &str, json: bool) -> Result<()> {
    let node = match target.url {
        Some(_) => read(target, &node_path(id)).await?,
        None => {
            let found = all(target).await?.into_iter().find(|node| node["id"] == id);
            found.ok_or_else(|| no_such_node(id))?
        }
    };
    if json { output::json(&node) } else { output::properties(&node) }
}

/// All nodes, as a server judges them or as they stand in the store.
async fn all(target: &TargetArgs) -> Result<Vec<Value>> {
    if target.url.is_some() {
        let mut answer = read(target, "/cluster/nodes").await?;
        let nodes = answer["nodes"].as_array_mut();
        return Ok(nodes.map(std::mem::take).unwrap_or_default());
    }
    let config = read(target, "/cluster/config").await?;
    let none = Map::new();
    let instances = config["instances"].as_object().unwrap_or(&none);
    let leader = config["leader"]["id"].as_str();
    output::note(AS_WRITTEN);
    Ok(instances.iter().map(|(id, entry)| as_written(id, entry, leader)).collect())
}

/// An entry of the shared config in the form in which a server tells of it.
fn as_written(id: &str, entry: &Value, leader: Option<&str>) -> Value {
    json!({
        "id": id,
        "role": entry["role"],
        "wantedRole": entry["wantedRole"],
        "configuredRole": entry["configuredRole"],
        "standby": entry["standby"] == true,
        "status": entry["status"],
        "leader": leader == Some(id),
        "endpoint": entry["endpoint"],
        "lastHeartbeat": entry["lastHeartbeat"],
        "startTime": entry["started"],
        "version": entry["build"],
        "metrics": entry["metrics"],
    })
}

fn table(nodes: &[Value]) -> comfy_table::Table {
    let header =
        ["node", "role", "status", "heartbeat", "vectors", "memory", "calls/s", "lag", "endpoint"];
    let mut table = output::table(&header);
    let now = SystemClock.now();
    for node in nodes {
        let metrics = &node["metrics"];
        let number = |field: &str| metrics[field].as_u64().unwrap_or_default();
        let float = |field: &str| metrics[field].as_f64().unwrap_or_default();
        table.add_row([
            output::cell(&node["id"]),
            role(node),
            status(node),
            age(now, &node["lastHeartbeat"]),
            output::count(number("vectorCount")),
            output::size(number("memoryUsage")),
            format!("{:.1}", float("requestsPerSecond")),
            format!("{:.1} s", float("lagSeconds")),
            output::cell(&node["endpoint"]),
        ]);
    }
    table
}

/// `reader`, `hybrid standby`, `reader > hybrid`: what it is, and what it is about to become.
fn role(node: &Value) -> String {
    let mut role = output::cell(&node["role"]);
    if node["standby"] == true {
        role.push_str(" standby");
    }
    match (node["wantedRole"].as_str(), node["configuredRole"].as_str()) {
        (Some(wanted), _) if node["role"] != wanted => format!("{role} > {wanted}"),
        (Some(wanted), Some(configured)) if configured != wanted => {
            format!("{role} by order, not {configured}")
        }
        _ => role,
    }
}

fn status(node: &Value) -> String {
    let status = output::cell(&node["status"]);
    if node["leader"] == true { format!("{status}, leads") } else { status }
}

/// How long ago a node's clock showed `time`, by the clock of this machine.
fn age(now: Timestamp, time: &Value) -> String {
    match serde_json::from_value::<Timestamp>(time.clone()) {
        Ok(time) => output::age(now.0.saturating_sub(time.0) / 1_000),
        Err(_) => output::cell(time),
    }
}

/// Prints how far every reader has come.
pub async fn replication(server: &ServerArgs, json: bool) -> Result<()> {
    let answer = ask(server, Method::GET, "/cluster/replication/stats", None).await?;
    if json {
        return output::json(&answer);
    }
    let readers = answer["readers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if readers.is_empty() {
        return output::line("no live node answers reads");
    }
    let header = ["node", "looked", "collection", "shows", "newest", "behind", "bytes behind"];
    let mut table = output::table(&header);
    for reader in readers {
        let seconds = reader["lagSeconds"].as_f64().unwrap_or_default();
        let (id, looked) = (output::cell(&reader["id"]), format!("{seconds:.1} s ago"));
        let collections = reader["collections"].as_array().map(Vec::as_slice).unwrap_or_default();
        if collections.is_empty() {
            table.add_row([&*id, &*looked, "none open", "-", "-", "-", "-"]);
        }
        for lag in collections {
            let version = |field: &str| lag[field].as_u64().unwrap_or_default();
            let (shows, newest) = (version("appliedVersion"), version("headVersion"));
            table.add_row([
                id.clone(),
                looked.clone(),
                output::cell(&lag["collection"]),
                shows.to_string(),
                newest.to_string(),
                output::counted(newest.saturating_sub(shows), "version"),
                lag["lagBytes"].as_u64().map_or_else(|| "-".to_owned(), output::size),
            ]);
        }
    }
    output::print(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_say_what_a_node_is_and_is_about_to_become() {
        let node = |wanted: Value, standby: bool| {
            let node = json!({"role": "reader", "wantedRole": wanted, "standby": standby});
            role(&node)
        };
        assert_eq!(node(Value::Null, false), "reader");
        assert_eq!(node("reader".into(), false), "reader");
        assert_eq!(node("hybrid".into(), false), "reader > hybrid");
        assert_eq!(node(Value::Null, true), "reader standby");
        let ordered = json!({"role": "reader", "wantedRole": "reader", "configuredRole": "writer"});
        assert_eq!(role(&ordered), "reader by order, not writer");
        let leads = json!({"status": "active", "leader": true});
        assert_eq!(status(&leads), "active, leads");
        let now = Timestamp(1_768_473_000_000);
        assert_eq!(age(now, &"2026-01-15T10:29:50Z".into()), "10 s ago");
        // A clock that is ahead of ours.
        assert_eq!(age(now, &"2027-01-15T10:29:50Z".into()), "0 s ago");
        assert_eq!(age(now, &Value::Null), "-");
    }
}
