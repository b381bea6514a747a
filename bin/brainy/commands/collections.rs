//! `brainy collections`: list, create, show, delete.

use crate::args::{CollectionsCommand, CreateArgs, TargetArgs};
use crate::failure::Result;
use crate::output;
use crate::transport::{Access, Transport, collection_path};
use axum::http::Method;
use serde_json::{Value, json};

/// Runs `brainy collections`.
pub async fn run(command: &CollectionsCommand, json: bool) -> Result<()> {
    match command {
        CollectionsCommand::List { target } => list(target, json).await,
        CollectionsCommand::Create(args) => create(args, json).await,
        CollectionsCommand::Show(args) => {
            let path = collection_path(args.name())?;
            let found = call(&args.target, Access::Read, Method::GET, &path, None).await?;
            show(&found, json)
        }
        CollectionsCommand::Delete(args) => {
            let path = collection_path(args.name())?;
            let answer = call(&args.target, Access::Remove, Method::DELETE, &path, None).await?;
            if json {
                return output::json(&answer);
            }
            output::line(&format!("deleted {}", args.name()))
        }
    }
}

async fn call(
    target: &TargetArgs,
    access: Access,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value> {
    let transport = Transport::open(target, access).await?;
    let answer = transport.json(method, path, body).await;
    transport.close().await;
    answer
}

async fn create(args: &CreateArgs, json: bool) -> Result<()> {
    // Says what is wrong with the name before anything is opened.
    collection_path(args.named.name())?;
    let mut body = json!({
        "name": args.named.name(),
        "dimensions": args.dimensions,
        "metric": args.metric.name(),
    });
    if let Some(count) = args.partition_count {
        body["partitionCount"] = count.into();
    }
    if !args.prefix_group.is_empty() {
        let rules = args.prefix_group.iter();
        let rules = rules.map(|(prefix, group)| json!({"prefix": prefix, "group": group}));
        body["partitioner"] = json!({"kind": "prefix", "rules": rules.collect::<Vec<_>>()});
    }
    if let Some(description) = &args.description {
        body["description"] = description.as_str().into();
    }
    let (target, path) = (&args.named.target, "/v1/collections");
    let created = call(target, Access::Write, Method::POST, path, Some(&body)).await?;
    show(&created, json)
}

fn show(collection: &Value, json: bool) -> Result<()> {
    if json {
        return output::json(collection);
    }
    output::properties(collection)
}

async fn list(target: &TargetArgs, json: bool) -> Result<()> {
    let transport = Transport::open(target, Access::Read).await?;
    let collections = transport.pages("/v1/collections", &[], "collections").await;
    transport.close().await;
    let collections = collections?;
    if json {
        return output::json(&json!({ "collections": collections }));
    }
    if collections.is_empty() {
        return output::line("no collections yet");
    }
    let columns = ["name", "dimensions", "metric", "vectorCount", "version", "createdAt"];
    let header = ["name", "dimensions", "metric", "vectors", "version", "created"];
    let mut table = output::table(&header);
    for collection in &collections {
        table.add_row(columns.map(|column| output::cell(&collection[column])));
    }
    output::print(&table)
}
