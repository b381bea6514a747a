//! One look at one collection, and when the next one is due.
//!
//! A visit reads the manifest and then does the four kinds of work, each for itself: that one of them fails
//! keeps none of the others. Where nothing waits for its grace period, the manifest is asked for only if it has
//! changed, and the longer it has not, the longer is the pause: half of that time, up to [`REST_MAX`].

use super::bodies::Bodies;
use super::floor::Floor;
use super::history::History;
use super::sweep::Unnamed;
use crate::base::clock::Mark;
use crate::base::ids::CollectionName;
use crate::base::{Env, Error, Result};
use crate::engine::context::Context;
use crate::manifest::{self, Manifest};
use crate::store::{DynStore, Etag, Fetched, GetOptions, Key, paths};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Keys listed at a time.
pub(super) const LIST_PAGE: usize = 1_000;
/// Pages whose objects are deleted in one visit.
pub(super) const PAGES_MAX: usize = 10;
/// The longest pause between two visits of a collection that does not change.
const REST_MAX: Duration = Duration::from_secs(6 * 3_600);
/// How often what is without a name is looked for although the manifest has not changed: a process may have left
/// something behind before it died.
pub(super) const LOOK_ANYWAY: Duration = Duration::from_secs(24 * 3_600);
/// The longest pause after failures, and how often at most one collection's failure is logged.
const FAILED_MAX: Duration = Duration::from_secs(3_600);
/// Collections that the metric of failures names.
const NAMED_MAX: usize = 100;

/// What a visit has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Visited {
    /// Objects that it deleted.
    pub deleted: u64,
    /// Whether there is more to be deleted right now.
    pub more: bool,
}

/// What is remembered of a collection between visits.
#[derive(Debug, Default)]
pub(super) struct Known {
    manifest: Option<Last>,
    pub(super) floor: Floor,
    pub(super) unnamed: Unnamed,
    pub(super) bodies: Bodies,
    pub(super) history: History,
    /// Visits in a row that failed, and when that was logged last.
    failures: u32,
    logged: Option<Mark>,
}

/// The manifest of the last visit, as far as it is remembered.
#[derive(Debug)]
struct Last {
    etag: Etag,
    version: u64,
    swept_before: u64,
    /// When it was first seen, and how old it was then by its writer's clock: good enough for a pause.
    since: Mark,
    age: Duration,
}

impl Known {
    /// The version of the manifest at the last visit.
    pub(super) fn version(&self) -> Option<u64> {
        self.manifest.as_ref().map(|last| last.version)
    }

    /// Whether nothing is to be done until the manifest changes.
    fn rests(&self, visitor: &Visitor) -> bool {
        self.version().is_some_and(|version| {
            self.floor.rests(visitor)
                && self.unnamed.rests(visitor, version)
                && self.bodies.rests(visitor, version)
                && self.history.rests(visitor, version)
        })
    }

    /// Remembers what was read just now.
    fn note(&mut self, env: &Env, manifest: &Manifest, etag: Etag) {
        let (version, swept_before) = (manifest.stamp.version, manifest.swept_before.0);
        if let Some(last) = &self.manifest {
            if last.version == version && last.etag == etag {
                return;
            }
            if version <= last.version || swept_before < last.swept_before {
                let name = &manifest.name;
                tracing::info!(collection = %name, version, "an earlier manifest was put back");
                // It may name what was without a name: nothing counts that was seen before.
                *self = Known::default();
            }
        }
        let age = env.clock.now().0.saturating_sub(manifest.stamp.updated.0);
        let (since, age) = (env.clock.mark(), Duration::from_millis(age));
        self.manifest = Some(Last { etag, version, swept_before, since, age });
    }
}

/// Visits collections. Cloning shares the bound on requests.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) store: DynStore,
    pub(super) env: Env,
    /// How long something is to have been without a name.
    pub(super) grace: Duration,
    /// How long earlier manifests are kept.
    pub(super) kept_for: Duration,
    pub(super) started: Mark,
    /// Requests in flight.
    pub(super) requests: usize,
    permits: Arc<Semaphore>,
}

impl Visitor {
    pub(super) fn new(context: &Context) -> Visitor {
        let requests = context.background_requests;
        Visitor {
            store: context.store.clone(),
            env: context.env.clone(),
            grace: context.limits.grace,
            kept_for: context.manifest_history,
            started: context.env.clock.mark(),
            requests,
            permits: Arc::new(Semaphore::new(requests)),
        }
    }

    /// The shortest pause between two visits.
    pub(super) fn pause(&self) -> Duration {
        self.grace / 2 + self.env.rng.jitter(self.grace / 4)
    }

