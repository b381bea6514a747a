//! A store in a folder, shared by any number of processes on one machine.
//!
//! - An object is a file; it is written to `<root>/.brainy/tmp/`, flushed, and then linked or
//!   renamed into place, so a file that can be seen is whole and a killed process leaves only a
//!   temporary file (removed at a later start, once it is an hour old).
//! - Create-if-absent is `link(2)`, which the file system makes atomic. Everything that replaces or
//!   removes a file holds the key's advisory lock (`flock(2)` on one of a fixed number of files in
//!   `<root>/.brainy/locks/`), which the operating system drops with the process.
//! - The etag is a digest of the content. Reading a range of a large file must not cost a pass over
//!   all of it: there the etag is made of the file's size, time and inode and starts with `W/`.
//!   It is good for noticing a change, and [`Store::put_if`] refuses it, because a file system may
//!   reuse all three.
//! - A flush that fails leaves open what is on the disk, and a second one proves nothing: so what was being
//!   written is written anew. Until that has worked, nothing in this process believes the file.
//! - A whole object of 1 MiB or more is mapped into memory, not copied (`base::mapped`): files are never
//!   changed in place. Its space on the disk is free once the last reader has let go of it.
//! - An object and a folder cannot have the same name, so `a` and `a/b` cannot both be objects. No
//!   key that Brainy makes is the folder of another.
//!
//! The folder must be on a local disk: network file systems differ in what their locks promise.

mod files;
mod listing;
mod locks;
#[cfg(test)]
mod tests;

