//! The collections that this instance has open.

use crate::base::ids::CollectionName;
use crate::base::{Code, Result};
use crate::engine::collection::Collection;
use crate::engine::context::Context;
use crate::engine::damage::{Damage, Kind};
use crate::store::paths;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Collections by name, each with one read path and one write path.
#[derive(Debug)]
pub struct Collections {
    context: Context,
    open: Mutex<BTreeMap<CollectionName, Arc<Collection>>>,
}

impl Collections {
    /// None is open.
    pub fn new(context: Context) -> Collections {
        Collections { context, open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CollectionName, Arc<Collection>>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The names of those that are open, in order.
    pub fn names(&self) -> Vec<CollectionName> {
        self.lock().keys().cloned().collect()
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
        // It was of a life that is over.
        self.context.damage.forget(name);
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

    /// The collection in use, opened when it is first asked for.
    pub async fn open(&self, name: &CollectionName) -> Result<Arc<Collection>> {
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        let (damage, key) = (self.context.damage.of(name), paths::manifest(name));
        let opened = Collection::open(self.context.clone(), name.clone()).await;
        match &opened {
            Ok(_) => damage.mended(Kind::Manifest, key.as_str()),
            Err(error) if error.code() == Code::Corrupt => {
                damage.report(Damage::new(Kind::Manifest, key, None, error.message()));
            }
            Err(_) => {}
        }
        let opened = Arc::new(self.forget_if_gone(name, opened)?);
        let mut collections = self.lock();
        match collections.get(name) {
            // Somebody else opened it meanwhile: one read path and one write path are enough.
            Some(other) if !other.has_ended() => Ok(other.clone()),
            _ => {
                collections.insert(name.clone(), opened.clone());
                Ok(opened)
            }
        }
    }
}
