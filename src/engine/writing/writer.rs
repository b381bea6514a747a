//! The write path of one collection: requests become parts, one task puts parts into the log.
//!
//! Each request serialises its own records and, where they are many, uploads them as a data object;
//! that runs in parallel. A single sequencer then takes a position in the log for everything that
//! is ready: while one append is in flight, the next entry fills (group commit).

use crate::base::clock::Mark;
use crate::base::ids::{Seq, Ulid};
use crate::base::{Code, Env, Error, Result};
use crate::engine::damage::{Damage, DamageKind, Damaged};
use crate::engine::view::ManifestView;
use crate::engine::writing::admission::{Admission, RETRY_AFTER_MS};
use crate::log::append::{Appended, Appender, MISSING, Tried};
use crate::log::entry::{PARTS_MAX, Part};
use crate::store::{DynStore, paths};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// How long it is believed that the log cannot be read, where nobody has tried since.
const DAMAGE_RETRY: Duration = Duration::from_secs(30);
/// How often data objects are uploaded again because they were too old when their turn came.
const RENAMES_MAX: u32 = 3;

/// What a sequencer with nothing to serve sleeps, if anything ever asked.
const IDLE: Duration = Duration::from_secs(3_600);

/// The write path's limits; see the settings of the same names.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Inline bytes and records of one entry.
    pub batch_max_bytes: u64,
    /// Records of one entry.
    pub batch_max_records: u64,
    /// How long an incomplete batch waits.
    pub batch_linger: Duration,
    /// Larger chunks become data objects while other writes are in flight.
    pub inline_max_bytes: u64,
    /// Data objects uploaded at a time.
    pub upload_concurrency: usize,
    /// Bytes of log that may be unindexed.
    pub tail_max_bytes: u64,
    /// The grace period of new collections, and of those whose manifest says none.
    pub grace: Duration,
}

/// A write that waits for its position.
struct Pending {
    part: Part,
    /// The chunk of a part that is a data object, should it have to be uploaded again.
    chunk: Bytes,
    /// Taken before the data object was put, where the part is one.
    uploaded: Option<Mark>,
    reply: oneshot::Sender<Result<Appended>>,
    /// Returned to the budget when the write is answered.
    _budget: OwnedSemaphorePermit,
}

/// What requests and the sequencer tell each other without a queue.
#[derive(Debug, Default)]
struct Shared {
    /// Whether an append is in flight or others contend: then large writes upload meanwhile.
    busy: AtomicBool,
    /// Totals of the log's bytes at its last known end.
    log_bytes: AtomicU64,
    /// The last position that this writer knows of.
    last: AtomicU64,
}

/// Accepts writes for one collection.
#[derive(Debug)]
pub struct Writer {
    store: DynStore,
    env: Env,
    view: Arc<ManifestView>,
    limits: Limits,
    admission: Admission,
    uploads: Semaphore,
    queue: mpsc::Sender<Pending>,
    shared: Arc<Shared>,
    damage: Damaged,
}

impl Writer {
    /// Starts the sequencer.
    pub fn start(
        store: DynStore,
        env: Env,
        view: Arc<ManifestView>,
        limits: Limits,
        admission: Admission,
        damage: Damaged,
    ) -> Self {
        let (queue, requests) = mpsc::channel(PARTS_MAX);
        let shared = Arc::new(Shared::default());
        let sequencer = Sequencer {
            store: store.clone(),
            env: env.clone(),
            view: view.clone(),
            limits,
            requests,
            shared: shared.clone(),
            appender: None,
            waiting: None,
            damage: damage.clone(),
        };
        env.tasks.spawn("sequencer", sequencer.run());
        Writer {
            store,
            env,
            view,
            limits,
            admission,
            uploads: Semaphore::new(limits.upload_concurrency),
            queue,
            shared,
            damage,
        }
    }

    /// The last position that this writer knows of.
    pub fn last_version(&self) -> Seq {
        Seq(self.shared.last.load(Ordering::Relaxed))
    }

    /// Bytes of the whole log, at its last known end.
    pub fn log_bytes(&self) -> u64 {
        self.shared.log_bytes.load(Ordering::Relaxed)
    }

