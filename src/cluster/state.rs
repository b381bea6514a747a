//! Shared state: small JSON values that all instances see, with preconditions.
//!
//! An etag names one change of one key and never comes back: a deleted entry leaves a tombstone behind,
//! so that its versions go on where they ended.

use crate::base::{Code, Env, Error, Result, Timestamp};
use crate::store::cas::{self, Change, Document, Loaded, Stamp};
use crate::store::{DynStore, Fetched, Listed, get, paths};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// The largest value, in bytes of JSON.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// The most entries of a page.
pub const PAGE_MAX: usize = 1_000;
/// Bytes of stored entries of which a page is full: parsed, they take many times as much.
const PAGE_BYTES_MAX: u64 = 4 << 20;
/// Requests in flight while a page is read.
const READS_MAX: usize = 32;

/// What stands in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateDocument {
    /// The format of this object.
    pub format_version: u64,
    /// Version and write ids; the newest of them is the etag.
    pub stamp: Stamp,
    /// Whether the entry was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// The value; `null` once it was deleted.
    pub value: Value,
    /// What newer builds have written.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Document for StateDocument {
    const FORMAT_VERSION: u64 = 1;
    const BYTES_MAX: u64 = 1 << 20;

    fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    fn stamp_mut(&mut self) -> &mut Stamp {
        &mut self.stamp
    }
}

/// One entry of the shared state.
#[derive(Debug, Clone, PartialEq)]
pub struct StateEntry {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Names this very change of it.
    pub etag: String,
    /// How often it was changed.
    pub version: u64,
    /// When it was changed last, by the clock of whoever did.
    pub updated: Timestamp,
}

/// A page of entries.
#[derive(Debug, Default)]
pub struct StatePage {
    /// The entries, in the order of the store's keys.
    pub entries: Vec<StateEntry>,
    /// Those of them that cannot be read, with the reasons; they are in `entries` once they were replaced.
    pub damaged: Vec<(String, Error)>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// What must hold of the entry for a change to take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Anything,
    /// There is none.
    Absent,
    /// It has this etag.
    Etag(String),
}

/// The shared state. Cloning shares it.
#[derive(Debug, Clone)]
pub struct SharedState {
    store: DynStore,
    env: Env,
}

impl SharedState {
    /// The shared state in `store`.
    pub fn new(store: DynStore, env: Env) -> Self {
        SharedState { store, env }
    }

    /// One entry; `state_not_found` where there is none.
    pub async fn get(&self, key: &str) -> Result<StateEntry> {
        check_key(key)?;
        let found = cas::load::<StateDocument>(&*self.store, &paths::state(key)).await?;
        found.and_then(|loaded| entry(key, loaded.value)).ok_or_else(|| not_found(key))
    }

    /// Sets an entry; `precondition_failed` where it is not as `expected`. The entry returned is the one
    /// in force, which may hold a later change too.
    pub async fn put(&self, key: &str, value: Value, expected: &Expected) -> Result<StateEntry> {
        check_key(key)?;
        let bytes = value.to_string().len();
        if bytes > VALUE_BYTES_MAX {
            return Err(Error::new(
                Code::PayloadTooLarge,
                format!("the value has {bytes} bytes of JSON: use at most {VALUE_BYTES_MAX}"),
            ));
        }
        let value = Some(value);
        let found = self.change(key, value, expected).await?;
        found.and_then(|document| entry(key, document)).ok_or_else(|| not_found(key))
    }

    /// Deletes an entry; whether there was one. `precondition_failed` where it is not as `expected`.
    pub async fn delete(&self, key: &str, expected: &Expected) -> Result<bool> {
        check_key(key)?;
        let mut existed = false;
        let now = cas::load::<StateDocument>(&*self.store, &paths::state(key)).await?;
        existed |= now.is_some_and(|loaded| !loaded.value.deleted);
        self.change(key, None, expected).await?;
        Ok(existed)
    }

    async fn change(
        &self,
        key: &str,
        value: Option<Value>,
        expected: &Expected,
    ) -> Result<Option<StateDocument>> {
        let change = |current: Option<&Loaded<StateDocument>>| {
            let current = current.map(|loaded| &loaded.value);
            check(key, current, expected)?;
            if value.is_none() && current.is_none_or(|document| document.deleted) {
                return Ok(Change::Keep);
            }
            Ok(Change::Write(StateDocument {
                format_version: current
                    .map_or(0, |document| document.format_version)
                    .max(StateDocument::FORMAT_VERSION),
                stamp: Stamp::default(),
                deleted: value.is_none(),
                value: value.clone().unwrap_or_default(),
                extra: current.map(|document| document.extra.clone()).unwrap_or_default(),
            }))
        };
        let found = cas::update(&*self.store, &self.env, &paths::state(key), change).await?;
        Ok(found.map(|loaded| loaded.value))
    }

