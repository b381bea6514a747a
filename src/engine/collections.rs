//! The collections that this instance has open.

mod idle;

pub use idle::{Closer, Rest};

use crate::base::ids::CollectionName;
use crate::base::{Code, Error, Result};
use crate::engine::collection::Collection;
use crate::engine::context::Context;
use crate::engine::damage::{Damage, DamageKind};
use crate::store::paths;
use idle::Closed;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

/// Collections by name, each with one read path and one write path.
#[derive(Debug)]
pub struct Collections {
    context: Context,
    open: Mutex<BTreeMap<CollectionName, Arc<Collection>>>,
    closed: Closed,
}

impl Collections {
    /// None is open.
    pub fn new(context: Context) -> Collections {
        Collections { context, open: Mutex::default(), closed: Closed::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CollectionName, Arc<Collection>>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Those that are open. What has ended is let go of: nobody waits for it, and it lags behind nobody.
    fn living(&self) -> MutexGuard<'_, BTreeMap<CollectionName, Arc<Collection>>> {
        let mut open = self.lock();
        open.retain(|name, collection| {
            let lives = !collection.has_ended();
            if !lives {
                self.closed.note(name, collection);
            }
            lives
        });
        open
    }

    /// Those that are open, with their names, in order.
    pub fn all_named(&self) -> Vec<(CollectionName, Arc<Collection>)> {
        self.living().iter().map(|(name, open)| (name.clone(), open.clone())).collect()
    }

    /// Those that are open, in the order of their names.
    pub fn all(&self) -> Vec<Arc<Collection>> {
        self.living().values().cloned().collect()
    }

    /// Lets go of all; the next use opens each anew. Only for an instance that has not answered reads.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    /// Lets go of one; the next use opens its name anew. A newer life that has taken its place stays.
    pub fn forget(&self, ended: &Arc<Collection>) {
        let mut collections = self.lock();
        if collections.get(ended.name()).is_some_and(|known| Arc::ptr_eq(known, ended)) {
            collections.remove(ended.name());
            // An old manifest may have it opened again, and its versions must not go back.
            self.closed.note(ended.name(), ended);
            // It was of a life that is over.
            self.context.damage.forget(ended.name());
        }
    }

    /// Only a collection that is gone is forgotten: a second read path beside a living one could
    /// answer with an older version.
    pub fn forget_if_gone<T>(&self, collection: &Arc<Collection>, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| {
            if error.code() == Code::CollectionNotFound {
                self.forget(collection);
            }
        })
    }

    /// The collection, where it is open. It is before any of its log is read.
    pub fn known(&self, name: &CollectionName) -> Option<Arc<Collection>> {
        self.lock().get(name).filter(|known| !known.has_ended()).cloned()
    }

    /// The collection in use, opened when it is first asked for; for a request, which keeps it open.
    pub async fn open(&self, name: &CollectionName) -> Result<Arc<Collection>> {
        self.open_from(name, 0).await
    }

    /// The same, but not a life of the name before this one: whoever has seen it begin knows that those
    /// have ended.
    pub async fn open_from(&self, name: &CollectionName, life: u64) -> Result<Arc<Collection>> {
        let collection = self.find(name, life).await?;
        collection.rest().touch();
        Ok(collection)
    }

    /// The collection, for work that nobody asked for: it is closed as if that were not done.
    pub async fn open_for_upkeep(&self, name: &CollectionName) -> Result<Arc<Collection>> {
        self.find(name, 0).await
    }

    async fn find(&self, name: &CollectionName, life: u64) -> Result<Arc<Collection>> {
        if let Some(known) = self.known(name).filter(|known| known.life() >= life) {
            return Ok(known);
        }
        let (damage, key) = (self.context.damage.of(name), paths::manifest(name));
        let opened = Collection::open(self.context.clone(), name.clone()).await;
        match &opened {
            Ok(_) => damage.mended(DamageKind::Manifest, key.as_str()),
            Err(error) if error.code() == Code::Corrupt => {
                damage.report(Damage::new(DamageKind::Manifest, key, None, error.message()));
            }
            Err(_) => {}
        }
        let opened = Arc::new(opened?);
        let mut collections = self.lock();
        match collections.get(name) {
            // Somebody else opened it meanwhile: one read path and one write path are enough.
            Some(other) if !other.has_ended() && other.life() >= opened.life() => Ok(other.clone()),
            before => {
                if let Some(before) = before {
                    self.closed.note(name, before);
                }
                self.closed.reopened(&opened);
                collections.insert(name.clone(), opened.clone());
                self.context.env.metrics.collections_open.set(collections.len() as i64);
                Ok(opened)
            }
        }
    }

    /// Does `act` on what the name means now. All of it is on one life of the name; where that turns out
    /// to have ended, it begins again on the next one, once: if that ends too, there was a moment during
    /// the call without a collection of this name.
    pub async fn on_life<T, F>(
        &self,
        name: &CollectionName,
        act: impl Fn(Arc<Collection>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let collection = self.open(name).await?;
        match self.unless_ended(&collection, act(collection.clone()).await).await {
            Err(error) if is_over(&error) => {}
            result => return result,
        }
        let next = self.open(name).await?;
        self.unless_ended(&next, act(next.clone()).await).await
    }

    /// `result` of something that was done to a collection. What was refused because of its settings is
    /// refused only if they are still those of the name: this instance may not have heard of the
    /// end of its life.
    pub async fn unless_ended<T>(
        &self,
        collection: &Arc<Collection>,
        result: Result<T>,
    ) -> Result<T> {
        let result = match result {
            Err(error) if is_about_settings(&error) => match collection.view().look_now().await {
                Ok(_) => Err(error),
                // It is over, or nobody can tell now whether it is.
                Err(fault) => Err(fault),
            },
            result => result,
        };
        self.forget_if_gone(collection, result)
    }
}

/// Whether nothing has come of a request because the life of the collection that it was for had ended.
pub fn is_over(error: &Error) -> bool {
    error.code() == Code::CollectionNotFound && !error.is_ambiguous()
}

/// Whether a request is refused for what a collection was created with.
fn is_about_settings(error: &Error) -> bool {
    matches!(error.code(), Code::DimensionMismatch | Code::InvalidVector)
}