use crate::base::clock::Clock;
use crate::base::rng::SeededRng;
use crate::base::tasks::Tasks;
use crate::base::{Code, Error, Result};
use crate::store::{
    Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use async_trait::async_trait;
use bytes::Bytes;
use files::{Disk, Files, Outlives, Stop, SystemDisk};
use locks::Locks;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The folder of the store's own files; no key may start with it.
const OWN: &str = ".brainy";

/// Objects as files below one folder. Cloning shares the handle.
#[derive(Debug, Clone)]
pub struct LocalStore {
    files: Arc<Files>,
    locks: Arc<Locks>,
}

impl LocalStore {
    /// Opens the store in `root`, which is created where it does not exist. With `fsync` a write
    /// survives a power failure once it is acknowledged; without, it survives killed processes.
    pub async fn open(root: impl Into<PathBuf>, fsync: bool) -> Result<Self> {
        LocalStore::open_on(root.into(), fsync, Box::new(SystemDisk)).await
    }

    async fn open_on(root: PathBuf, fsync: bool, disk: Box<dyn Disk>) -> Result<Self> {
        let files = Tasks::blocking(move || Files::open(root, fsync, SeededRng::from_os(), disk));
        let files = Arc::new(files.await?);
        Ok(LocalStore { locks: Arc::new(Locks::new(files.own("locks"))), files })
    }

    /// Tells `clock` with every write what time it is at the file system, which may be another machine's.
    pub fn telling(self, clock: Arc<dyn Clock>) -> Self {
        self.files.tell(clock);
        self
    }

    /// Makes what could not be flushed durable before it is believed.
    async fn settled(&self, key: &Key, path: &Path) -> Result<()> {
        if !self.files.is_doubtful(path) {
            return Ok(());
        }
        let guard = self.locks.enter(key).await;
        let (files, path, shown) = (self.files.clone(), path.to_owned(), key.clone());
        Tasks::blocking(move || {
            let _held = guard.lock().map_err(|error| failed(error, "lock", shown.as_str()))?;
            files.settle(&path)
        })
        .await
    }

    async fn replace(&self, key: &Key, body: Bytes, expected: Option<Etag>) -> Replaced {
        let path = match self.files.path(key.as_str()) {
            Ok(path) => path,
            Err(error) => return Err(Stop::Before(error)),
        };
        // The lock moves into the blocking work, which runs to its end even if we are dropped.
        let guard = self.locks.enter(key).await;
        let (files, shown) = (self.files.clone(), key.clone());
        Tasks::blocking(move || {
            files.check_root().map_err(Stop::Before)?;
            let _held = guard
                .lock()
                .map_err(|error| Stop::Before(failed(error, "lock", shown.as_str())))?;
            if let Some(expected) = &expected
                && files.digest(&path).map_err(Stop::Before)?.as_ref() != Some(expected)
            {
                return Ok(None);
            }
            files.replace(&path, &body, Outlives::of(&shown)).map(Some)
        })
        .await
    }
}

/// The new etag, or `None` where the content was not as expected.
type Replaced = Result<Option<Etag>, Stop>;

#[async_trait]
impl Store for LocalStore {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        let path = self.files.path(key.as_str())?;
        self.settled(key, &path).await?;
        let files = self.files.clone();
        Tasks::blocking(move || files.read(&path, &options)).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        match self.replace(key, body, None).await {
            Ok(Some(etag)) => Ok(etag),
            Ok(None) => Err(Error::internal("an unconditional write had a condition")),
            Err(Stop::Before(error) | Stop::After(error)) => Err(error),
        }
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        let outcome = match condition {
            Precondition::Matches(etag) if etag.is_weak() => {
                return PutOutcome::Failed(Error::internal(format!(
                    "the etag for {key} comes from a ranged read of a large file and cannot guard \
                     a write; read the whole object"
                )));
            }
            Precondition::Matches(etag) => self.replace(key, body, Some(etag)).await,
            Precondition::Absent => match self.files.path(key.as_str()) {
                Ok(path) => {
                    let files = self.files.clone();
                    Tasks::blocking(move || files.create(&path, &body)).await
                }
                Err(error) => Err(Stop::Before(error)),
            },
        };
        match outcome {
            Ok(Some(etag)) => PutOutcome::Won(etag),
            Ok(None) => PutOutcome::Lost,
            Err(Stop::Before(error)) => PutOutcome::Failed(error),
            Err(Stop::After(error)) => PutOutcome::Ambiguous(error.ambiguous()),
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let path = self.files.path(key.as_str())?;
        let guard = self.locks.enter(key).await;
        let (files, shown) = (self.files.clone(), key.clone());
        Tasks::blocking(move || {
            files.check_root()?;
            let _held = guard.lock().map_err(|error| failed(error, "lock", shown.as_str()))?;
            files.remove(&path, Outlives::of(&shown))
        })
        .await
    }

    async fn settle(&self, key: &Key) -> Result<()> {
        let path = self.files.path(key.as_str())?;
        self.settled(key, &path).await?;
        let files = self.files.clone();
        Tasks::blocking(move || files.flush_name(&path)).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        let (files, prefix, after) = (self.files.clone(), prefix.clone(), after.cloned());
        Tasks::blocking(move || listing::list(&files, &prefix, after.as_ref(), limit)).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        let (files, prefix) = (self.files.clone(), prefix.clone());
        Tasks::blocking(move || listing::dirs(&files, &prefix)).await
    }
}

/// The file below `root` that holds `key`, or an error where the key could name anything else.
fn resolve(root: &Path, key: &str) -> Result<PathBuf> {
    let relative = Path::new(key);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    // `components` forgives "a//b", "./a" and "a/"; keys are compared as text, so we do not.
    let exact = key.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !plain || !exact || key.contains(['\0', '\\']) || key.split('/').next() == Some(OWN) {
        return Err(Error::internal(format!(
            "the object key {key:?} cannot be stored in a folder"
        )));
    }
    Ok(root.join(relative))
}

/// Turns a file system's refusal into a store error.
fn failed(error: io::Error, what: &str, path: impl std::fmt::Display) -> Error {
    use io::ErrorKind as Kind;
    let (code, advice) = match error.kind() {
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
            (Code::StoreDenied, "check the permissions of the store's folder")
        }
        Kind::StorageFull | Kind::QuotaExceeded => {
            (Code::StoreUnavailable, "the disk or the quota is full: free some space")
        }
        _ => (Code::StoreUnavailable, "check the disk that holds the store"),
    };
    Error::new(code, format!("could not {what} {path} ({error}); {advice}")).caused_by(error)
}
