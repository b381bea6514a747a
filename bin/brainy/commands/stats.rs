//! `brainy stats`: counts and sizes of a collection.

use crate::args::StatsArgs;
use crate::failure::Result;
use crate::output;
use crate::transport::{Access, Transport, collection_path};
use axum::http::Method;

/// Runs `brainy stats`.
pub async fn run(args: &StatsArgs, json: bool) -> Result<()> {
    let path = format!("{}/stats", collection_path(&args.data.collection)?);
    let transport = Transport::open(&args.data.target, Access::Read).await?;
    let stats = transport.json(Method::GET, &path, None).await;
    transport.close().await;
    let stats = stats?;
    if json {
        return output::json(&stats);
    }
    output::properties(&stats)
}
