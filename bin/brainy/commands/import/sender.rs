//! From batches to the store, several requests at a time.

use super::record::Fault;
use super::source::{Batch, Origin};
use crate::failure::{Failure, Result};
use crate::transport::Transport;
use axum::http::Method;
use brainy::engine::transfer::under_way::UnderWay;
use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::Receiver;

/// How many faults are reported one by one; the rest are only counted.
pub const FAULTS_MAX: usize = 100;

/// What became of the records.
#[derive(Debug, Default)]
pub struct Totals {
    /// Records stored.
    pub imported: u64,
    /// Records and lines that were not.
    pub failed: u64,
    /// Whether there was no such collection, nobody asked for one, and the import made it.
    pub created: bool,
    /// The last version that holds a record of this import.
    pub version: u64,
    /// The first faults.
    pub faults: Vec<(Origin, Fault)>,
    /// What ended the import early.
    pub failure: Option<Failure>,
}

impl Totals {
    fn fault(&mut self, origin: Origin, fault: Fault) {
        self.failed += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push((origin, fault));
        }
    }

    fn add(&mut self, other: Totals) {
        self.imported += other.imported;
        self.failed += other.failed;
        self.version = self.version.max(other.version);
        self.created |= other.created;
        let room = FAULTS_MAX - self.faults.len();
        self.faults.extend(other.faults.into_iter().take(room));
        self.failure = self.failure.take().or(other.failure);
    }

    /// The totals as JSON.
    pub fn to_json(&self) -> Value {
        let errors: Vec<Value> = self
            .faults
            .iter()
            .map(|(origin, fault)| {
                json!({
                    "file": &*origin.file,
                    "line": origin.line,
                    "code": fault.code,
                    "message": fault.message,
                })
            })
            .collect();
        json!({
            "imported": self.imported,
            "failed": self.failed,
            "created": self.created,
            "version": self.version,
            "errors": errors,
        })
    }
}

/// The way of batches into a collection.
pub struct Sender<'a> {
    /// To the data.
    pub transport: &'a Transport,
    /// The path of the collection's records.
    pub path: String,
    /// The collection to make before the first records are sent: none of them may be one.
    pub create: Option<Creation>,
    /// Requests at a time.
    pub concurrency: usize,
    /// Shows how many records are stored.
    pub progress: ProgressBar,
}

/// A collection that is to be made.
pub struct Creation {
    /// What the API takes.
    pub body: Value,
    /// Whether nobody has asked for it, so that the name may be a slip.
    pub implied: bool,
}

impl Sender<'_> {
    /// Sends all batches; ends early where the store takes no more.
    pub async fn send(mut self, mut batches: Receiver<Result<Batch>>) -> Totals {
        let (mut totals, found) = (Totals::default(), AtomicU64::new(0));
        let mut posts = UnderWay::default();
        while let Some(batch) = batches.recv().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(failure) => {
                    // What was read before it is on its way.
                    while let Some(part) = posts.next().await {
                        totals.add(part);
                    }
                    totals.failure.get_or_insert(failure);
                    return totals;
                }
            };
            for (origin, fault) in batch.faults {
                totals.fault(origin, fault);
            }
            if batch.records.is_empty() {
                continue;
            }
            if let Some(creation) = self.create.take() {
                let (method, path) = (Method::POST, "/v1/collections");
                if let Err(failure) = self.transport.json(method, path, Some(&creation.body)).await
                {
                    totals.failure = Some(failure);
                    return totals;
                }
                totals.created |= creation.implied;
            }
            while posts.count() >= self.concurrency || posts.share(&batch.ids) {
                let Some(part) = posts.next().await else { break };
                totals.add(part);
                self.progress.set_message(totals.imported.to_string());
                if totals.failure.is_some() {
                    return totals;
                }
            }
            posts.push(batch.ids, post(self.transport, self.path.clone(), batch.records, &found));
        }
        while let Some(part) = posts.next().await {
            totals.add(part);
            self.progress.set_message(totals.imported.to_string());
            if totals.failure.is_some() {
                break;
            }
        }
        totals
    }
}

/// Sends one batch. A batch that is refused is split until the records at fault stand alone, but
/// no longer than faults are reported one by one.
async fn post(
    transport: &Transport,
    path: String,
    records: Vec<(Origin, Vec<u8>)>,
    found: &AtomicU64,
) -> Totals {
    let mut totals = Totals::default();
    let mut work = vec![&records[..]];
    while let Some(records) = work.pop() {
        if records.is_empty() {
            continue;
        }
        match transport.post_retrying(&path, body(records)).await {
            Ok(answer) => {
                totals.imported += records.len() as u64;
                let version = answer["version"].as_u64().unwrap_or_default();
                totals.version = totals.version.max(version);
                totals.created |= answer["created"] == true;
            }
            Err(failure) if failure.is_rejection() => {
                let many = found.load(Ordering::Relaxed) >= FAULTS_MAX as u64;
                if records.len() > 1 && !many {
                    let (first, second) = records.split_at(records.len() / 2);
                    work.extend([second, first]);
                    continue;
                }
                found.fetch_add(1, Ordering::Relaxed);
                for (origin, _) in records {
                    let fault =
                        Fault { code: failure.code.clone(), message: failure.message.clone() };
                    totals.fault(origin.clone(), fault);
                }
            }
            Err(failure) => {
                totals.failure = Some(failure);
                break;
            }
        }
    }
    totals
}

fn body(records: &[(Origin, Vec<u8>)]) -> Bytes {
    let size = records.iter().map(|(_, json)| json.len() + 1).sum::<usize>();
    let mut body = Vec::with_capacity(size + 16);
    body.extend_from_slice(b"{\"vectors\":[");
    for (index, (_, json)) in records.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(json);
    }
    body.extend_from_slice(b"]}");
    body.into()
}
