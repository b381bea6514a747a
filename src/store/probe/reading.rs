//! May whoever asks read this store as a reader has to? Nothing is written to find out.

use super::{Check, Finding, Report, Status, kind, latency};
use crate::base::ids::CollectionName;
use crate::base::{Code, Env, Error, Result};
use crate::store::{ByteRange, DynStore, Fetched, GetOptions, Key, Object, Prefix, get, paths};
use futures::future::BoxFuture;
use tokio::time::Instant;

/// Collections of which objects are read.
const COLLECTIONS_MAX: usize = 3;
/// Bytes of an object that are read.
const SAMPLE_BYTES: u64 = 64;

/// Tries what a reader does with the store at `config` and in the first collections. An error means that the
/// store does not answer; what is refused or wrong is in the report.
pub async fn inspect(store: &DynStore, env: &Env, config: &Key, samples: usize) -> Result<Report> {
    let reading = Reading { store, env, config };
    let mut report = Report::default();
    let checks: [(&'static str, BoxFuture<'_, Result<Finding>>); 5] = [
        ("list", Box::pin(reading.list())),
        ("get of a missing object", Box::pin(reading.missing())),
        ("get", Box::pin(reading.get())),
        ("ranged get", Box::pin(reading.ranges())),
        ("conditional get", Box::pin(reading.conditional())),
    ];
    for (name, check) in checks {
        let (status, detail) = match check.await {
            Ok(Ok(detail)) => (Status::Ok, detail),
            Ok(Err(detail)) => (Status::Failed, detail),
            Err(error) if error.is_transient() => {
                return Err(error.context(format!("could not run the check {name:?}")));
            }
            Err(error) => (Status::Failed, error.message().to_owned()),
        };
        report.checks.push(Check { name, status, detail });
    }
    if report.checks.iter().all(|check| check.status == Status::Ok) {
        report.latencies.push(latency("get", reading.times(samples).await?));
    }
    Ok(report)
}

/// The first check that a reader does not get past, as an error.
pub fn require_readable(report: &Report) -> Result<()> {
    let failed = report.checks.iter().find(|check| check.status == Status::Failed);
    failed.map_or(Ok(()), |check| {
        Err(Error::new(
            Code::StoreDenied,
            format!(
                "a reader cannot work with these rights, for the check {:?} fails: {}",
                check.name, check.detail
            ),
        )
        .with("check", check.name))
    })
}

struct Reading<'a> {
    store: &'a DynStore,
    env: &'a Env,
    config: &'a Key,
}

impl Reading<'_> {
    async fn collections(&self) -> Result<Vec<CollectionName>> {
        let names = self.store.list_dirs(&paths::collections()).await?;
        Ok(names.into_iter().filter_map(|name| CollectionName::new(name).ok()).collect())
    }

    async fn list(&self) -> Result<Finding> {
        self.store.list(&paths::everything(), None, 1).await?;
        let count = self.collections().await?.len();
        self.store.list(&paths::heartbeats(), None, 1).await?;
        Ok(Ok(format!("collections ({count}) and their objects can be listed")))
    }

    /// What S3 hides from those who may not list: a reader looks for the next entry of a log by its name.
    async fn missing(&self) -> Result<Finding> {
        let key = paths::probe(self.env.ulid(), "missing");
        let found = get(&**self.store, &key).await?;
        Ok(match found {
            Fetched::Missing => Ok("is answered by 404".to_owned()),
            other => Err(format!("was answered by {}", kind(&other))),
        })
    }

    /// One object of each kind that there is.
    async fn objects(&self) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        for name in self.collections().await?.into_iter().take(COLLECTIONS_MAX) {
            keys.push(paths::manifest(&name));
            for folder in [
                paths::manifest_history_all(&name),
                paths::wal_entries(&name),
                paths::wal_data_all(&name),
                paths::vectors_all(&name),
            ] {
                keys.extend(self.first(&folder).await?);
            }
        }
        Ok(keys)
    }

    async fn first(&self, folder: &Prefix) -> Result<Option<Key>> {
        let listing = self.store.list(folder, None, 1).await?;
        Ok(listing.objects.into_iter().next().map(|object| object.key))
    }

    async fn sample(&self, key: &Key, range: ByteRange) -> Result<Option<Object>> {
        let options = GetOptions { range: Some(range), if_none_match: None };
        Ok(match self.store.get(key, options).await? {
            Fetched::Found(object) => Some(object),
            // Deleted since it was listed, or never there.
            Fetched::Missing | Fetched::Unmodified => None,
        })
    }

    async fn get(&self) -> Result<Finding> {
        let mut read = 0;
        for key in self.objects().await?.iter().chain([self.config]) {
            let object = self.sample(key, ByteRange::Bounded(0..SAMPLE_BYTES)).await?;
            read += usize::from(object.is_some());
        }
        Ok(Ok(match read {
            0 => "may be asked for; there is no object to read yet".to_owned(),
            read => format!("{read} objects can be read, one of each kind that there is"),
        }))
    }

    async fn ranges(&self) -> Result<Finding> {
        let mut tried = 0;
        for key in self.objects().await? {
            let head = self.sample(&key, ByteRange::Bounded(0..SAMPLE_BYTES)).await?;
            let tail = self.sample(&key, ByteRange::Suffix(SAMPLE_BYTES)).await?;
            for object in [head, tail].into_iter().flatten() {
                let (found, size) = (object.bytes.len() as u64, object.size);
                if found != size.min(SAMPLE_BYTES) {
                    return Ok(Err(format!(
                        "{SAMPLE_BYTES} bytes of {key}, which has {size}, were {found}"
                    )));
                }
                tried += 1;
            }
        }
        Ok(Ok(match tried {
            0 => "not tried: there is no object to read yet".to_owned(),
            _ => "ranges and suffixes are honoured".to_owned(),
        }))
    }

    async fn conditional(&self) -> Result<Finding> {
        let manifests = self.collections().await?.into_iter().take(1);
        let keys = manifests.map(|name| paths::manifest(&name)).chain([self.config.clone()]);
        for key in keys {
            let Fetched::Found(object) = get(&**self.store, &key).await? else { continue };
            let options = GetOptions { range: None, if_none_match: Some(object.etag.clone()) };
            return Ok(match self.store.get(&key, options).await? {
                Fetched::Unmodified => Ok("If-None-Match is honoured".to_owned()),
                // Changed between the two.
                Fetched::Found(now) if now.etag != object.etag => {
                    Ok("not seen: the object changed meanwhile".to_owned())
                }
                other => Err(format!("an unchanged object gave {}", kind(&other))),
            });
        }
        Ok(Ok("not tried: there is no object to read yet".to_owned()))
    }

    async fn times(&self, samples: usize) -> Result<Vec<std::time::Duration>> {
        let mut times = Vec::with_capacity(samples);
        for _ in 0..samples {
            let start = Instant::now();
            get(&**self.store, self.config).await?;
            times.push(start.elapsed());
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests;
