//! `brainy import`: records from NDJSON and `.npy` files, in constant memory.

mod input;
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
use input::Content;
use record::Encoder;
use sender::{Creation, Sender, Totals};
use serde_json::{Value, json};
use source::Reader;
use tokio::time::Instant;

/// Runs `brainy import`.
pub async fn run(args: &ImportArgs, json: bool) -> Result<()> {
    let contents = check(args)?;
    // Says what is wrong with the name before anything is opened.
    collection_path(&args.data.collection)?;
    let start = Instant::now();
    let transport = Transport::open(&args.data.target, Access::Write).await?;
    let result = import(args, &contents, &transport).await;
    transport.close().await;
    let totals = result?;
    report(args, &totals, start.elapsed().as_secs_f64(), json)
}

/// Sees that all files can be imported, before anything is stored.
fn check(args: &ImportArgs) -> Result<Vec<Content>> {
    let contents: Vec<Content> =
        args.files.iter().map(|path| input::check(path)).collect::<Result<_>>()?;
    let Some(beside) = &args.ids_from else { return Ok(contents) };
    if let Content::Array { .. } = input::check(beside)? {
        return Err(Failure::usage(
            "--ids-from takes NDJSON with a line for each row, not an array",
        ));
    }
    match contents[..] {
        [Content::Array { rows, .. }] => {
            input::check_beside(beside, &args.files[0], rows)?;
            return Ok(contents);
        }
        [Content::Unseen] => return Ok(contents),
        _ => {}
    }
    Err(Failure::usage("--ids-from goes with exactly one .npy file and no other files"))
}

async fn import(args: &ImportArgs, contents: &[Content], transport: &Transport) -> Result<Totals> {
    let (embedder, create) = prepare(args, contents, transport).await?;
    let path = format!("{}/vectors", collection_path(&args.data.collection)?);
    let progress = progress(args)?;
    let (batches, receiver) = tokio::sync::mpsc::channel(1);
    let reader = Reader {
        files: args.files.clone(),
        ids_from: args.ids_from.clone(),
        encoder: Encoder { embedder, rng: SeededRng::from_os() },
        batch_records_max: args.batch as usize,
        progress: progress.clone(),
        batches,
    };
    let concurrency = args.concurrency as usize;
    let sender = Sender { transport, path, create, concurrency, progress: progress.clone() };
    let sending = sender.send(receiver);
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

/// What embeds texts into the collection, and the collection where it is to be made.
async fn prepare(
    args: &ImportArgs,
    contents: &[Content],
    transport: &Transport,
) -> Result<(Option<HashingEmbedder>, Option<Creation>)> {
    let embed = |dimensions| args.embed_text.then(|| HashingEmbedder::new(dimensions as usize));
    let array = contents.iter().find_map(|content| match content {
        Content::Array { columns, .. } => Some(*columns),
        _ => None,
    });
    let wanted = match (args.dimensions, args.metric) {
        (Some(dimensions), _) => Some(dimensions),
        (None, Some(_)) if array.is_some() => array,
        (None, Some(_)) if !args.embed_text => {
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
                return Ok((embed(dimensions.unwrap_or(DIMENSIONS_DEFAULT as u64)), None));
            }
            Err(failure) if !failure.is(Code::CollectionNotFound) => return Err(failure),
            Err(_) if args.embed_text => {}
            // The first batch makes it, where the settings allow.
            Err(_) => return Ok((None, None)),
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
    Ok((embedder, Some(Creation { body, implied: wanted.is_none() })))
}

/// A bar over the bytes of the files; invisible where standard error is no terminal.
fn progress(args: &ImportArgs) -> Result<ProgressBar> {
    let mut bytes = Some(0);
    for path in &args.files {
        let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file);
        let size = metadata.map(|metadata| metadata.len());
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
        // What was refused as a whole says so below, and nothing else.
        if totals.failure.is_none() || totals.imported + totals.failed > 0 {
            let rate = totals.imported as f64 / seconds.max(0.001);
            output::line(&format!(
                "imported {} records into {}, version {}, in {seconds:.1} s ({rate:.0} a second)",
                totals.imported, args.data.collection, totals.version
            ))?;
        }
        if totals.created {
            let name = &args.data.collection;
            output::note(&format!(
                "there was no collection {name}, so it was made; where that is a slip, \
                 `brainy collections delete {name}` removes it"
            ));
        }
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