    /// Makes a chunk durable; returns where it is in the log.
    pub async fn write(&self, chunk: Bytes, operations: u32) -> Result<Appended> {
        if self.env.tasks.are_ending() {
            return Err(Error::shutting_down());
        }
        self.check_readable()?;
        self.check_tail().await?;
        self.admission.check_memory()?;
        let budget = self.admission.wait_in_queue(chunk.len() as u64)?;
        let busy = self.shared.busy.swap(true, Ordering::Relaxed);
        let inline_max =
            if busy { self.limits.inline_max_bytes } else { self.limits.batch_max_bytes };
        let (part, uploaded) = if chunk.len() as u64 <= inline_max {
            (Part::Inline { operations, chunk: chunk.clone() }, None)
        } else {
            let _permit = self.uploads.acquire().await.map_err(|_| self.ended())?;
            let uploaded = self.env.clock.mark();
            let part = upload(&self.store, &self.env, &self.view, &chunk, operations).await?;
            (part, Some(uploaded))
        };
        let (reply, answer) = oneshot::channel();
        let pending = Pending { part, chunk, uploaded, reply, _budget: budget };
        self.queue.send(pending).await.map_err(|_| self.ended())?;
        // The sequencer answers everything it takes; without an answer it was dropped half way.
        let appended = answer.await.map_err(|_| self.ended().ambiguous())??;
        self.env.metrics.records_written.inc_by(u64::from(operations));
        Ok(appended)
    }

    /// Refuses writes that nobody could read. Who follows the log tells again and again what is in the way;
    /// where nobody does, a write is let through now and then to find out whether it still is.
    fn check_readable(&self) -> Result<()> {
        match self.damage.log_fault() {
            Some((damage, met)) if met < DAMAGE_RETRY => {
                Err(damage.error(self.damage.collection()).retry_after_ms(RETRY_AFTER_MS))
            }
            _ => Ok(()),
        }
    }

    /// The error of a write after the sequencer has ended.
    fn ended(&self) -> Error {
        match self.env.tasks.are_ending() {
            true => Error::shutting_down(),
            false => {
                Error::internal("the task that appends to the log has ended; restart this instance")
            }
        }
    }

    /// Refuses writes while too much of the log is unindexed.
    async fn check_tail(&self) -> Result<()> {
        let unindexed =
            |indexed: u64| self.shared.log_bytes.load(Ordering::Relaxed).saturating_sub(indexed);
        let limit = self.limits.tail_max_bytes;
        if unindexed(self.view.last().manifest.indexed.bytes) <= limit {
            return Ok(());
        }
        // The view may be old: indexing may have caught up since.
        let bytes = unindexed(self.view.look_now().await?.manifest.indexed.bytes);
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::new(
            Code::Backpressure,
            format!(
                "{bytes} bytes of the log are not indexed yet, the limit is {limit}; retry later"
            ),
        )
        .with("unindexedBytes", bytes)
        .with("tailMaxBytes", limit)
        .retry_after_ms(RETRY_AFTER_MS))
    }
}

/// Puts a chunk into a data object of its own.
async fn upload(
    store: &DynStore,
    env: &Env,
    view: &ManifestView,
    chunk: &Bytes,
    operations: u32,
) -> Result<Part> {
    let id: Ulid = env.ulid();
    let key = paths::wal_data(&view.last().manifest.name, id);
    // Nothing names the object yet, so whatever happens to this PUT, nothing was written.
    store.put(&key, chunk.clone()).await?;
    Ok(Part::Object { operations, id, length: chunk.len() as u64, crc: crc32c::crc32c(chunk) })
}

/// The error for a write whose body is too old each time when its turn in the log has come.
fn too_slow() -> Error {
    Error::unavailable(
        "uploading the body of this write and finding its place in the log takes longer than half of \
         gc_grace_ms each time; send fewer records at a time, or raise gc_grace_ms",
    )
}

/// Takes positions in the log for whatever is ready.
struct Sequencer {
    store: DynStore,
    env: Env,
    view: Arc<ManifestView>,
    limits: Limits,
    requests: mpsc::Receiver<Pending>,
    shared: Arc<Shared>,
    appender: Option<Appender>,
    /// A request that did not fit into the last batch.
    waiting: Option<Pending>,
    damage: Damaged,
}

