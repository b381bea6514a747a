//! `brainy export`: all records of a collection, at one version, as NDJSON.

use crate::args::ExportArgs;
use crate::failure::{Failure, Result};
use crate::output;
use crate::transport::{Access, Answer, Transport, collection_path};
use axum::http::Method;
use brainy::base::Code;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// Links to links; more are a circle.
const LINKS_MAX: usize = 40;

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

async fn to_file(answer: Answer, path: &Path) -> Result<()> {
    let version = answer.headers.get("x-brainy-version");
    let version = version.and_then(|value| value.to_str().ok()).unwrap_or("?").to_owned();
    let lines = match target(path)? {
        Target::Stream => {
            let failed = |error| unwritten(path, &error);
            let mut file = File::options().write(true).open(path).await.map_err(failed)?;
            copy(answer, &mut file, failed).await?
        }
        Target::File(path) => replace(answer, &path).await?,
    };
    output::note(&format!("exported {lines} records at version {version} to {}", path.display()));
    Ok(())
}

fn unwritten(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::io(format!("could not write {}", path.display()), error)
}

/// What stands under a name.
enum Target {
    /// A device or a pipe, which is written to and never replaced.
    Stream,
    /// A file, or none yet, behind all links.
    File(PathBuf),
}

fn target(path: &Path) -> Result<Target> {
    let failed = |error: io::Error| unwritten(path, &error);
    match path.metadata() {
        Ok(found) if found.is_dir() => Err(unwritten(path, &"it is a folder: name a file in it")),
        Ok(found) if !found.is_file() => Ok(Target::Stream),
        Ok(_) => Ok(Target::File(path.canonicalize().map_err(failed)?)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        Err(_) => {
            let mut end = path.to_owned();
            for _ in 0..LINKS_MAX {
                match end.read_link() {
                    Ok(next) => end = end.parent().unwrap_or(Path::new("")).join(next),
                    Err(_) => return Ok(Target::File(end)),
                }
            }
            Err(unwritten(path, &"it is a link that leads nowhere"))
        }
    }
}

/// Writes beside the file first: an export that was cut is never mistaken for a whole one. Who may read it
/// stays as it was.
async fn replace(answer: Answer, path: &Path) -> Result<usize> {
    let partial = PathBuf::from(format!("{}.partial", path.display()));
    let failed = |error| unwritten(&partial, &error);
    // What an export that was killed has left behind; a link of somebody else's is not followed.
    if partial.symlink_metadata().is_ok_and(|found| found.is_file()) {
        tokio::fs::remove_file(&partial).await.map_err(failed)?;
    }
    let mut file =
        File::options().write(true).create_new(true).open(&partial).await.map_err(failed)?;
    let written = async {
        if let Ok(before) = path.metadata() {
            file.set_permissions(before.permissions()).await.map_err(failed)?;
        }
        let lines = copy(answer, &mut file, failed).await?;
        file.sync_all().await.map_err(failed)?;
        tokio::fs::rename(&partial, path).await.map_err(failed)?;
        Ok(lines)
    };
    let written = written.await;
    if written.is_err() {
        // The failure that brought us here says more than one to clean up.
        let _ = tokio::fs::remove_file(&partial).await;
    }
    written
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
