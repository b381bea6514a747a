//! Compare-and-swap that can be trusted: ambiguous outcomes are resolved by reading back.
//!
//! Two shapes cover every use:
//!
//! - [`create`]: an object that is written once (log entries, manifest history). The caller says
//!   how to recognise its own bytes.
//! - [`Document`]: a JSON object that is changed in place (manifest, shared config, leases, state).
//!   It carries a version that only grows and the ids of the last writes, so that a writer whose
//!   PUT was cut off finds out whether it happened even when others have written since.
//!
//! Both are safe to repeat: an attempt is always the same bytes on the same condition, so at most
//! one of the repeats takes effect.
//!
//! A PUT that was answered as lost may be our own that won: a proxy between us and the store may send
//! it again, and what we hear of is the second. So nothing is believed to be lost before what stands there
//! was looked at.

mod history;
#[cfg(test)]
mod tests;

pub use history::{is_followed, keep_in_force};

use crate::base::clock::Timestamp;
use crate::base::defect::Defect;
use crate::base::ids::WriteId;
use crate::base::{Code, Env, Error, Result};
use crate::store::{
    ByteRange, Etag, Fetched, GetOptions, Key, Precondition, Prefix, PutOutcome, Store, get_up_to,
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How often an ambiguous attempt is repeated before the caller hears of it.
const AMBIGUOUS_ATTEMPTS_MAX: u32 = 6;
/// How often a lost update is tried again on the newer content.
const UPDATE_ATTEMPTS_MAX: u32 = 64;
/// The first and the longest pause between attempts; full jitter.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How many write ids a document remembers. A writer that is cut off can resolve its outcome as
/// long as fewer others have won since; past that it reports the ambiguity.
const RECENT_WRITES: usize = 64;

/// How a [`create`] ended.
#[derive(Debug)]
#[must_use]
pub enum Created {
    /// Our bytes are the object's content.
    Won,
    /// Somebody else's bytes are.
    Lost {
        /// The first of them.
        head: Bytes,
        /// Whether an attempt of ours was cut off and may still be under way: should the key be
        /// deleted one day, our bytes might appear there.
        lingering: bool,
    },
}

/// Waits before attempt number `attempt` (from 1), with full jitter.
pub async fn pause(env: &Env, attempt: u32) {
    let longest = PAUSE_FIRST.saturating_mul(1 << attempt.min(16)).min(PAUSE_MAX);
    tokio::time::sleep(env.rng.jitter(longest)).await;
}

/// Writes `body` at `key` unless something is there, until it is known who won.
///
/// `is_ours` recognises our bytes by the first `head` of them, which is all that is read back. An
/// error that [`Error::is_ambiguous`] means that the store did not answer for so long that we gave
/// up: the object may appear even later.
pub async fn create(
    store: &dyn Store,
    env: &Env,
    key: &Key,
    body: Bytes,
    head: u64,
    is_ours: impl Fn(&[u8]) -> bool,
) -> Result<Created> {
    let look = GetOptions { range: Some(ByteRange::Bounded(0..head)), if_none_match: None };
    let mut last = None;
    let mut lingering = false;
    for attempt in 1..=AMBIGUOUS_ATTEMPTS_MAX {
        match store.put_if(key, body.clone(), Precondition::Absent).await {
            PutOutcome::Won(_) => return Ok(Created::Won),
            // Nothing was sent, for certain: the store may be restarting.
            PutOutcome::Failed(error) if error.is_transient() => last = Some(error),
            PutOutcome::Failed(error) => {
                // This attempt did nothing, but an earlier one may have.
                return Err(error.ambiguous_if(lingering));
            }
            PutOutcome::Lost => {}
            PutOutcome::Ambiguous(error) => {
                last = Some(error);
                lingering = true;
                if env.defects.has(Defect::AmbiguousIsLost) {
                    return Ok(Created::Lost { head: Bytes::new(), lingering: false });
                }
            }
        }
        match store.get(key, look.clone()).await {
            Ok(Fetched::Found(object)) if is_ours(&object.bytes) => return Ok(Created::Won),
            Ok(Fetched::Found(object)) => {
                return Ok(Created::Lost { head: object.bytes, lingering });
            }
            // Nobody's yet: the same bytes under the same condition are safe to send again.
            Ok(_) => {}
            Err(error) => last = Some(error),
        }
        pause(env, attempt).await;
    }
    let error = last.unwrap_or_else(|| {
        Error::unavailable(format!("the store kept answering with a conflict for {key}; try again"))
    });
    Err(unresolved(key, error).ambiguous_if(lingering))
}

fn unresolved(key: &Key, error: Error) -> Error {
    error.context(format!("could not find out whether {key} was written"))
}

/// What every document that is changed by compare-and-swap carries beside its content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stamp {
    /// Grows by one with every change and never repeats.
    pub version: u64,
    /// When the last change was made, by its writer's clock; for people only.
    pub updated: Timestamp,
    /// The ids of the last changes, newest last.
    pub recent_writes: Vec<String>,
}

