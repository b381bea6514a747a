//! Advisory locks that hold between processes and between the tasks of one process.

use super::files::create_own;
use crate::store::Key;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};
use xxhash_rust::xxh3::xxh3_64;

/// How many locks the keys are spread over.
const STRIPES: usize = 64;

/// The locks of one store.
///
/// Tasks of this process queue on an async mutex first. So a stuck peer (a stopped process that
/// holds a lock) blocks at most one thread per stripe here, however many requests pile up.
#[derive(Debug)]
pub(super) struct Locks {
    folder: PathBuf,
    stripes: Vec<Arc<Mutex<Option<File>>>>,
}

/// This process's turn at a lock; [`Turn::lock`] waits for the other processes.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    slot: OwnedMutexGuard<Option<File>>,
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct Held(OwnedMutexGuard<Option<File>>);

impl Locks {
    pub(super) fn new(folder: PathBuf) -> Self {
        Locks { folder, stripes: (0..STRIPES).map(|_| Arc::default()).collect() }
    }

    pub(super) async fn enter(&self, key: &Key) -> Turn {
        let stripe = (xxh3_64(key.as_str().as_bytes()) % STRIPES as u64) as usize;
        Turn {
            path: self.folder.join(format!("{stripe:02}")),
            slot: self.stripes[stripe].clone().lock_owned().await,
        }
    }
}

impl Turn {
    /// Blocks until no other process holds the lock.
    pub(super) fn lock(mut self) -> io::Result<Held> {
        loop {
            let file = match self.slot.take() {
                Some(file) => file,
                None => self.open()?,
            };
            file.lock()?;
            // Somebody may have removed the file (and others made a new one) since we opened it:
            // then what we hold protects nothing.
            if is_at(&file, &self.path)? {
                *self.slot = Some(file);
                return Ok(Held(self.slot));
            }
        }
    }

    fn open(&self) -> io::Result<File> {
        let open = || File::options().create(true).truncate(false).write(true).open(&self.path);
        match (open(), self.path.parent()) {
            (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
                create_own(folder)?;
                open()
            }
            (opened, _) => opened,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A lock that cannot be released is released by closing its file.
        if self.0.as_ref().is_some_and(|file| file.unlock().is_err()) {
            *self.0 = None;
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &std::path::Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &std::path::Path) -> io::Result<bool> {
    Ok(true)
}
