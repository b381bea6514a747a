//! What is worth keeping in memory?
//!
//! A [`Cache`] holds values by their immutable names, so nothing in it can be stale. It keeps to a budget of bytes;
//! past that, the value that is used least goes first. If several ask for a value at once, it is loaded once. The
//! cache counts how many of those who ask find their value. A value that somebody still uses stays in memory until
//! they let go of it, whatever the budget says.

mod recent;

pub use recent::Recent;

use crate::base::ids::Ulid;
use crate::base::{Error, Result};
use prometheus_client::metrics::counter::Counter;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// What the cache holds knows its size.
pub trait Weighed {
    /// Bytes that it takes.
    fn bytes(&self) -> usize;
}

/// Weights are kibibytes, so that a value of terabytes fits their 32 bits.
const WEIGHT_UNIT: usize = 1 << 10;

/// How often a cache was asked in vain, and how often not. Cloning shares the counters.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The value was there.
    pub hits: Counter,
    /// It was not, or on its way.
    pub misses: Counter,
}

/// Values by name. Cloning shares it.
pub struct Cache<V> {
    values: moka::future::Cache<Ulid, Arc<V>>,
    asked: Asked,
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Cache { values: self.values.clone(), asked: self.asked.clone() }
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}

impl<V: Weighed + Send + Sync + 'static> Cache<V> {
    /// An empty cache for `bytes`.
    pub fn new(bytes: u64) -> Cache<V> {
        Cache::counted(bytes, Asked::default())
    }

    /// The same that counts into `asked`.
    pub fn counted(bytes: u64, asked: Asked) -> Cache<V> {
        let weigh = |_: &Ulid, value: &Arc<V>| {
            u32::try_from(value.bytes() / WEIGHT_UNIT + 1).unwrap_or(u32::MAX)
        };
        let values = moka::future::Cache::builder()
            .max_capacity(bytes / WEIGHT_UNIT as u64)
            .weigher(weigh)
            .build();
        Cache { values, asked }
    }

    /// The value, where it is here; not counted.
    pub async fn get(&self, name: Ulid) -> Option<Arc<V>> {
        self.values.get(&name).await
    }

    /// The value, where it is here; counted as one that was asked for if it is.
    pub async fn find(&self, name: Ulid) -> Option<Arc<V>> {
        let value = self.values.get(&name).await?;
        self.asked.hits.inc();
        Some(value)
    }

    /// The value, loaded where it is not here. Of several who ask at once one loads.
    pub async fn get_or_load(
        &self,
        name: Ulid,
        load: impl Future<Output = Result<V>> + Send,
    ) -> Result<Arc<V>> {
        if let Some(value) = self.values.get(&name).await {
            self.asked.hits.inc();
            return Ok(value);
        }
        self.asked.misses.inc();
        let load = async { load.await.map(Arc::new) };
        self.values.try_get_with(name, load).await.map_err(|error: Arc<Error>| error.replicate())
    }

    /// Forgets a value that will not be asked for again.
    pub async fn forget(&self, name: Ulid) {
        self.values.invalidate(&name).await;
    }

    /// Values held, about: what is under way is not counted yet.
    pub fn count(&self) -> u64 {
        self.values.entry_count()
    }

    /// Bytes held and values held, once everything under way is accounted for.
    pub async fn held(&self) -> (u64, u64) {
        self.values.run_pending_tasks().await;
        (self.values.weighted_size() * WEIGHT_UNIT as u64, self.values.entry_count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    impl Weighed for Vec<u8> {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    #[tokio::test]
    async fn a_value_is_loaded_once_however_many_ask() {
        let cache: Cache<Vec<u8>> = Cache::new(1 << 20);
        let loads = AtomicU32::new(0);
        let load = || async {
            loads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(vec![7; 100])
        };
        let both =
            tokio::join!(cache.get_or_load(Ulid(1), load()), cache.get_or_load(Ulid(1), load()));
        assert_eq!(both.0.unwrap(), both.1.unwrap());
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_finds_a_value_and_who_does_not_is_counted() {
        let asked = Asked::default();
        let cache: Cache<Vec<u8>> = Cache::counted(1 << 20, asked.clone());
        for name in [1, 2, 1, 1] {
            cache.get_or_load(Ulid(name), async { Ok(vec![1]) }).await.unwrap();
        }
        assert!(cache.get(Ulid(1)).await.is_some());
        assert_eq!((asked.hits.get(), asked.misses.get()), (2, 2));
        let _ = cache.get_or_load(Ulid(3), async { Err(Error::unavailable("no")) }).await;
        assert_eq!((asked.hits.get(), asked.misses.get()), (2, 3));
    }

    #[tokio::test]
    async fn a_failed_load_is_tried_again() {
        let cache: Cache<Vec<u8>> = Cache::new(1 << 20);
        let failed = cache.get_or_load(Ulid(1), async { Err(Error::unavailable("no")) }).await;
        assert!(failed.unwrap_err().is_transient());
        assert!(cache.get_or_load(Ulid(1), async { Ok(vec![1]) }).await.is_ok());
    }

    #[tokio::test]
    async fn the_budget_is_kept() {
        let cache: Cache<Vec<u8>> = Cache::new(100 << 10);
        for name in 0..50 {
            cache.get_or_load(Ulid(name), async { Ok(vec![0; 10 << 10]) }).await.unwrap();
        }
        let (bytes, values) = cache.held().await;
        assert!(bytes <= 100 << 10, "{bytes}");
        assert!((1..=10).contains(&values), "{values}");
        cache.forget(Ulid(49)).await;
        assert!(cache.get(Ulid(49)).await.is_none());
    }
}