/// A JSON object that is changed by compare-and-swap.
///
/// Newer builds add fields to it. So every struct of it keeps what it does not know (a flattened map) and writes it
/// again. Where that is not enough, a newer format says in `minReader` and `minWriter` which builds may read
/// and change it all the same; without these, builds that know only older ones leave it alone.
pub trait Document: Serialize + DeserializeOwned + Clone + Send + Sync {
    /// The newest `formatVersion` that this build understands.
    const FORMAT_VERSION: u64;
    /// Most bytes of it that are read.
    const BYTES_MAX: u64 = u64::MAX;

    /// The document's stamp.
    fn stamp(&self) -> &Stamp;

    /// The document's stamp, to be advanced.
    fn stamp_mut(&mut self) -> &mut Stamp;

    /// Brings what an older build wrote into the form of this one, and leaves a newer one as it is.
    fn upgrade(&mut self) {}

    /// Where earlier versions are kept, for documents with a history: each before the next one replaces it.
    fn history(&self) -> Option<History> {
        None
    }

    /// Carries over from `newest`, a later version, what must not go back, where a person has put this
    /// older one in its place.
    fn restored(&mut self, _newest: &Self) {}
}

/// Where the earlier versions of a document are.
#[derive(Debug, Clone)]
pub struct History {
    /// What their keys start with. The keys are in the order of the versions.
    pub prefix: Prefix,
    /// The key of this version.
    pub key: Key,
    /// The version that such a key names.
    pub version_of: fn(&Key) -> Option<u64>,
}

/// A document as it was read.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// Its content.
    pub value: T,
    /// Names this very content.
    pub etag: Etag,
    /// The bytes as they were read.
    pub bytes: Bytes,
    format: Format,
}

/// What a document says about who may do what with it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Format {
    format_version: u64,
    /// The oldest format version whose builds may read it, if that is not its own.
    min_reader: Option<u64>,
    /// The same of those that may change it; they keep what they do not know.
    min_writer: Option<u64>,
}

impl Format {
    fn of(key: &Key, bytes: &[u8]) -> Result<Format> {
        serde_json::from_slice(bytes).map_err(|error| broken(key, &error))
    }

    /// Fails where builds that know `known` may not read it.
    fn check_reader(self, key: &Key, known: u64) -> Result<()> {
        self.check(key, known, self.min_reader, "reads")
    }

    /// Fails where they may not change it.
    fn check_writer(self, key: &Key, known: u64) -> Result<()> {
        self.check(key, known, self.min_writer, "changes")
    }

    fn check(self, key: &Key, known: u64, oldest: Option<u64>, does: &str) -> Result<()> {
        let Format { format_version, .. } = self;
        if format_version <= known || oldest.is_some_and(|oldest| oldest <= known) {
            return Ok(());
        }
        Err(Error::new(
            Code::NewerFormat,
            format!(
                "{key} has format version {format_version}, and this build {does} up to {known}; upgrade \
                 this instance"
            ),
        ))
    }
}

fn broken(key: &Key, error: &serde_json::Error) -> Error {
    Error::corrupt(format!("{key} is not valid: {error}; restore it from its history or a backup"))
        .with("line", error.line())
        .with("column", error.column())
}

