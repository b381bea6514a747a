//! The file operations below [`LocalStore`](super::LocalStore); all of them block.

use super::{OWN, failed, resolve};
use crate::base::clock::{Clock, Timestamp};
use crate::base::ids::WriteId;
use crate::base::mapped::map;
use crate::base::rng::SeededRng;
use crate::base::{Code, Error, Result};
use crate::store::memory::{digest, slice};
use crate::store::{ByteRange, Etag, Fetched, GetOptions, Key, Object, paths};
use bytes::Bytes;
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// Temporary files older than this belong to nobody.
const STALE_AFTER: Duration = Duration::from_secs(3_600);
/// Ranged reads of files up to this size read all of it, for its digest.
const DIGEST_MAX_BYTES: u64 = 256 << 10;
/// Whole files of this size and more are mapped instead of read. Below, the copy is cheaper than a
/// mapping of its own.
const MAPPED_BYTES_MIN: u64 = 1 << 20;
/// How many folders are remembered as flushed.
const KNOWN_FOLDERS_MAX: usize = 10_000;
/// With so many names that could not be flushed, nothing more is written.
const DOUBTFUL_MAX: usize = 1_000;

/// How files and folders are made durable.
pub(super) trait Disk: std::fmt::Debug + Send + Sync + 'static {
    /// Makes the content of a file durable.
    fn flush_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Makes the names in a folder durable.
    fn flush_folder(&self, folder: &Path) -> io::Result<()> {
        // Only Unix lets a folder be opened and flushed; elsewhere the file system journals names.
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }
}

/// The operating system's.
#[derive(Debug)]
pub(super) struct SystemDisk;

impl Disk for SystemDisk {}

/// What a change has to outlive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlives {
    /// A power failure: it is flushed.
    Power,
    /// The process.
    Process,
}

impl Outlives {
    pub(super) fn of(key: &Key) -> Outlives {
        if paths::is_passing(key) { Outlives::Process } else { Outlives::Power }
    }
}

/// Where a write stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// It did not and will not take effect.
    Before(Error),
    /// It took effect, but may not survive a power failure.
    After(Error),
}

#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    fsync: bool,
    rng: SeededRng,
    disk: Box<dyn Disk>,
    /// Told what time it is at the file system.
    clock: OnceLock<Arc<dyn Clock>>,
    /// Folders whose own entry this process has seen flushed.
    known: Mutex<HashSet<PathBuf>>,
    /// Files whose name (or its removal) could not be flushed. What a read of one shows is the page cache's
    /// word, and a second flush may succeed because the first has dropped what it could not write. So they
    /// are believed only once a fresh copy was written and flushed ([`Files::settle`]).
    doubtful: Mutex<HashSet<PathBuf>>,
}

/// Makes a folder of the store's own and the one above it, but never the store's folder itself: a
/// disk that is not mounted must not look like an empty store.
pub(super) fn create_own(folder: &Path) -> io::Result<()> {
    for folder in [folder.parent().unwrap_or(folder), folder] {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            result => result?,
        }
    }
    Ok(())
}

/// Whether `error` says that the file is not there: a component may be missing, or be an object.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Why a link is not followed.
pub(super) fn is_a_link(path: &Path) -> Error {
    Error::new(
        Code::StoreDenied,
        format!(
            "{} is a symbolic link, and a store follows none, because it may lead out of its folder; put \
             what it leads to in its place (to have it on another disk, mount that there), or remove it",
            path.display()
        ),
    )
}