    /// Whether what a manifest says is kept for those who put an older one in force, so that what it allows to delete may
    /// be deleted. Not where it has been replaced meanwhile.
    pub(super) async fn is_kept(&self, manifest: &Manifest) -> Result<bool> {
        let version = manifest.stamp.version;
        manifest::keep_in_force(&self.store, &self.env, &manifest.name, version).await
    }

    /// Whether `mark` is as long ago as the grace period of the collection of `manifest`.
    pub(super) fn is_old(&self, manifest: &Manifest, mark: Mark) -> bool {
        self.env.clock.steady_since(mark) >= manifest.grace_to_wait(self.grace)
    }

    /// One look at a collection.
    pub(super) async fn visit(&self, name: &CollectionName, known: &mut Known) -> Result<Visited> {
        let if_none_match = match &known.manifest {
            Some(last) if known.rests(self) => Some(last.etag.clone()),
            _ => None,
        };
        let options = GetOptions { range: None, if_none_match };
        let object = match self.store.get(&paths::manifest(name), options).await? {
            Fetched::Unmodified => return Ok(Visited::default()),
            // A folder that has only the name of a collection.
            Fetched::Missing => {
                *known = Known::default();
                return Ok(Visited::default());
            }
            Fetched::Found(object) => object,
        };
        let manifest = manifest::parse(name, &object.bytes)?;
        known.note(&self.env, &manifest, object.etag);
        // After the answer: what it shows may have come to be just before.
        let seen = self.env.clock.mark();
        let outcomes = [
            self.collect_log(&manifest, seen, &mut known.floor).await,
            self.sweep(&manifest, &mut known.unnamed).await,
            self.collect_bodies(&manifest, &mut known.bodies).await,
            self.collect_history(&manifest, &mut known.history).await,
        ];
        let (mut visited, mut fault) = (Visited::default(), None);
        for outcome in outcomes {
            match outcome {
                Ok(Visited { deleted, more }) => {
                    visited.deleted += deleted;
                    visited.more |= more;
                }
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        fault.map_or(Ok(visited), Err)
    }

    /// Takes note of how a visit ended; the pause until the next one.
    pub(super) fn settle(
        &self,
        name: &CollectionName,
        known: &mut Known,
        visited: Result<Visited>,
    ) -> Duration {
        let metrics = &self.env.metrics;
        let visited = match visited {
            Ok(visited) => visited,
            Err(error) => {
                known.failures += 1;
                metrics.collector_failures.inc();
                metrics.collector_failing.name(name.as_str(), NAMED_MAX);
                self.log(name, known, &error);
                let longest = self.grace * (1 << known.failures.min(16));
                return longest.min(FAILED_MAX) / 2 + self.env.rng.jitter(self.pause());
            }
        };
        if known.failures > 0 {
            metrics.collector_failing.forget(name.as_str());
            tracing::info!(collection = %name, "collecting works again");
            (known.failures, known.logged) = (0, None);
        }
        if visited.more {
            return Duration::ZERO;
        }
        let pause = self.pause();
        match &known.manifest {
            Some(last) if known.rests(self) => {
                let unchanged = self.env.clock.steady_since(last.since).saturating_add(last.age);
                let rest = (unchanged / 2).min(REST_MAX);
                pause.max(rest - self.env.rng.jitter(rest / 8))
            }
            Some(_) => pause,
            None => pause.max(FAILED_MAX),
        }
    }

    fn log(&self, name: &CollectionName, known: &mut Known, error: &Error) {
        let clock = &self.env.clock;
        if known.logged.is_none_or(|logged| clock.since(logged) >= FAILED_MAX) {
            known.logged = Some(clock.mark());
            tracing::warn!(
                %error, collection = %name, failures = known.failures,
                "collecting failed; the others are collected, and this one is tried again later"
            );
        }
    }

    /// A permit for one request to the store.
    pub(super) async fn permit(&self) -> Result<SemaphorePermit<'_>> {
        let acquired = self.permits.acquire().await;
        // The semaphore lives as long as we do and nobody closes it.
        acquired.map_err(|_| Error::internal("the collector's limit was closed"))
    }

    /// Does `work` on each of `items`, several at a time, until one fails.
    pub(super) async fn each<T, F: Future<Output = Result<()>>>(
        &self,
        items: impl IntoIterator<Item = T>,
        work: impl Fn(T) -> F,
    ) -> Result<()> {
        let works: Vec<F> = items.into_iter().map(work).collect();
        stream::iter(works)
            .buffer_unordered(self.requests)
            .try_for_each(|()| async { Ok(()) })
            .await
    }

    /// Deletes objects, several at a time.
    pub(super) async fn delete_all(&self, keys: Vec<Key>) -> Result<u64> {
        let count = keys.len() as u64;
        self.each(keys, |key| async move {
            let _permit = self.permit().await?;
            self.store.delete(&key).await
        })
        .await?;
        Ok(count)
    }
}