/// Parses a document, telling a newer format from a broken one. One of a newer format is read where it says that this
/// build may.
pub fn parse<T: Document>(key: &Key, bytes: &[u8]) -> Result<T> {
    Ok(parse_with_format(key, bytes)?.0)
}

fn parse_with_format<T: Document>(key: &Key, bytes: &[u8]) -> Result<(T, Format)> {
    let format = Format::of(key, bytes)?;
    format.check_reader(key, T::FORMAT_VERSION)?;
    let mut document: T = serde_json::from_slice(bytes).map_err(|error| broken(key, &error))?;
    document.upgrade();
    Ok((document, format))
}

/// Reads a document.
pub async fn load<T: Document>(store: &dyn Store, key: &Key) -> Result<Option<Loaded<T>>> {
    match get_up_to(store, key, None, T::BYTES_MAX).await? {
        Fetched::Found(object) if object.size > T::BYTES_MAX => Err(Error::corrupt(format!(
            "{key} has {} bytes, and no more than {} are read; restore it from a backup, or delete it",
            object.size,
            T::BYTES_MAX
        ))),
        Fetched::Found(object) => {
            let (value, format) = parse_with_format(key, &object.bytes)?;
            Ok(Some(Loaded { value, etag: object.etag, bytes: object.bytes, format }))
        }
        _ => Ok(None),
    }
}

/// What a change wants to do with the content it was shown.
#[derive(Debug)]
pub enum Change<T> {
    /// Write this content.
    Write(T),
    /// Leave things as they are.
    Keep,
}

/// How one attempt to replace a document ended.
enum Attempt<T> {
    /// The change is in; this is the content in force, which may hold later changes too.
    Won(Loaded<T>),
    /// Others have changed it; this is what they have made of it.
    Lost(Option<Loaded<T>>),
}

/// Changes a document until the change is in or declined. `change` sees the current content (or
/// `None`), may be called several times, and decides each time anew. Returns the content in force.
pub async fn update<T: Document>(
    store: &dyn Store,
    env: &Env,
    key: &Key,
    mut change: impl FnMut(Option<&Loaded<T>>) -> Result<Change<T>>,
) -> Result<Option<Loaded<T>>> {
    let mut current = load::<T>(store, key).await?;
    for round in 1..=UPDATE_ATTEMPTS_MAX {
        let Change::Write(next) = change(current.as_ref())? else {
            return Ok(current);
        };
        if let Some(before) = &current {
            before.format.check_writer(key, T::FORMAT_VERSION)?;
        }
        if let Some(before) = &current
            && let Some(next) = history::keep(store, env, before).await?
        {
            // What `change` has made is of a version that was put back by hand.
            current = match replace(store, env, key, round, Some(before), next).await? {
                Attempt::Won(settled) => Some(settled),
                Attempt::Lost(found) => found,
            };
            continue;
        }
        let base = current.as_ref().map(|loaded| loaded.value.stamp().clone()).unwrap_or_default();
        let next = Next::of(env, &base, base.version + 1, next);
        match replace(store, env, key, round, current.as_ref(), next).await? {
            Attempt::Won(loaded) => return Ok(Some(loaded)),
            Attempt::Lost(found) => current = found,
        }
    }
    Err(Error::new(
        Code::Overloaded,
        format!("{key} is being changed by too many at once; try again"),
    )
    .retry_after_ms(1_000))
}

/// What is to stand in the place of a document, and the id of this write.
struct Next<T> {
    value: T,
    id: String,
}

impl<T: Document> Next<T> {
    /// `value` as the version that follows `base`.
    fn of(env: &Env, base: &Stamp, version: u64, mut value: T) -> Next<T> {
        let id = WriteId::random(&*env.rng).to_string();
        let mut recent_writes = base.recent_writes.clone();
        recent_writes.push(id.clone());
        let excess = recent_writes.len().saturating_sub(RECENT_WRITES);
        recent_writes.drain(..excess);
        *value.stamp_mut() = Stamp { version, updated: env.clock.now(), recent_writes };
        Next { value, id }
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value)
        .map_err(|error| Error::internal("could not write JSON").caused_by(error))
}

