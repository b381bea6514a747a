//! From a URL in the settings to a store with every layer around it.

use crate::base::settings::Settings;
use crate::base::{Code, Env, Error, Result};
use crate::store::DynStore;
use crate::store::layers::{Count, Limit, Retry, Timeout, Whole};
use crate::store::local::LocalStore;
use crate::store::memory::MemoryStore;
#[cfg(feature = "s3")]
use crate::store::s3::open as bucket;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `memory:` (a new, private one) or `memory:name` (shared by everything in this process).
    Memory(Option<String>),
    /// `file:///folder`, `file://./folder` or a plain path.
    Folder(PathBuf),
    /// `s3://bucket` or `s3://bucket/prefix`.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// What the keys are put behind; empty, or without a `/` at either end.
        prefix: String,
    },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Memory(name) => write!(f, "memory:{}", name.as_deref().unwrap_or("")),
            Location::Folder(path) => {
                write!(f, "file://{}", path.display().to_string().replace('%', "%25"))
            }
            Location::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Location::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl Location {
    /// Fails where it is a folder that is not there: whoever only reads makes no store of a slip.
    pub fn check_there(&self) -> Result<()> {
        match self {
            Location::Folder(path) if !path.exists() => Err(Error::new(
                Code::StoreNotFound,
                format!(
                    "there is no folder {}: correct the store's URL; `brainy import`, `collections create` and \
                     `serve` make the folder of a new store",
                    path.display()
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// What a path stands for in a URL. What is no escape stands for itself.
fn unescaped(path: &str) -> Result<String> {
    let bytes = percent_encoding::percent_decode_str(path);
    let text = bytes.decode_utf8().map_err(|_| {
        let message =
            "the store's URL has escapes that are not UTF-8; write the folder's path itself";
        Error::new(Code::InvalidSettings, message).with("setting", "store")
    })?;
    if text.contains('\0') {
        let message = "the store's URL has %00 in it, which no path has";
        return Err(Error::new(Code::InvalidSettings, message).with("setting", "store"));
    }
    Ok(text.into_owned())
}

const SUPPORTED: &str = "use s3://bucket/prefix, file:///folder, a folder's path, or memory:";

/// Reads a store's URL.
pub fn parse(url: &str) -> Result<Location> {
    let invalid = |fault: String| {
        Error::new(Code::InvalidSettings, format!("{fault}; {SUPPORTED}")).with("setting", "store")
    };
    let url = url.trim();
    if url.is_empty() {
        return Err(invalid("the store's URL is empty".to_owned()));
    }
    if let Some(name) = url.strip_prefix("memory:") {
        let name = name.trim_start_matches('/');
        return Ok(Location::Memory((!name.is_empty()).then(|| name.to_owned())));
    }
    let folder = |path: &str| Ok(Location::Folder(PathBuf::from(path)));
    let Some((scheme, rest)) = url.split_once("://") else {
        // A relative path may hold a colon, but "s3:bucket" is a slip.
        return match url.split_once(':') {
            Some((scheme @ ("s3" | "file"), _)) => {
                Err(invalid(format!("the store's URL {url:?} lacks the // behind {scheme}:")))
            }
            _ => folder(url),
        };
    };
    match scheme {
        "file" if rest.is_empty() => Err(invalid(format!("the store's URL {url:?} has no folder"))),
        "file" => folder(&unescaped(rest.strip_prefix("localhost").unwrap_or(rest))?),
        "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_matches('/');
            check_s3(bucket, prefix)
                .map_err(|fault| invalid(format!("in the store's URL {fault}")))?;
            Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
        }
        // The rest may hold credentials: name only the scheme.
        other => Err(invalid(format!(
            "the store's URL has the scheme {other:?}, which is not supported"
        ))),
    }
}

fn check_s3(bucket: &str, prefix: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(plain) {
        return Err("the bucket's name is not 3 to 63 letters, digits, dots and dashes".to_owned());
    }
    let fault =
        prefix.split('/').find(|part| !prefix.is_empty() && matches!(*part, "" | "." | ".."));
    if fault.is_some() || prefix.contains(|c: char| c.is_control() || "?#%\\".contains(c)) {
        return Err("the prefix has an empty part, a dot part, or one of ? # % \\ in it".to_owned());
    }
    Ok(())
}

/// Opens the store that `settings` name, ready for use.
pub async fn open(settings: &Settings, env: &Env) -> Result<DynStore> {
    let location = parse(&settings.store)?;
    check_renamed(&settings.store, &location)?;
    let raw = raw(&location, settings, env).await?;
    Ok(layered(raw, settings, env))
}

/// Earlier builds took escapes in a URL for the folder's name. Where they have made such a folder, a new one
/// beside it would look like a store that has lost everything.
fn check_renamed(url: &str, location: &Location) -> Result<()> {
    let literal = url
        .trim()
        .strip_prefix("file://")
        .map(|rest| PathBuf::from(rest.strip_prefix("localhost").unwrap_or(rest)));
    match (location, literal) {
        (Location::Folder(path), Some(literal))
            if *path != literal && literal.exists() && !path.exists() =>
        {
            let (old, new) = (literal.display(), path.display());
            let message = format!(
                "the store's URL means the folder {new}, which is not there, and there is a folder {old}: rename \
                 that, or name it by its path, without file://"
            );
            Err(Error::new(Code::StoreNotFound, message).with("setting", "store"))
        }
        _ => Ok(()),
    }
}

/// The bare store.
async fn raw(location: &Location, settings: &Settings, env: &Env) -> Result<DynStore> {
    Ok(match location {
        Location::Memory(None) => Arc::new(MemoryStore::default()),
        Location::Memory(Some(name)) => shared(name),
        Location::Folder(path) => {
            let store = LocalStore::open(path, settings.fsync).await?;
            Arc::new(store.telling(env.clock.clone()))
        }
        Location::S3 { bucket: name, prefix } => bucket(name, prefix, env).await?,
    })
}

#[cfg(not(feature = "s3"))]
async fn bucket(_: &str, _: &str, _: &Env) -> Result<DynStore> {
    let hint = "this build knows no buckets: build it with the feature s3";
    Err(Error::new(Code::InvalidSettings, hint).with("setting", "store"))
}

/// Puts the layers that `settings` describe around `raw`.
pub fn layered(raw: DynStore, settings: &Settings, env: &Env) -> DynStore {
    let timed = Timeout::new(
        raw,
        Duration::from_millis(settings.store_timeout_ms),
        Duration::from_millis(settings.store_cas_timeout_ms),
    );
    let whole = Whole::new(Arc::new(timed));
    let counted = Count::new(Arc::new(whole), env.metrics.clone());
    let limited = Limit::new(Arc::new(counted), settings.store_concurrency);
    Arc::new(Retry::new(Arc::new(limited), env.rng.clone(), settings.store_retries))
}

/// The store in memory that everything in this process shares under `name`.
fn shared(name: &str) -> DynStore {
    static SHARED: LazyLock<Mutex<BTreeMap<String, Arc<MemoryStore>>>> =
        LazyLock::new(Mutex::default);
    let mut stores = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    stores.entry(name.to_owned()).or_default().clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Fetched, Key, get};
    use bytes::Bytes;

    #[test]
    fn urls_name_their_stores() {
        let folder = |path: &str| Location::Folder(PathBuf::from(path));
        let s3 = |bucket: &str, prefix: &str| Location::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        for (url, expected) in [
            ("memory:", Location::Memory(None)),
            ("memory://", Location::Memory(None)),
            ("memory:x", Location::Memory(Some("x".to_owned()))),
            ("file:///a/b", folder("/a/b")),
            ("file://./a", folder("./a")),
            ("file://localhost/a", folder("/a")),
            ("file:///my%20store/50%25", folder("/my store/50%")),
            ("file:///caf%C3%A9", folder("/café")),
            ("file:///100%", folder("/100%")),
            ("/a/b", folder("/a/b")),
            ("/my%20store", folder("/my%20store")),
            ("some folder", folder("some folder")),
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/", s3("bucket", "")),
            ("s3://my-bucket.x/a/b/", s3("my-bucket.x", "a/b")),
        ] {
            assert_eq!(parse(url).unwrap(), expected, "{url}");
            assert_eq!(parse(&parse(url).unwrap().to_string()).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn other_urls_are_explained() {
        for url in [
            "",
            "file://",
            "file:///%ff",
            "s3://",
            "s3:bucket",
            "s3://b",
            "s3://bucket/a//b",
            "s3://bucket/../x",
            "s3://bucket/a?x=y",
            "s3://user:secret@bucket/a",
            "http://host/secret",
            "gs://bucket",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.code(), Code::InvalidSettings, "{url}");
            let hint = ["s3://bucket/prefix", "the folder's path itself"];
            assert!(hint.iter().any(|hint| error.message().contains(hint)), "{error}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_was_named_with_its_escapes_is_not_passed_over() {
        let (env, dir) = (Env::system(1).unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(dir.path().join("my%20store")).unwrap();
        let store = format!("file://{}/my%20store", dir.path().display());
        let settings = Settings { store, ..Settings::default() };
        let error = open(&settings, &env).await.unwrap_err();
        assert_eq!(error.code(), Code::StoreNotFound, "{error}");
        std::fs::rename(dir.path().join("my%20store"), dir.path().join("my store")).unwrap();
        open(&settings, &env).await.unwrap();
        assert!(!dir.path().join("my%20store").exists());
    }

    #[tokio::test]
    async fn a_named_memory_store_is_shared_and_an_unnamed_one_is_not() {
        let env = Env::system(1).unwrap();
        let (key, mut found) = (Key::raw("k"), Vec::new());
        for url in ["memory:open-test", "memory:"] {
            let settings = Settings { store: url.to_owned(), ..Settings::default() };
            let one = open(&settings, &env).await.unwrap();
            one.put(&key, Bytes::from("x")).await.unwrap();
            let two = open(&settings, &env).await.unwrap();
            found.push(matches!(get(&*two, &key).await.unwrap(), Fetched::Found(_)));
        }
        assert_eq!(found, [true, false]);
    }
}
