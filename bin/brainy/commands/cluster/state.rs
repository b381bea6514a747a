//! `brainy cluster state`: small values that all nodes share.

use crate::args::{EntryArgs, StateCommand, TargetArgs};
use crate::failure::{Failure, Result};
use crate::output;
use crate::transport::{Access, Transport, segment};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};

/// Characters of a value in a list.
const VALUE_CHARACTERS_MAX: usize = 60;

/// Runs `brainy cluster state`.
pub async fn run(command: &StateCommand, json: bool) -> Result<()> {
    match command {
        StateCommand::Get(entry) => {
            let found = call(entry, Access::Read, Method::GET, HeaderMap::new(), None).await?;
            show(found, json)
        }
        StateCommand::Put { entry, value, if_match, create } => {
            let value: Value = serde_json::from_str(value).map_err(|error| {
                Failure::usage(format!(
                    "the value is not valid JSON: {error}; a text needs quotes of its own, as in \
                     '\"text\"'"
                ))
            })?;
            let mut headers = matching(if_match.as_deref())?;
            if *create {
                headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
            }
            let body = json!({ "value": value });
            let put = call(entry, Access::Write, Method::PUT, headers, Some(&body)).await?;
            show(put, json)
        }
        StateCommand::Delete { entry, if_match } => {
            let headers = matching(if_match.as_deref())?;
            let answer = call(entry, Access::Remove, Method::DELETE, headers, None).await?;
            if json {
                return output::json(&answer);
            }
            let done = if answer["deleted"] == true { "deleted" } else { "there was no" };
            output::line(&format!("{done} {}", entry.key))
        }
        StateCommand::List { target, prefix } => list(target, prefix, json).await,
    }
}

/// The headers that demand an etag.
fn matching(etag: Option<&str>) -> Result<HeaderMap> {
    let name: HeaderName = header::IF_MATCH;
    let Some(etag) = etag else { return Ok(HeaderMap::new()) };
    let value = HeaderValue::from_str(etag)
        .map_err(|_| Failure::usage("--if-match is not an etag: use one as `get` prints it"))?;
    Ok(HeaderMap::from_iter([(name, value)]))
}

async fn call(
    entry: &EntryArgs,
    access: Access,
    method: Method,
    headers: HeaderMap,
    body: Option<&Value>,
) -> Result<Value> {
    let path = format!("/cluster/state/{}", segment(&entry.key));
    let transport = Transport::open(&entry.target, access).await?;
    let answer = transport.json_with(method, &path, headers, body).await;
    transport.close().await;
    answer
}

fn show(mut entry: Value, json: bool) -> Result<()> {
    if json {
        return output::json(&entry);
    }
    // As it was put, on one line.
    entry["value"] = entry["value"].to_string().into();
    output::properties(&entry)
}

async fn list(target: &TargetArgs, prefix: &str, json: bool) -> Result<()> {
    let transport = Transport::open(target, Access::Read).await?;
    let entries = transport.pages("/cluster/state", &[("prefix", prefix)], "entries").await;
    transport.close().await;
    let entries = entries?;
    if json {
        return output::json(&json!({ "entries": entries }));
    }
    if entries.is_empty() {
        return output::line("no entries");
    }
    let mut table = output::table(&["key", "value", "version", "updated", "etag"]);
    for entry in &entries {
        let value = output::excerpt(&entry["value"].to_string(), VALUE_CHARACTERS_MAX);
        let column = |name: &str| output::cell(&entry[name]);
        table.add_row([column("key"), value, column("version"), column("updated"), column("etag")]);
    }
    output::print(&table)
}
