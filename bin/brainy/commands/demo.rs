//! `brainy demo`: a store in a folder, a sample in it, three searches, and a server to try.

use crate::args::DemoArgs;
use crate::commands::{search, serve};
use crate::failure::{Failure, Result};
use crate::transport::Transport;
use crate::{instance, output};
use axum::http::Method;
use brainy::base::settings::{FlagValue, Role};
use brainy::embed::{Embedder, HashingEmbedder, sample};
use brainy::engine::Brainy;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const COLLECTION: &str = "demo";
const LISTEN_DEFAULT: &str = "127.0.0.1:3000";
const LISTEN_ANY: &str = "127.0.0.1:0";
/// A record of the sample that has close relatives.
const EXAMPLE_ID: &str = "med-001";
/// What the demo searches for, and among which records.
const SEARCHES: [(&str, Option<&str>); 3] = [
    ("chest pain that spreads to the arm", None),
    ("can a landlord keep the deposit", None),
    ("a jacket that keeps the rain out", Some(r#"{"domain": "product", "price": {"$lt": 200}}"#)),
];

/// Runs `brainy demo`.
pub async fn run(args: &DemoArgs) -> Result<()> {
    let signals = match args.once {
        true => None,
        false => Some(serve::Signals::listen()?),
    };
    let brainy = start(args).await?;
    let transport = Transport::in_process(brainy.clone());
    load(&transport, args).await?;
    for (text, filter) in SEARCHES {
        show(&transport, text, filter).await?;
    }
    let Some(signals) = signals else {
        output::line("`brainy demo` without --once serves this store and prints calls to try.")?;
        transport.close().await;
        return Ok(());
    };
    let listener = bind(args).await?;
    let address =
        listener.local_addr().map_err(|error| Failure::io("the listening socket", &error))?;
    output::line(&next_steps(&format!("http://{address}")))?;
    serve::until_stopped(brainy, listener, signals).await
}

async fn start(args: &DemoArgs) -> Result<Brainy> {
    let flag = |flag: &str, key: &str, value: String| FlagValue {
        flag: flag.to_owned(),
        key: key.to_owned(),
        value,
    };
    let store = format!("file://{}", args.dir.display());
    let listen = args.listen.clone().unwrap_or(LISTEN_DEFAULT.to_owned());
    let flags = vec![flag("--dir", "store", store), flag("--listen", "listen", listen)];
    let effective = instance::load(None, Ok(flags))?;
    instance::log(&effective, "warn")?;
    instance::start(&effective.settings, Role::Hybrid).await
}

/// Stores the sample. The ids are fixed, so a second run replaces every record by itself.
async fn load(transport: &Transport, args: &DemoArgs) -> Result<()> {
    let embedder = HashingEmbedder::default();
    let collection = json!({
        "name": COLLECTION,
        "dimensions": embedder.dimensions(),
        "metric": "cosine",
        "description": format!("the sample, embedded by {}", embedder.name()),
    });
    transport.json(Method::POST, "/v1/collections", Some(&collection)).await?;
    let path = format!("/v1/collections/{COLLECTION}");
    let found = transport.json(Method::GET, &path, None).await?;
    let records = sample()?;
    let (there, count) = (found["vectorCount"].as_u64(), records.len());
    let folder = args.dir.display();
    if there == Some(count as u64) {
        output::line(&format!("{folder} already has the {count} records of the sample."))?;
    } else {
        let vectors: Vec<Value> = records
            .into_iter()
            .map(|record| {
                json!({
                    "id": record.id,
                    "vector": embedder.embed(&record.text),
                    "metadata": record.metadata,
                    "text": record.text,
                })
            })
            .collect();
        let body = json!({ "vectors": vectors }).to_string();
        transport.post_retrying(&format!("{path}/vectors"), Bytes::from(body)).await?;
        output::line(&format!("Stored {count} sample records in {folder}."))?;
    }
    output::line(&format!(
        "Their vectors come from the built-in embedder {}. It is lexical: it finds shared words and \
         parts of words, not shared meaning. Bring vectors of your own model for that.",
        embedder.name()
    ))
}

async fn show(transport: &Transport, text: &str, filter: Option<&str>) -> Result<()> {
    let mut body = json!({
        "vector": HashingEmbedder::default().embed(text),
        "k": 3,
        "consistency": "strong",
    });
    let mut title = format!("\nSearch: {text:?}");
    if let Some(filter) = filter {
        body["filter"] = search::parsed("the filter", filter)?;
        title.push_str(&format!(", only where {filter}"));
    }
    output::line(&format!("{title}\n"))?;
    let path = format!("/v1/collections/{COLLECTION}/search");
    let answer = transport.json(Method::POST, &path, Some(&body)).await?;
    search::print(&answer)
}

/// The address that was asked for, or else the usual one, or else any that is free.
async fn bind(args: &DemoArgs) -> Result<TcpListener> {
    if let Some(listen) = &args.listen {
        return serve::bind(listen).await;
    }
    match serve::bind(LISTEN_DEFAULT).await {
        Ok(listener) => Ok(listener),
        Err(_) => serve::bind(LISTEN_ANY).await,
    }
}

fn next_steps(url: &str) -> String {
    let collection = format!("{url}/v1/collections/{COLLECTION}");
    format!(
        r#"
Try next, in another terminal:

  # records like {EXAMPLE_ID}, of one domain
  curl -s {collection}/search -H 'content-type: application/json' \
    -d '{{"id": "{EXAMPLE_ID}", "k": 3, "filter": {{"domain": "medical"}}}}'

  # the first records, by id
  curl -s '{collection}/vectors?limit=2'

  # counts and sizes
  curl -s {collection}/stats

  # how this instance is
  curl -s {url}/health

  # a text
  brainy search --url {url} --collection {COLLECTION} --text 'knee pain after running' -k 3

All calls: {url}/docs. Stop with Ctrl-C.
"#
    )
}
