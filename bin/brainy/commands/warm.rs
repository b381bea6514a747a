//! `brainy warm`: a collection is brought into the memory of a server.

use crate::args::WarmArgs;
use crate::failure::Result;
use crate::output;
use crate::transport::{Access, Transport, collection_path};
use axum::http::Method;

/// Runs `brainy warm`.
pub async fn run(args: &WarmArgs, json: bool) -> Result<()> {
    let path = format!("{}/warm", collection_path(&args.data.collection)?);
    let transport = Transport::open(&args.data.target, Access::Read).await?;
    let warmed = transport.json(Method::POST, &path, None).await;
    transport.close().await;
    let warmed = warmed?;
    match json {
        true => output::json(&warmed),
        false => output::properties(&warmed),
    }
}
