//! One instance's hold on the shared config: what it read last, what it may replace, and what is in force
//! while the object is broken or gone.
//!
//! The changes made here need no write ids: each is decided anew on what was read last and says the
//! same again where it took effect already. So an ambiguous PUT is read back like a lost one.

use super::config::{CONFIG_BYTES_MAX, SharedConfig};
use crate::base::metrics::ClusterLabels;
use crate::base::{Code, Env, Error, Result, Timestamp};
use crate::store::{self, DynStore, Etag, Fetched, Key, Object, Precondition, PutOutcome};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Parsed configs that are kept for others.
const PARSED_MAX: usize = 4;

/// Configs that were parsed lately, by etag: several instances in one process share it, so that each
/// version is parsed and held once.
#[derive(Debug, Clone, Default)]
pub struct ParsedConfigs(Arc<Mutex<VecDeque<Parsed>>>);

type Parsed = (Etag, Arc<SharedConfig>);

impl ParsedConfigs {
    fn get(&self, object: &Object) -> Result<Arc<SharedConfig>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = kept.iter().find(|(etag, _)| *etag == object.etag) {
            return Ok(config.clone());
        }
        SharedConfig::check_size(object.size)?;
        let config = Arc::new(SharedConfig::parse(&object.bytes)?);
        kept.push_back((object.etag.clone(), config.clone()));
        if kept.len() > PARSED_MAX {
            kept.pop_front();
        }
        Ok(config)
    }
}

/// The shared config as it stands at `key`, for those that are no members: it says what was last written,
/// and nobody has judged who lives. The empty one where there is none.
pub async fn read_shared_config(store: &DynStore, key: &Key) -> Result<SharedConfig> {
    match store::get_up_to(&**store, key, None, CONFIG_BYTES_MAX).await? {
        Fetched::Found(object) => {
            SharedConfig::check_size(object.size)?;
            SharedConfig::parse(&object.bytes)
        }
        Fetched::Missing | Fetched::Unmodified => Ok(SharedConfig::default()),
    }
}

/// Why the object in the store is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// What is wrong and what to do.
    pub message: String,
    /// The line that is wrong, from 1.
    pub line: u64,
    /// The column that is wrong.
    pub column: u64,
    /// Since when this instance knows.
    pub since: Timestamp,
}

/// What stands in the store, as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// Nobody has looked.
    Unknown,
    Missing,
    Sound(Etag),
    Broken(Etag),
}

/// How an attempt to replace the object ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Won,
    /// Somebody else was first, or nobody knows: look again.
    Again,
}

#[derive(Debug)]
pub(super) struct Shared {
    store: DynStore,
    env: Env,
    key: Key,
    parsed: ParsedConfigs,
    /// The longest that one request may take.
    patience: Duration,
    standing: Standing,
    /// What is in force.
    config: Arc<SharedConfig>,
    /// The greatest version that was ever seen.
    version_max: u64,
    /// Whether what is in force is not what stands in the store, and has to be written.
    pub(super) dirty: bool,
    pub(super) fault: Option<ConfigFault>,
}

impl Shared {
    pub(super) fn new(
        store: DynStore,
        env: Env,
        key: Key,
        parsed: ParsedConfigs,
        patience: Duration,
    ) -> Self {
        let (standing, config) = (Standing::Unknown, Arc::default());
        let (version_max, dirty, fault) = (0, false, None);
        Shared { store, env, key, parsed, patience, standing, config, version_max, dirty, fault }
    }

    /// What is in force.
    pub(super) fn config(&self) -> &Arc<SharedConfig> {
        &self.config
    }

    /// Whether the object can be replaced: it is sound, or gone.
    pub(super) fn is_writable(&self) -> bool {
        matches!(self.standing, Standing::Missing | Standing::Sound(_))
    }

