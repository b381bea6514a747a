//! `brainy reshard`: split the partitions of a collection.

use super::compact::change;
use crate::args::ReshardArgs;
use crate::failure::Result;
use crate::output;
use serde_json::json;

/// Runs `brainy reshard`.
pub async fn run(args: &ReshardArgs, json: bool) -> Result<()> {
    let body = json!({"partitionCount": args.partitions});
    let changed = change(&args.data, "reshard", Some(body)).await?;
    if json {
        return output::json(&changed.answer);
    }
    let split = changed.answer["rewritten"].as_u64().unwrap_or_default();
    changed.print(&match split {
        0 => "nothing to split: partitions become more, never fewer".to_owned(),
        split => format!("{} split", output::counted(split, "partition")),
    })
}
