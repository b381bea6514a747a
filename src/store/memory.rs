//! A store in memory: `memory:` URLs, tests, and the ground under the simulation.

use crate::base::Result;
use crate::store::{
    ByteRange, Etag, Fetched, GetOptions, Key, Listed, Listing, Object, Precondition, Prefix,
    PutOutcome, Store,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_128;

/// Objects in an ordered map. The etag is a digest of the content, as on S3.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<Key, (Bytes, Etag)>>,
}

/// The etag of a content: the same bytes always have the same one, which is the hard case.
pub(crate) fn digest(body: &[u8]) -> Etag {
    Etag(format!("{:032x}", xxh3_128(body)).into())
}

/// Cuts `range` out of `bytes`.
pub(crate) fn slice(bytes: &Bytes, range: Option<&ByteRange>) -> Bytes {
    let size = bytes.len() as u64;
    let (start, end) = match range {
        None => (0, size),
        Some(ByteRange::Bounded(range)) => (range.start.min(size), range.end.min(size)),
        Some(ByteRange::Suffix(length)) => (size.saturating_sub(*length), size),
    };
    bytes.slice(start as usize..end.max(start) as usize)
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, (Bytes, Etag)>> {
        self.objects.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        let objects = self.lock();
        let Some((bytes, etag)) = objects.get(key) else {
            return Ok(Fetched::Missing);
        };
        if options.if_none_match.as_ref() == Some(etag) {
            return Ok(Fetched::Unmodified);
        }
        Ok(Fetched::Found(Object {
            bytes: slice(bytes, options.range.as_ref()),
            etag: etag.clone(),
            size: bytes.len() as u64,
            mapped: false,
        }))
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        let etag = digest(&body);
        self.lock().insert(key.clone(), (body, etag.clone()));
        Ok(etag)
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        let mut objects = self.lock();
        let holds = match (&condition, objects.get(key)) {
            (Precondition::Absent, current) => current.is_none(),
            (Precondition::Matches(etag), current) => {
                current.is_some_and(|(_, current)| current == etag)
            }
        };
        if !holds {
            return PutOutcome::Lost;
        }
        let etag = digest(&body);
        objects.insert(key.clone(), (body, etag.clone()));
        PutOutcome::Won(etag)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.lock().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        let start = Key::raw(prefix.as_str());
        let from = match after {
            Some(after) if *after >= start => Bound::Excluded(after.clone()),
            _ => Bound::Included(start),
        };
        let objects = self.lock();
        let mut matching = objects
            .range((from, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix.as_str()));
        let page = matching.by_ref().take(limit);
        let objects = page
            .map(|(key, (bytes, etag))| Listed {
                key: key.clone(),
                size: bytes.len() as u64,
                etag: Some(etag.clone()),
            })
            .collect();
        Ok(Listing { objects, more: matching.next().is_some() })
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        let objects = self.lock();
        let below = objects
            .keys()
            .filter_map(|key| key.as_str().strip_prefix(prefix.as_str())?.split_once('/'));
        let mut dirs: Vec<String> = below.map(|(dir, _)| dir.to_owned()).collect();
        dirs.dedup();
        // In the order of the keys, "a-b/" comes before "a/".
        dirs.sort_unstable();
        Ok(dirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Env;
    use crate::store::DynStore;
    use crate::store::conformance::{Effort, run};
    use std::sync::Arc;

    #[tokio::test(flavor = "multi_thread")]
    async fn conforms() {
        let env = Env::system(1).unwrap();
        let store: DynStore = Arc::new(MemoryStore::default());
        let passed = run(&store, &env, Effort::QUICK).await.unwrap();
        assert_eq!(passed.len(), 17);
    }
}