impl Files {
    pub(super) fn open(
        root: PathBuf,
        fsync: bool,
        rng: SeededRng,
        disk: Box<dyn Disk>,
    ) -> Result<Self> {
        let shown = root.display().to_string();
        fs::create_dir_all(&root).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => Error::new(
                Code::StoreNotFound,
                format!("the store {shown} is not a folder; name a folder or a new path"),
            ),
            _ => failed(error, "create the store's folder", &shown),
        })?;
        let root = root.canonicalize().map_err(|error| failed(error, "open", &shown))?;
        fs::read_dir(&root).map_err(|error| failed(error, "list", &shown))?;
        let (known, doubtful, clock) = (Mutex::default(), Mutex::default(), OnceLock::new());
        let files = Files { root, fsync, rng, disk, clock, known, doubtful };
        for own in ["tmp", "locks"] {
            files.inside(&files.own(own))?;
        }
        files.remove_stale();
        Ok(files)
    }

    /// Tells `clock` what time it is at the file system, by what is written.
    pub(super) fn tell(&self, clock: Arc<dyn Clock>) {
        let _ = self.clock.set(clock);
    }

    fn doubtful(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a file has to be settled before it is believed.
    pub(super) fn is_doubtful(&self, path: &Path) -> bool {
        self.doubtful().contains(path)
    }

    /// Makes a file that could not be flushed durable as it is, by a fresh copy; the caller holds the lock.
    pub(super) fn settle(&self, path: &Path) -> Result<()> {
        if !self.is_doubtful(path) {
            return Ok(());
        }
        let settled = match fs::read(path) {
            Ok(bytes) => self.replace(path, &bytes, Outlives::Power).map(drop),
            Err(error) if is_missing(&error) => self.flushed(path, &[], Outlives::Power).map(drop),
            Err(error) => Err(Stop::Before(failed(error, "read", path.display()))),
        };
        settled.map_err(|(Stop::Before(error) | Stop::After(error))| {
            error.context("what was written there may not survive a power failure")
        })
    }

    /// A folder of the store's own.
    pub(super) fn own(&self, name: &str) -> PathBuf {
        self.root.join(OWN).join(name)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, key: &str) -> Result<PathBuf> {
        resolve(&self.root, key)
    }

    /// Removes what killed processes left behind: what is an hour older than the last change of the folder
    /// that it is in, both by the file system's clock, because ours may be ahead. Whoever stalled for an hour
    /// finds its temporary file gone and fails, without any effect. Failing here does no harm.
    fn remove_stale(&self) {
        let folder = self.own("tmp");
        let changed = fs::metadata(&folder).and_then(|metadata| metadata.modified());
        let (Ok(changed), Ok(entries)) = (changed, fs::read_dir(&folder)) else {
            return;
        };
        for entry in entries.flatten() {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| changed.duration_since(modified).ok());
            if age.is_some_and(|age| age > STALE_AFTER) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    pub(super) fn read(&self, path: &Path, options: &GetOptions) -> Result<Fetched> {
        let io_failed = |error| failed(error, "read", path.display());
        self.inside(path)?;
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if is_missing(&error) => return self.missing(),
            Err(error) => return Err(io_failed(error)),
        };
        let metadata = file.metadata().map_err(io_failed)?;
        if metadata.is_dir() {
            return Ok(Fetched::Missing);
        }
        // A file is never changed once it has its name, so what we opened is one version.
        let size = metadata.len();
        let range = options.range.as_ref();
        let strong = range.is_none() || size <= DIGEST_MAX_BYTES;
        let whole = |file: &mut File| -> Result<(Bytes, bool)> {
            file.rewind().map_err(io_failed)?;
            read_whole(file, size).map_err(io_failed)
        };
        let known = options.if_none_match.as_ref();
        if !strong {
            let etag = match known {
                Some(known) if !known.is_weak() => digest(&whole(&mut file)?.0),
                _ => weak_etag(&metadata),
            };
            if known == Some(&etag) {
                return Ok(Fetched::Unmodified);
            }
            let (start, end) = bounds(range, size);
            file.seek(SeekFrom::Start(start)).map_err(io_failed)?;
            let bytes = read_exactly(&mut file, end - start).map_err(io_failed)?;
            return Ok(Fetched::Found(Object { bytes, etag, size, mapped: false }));
        }
        let (bytes, mapped) = whole(&mut file)?;
        let etag = digest(&bytes);
        if known.is_some_and(|known| *known == etag || *known == weak_etag(&metadata)) {
            return Ok(Fetched::Unmodified);
        }
        let bytes = slice(&bytes, range);
        Ok(Fetched::Found(Object { bytes, etag, size, mapped }))
    }

    /// No file: in a store that is there, or because the whole folder has gone?
    fn missing(&self) -> Result<Fetched> {
        self.check_root()?;
        Ok(Fetched::Missing)
    }

    /// Refuses a path that has a symbolic link below the store's folder: it may lead out of it.
    pub(super) fn inside(&self, path: &Path) -> Result<()> {
        let mut at = self.root.clone();
        for part in path.strip_prefix(&self.root).unwrap_or(path) {
            at.push(part);
            match fs::symlink_metadata(&at) {
                Ok(metadata) if metadata.is_symlink() => return Err(is_a_link(&at)),
                Ok(_) => {}
                Err(error) if is_missing(&error) => break,
                Err(error) => return Err(failed(error, "look at", at.display())),
            }
        }
        Ok(())
    }

    pub(super) fn check_root(&self) -> Result<()> {
        if self.root.is_dir() {
            return Ok(());
        }
        Err(Error::new(
            Code::StoreNotFound,
            format!("the store's folder {} is gone; restore or mount it", self.root.display()),
        ))
    }

    /// The digest of a file's content; the caller holds the lock.
    pub(super) fn digest(&self, path: &Path) -> Result<Option<Etag>> {
        self.inside(path)?;
        match fs::read(path) {
            Ok(bytes) => Ok(Some(digest(&bytes))),
            Err(error) if is_missing(&error) || error.kind() == ErrorKind::IsADirectory => Ok(None),
            Err(error) => Err(failed(error, "read", path.display())),
        }
    }

    /// Writes `body` at `path` unless something is there (`None`).
    pub(super) fn create(&self, path: &Path, body: &[u8]) -> Result<Option<Etag>, Stop> {
        self.inside(path).map_err(Stop::Before)?;
        // Only saves the work: the link below decides.
        if path.exists() {
            return Ok(None);
        }
        let temporary = self.prepare(path, body, Outlives::Power).map_err(Stop::Before)?;
        let linked = self.place(path, || fs::hard_link(&temporary, path));
        let _ = fs::remove_file(&temporary);
        match linked {
            Ok(()) => self.flushed(path, body, Outlives::Power).map(Some),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(Stop::Before(failed(error, "create", path.display()))),
        }
    }

    /// Writes `body` at `path`, whatever is there; the caller holds the lock.
    pub(super) fn replace(
        &self,
        path: &Path,
        body: &[u8],
        outlives: Outlives,
    ) -> Result<Etag, Stop> {
        let temporary = self.prepare(path, body, outlives).map_err(Stop::Before)?;
        if let Err(error) = self.place(path, || fs::rename(&temporary, path)) {
            let _ = fs::remove_file(&temporary);
            return Err(Stop::Before(failed(error, "replace", path.display())));
        }
        self.flushed(path, body, outlives)
    }

    /// Removes `path`; the caller holds the lock.
    pub(super) fn remove(&self, path: &Path, outlives: Outlives) -> Result<()> {
        self.inside(path)?;
        match fs::remove_file(path) {
            Ok(()) => self
                .flushed(path, &[], outlives)
                .map(drop)
                .map_err(|(Stop::Before(error) | Stop::After(error))| error),
            Err(error) if is_missing(&error) => {
                self.check_root()?;
                self.settle(path)
            }
            Err(_) if path.is_dir() => Ok(()),
            Err(error) => Err(failed(error, "delete", path.display())),
        }
    }

    /// A temporary file with `body`, and the folder that it goes to, both flushed where that has to be.
    fn prepare(&self, path: &Path, body: &[u8], outlives: Outlives) -> Result<PathBuf> {
        self.check_root()?;
        self.inside(path)?;
        if self.doubtful().len() >= DOUBTFUL_MAX && !self.is_doubtful(path) {
            return Err(Error::unavailable(format!(
                "the disk could not make the last {DOUBTFUL_MAX} writes durable; \
                 check the disk that holds the store"
            )));
        }
        let folder = self.own("tmp");
        self.inside(&folder)?;
        let name = format!("{}-{}", std::process::id(), WriteId::random(&self.rng));
        let temporary = folder.join(name);
        let write = || -> io::Result<()> {
            let mut file = match File::create_new(&temporary) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    create_own(&folder)?;
                    File::create_new(&temporary)?
                }
                opened => opened?,
            };
            file.write_all(body)?;
            if self.fsync && outlives == Outlives::Power {
                // Where this fails nothing is believed of the file any more: it goes, and a repeat writes
                // another one.
                self.disk.flush_file(&file)?;
            }
            if let Some(clock) = self.clock.get() {
                clock.saw_store_time(modified(&file.metadata()?));
            }
            self.ensure_parent(path)
        };
        write().map(|()| temporary.clone()).map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failed(error, "write", path.display())
        })
    }

    /// Does `work`, and once more where the folder that we remember was removed by somebody.
    fn place(&self, path: &Path, work: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match work() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.known().clear();
                self.ensure_parent(path)?;
                work()
            }
            result => result,
        }
    }

    fn flushed(&self, path: &Path, body: &[u8], outlives: Outlives) -> Result<Etag, Stop> {
        if outlives == Outlives::Process {
            return Ok(digest(body));
        }
        match self.flush_parent(path) {
            Ok(()) => {
                self.doubtful().remove(path);
                Ok(digest(body))
            }
            Err(error) => {
                self.doubtful().insert(path.to_owned());
                let what = "flush the folder of";
                Err(Stop::After(failed(error, what, path.display())))
            }
        }
    }

    /// Makes the name of a file as durable as its content has been since before it had one.
    pub(super) fn flush_name(&self, path: &Path) -> Result<()> {
        self.flush_parent(path).map_err(|error| {
            self.doubtful().insert(path.to_owned());
            failed(error, "flush the folder of", path.display())
        })
    }

    fn flush_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if self.fsync => self.disk.flush_folder(parent),
            _ => Ok(()),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the folders above `path`. Each is flushed once by every process that writes there,
    /// also where another made it: that one may be killed before it gets to it.
    fn ensure_parent(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(&self.root);
        if self.known().contains(parent) {
            return Ok(());
        }
        let mut folder = self.root.clone();
        for part in parent.strip_prefix(&self.root).unwrap_or(parent) {
            let above = folder.clone();
            folder.push(part);
            let made = fs::create_dir(&folder);
            match &made {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return made,
                _ if !self.fsync => {}
                _ => self.disk.flush_folder(&above).inspect_err(|_| {
                    // Made anew, it is flushed anew.
                    if made.is_ok() {
                        let _ = fs::remove_dir(&folder);
                    }
                })?,
            }
        }
        let mut known = self.known();
        if known.len() >= KNOWN_FOLDERS_MAX {
            known.clear();
        }
        known.insert(parent.to_owned());
        Ok(())
    }
}

