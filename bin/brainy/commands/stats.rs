//! `brainy stats`: counts and sizes of a collection.

use crate::args::StatsArgs;
use crate::failure::Result;
use crate::output;
use crate::transport::{Access, Transport, collection_path};
use axum::http::Method;
use serde_json::Value;

/// Runs `brainy stats`.
pub async fn run(args: &StatsArgs, json: bool) -> Result<()> {
    let path = format!("{}/stats", collection_path(&args.data.collection)?);
    let transport = Transport::open(&args.data.target, Access::Read).await?;
    let stats = transport.json(Method::GET, &path, None).await;
    transport.close().await;
    let mut stats = stats?;
    if json {
        return output::json(&stats);
    }
    if let Value::Array(partitions) = &stats["partitions"] {
        stats["partitions"] = in_words(partitions).into();
    }
    output::properties(&stats)
}

/// The partitions on one line; `brainy segments` shows each.
fn in_words(partitions: &[Value]) -> String {
    let vectors = || partitions.iter().filter_map(|partition| partition["vectors"].as_u64());
    let least = output::count(vectors().min().unwrap_or_default());
    let most = output::count(vectors().max().unwrap_or_default());
    let each = if least == most { least } else { format!("{least} to {most}") };
    format!("{} vectors in segments each; `brainy segments` shows them", each)
}
