//! The collections that this instance has open.

mod idle;

pub use idle::{Closer, Rest};

use crate::base::ids::CollectionName;
use crate::base::{Code, Result};
use crate::engine::collection::Collection;
use crate::engine::context::Context;
use idle::Closed;
use std::collections::BTreeMap;
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

    /// Those that are open, with their names, in order.
    pub fn all_named(&self) -> Vec<(CollectionName, Arc<Collection>)> {
        self.lock().iter().map(|(name, open)| (name.clone(), open.clone())).collect()
    }

    /// Those that are open, in the order of their names.
    pub fn all(&self) -> Vec<Arc<Collection>> {
        self.lock().values().cloned().collect()
    }

    /// Lets go of all; the next use opens each anew. Only for an instance that has not answered reads.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    /// Lets go of one; the next use opens it anew.
    pub fn forget(&self, name: &CollectionName) {
        self.lock().remove(name);
    }

    /// Only a collection that is gone is forgotten: a second read path beside a living one could
    /// answer with an older version.
    pub fn forget_if_gone<T>(&self, name: &CollectionName, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| {
            if error.code() == Code::CollectionNotFound {
                self.forget(name);
            }
        })
    }

    /// The collection, where it is open. It is before any of its log is read.
    pub fn known(&self, name: &CollectionName) -> Option<Arc<Collection>> {
        self.lock().get(name).filter(|known| !known.has_ended()).cloned()
    }

    /// The collection in use, opened when it is first asked for; for a request, which keeps it open.
    pub async fn open(&self, name: &CollectionName) -> Result<Arc<Collection>> {
        let collection = self.open_for_upkeep(name).await?;
        collection.rest().touch();
        Ok(collection)
    }

    /// The same for work that nobody asked for.
    pub async fn open_for_upkeep(&self, name: &CollectionName) -> Result<Arc<Collection>> {
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        let opened = Collection::open(self.context.clone(), name.clone()).await;
        let opened = Arc::new(self.forget_if_gone(name, opened)?);
        let mut collections = self.lock();
        match collections.get(name) {
            // Somebody else opened it meanwhile: one read path and one write path are enough.
            Some(other) if !other.has_ended() => Ok(other.clone()),
            _ => {
                self.closed.reopened(&opened);
                collections.insert(name.clone(), opened.clone());
                self.context.env.metrics.collections_open.set(collections.len() as i64);
                Ok(opened)
            }
        }
    }
}
