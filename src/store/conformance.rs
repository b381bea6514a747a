//! One suite that every store has to pass: memory, folder, S3.
//!
//! Plain code, so that unit tests, the tests against real servers and anybody who writes a store
//! can run it. [`run`] stops at the first check that fails and names it.

mod basics;
mod listing;
pub(crate) mod races;

use crate::base::ids::Ulid;
use crate::base::{Env, Error, Result};
use crate::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Object, Precondition, Prefix, PutOutcome, paths,
};
use bytes::Bytes;
use std::fmt;
use std::future::Future;

/// How hard the races are.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// How many tasks race for one key.
    pub racers: usize,
    /// How many keys they race to create.
    pub creations: usize,
    /// How many updates each of them has to land on one key.
    pub updates: usize,
    /// Whether folders must leave no trace in listings, as on S3: the order over several of them is
    /// that of the bytes, and one that has become empty is gone at once.
    pub flat: bool,
}

const ACROSS_FOLDERS: &str = "list order across folders";

impl Effort {
    /// For stores in this process.
    pub const QUICK: Effort = Effort { racers: 16, creations: 20, updates: 20, flat: true };
    /// For servers.
    pub const SERVER: Effort = Effort { racers: 16, creations: 10, updates: 10, flat: false };
}

/// The check that failed, and how.
#[derive(Debug)]
pub struct Failure {
    /// The check's name.
    pub check: &'static str,
    /// What was expected and what came.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conformance check {:?}: {}", self.check, self.detail)
    }
}

impl std::error::Error for Failure {}

/// The names of the checks that passed, or the first that did not.
pub type Verdict = Result<Vec<&'static str>, Failure>;

/// What a check works with: the store, and a place in it of its own.
struct Bench {
    store: DynStore,
    env: Env,
    folder: String,
    effort: Effort,
}

/// What a check returns: the reason why it failed.
type Check = Result<(), String>;

/// Runs every check on `store`, below a folder of its own that is emptied afterwards.
pub async fn run(store: &DynStore, env: &Env, effort: Effort) -> Verdict {
    let bench = Bench {
        store: store.clone(),
        env: env.clone(),
        folder: paths::probe_run(env.ulid()).as_str().trim_end_matches('/').to_owned(),
        effort,
    };
    let mut passed = Vec::new();
    let verdict = bench.all(&mut passed).await;
    let cleaned = bench
        .clean()
        .await
        .map_err(|error| Failure { check: "clean up", detail: error.to_string() });
    verdict.and(cleaned).map(|()| passed)
}

impl Bench {
    async fn all(&self, passed: &mut Vec<&'static str>) -> Result<(), Failure> {
        macro_rules! checks {
            ($($name:literal: $check:expr,)*) => {
                $(named($name, $check).await?; passed.push($name);)*
            };
        }
        checks! {
            "put, get, overwrite": basics::put_get(self),
            "missing objects": basics::missing(self),
            "ranges": basics::ranges(self),
            "conditional get": basics::conditional_get(self),
            "create if absent": basics::create(self),
            "update if match": basics::update(self),
            "update of a missing key": basics::update_missing(self),
            "delete": basics::delete(self),
            "keys": basics::keys(self),
            "large object": basics::large(self),
            "list order": listing::flat(self),
            "list pages": listing::pages(self),
            "list prefix": listing::prefixes(self),
            "list folders": listing::folders(self),
            "race to create": races::create(self),
            "race to update": races::update(self),
        }
        // The last, because it may be left out: no listing of ours depends on it.
        match named(ACROSS_FOLDERS, listing::across_folders(self)).await {
            Ok(()) => passed.push(ACROSS_FOLDERS),
            Err(failure) if self.effort.flat => return Err(failure),
            Err(failure) => tracing::info!(%failure, "the store orders listings by folder"),
        }
        Ok(())
    }

    fn key(&self, name: &str) -> Key {
        Key::raw(format!("{}/{name}", self.folder))
    }

    fn prefix(&self, name: &str) -> Prefix {
        Prefix::raw(format!("{}/{name}", self.folder))
    }

    /// A name that was not used before.
    fn fresh(&self) -> Ulid {
        self.env.ulid()
    }

    async fn put(&self, key: &Key, body: impl Into<Bytes>) -> Result<Etag, String> {
        text(self.store.put(key, body.into()).await)
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched, String> {
        text(self.store.get(key, options).await)
    }

    async fn found(&self, key: &Key) -> Result<Object, String> {
        match self.get(key, GetOptions::default()).await? {
            Fetched::Found(object) => Ok(object),
            other => Err(format!("expected an object at {key}, got {other:?}")),
        }
    }

    async fn put_if(&self, key: &Key, body: impl Into<Bytes>, when: Precondition) -> PutOutcome {
        self.store.put_if(key, body.into(), when).await
    }

    async fn clean(&self) -> Result<()> {
        let prefix = self.prefix("");
        // A server may take a moment to forget, so the bound is on the rounds, not on the objects.
        for _ in 0..100 {
            let listing = self.store.list(&prefix, None, 1000).await?;
            if listing.objects.is_empty() {
                return Ok(());
            }
            for object in listing.objects {
                self.store.delete(&object.key).await?;
            }
        }
        Err(Error::unavailable(format!("{prefix} does not become empty")))
    }
}

async fn named(check: &'static str, work: impl Future<Output = Check>) -> Result<(), Failure> {
    work.await.map_err(|detail| Failure { check, detail })
}

fn text<T>(result: Result<T>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn won(outcome: PutOutcome) -> Result<Etag, String> {
    match outcome {
        PutOutcome::Won(etag) => Ok(etag),
        other => Err(format!("expected the conditional put to win, got {other:?}")),
    }
}

fn lost(outcome: PutOutcome) -> Check {
    match outcome {
        PutOutcome::Lost => Ok(()),
        other => Err(format!("expected the conditional put to lose, got {other:?}")),
    }
}
