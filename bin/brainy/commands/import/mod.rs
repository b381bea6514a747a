//! `brainy import`: records from NDJSON and `.npy` files, in constant memory.

mod npy;
mod record;
mod sender;
mod source;

use crate::args::ImportArgs;
use crate::failure::{Failure, Result};
use crate::output;
use crate::transport::{Access, Transport, collection_path};
use axum::http::Method;
use brainy::base::Code;
use brainy::base::rng::SeededRng;
use brainy::base::tasks::Tasks;
use brainy::embed::{DIMENSIONS_DEFAULT, Embedder, HashingEmbedder};
use indicatif::{ProgressBar, ProgressStyle};
use record::Encoder;
use sender::Totals;
use serde_json::{Value, json};
use source::{Reader, is_npy};
use std::path::Path;
use tokio::time::Instant;

/// Runs `brainy import`.
pub async fn run(args: &ImportArgs, json: bool) -> Result<()> {
    check(args)?;
    // Says what is wrong with the name before anything is opened.
    collection_path(&args.data.collection)?;
    let start = Instant::now();
    let transport = Transport::open(&args.data.target, Access::Write).await?;
    let result = import(args, &transport).await;
    transport.close().await;
    let totals = result?;
    report(args, &totals, start.elapsed().as_secs_f64(), json)
}

fn check(args: &ImportArgs) -> Result<()> {
    for path in args.files.iter().chain(&args.ids_from) {
        if path != Path::new("-") && !path.is_file() {
            let message = format!("there is no file {}", path.display());
            return Err(Failure::new(Code::InvalidRequest, message));
        }
    }
    let arrays = args.files.iter().filter(|path| is_npy(path)).count();
    if args.ids_from.is_some() && (arrays != 1 || args.files.len() != 1) {
        return Err(Failure::usage(
            "--ids-from goes with exactly one .npy file and no other files",
        ));
    }
    Ok(())
}

async fn import(args: &ImportArgs, transport: &Transport) -> Result<Totals> {
    let embedder = prepare(args, transport).await?;
    let path = format!("{}/vectors", collection_path(&args.data.collection)?);
    let progress = progress(args)?;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let reader = Reader {
        files: args.files.clone(),
        ids_from: args.ids_from.clone(),
        encoder: Encoder { embedder, rng: SeededRng::from_os() },
        batch_records_max: args.batch as usize,
        progress: progress.clone(),
        batches: sender,
    };
    let concurrency = args.concurrency as usize;
    let sending = sender::send(transport, &path, receiver, concurrency, &progress);
    let reading = Tasks::blocking(move || reader.run());
    // Not awaited to its end: the reader may wait for standard input after the store has failed.
    let (mut sending, mut reading) = (std::pin::pin!(sending), std::pin::pin!(reading));
    let totals = tokio::select! {
        biased;
        totals = &mut sending => totals,
        () = &mut reading => sending.await,
    };
    progress.finish_and_clear();
    Ok(totals)
}

/// Makes the collection where that is wanted; returns what embeds texts into it.
async fn prepare(args: &ImportArgs, transport: &Transport) -> Result<Option<HashingEmbedder>> {
    let embed = |dimensions| args.embed_text.then(|| HashingEmbedder::new(dimensions as usize));
    let array = args.files.iter().find(|path| is_npy(path));
    let wanted = match (args.dimensions, args.metric, array) {
        (Some(dimensions), _, _) => Some(dimensions),
        (None, Some(_), Some(path)) => Some(npy::dimensions(path)?),
        (None, Some(_), None) if !args.embed_text => {
            return Err(Failure::usage("--metric creates the collection: say --dimensions too"));
        }
        _ => None,
    };
    if wanted.is_none() {
        let path = collection_path(&args.data.collection)?;
        // Also where nothing has to be known: a server that is not there is found out at once,
        // not after the repetitions of the first batch.
        match transport.json(Method::GET, &path, None).await {
            Ok(found) => {
                let dimensions = found["dimensions"].as_u64();
                return Ok(embed(dimensions.unwrap_or(DIMENSIONS_DEFAULT as u64)));
            }
            Err(failure) if !failure.is(Code::CollectionNotFound) => return Err(failure),
            Err(_) if args.embed_text => {}
            // The first batch makes it, where the settings allow.
            Err(_) => return Ok(None),
        }
    }
    let dimensions = wanted.map_or(DIMENSIONS_DEFAULT as u64, u64::from);
    let embedder = embed(dimensions);
    let mut body = json!({"name": args.data.collection, "dimensions": dimensions});
    if let Some(metric) = args.metric {
        body["metric"] = metric.name().into();
    }
    if let Some(embedder) = &embedder {
        body["description"] = format!("texts embedded by {}", embedder.name()).into();
    }
    transport.json(Method::POST, "/v1/collections", Some(&body)).await?;
    Ok(embedder)
}

/// A bar over the bytes of the files; invisible where standard error is no terminal.
fn progress(args: &ImportArgs) -> Result<ProgressBar> {
    let mut bytes = Some(0);
    for path in &args.files {
        let size = path.metadata().ok().map(|metadata| metadata.len());
        bytes = bytes.and_then(|sum| Some(sum + size?));
    }
    let (bar, template) = match bytes {
        Some(bytes) => {
            (ProgressBar::new(bytes), "{bar:30} {bytes}/{total_bytes}, {msg} records, {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {msg} records"),
    };
    let style = ProgressStyle::with_template(template)
        .map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
    bar.set_style(style);
    Ok(bar)
}

fn report(args: &ImportArgs, totals: &Totals, seconds: f64, json: bool) -> Result<()> {
    if json {
        let mut value = totals.to_json();
        value["seconds"] = Value::from((seconds * 1_000.0).round() / 1_000.0);
        output::json(&value)?;
    } else {
        let rate = totals.imported as f64 / seconds.max(0.001);
        output::line(&format!(
            "imported {} records into {}, version {}, in {seconds:.1} s ({rate:.0} a second)",
            totals.imported, args.data.collection, totals.version
        ))?;
        for (origin, fault) in &totals.faults {
            let (file, line) = (&origin.file, origin.line);
            eprintln!("{file}:{line}: {} ({})", fault.message, fault.code);
        }
        let more = totals.failed.saturating_sub(totals.faults.len() as u64);
        if more > 0 {
            eprintln!("... and {more} more");
        }
    }
    if let Some(failure) = &totals.failure {
        return Err(failure.clone());
    }
    match totals.faults.first() {
        None => Ok(()),
        Some((_, fault)) => {
            let message = format!("{} records were not stored", totals.failed);
            let mut failure = Failure::new(Code::InvalidRequest, message);
            failure.code.clone_from(&fault.code);
            Err(failure)
        }
    }
}
