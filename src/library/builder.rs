//! Opening an instance.

use super::Brainy;
use crate::base::Result;
use crate::base::process;
use crate::base::settings::{Role, Settings};
use crate::partition::Partitioner;
use crate::store::DynStore;
use std::sync::Arc;

/// How an instance is to be opened: a hybrid with settings that fit this process' memory, unless said otherwise.
#[derive(Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    settings: Settings,
    role: Role,
    store: Option<DynStore>,
    partitioners: Vec<Arc<dyn Partitioner>>,
}

impl Builder {
    fn new(settings: Settings) -> Builder {
        Builder { settings, role: Role::Hybrid, store: None, partitioners: Vec::new() }
    }

    /// What it does: write, read, or both.
    pub fn role(mut self, role: Role) -> Builder {
        self.role = role;
        self
    }

    /// Changes settings; the store's URL is among them.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let db = brainy::Brainy::builder("memory:").settings(|settings| settings.poll_interval_ms = 200).open().await?;
    /// assert_eq!(db.settings().poll_interval_ms, 200);
    /// # Ok::<(), brainy::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Builder {
        change(&mut self.settings);
        self
    }

    /// A store of the program's own, in place of the URL's.
    pub fn store(mut self, store: DynStore) -> Builder {
        self.store = Some(store);
        self
    }

    /// Adds a partitioner of the program's own, for collections that name it.
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Builder {
        self.partitioners.push(Arc::new(partitioner));
        self
    }

    /// Opens it. The store is tried first: one that does not honour conditional writes is `store_unsafe`.
    ///
    /// Errors: `invalid_settings`, `runtime_unsuitable` outside of a tokio runtime with timers, and those of the store.
    pub async fn open(self) -> Result<Brainy> {
        let Builder { settings, role, store, partitioners } = self;
        match store {
            Some(store) => Brainy::open_on(settings, role, store, partitioners).await,
            None => Brainy::open_with(settings, role, partitioners).await,
        }
    }
}

impl Brainy {
    /// Opens a store with default settings that fit the memory of this process, as a hybrid: `s3://bucket/prefix`,
    /// `file:///folder`, a folder, or `memory:`.
    pub async fn open(store_url: &str) -> Result<Brainy> {
        Brainy::builder(store_url).open().await
    }

    /// Opens an instance step by step: `s3://bucket/prefix`, `file:///folder`, a folder, or `memory:`.
    pub fn builder(store_url: impl Into<String>) -> Builder {
        let fitted = Settings::fitted(process::memory());
        Builder::new(Settings { store: store_url.into(), ..fitted })
    }
}
