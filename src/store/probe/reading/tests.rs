use super::*;
use crate::base::ids::{Seq, Ulid};
use crate::store::memory::MemoryStore;
use crate::store::{Etag, Listing, Precondition, PutOutcome, Store};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

/// A store that refuses all writes, and some reads.
#[derive(Debug)]
struct Rights {
    inner: MemoryStore,
    /// Who may not list gets 403 for what is not there.
    lists: bool,
    /// What stands in keys that may not be read.
    hidden: Option<&'static str>,
    ranges: bool,
}

fn denied() -> Error {
    Error::new(Code::StoreDenied, "the store answered with 403")
}

#[async_trait]
impl Store for Rights {
    async fn get(&self, key: &Key, mut options: GetOptions) -> Result<Fetched> {
        if !self.ranges {
            options.range = None;
        }
        let found = self.inner.get(key, options).await?;
        let hidden = self.hidden.is_some_and(|hidden| key.as_str().contains(hidden));
        let missing = matches!(found, Fetched::Missing);
        if hidden || (missing && !self.lists) { Err(denied()) } else { Ok(found) }
    }

    async fn put(&self, _: &Key, _: Bytes) -> Result<Etag> {
        panic!("nothing may be written")
    }

    async fn put_if(&self, _: &Key, _: Bytes, _: Precondition) -> PutOutcome {
        panic!("nothing may be written")
    }

    async fn delete(&self, _: &Key) -> Result<()> {
        panic!("nothing may be deleted")
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        if !self.lists {
            return Err(denied());
        }
        self.inner.list(prefix, after, limit).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        if !self.lists {
            return Err(denied());
        }
        self.inner.list_dirs(prefix).await
    }
}

/// The checks that fail with such rights, of a store with a collection or of an empty one.
async fn failing(
    lists: bool,
    hidden: Option<&'static str>,
    ranges: bool,
    full: bool,
) -> Vec<&'static str> {
    let (inner, config) = (MemoryStore::default(), paths::config("config"));
    if full {
        let name = CollectionName::new("c").unwrap();
        for key in [
            config.clone(),
            paths::manifest(&name),
            paths::wal_entry(&name, Seq(1)),
            paths::segment(&name, 1, Ulid(1)),
        ] {
            inner.put(&key, Bytes::from(vec![7; 200])).await.unwrap();
        }
    }
    let store: DynStore = Arc::new(Rights { inner, lists, hidden, ranges });
    let report = inspect(&store, &Env::system(1).unwrap(), &config, 2).await.unwrap();
    let failed = report.checks.iter().filter(|check| check.status == Status::Failed);
    let failed: Vec<_> = failed.map(|check| check.name).collect();
    assert_eq!(require_readable(&report).is_ok(), failed.is_empty());
    assert_eq!(report.latencies.len(), usize::from(failed.is_empty()));
    failed
}

#[tokio::test]
async fn each_right_that_a_reader_lacks_is_named_and_nothing_is_written() {
    assert_eq!(failing(true, None, true, true).await, [""; 0]);
    assert_eq!(failing(true, None, true, false).await, [""; 0], "an empty store");
    let unlisted = failing(false, None, true, true).await;
    assert_eq!(unlisted[..2], ["list", "get of a missing object"]);
    for hidden in ["segments", "p001", "manifest.json", "/0000", "config"] {
        let failed = failing(true, Some(hidden), true, true).await;
        // There is nothing by the first name.
        assert_eq!(failed.contains(&"get"), hidden != "segments", "{hidden}: {failed:?}");
    }
    assert_eq!(failing(true, None, false, true).await, ["get", "ranged get"][1..]);
}
