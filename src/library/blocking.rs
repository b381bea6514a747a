//! The same for programs without a runtime of their own.
//!
//! ```
//! use brainy::{NewRecord, blocking};
//!
//! let db = blocking::Brainy::open("memory:")?;
//! let docs = db.collection("docs");
//! db.run(docs.upsert([NewRecord::new("a", vec![1.0, 0.0]), NewRecord::new("b", vec![0.0, 1.0])]))?;
//! let found = db.run(docs.search([0.9, 0.1]).limit(1))?;
//! assert_eq!(found.hits[0].id, "a");
//! assert!(db.shutdown()?);
//! # Ok::<(), brainy::Error>(())
//! ```

use super::Builder;
use crate::base::{Code, Error, Result};
use std::future::IntoFuture;
use std::ops::Deref;
use tokio::runtime::{Handle, Runtime};

/// An instance and the threads that it runs on. What is to be awaited is given to [`run`](Self::run).
#[derive(Debug)]
pub struct Brainy {
    db: super::Brainy,
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
}

impl Brainy {
    /// Opens a store as [`Brainy::open`](super::Brainy::open) does.
    pub fn open(store_url: &str) -> Result<Brainy> {
        Brainy::build(super::Brainy::builder(store_url))
    }

    /// Opens what a builder says.
    pub fn build(builder: Builder) -> Result<Brainy> {
        check_outside()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Error::new(Code::ResourcesExhausted, "no threads for the runtime").caused_by(error)
        })?;
        let db = runtime.block_on(builder.open())?;
        Ok(Brainy { db, runtime: Some(runtime) })
    }

    /// Waits for an operation. Inside of an asynchronous runtime it is `runtime_unsuitable`: await it there.
    pub fn run<T>(&self, operation: impl IntoFuture<Output = Result<T>>) -> Result<T> {
        check_outside()?;
        let runtime = self.runtime.as_ref().ok_or_else(Error::shutting_down)?;
        runtime.block_on(operation.into_future())
    }

    /// Finishes what is in flight and stops; whether all ended within the settings' bound.
    pub fn shutdown(self) -> Result<bool> {
        let db = self.db.clone();
        self.run(async move { Ok(db.shutdown().await) })
    }
}

impl Deref for Brainy {
    type Target = super::Brainy;

    fn deref(&self) -> &super::Brainy {
        &self.db
    }
}

impl Drop for Brainy {
    /// Without waiting: it may be dropped where nothing may wait.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn check_outside() -> Result<()> {
    match Handle::try_current() {
        Err(_) => Ok(()),
        Ok(_) => Err(Error::new(
            Code::RuntimeUnsuitable,
            "this thread runs an asynchronous runtime: use `brainy::Brainy` and await it",
        )),
    }
}