/// When a file was written, by the clock of its file system.
fn modified(metadata: &Metadata) -> Timestamp {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Timestamp(u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(0))
}

fn bounds(range: Option<&ByteRange>, size: u64) -> (u64, u64) {
    let (start, end) = match range {
        None => (0, size),
        Some(ByteRange::Bounded(range)) => (range.start.min(size), range.end.min(size)),
        Some(ByteRange::Suffix(length)) => (size.saturating_sub(*length), size),
    };
    (start, end.max(start))
}

/// All of a file: mapped (and then it says so) where it is large and the system lets us, else read.
fn read_whole(file: &mut File, size: u64) -> io::Result<(Bytes, bool)> {
    // Elsewhere a file that is mapped can be neither replaced nor deleted.
    if cfg!(unix)
        && size >= MAPPED_BYTES_MIN
        && let Some(mapped) = usize::try_from(size).ok().and_then(|size| map(file, size).ok())
    {
        return Ok((mapped, true));
    }
    Ok((read_exactly(file, size)?, false))
}

fn read_exactly(file: &mut File, length: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the file is shorter than it was"));
    }
    Ok(bytes.into())
}

pub(super) fn weak_etag(metadata: &Metadata) -> Etag {
    let modified = metadata.modified().ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let nanos = since.unwrap_or_default().as_nanos();
    Etag(format!("W/{:x}-{nanos:x}-{:x}", metadata.len(), inode(metadata)).into())
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_metadata: &Metadata) -> u64 {
    0
}