    /// Reads the object if it has changed; whether what is in force is another now.
    pub(super) async fn look(&mut self) -> Result<bool> {
        let if_none_match = match &self.standing {
            Standing::Sound(etag) | Standing::Broken(etag) => Some(etag.clone()),
            _ => None,
        };
        let look = store::get_up_to(&*self.store, &self.key, if_none_match, CONFIG_BYTES_MAX);
        let look = tokio::time::timeout(self.patience, look);
        let fetched = look.await.map_err(|_| {
            Error::unavailable("reading the shared config took too long; the store may be down")
        })??;
        match fetched {
            Fetched::Unmodified => Ok(false),
            Fetched::Missing => {
                self.standing = Standing::Missing;
                self.fault = None;
                self.dirty = true;
                Ok(false)
            }
            Fetched::Found(object) => Ok(self.take(&object)),
        }
    }

    fn take(&mut self, object: &Object) -> bool {
        let found = match self.parsed.get(object) {
            Ok(found) => found,
            Err(error) => {
                let place = |name| error.details().get(name).and_then(|at| at.as_u64());
                if self.standing != Standing::Broken(object.etag.clone()) {
                    tracing::error!(key = %self.key, %error, "shared config is broken");
                }
                self.standing = Standing::Broken(object.etag.clone());
                self.fault = Some(ConfigFault {
                    message: error.message().to_owned(),
                    line: place("line").unwrap_or(0),
                    column: place("column").unwrap_or(0),
                    since: self.fault.as_ref().map_or_else(|| self.env.clock.now(), |f| f.since),
                });
                return false;
            }
        };
        self.standing = Standing::Sound(object.etag.clone());
        self.fault = None;
        // The same version under another etag is a person's edit as well: of two writers only one wins.
        self.dirty = found.version <= self.version_max;
        if self.dirty {
            tracing::info!(version = found.version, "shared config was replaced by an older copy");
            self.config = Arc::new(self.config.restore(&found));
        } else {
            self.version_max = found.version;
            self.config = found;
        }
        true
    }

    /// Puts `next` in the place of what was read last.
    pub(super) async fn replace(&mut self, mut next: SharedConfig) -> Result<Written> {
        let condition = match &self.standing {
            Standing::Sound(etag) => Precondition::Matches(etag.clone()),
            Standing::Missing => Precondition::Absent,
            Standing::Unknown | Standing::Broken(_) => return Err(self.unreadable()),
        };
        next.version = self.version_max.max(next.version) + 1;
        next.updated = self.env.clock.now();
        let body = next.encode()?.into();
        let put = self.store.put_if(&self.key, body, condition);
        let outcome = match tokio::time::timeout(self.patience, put).await {
            Ok(outcome) => outcome,
            Err(_) => PutOutcome::Ambiguous(Error::unavailable(
                "writing the shared config took too long; the store may be down",
            )),
        };
        let (label, result) = match outcome {
            PutOutcome::Won(etag) => {
                self.version_max = next.version;
                self.config = Arc::new(next);
                self.standing = Standing::Sound(etag);
                self.dirty = false;
                ("won", Ok(Written::Won))
            }
            PutOutcome::Lost => ("lost", Ok(Written::Again)),
            PutOutcome::Ambiguous(_) => ("ambiguous", Ok(Written::Again)),
            PutOutcome::Failed(error) if error.is_transient() => ("failed", Ok(Written::Again)),
            PutOutcome::Failed(error) => ("failed", Err(error)),
        };
        let writes = &self.env.metrics.cluster_writes;
        writes.get_or_create(&ClusterLabels { outcome: label }).inc();
        result
    }

    /// Puts `config` in force in this process alone: the object cannot be written.
    pub(super) fn keep_in_mind(&mut self, config: Arc<SharedConfig>) {
        self.config = config;
    }

    /// Why nothing can be written now.
    pub(super) fn unreadable(&self) -> Error {
        match &self.fault {
            Some(fault) => Error::new(Code::SharedConfigInvalid, fault.message.clone())
                .with("line", fault.line)
                .with("column", fault.column),
            None => Error::unavailable("the shared config was not read yet; try again"),
        }
    }
}