    /// Up to `limit` (1..=1,000) entries whose keys start with `prefix`, after the key `after`. A page may
    /// hold fewer although there are more: deleted entries are left out, and large ones fill it.
    pub async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<StatePage> {
        if !prefix.bytes().all(is_letter) || prefix.len() > KEY_BYTES_MAX {
            return Err(invalid("prefix", prefix));
        }
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Error::invalid(format!("limit is {limit}: use 1 to {PAGE_MAX}")));
        }
        after.map_or(Ok(()), check_key)?;
        let after = after.map(paths::state);
        let page = self.store.list(&paths::states(prefix), after.as_ref(), limit).await?;
        let store = &self.store;
        // The first is always read, or nobody could get past it.
        let mut bytes = 0;
        let fits = |object: &&Listed| {
            bytes += object.size;
            bytes <= PAGE_BYTES_MAX || bytes == object.size
        };
        let objects: Vec<&Listed> = page.objects.iter().take_while(fits).collect();
        let more = page.more || objects.len() < page.objects.len();
        let keys = objects.iter().filter_map(|object| paths::parse_state(&object.key));
        let keys: Vec<String> = keys.map(str::to_owned).collect();
        let reads = keys.clone().into_iter().map(|key| async move {
            let place = paths::state(&key);
            let read = match get(&**store, &place).await {
                Ok(Fetched::Found(object)) => {
                    cas::parse(&place, &object.bytes).map(|document| entry(&key, document))
                }
                Ok(_) => Ok(None),
                Err(error) => Err(error),
            };
            (key, read)
        });
        let mut reads = futures::stream::iter(reads).buffered(READS_MAX);
        let next = keys.last().filter(|_| more).cloned();
        let mut found = StatePage { next, ..StatePage::default() };
        while let Some((key, read)) = reads.next().await {
            match read {
                Ok(entry) => found.entries.extend(entry),
                // One that somebody has broken keeps nobody from the others.
                Err(error) if error.is_about_content() => found.damaged.push((key, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn etag(document: &StateDocument) -> &str {
    document.stamp.recent_writes.last().map_or("", String::as_str)
}

fn entry(key: &str, document: StateDocument) -> Option<StateEntry> {
    let etag = etag(&document).to_owned();
    let StateDocument { stamp, deleted, value, .. } = document;
    let Stamp { version, updated, .. } = stamp;
    (!deleted).then(|| StateEntry { key: key.to_owned(), value, etag, version, updated })
}

fn check(key: &str, current: Option<&StateDocument>, expected: &Expected) -> Result<()> {
    let current = current.filter(|document| !document.deleted).map(etag);
    let holds = match expected {
        Expected::Anything => true,
        Expected::Absent => current.is_none(),
        Expected::Etag(etag) => current == Some(etag),
    };
    if holds {
        return Ok(());
    }
    let told = match current {
        Some(_) => "has been changed: read it again and decide anew",
        None => "does not exist: create it without an etag",
    };
    Err(Error::new(Code::PreconditionFailed, format!("the entry {key} {told}"))
        .with("key", key)
        .with("etag", current))
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-/".contains(&byte)
}

fn check_key(key: &str) -> Result<()> {
    let parts = key.split('/');
    let folders = key.rsplit_once('/').map_or("", |(folders, _)| folders);
    let valid = (1..=KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(is_letter)
        && parts.into_iter().all(|part| !matches!(part, "" | "." | ".."))
        // In a local folder it would be both a file and a folder.
        && folders.split('/').all(|folder| !folder.ends_with(".json"));
    if valid { Ok(()) } else { Err(invalid("key", key)) }
}

fn invalid(what: &str, key: &str) -> Error {
    let shown: String = key.chars().take(80).collect();
    Error::invalid(format!(
        "the {what} {shown:?} is not valid: use 1 to {KEY_BYTES_MAX} of a-z, A-Z, 0-9, '.', '_', '-' and \
         '/', without empty parts, '.', '..' and folders that end in .json"
    ))
}

fn not_found(key: &str) -> Error {
    Error::new(Code::StateNotFound, format!("there is no entry {key} in the shared state"))
        .with("key", key)
}
