//! A bucket is opened, and seen to answer.

use super::S3Store;
use crate::base::{Env, Error, Result};
use crate::store::DynStore;
use crate::store::aws::Aws;
use crate::store::probe::readable;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a bucket may take to answer for the first time.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The pause before it is asked again.
const ANSWER_PAUSE: Duration = Duration::from_millis(500);

/// Opens a bucket and sees that it answers.
pub async fn open(bucket: &str, prefix: &str, env: &Env) -> Result<DynStore> {
    let last = Mutex::new(None);
    let keep = |error: Option<Error>| {
        let mut slot = last.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, error)
    };
    let work = async {
        let aws = Aws::load().await?;
        let store = S3Store::connect(bucket, prefix, &aws, env.clock.clone()).await?;
        loop {
            match readable(&store).await {
                Ok(()) => return Ok(Arc::new(store) as DynStore),
                Err(error) if error.is_transient() => drop(keep(Some(error))),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(ANSWER_PAUSE).await;
        }
    };
    let result = tokio::time::timeout(ANSWER_MAX, work).await;
    let silent = || {
        Error::unavailable("the store does not answer; check AWS_ENDPOINT_URL_S3 and the network")
    };
    result
        .unwrap_or_else(|_| Err(keep(None).unwrap_or_else(silent)))
        .map_err(|error| error.context(format!("could not open the bucket {bucket}")))
}
