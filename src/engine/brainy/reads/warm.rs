//! Segments brought into memory before somebody searches them.

use super::{Brainy, Reads};
use crate::base::Result;
use crate::base::ids::CollectionName;
use crate::engine::model::Warmed;
use crate::engine::reading::segments::Resident;
use crate::store::layers::Usage;
use std::sync::Arc;
use tokio::time::Instant;

impl Brainy {
    /// Brings all segments of a collection into memory, as far as `cache_max_bytes` allows, and reads mapped files once,
    /// so that the next search waits for neither the store nor a disk.
    pub async fn warm(&self, name: &CollectionName) -> Result<Warmed> {
        self.within(&self.call()).warm(name).await
    }
}

impl Reads<'_> {
    /// As [`Brainy::warm`]; ends between two segments when nobody waits for it any more.
    pub async fn warm(&self, name: &CollectionName) -> Result<Warmed> {
        let (started, asked) = (Instant::now(), Usage::default());
        let snapshot = asked.scope(self.brainy.read(name)).await?;
        let env = &self.brainy.0.context.env;
        let guard = self.context.guard(&env.metrics.searches_cancelled);
        let segments: Vec<Arc<Resident>> = snapshot.residents().collect();
        let (mut count, mut bytes) = (0, 0);
        for segment in segments {
            count += 1;
            bytes += env.background.run(move || segment.touch()).await? as u64;
        }
        let used = asked.so_far();
        guard.done(Ok(Warmed {
            version: snapshot.version(),
            segments: count,
            bytes,
            store_requests: used.requests,
            store_bytes: used.bytes,
            took: started.elapsed(),
            partial: snapshot.partial(),
        }))
    }
}
