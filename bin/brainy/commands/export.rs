//! `brainy export`: all records of a collection, at one version, as NDJSON.

use crate::args::ExportArgs;
use crate::failure::{Failure, Result};
use crate::output;
use crate::transport::{Access, Answer, Transport, collection_path};
use axum::http::Method;
use brainy::base::Code;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// Runs `brainy export`.
pub async fn run(args: &ExportArgs) -> Result<()> {
    let collection = &args.data.collection;
    let include = !args.no_vector;
    let path = format!("{}/export?includeVector={include}", collection_path(collection)?);
    let transport = Transport::open(&args.data.target, Access::Read).await?;
    let result = async {
        let answer = transport.send(Method::GET, &path, None).await?;
        check_complete(&answer, args.allow_partial)?;
        if args.output == Path::new("-") {
            return to_stdout(answer).await;
        }
        to_file(answer, &args.output).await
    }
    .await;
    transport.close().await;
    result
}

/// An export that leaves records out is no backup: it is written only where somebody asks for it.
fn check_complete(answer: &Answer, allow_partial: bool) -> Result<()> {
    if !answer.headers.contains_key("x-brainy-partial") {
        return Ok(());
    }
    let what = "records are left out, because objects of the collection are missing or damaged; \
                'brainy stats' names them";
    if allow_partial {
        output::note(what);
        return Ok(());
    }
    let ask = "restore them, or export what can be read with --allow-partial";
    Err(Failure::new(Code::Corrupt, format!("{what}; {ask}")))
}

async fn to_stdout(mut answer: Answer) -> Result<()> {
    while let Some(piece) = answer.body.next().await {
        output::bytes(&piece?)?;
    }
    Ok(())
}

/// Writes beside the file first: an export that was cut is never mistaken for a whole one.
async fn to_file(answer: Answer, path: &Path) -> Result<()> {
    let partial = PathBuf::from(format!("{}.partial", path.display()));
    let failed = |error| Failure::io(format!("could not write {}", partial.display()), &error);
    let version = answer.headers.get("x-brainy-version");
    let version = version.and_then(|value| value.to_str().ok()).unwrap_or("?").to_owned();
    let mut file = File::create(&partial).await.map_err(failed)?;
    let written = copy(answer, &mut file, failed).await;
    let lines = match written {
        Ok(lines) => lines,
        Err(failure) => {
            // The failure that brought us here says more than one to clean up.
            let _ = tokio::fs::remove_file(&partial).await;
            return Err(failure);
        }
    };
    file.sync_all().await.map_err(failed)?;
    tokio::fs::rename(&partial, path).await.map_err(failed)?;
    output::note(&format!("exported {lines} records at version {version} to {}", path.display()));
    Ok(())
}

async fn copy(
    mut answer: Answer,
    file: &mut File,
    failed: impl Fn(std::io::Error) -> Failure,
) -> Result<usize> {
    let progress = ProgressBar::new_spinner();
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} {msg} records, {bytes}, {bytes_per_sec}")
    {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(200));
    let mut lines = 0;
    while let Some(piece) = answer.body.next().await {
        let piece = piece?;
        file.write_all(&piece).await.map_err(&failed)?;
        lines += memchr::memchr_iter(b'\n', &piece).count();
        progress.inc(piece.len() as u64);
        progress.set_message(lines.to_string());
    }
    file.flush().await.map_err(&failed)?;
    progress.finish_and_clear();
    Ok(lines)
}