/// Parts that go into one entry.
#[derive(Default)]
struct Group {
    pending: Vec<Pending>,
    inline_bytes: u64,
    records: u64,
}

impl Group {
    fn has_room_for(&self, part: &Part, limits: &Limits) -> bool {
        self.pending.is_empty()
            || (self.pending.len() < PARTS_MAX
                && self.inline_bytes + inline_bytes(part) <= limits.batch_max_bytes
                && self.records + u64::from(part.operations()) <= limits.batch_max_records)
    }

    fn add(&mut self, pending: Pending) {
        self.inline_bytes += inline_bytes(&pending.part);
        self.records += u64::from(pending.part.operations());
        self.pending.push(pending);
    }

    fn answer(self, result: &Result<Appended>) {
        for pending in self.pending {
            let result = match result {
                Ok(appended) => Ok(*appended),
                Err(error) => Err(error.replicate()),
            };
            // A client that is gone does not need the answer.
            drop(pending.reply.send(result));
        }
    }
}

fn inline_bytes(part: &Part) -> u64 {
    match part {
        Part::Inline { chunk, .. } => chunk.len() as u64,
        Part::Object { .. } => 0,
    }
}

impl Sequencer {
    async fn run(mut self) {
        let stop = self.env.tasks.stopping().clone();
        // Of the last group.
        let mut last = 0;
        loop {
            let first = match self.waiting.take() {
                Some(pending) => Some(pending),
                None => {
                    self.shared.busy.store(self.is_contended(), Ordering::Relaxed);
                    let serve_in = self.appender.as_ref().and_then(Appender::serve_in);
                    let idle = tokio::time::sleep(serve_in.unwrap_or(IDLE));
                    tokio::select! {
                        biased;
                        pending = self.requests.recv() => pending,
                        // What is queued is still written; new requests are refused by now.
                        () = stop.cancelled() => self.requests.try_recv().ok(),
                        () = idle, if serve_in.is_some() => {
                            self.serve().await;
                            continue;
                        }
                    }
                }
            };
            let Some(first) = first else { break };
            self.shared.busy.store(true, Ordering::Relaxed);
            let mut group = Group::default();
            group.add(first);
            self.collect(&mut group, self.limits.batch_linger).await;
            if group.pending.len().max(last) > 1 {
                let linger = self.appender.as_ref().map(Appender::linger);
                self.collect(&mut group, linger.unwrap_or_default()).await;
            }
            last = group.pending.len();
            self.commit(group).await;
        }
        if let Some(mut appender) = self.appender {
            appender.leave();
        }
    }

    fn is_contended(&self) -> bool {
        self.appender.as_ref().is_some_and(Appender::is_contended)
    }

    /// Appends what other writers wait with while this one has nothing of its own.
    async fn serve(&mut self) {
        let Some(appender) = &mut self.appender else {
            return;
        };
        match appender.serve().await {
            Ok(Some(appended)) => self.appended(appended),
            Ok(None) => {}
            Err(error) => {
                let error = self.told(error);
                self.failed(&error);
            }
        }
    }

    fn appended(&self, appended: Appended) {
        self.shared.log_bytes.store(appended.totals.bytes, Ordering::Relaxed);
        self.shared.last.store(appended.seq.0, Ordering::Relaxed);
    }

    fn failed(&mut self, error: &Error) {
        if error.code() != Code::LogDamaged {
            tracing::warn!(%error, "append failed");
        }
        // Where the log ends is unknown now; the next write finds out.
        if let Some(mut appender) = self.appender.take() {
            appender.leave();
        }
    }

    /// Adds what is ready, and what becomes ready within `linger`.
    async fn collect(&mut self, group: &mut Group, linger: Duration) {
        let until = Instant::now() + linger;
        loop {
            let next = match self.waiting.take() {
                Some(pending) => Some(pending),
                None if linger.is_zero() => self.requests.try_recv().ok(),
                None => timeout_at(until, self.requests.recv()).await.ok().flatten(),
            };
            match next {
                Some(pending) if group.has_room_for(&pending.part, &self.limits) => {
                    group.add(pending);
                }
                Some(pending) => {
                    self.waiting = Some(pending);
                    return;
                }
                None => return,
            }
        }
    }