/// Puts `next` in the place of `current`. A loss is followed by a pause, the longer the more `round`s
/// there were, and by a look at what stands there, which the next round begins with.
async fn replace<T: Document>(
    store: &dyn Store,
    env: &Env,
    key: &Key,
    round: u32,
    current: Option<&Loaded<T>>,
    next: Next<T>,
) -> Result<Attempt<T>> {
    let condition = match current {
        Some(loaded) => Precondition::Matches(loaded.etag.clone()),
        None => Precondition::Absent,
    };
    let own = Format { format_version: T::FORMAT_VERSION, min_reader: None, min_writer: None };
    let format = current.map_or(own, |before| before.format);
    let Next { value, id } = next;
    let bytes = Bytes::from(encode(&value)?);
    let (mut last, mut troubles) = (None, 0);
    for attempt in round..=round + UPDATE_ATTEMPTS_MAX {
        match store.put_if(key, bytes.clone(), condition.clone()).await {
            PutOutcome::Won(etag) => {
                return Ok(Attempt::Won(Loaded { value, etag, bytes, format }));
            }
            PutOutcome::Failed(error) if error.is_transient() => {
                (last, troubles) = (Some(error), troubles + 1);
            }
            PutOutcome::Failed(error) => return Err(error.ambiguous_if(last.is_some())),
            PutOutcome::Lost => {
                pause(env, attempt).await;
                if env.defects.has(Defect::LossIsTheirs) {
                    return Ok(Attempt::Lost(load::<T>(store, key).await?));
                }
            }
            PutOutcome::Ambiguous(error) => {
                if env.defects.has(Defect::AmbiguousIsLost) {
                    pause(env, attempt).await;
                    return Ok(Attempt::Lost(load::<T>(store, key).await?));
                }
                (last, troubles) = (Some(error), troubles + 1);
            }
        }
        match load::<T>(store, key).await {
            Ok(found) => match verdict(found, current, &id) {
                Verdict::Ours(loaded) => return Ok(Attempt::Won(loaded)),
                Verdict::Theirs(found) => return Ok(Attempt::Lost(found)),
                // The store took none of several: the same bytes on the same condition can be sent again.
                Verdict::Unchanged => {}
                Verdict::Unknown => break,
            },
            Err(error) if error.is_transient() => {
                (last, troubles) = (Some(error), troubles + 1);
            }
            Err(error) => return Err(error.ambiguous()),
        }
        if troubles >= AMBIGUOUS_ATTEMPTS_MAX {
            break;
        }
        if last.is_some() {
            pause(env, attempt).await;
        }
    }
    let error = last.unwrap_or_else(|| Error::unavailable("others changed it too often meanwhile"));
    Err(unresolved(key, error).ambiguous())
}

/// What reading back says about our attempt.
enum Verdict<T> {
    Ours(Loaded<T>),
    Theirs(Option<Loaded<T>>),
    Unchanged,
    Unknown,
}

/// Whether `found` comes from the write `id`, which was to replace `before`.
fn verdict<T: Document>(
    found: Option<Loaded<T>>,
    before: Option<&Loaded<T>>,
    id: &str,
) -> Verdict<T> {
    let Some(found) = found else {
        return if before.is_none() { Verdict::Unchanged } else { Verdict::Theirs(None) };
    };
    let stamp = found.value.stamp();
    if stamp.recent_writes.iter().any(|recent| recent == id) {
        return Verdict::Ours(found);
    }
    if before.is_some_and(|before| before.etag == found.etag) {
        return Verdict::Unchanged;
    }
    let base = before.map_or(0, |before| before.value.stamp().version);
    // The list reaches back to our attempt only while fewer than its length have won since. A version
    // from before ours was put there by hand.
    match stamp.version.checked_sub(base) {
        Some(since) if since > RECENT_WRITES as u64 => Verdict::Unknown,
        _ => Verdict::Theirs(Some(found)),
    }
}
