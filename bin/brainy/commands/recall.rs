//! `brainy recall`: how much of the true results searches find.

use super::search::parsed;
use crate::args::RecallArgs;
use crate::failure::Result;
use crate::output;
use crate::transport::{Access, Transport, collection_path};
use axum::http::Method;
use serde_json::{Value, json};

/// Runs `brainy recall`.
pub async fn run(args: &RecallArgs, json: bool) -> Result<()> {
    let path = format!("{}/recall", collection_path(&args.data.collection)?);
    let body = body(args)?;
    let transport = Transport::open(&args.data.target, Access::Read).await?;
    let report = transport.json(Method::POST, &path, Some(&body)).await;
    transport.close().await;
    let report = report?;
    match json {
        true => output::json(&report),
        false => output::properties(&report),
    }
}

fn body(args: &RecallArgs) -> Result<Value> {
    let mut body = json!({"k": args.k});
    match &args.queries {
        Some(queries) => body["queries"] = parsed("--queries", queries)?,
        None => body["sample"] = args.sample.into(),
    }
    if let Some(filter) = &args.filter {
        body["filter"] = parsed("--filter", filter)?;
    }
    args.effort.put_into(&mut body);
    Ok(body)
}