    /// Appends a group, adding to it after every lost race, and answers its requests.
    async fn commit(&mut self, mut group: Group) {
        let mut renames = 0;
        let result = loop {
            match self.append(&group).await {
                Ok(Tried::Appended(appended)) => break Ok(appended),
                Ok(Tried::Lost) => {}
                Ok(Tried::Stray) => {
                    if let Err(error) = self.rename_objects(&mut group).await {
                        break Err(error);
                    }
                }
                Ok(Tried::Aged) if renames == RENAMES_MAX => break Err(too_slow()),
                Ok(Tried::Aged) => {
                    renames += 1;
                    match self.rename_objects(&mut group).await {
                        Ok(()) => continue,
                        Err(error) => break Err(error),
                    }
                }
                Err(error) => break Err(error),
            }
            self.collect(&mut group, Duration::ZERO).await;
        };
        match &result {
            Ok(appended) => self.appended(*appended),
            Err(error) => self.failed(error),
        }
        group.answer(&result);
    }

    /// Uploads data objects again under new names; see [`Tried::Stray`] and [`Tried::Aged`].
    async fn rename_objects(&self, group: &mut Group) -> Result<()> {
        let (store, env, view) = (&self.store, &self.env, &self.view);
        let mut uploads = Vec::new();
        for pending in &mut group.pending {
            if let Part::Object { operations, .. } = pending.part {
                uploads.push(async move {
                    let uploaded = env.clock.mark();
                    pending.part = upload(store, env, view, &pending.chunk, operations).await?;
                    pending.uploaded = Some(uploaded);
                    Ok::<_, Error>(())
                });
            }
        }
        let uploads = stream::iter(uploads).buffered(self.limits.upload_concurrency);
        uploads.try_for_each(|()| async { Ok(()) }).await
    }

    async fn append(&mut self, group: &Group) -> Result<Tried> {
        let parts: Vec<Part> = group.pending.iter().map(|pending| pending.part.clone()).collect();
        // The one that is oldest by the clock that says more.
        let uploaded = group.pending.iter().filter_map(|pending| pending.uploaded);
        let oldest = uploaded.max_by_key(|uploaded| self.env.clock.since(*uploaded));
        let tried = match self.appender().await {
            Ok(appender) => appender.append(&parts, oldest).await,
            Err(error) => Err(error),
        };
        tried.map_err(|error| self.told(error))
    }

    /// Where to append. While something is known to be missing, the whole log is looked at again.
    async fn appender(&mut self) -> Result<&mut Appender> {
        let was_damaged = self.damage.log_fault().is_some();
        if was_damaged && let Some(mut appender) = self.appender.take() {
            appender.leave();
        }
        let appender = match self.appender.take() {
            Some(appender) => appender,
            None => {
                Appender::open(
                    self.store.clone(),
                    self.env.clone(),
                    self.view.last().manifest.name.clone(),
                    self.view.clone(),
                    self.limits.grace,
                )
                .await?
            }
        };
        if was_damaged {
            // What was missing is there; what could not be read is for those to judge who read.
            self.damage.retain(|damage| damage.fault != MISSING);
        }
        Ok(self.appender.insert(appender))
    }

    /// Tells of an entry that was found missing.
    fn told(&self, error: Error) -> Error {
        let (key, position) = (error.details().get("key"), error.details().get("position"));
        let (Code::LogDamaged, Some(key), Some(position)) =
            (error.code(), key.and_then(Value::as_str), position.and_then(Value::as_u64))
        else {
            return error;
        };
        let damage = Damage::new(DamageKind::LogEntry, key, Some(Seq(position)), MISSING);
        self.damage.report(damage.clone());
        let told = damage.error(self.damage.collection()).retry_after_ms(RETRY_AFTER_MS);
        // Whoever does not know of it yet may still take along what waits.
        told.ambiguous_if(error.is_ambiguous())
    }
}
