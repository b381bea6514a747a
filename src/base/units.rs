//! A budget of bytes, counted in units, so that the count fits a semaphore's.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// A budget. Cloning shares it. What is larger than all of it takes all of it.
#[derive(Debug, Clone)]
pub struct Units {
    free: Arc<Semaphore>,
    total: u32,
    bytes: u64,
}

impl Units {
    /// One of `total_bytes` in units of `bytes`: one unit at least.
    pub fn new(total_bytes: u64, bytes: u64) -> Units {
        let most = u64::from(u32::MAX).min(Semaphore::MAX_PERMITS as u64);
        let total = (total_bytes / bytes).clamp(1, most) as u32;
        Units { free: Arc::new(Semaphore::new(total as usize)), total, bytes }
    }

    /// All of it, in bytes.
    pub fn total_bytes(&self) -> u64 {
        u64::from(self.total) * self.bytes
    }

    /// A share, where there is room for it.
    pub fn try_take(&self, bytes: u64) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.free.clone().try_acquire_many_owned(self.share(bytes))
    }

    /// A share, once there is room for it: first come, first served.
    pub async fn take(&self, bytes: u64) -> OwnedSemaphorePermit {
        let taken = self.free.clone().acquire_many_owned(self.share(bytes)).await;
        taken.expect("the semaphore is never closed")
    }

    fn share(&self, bytes: u64) -> u32 {
        bytes.div_ceil(self.bytes).clamp(1, u64::from(self.total)) as u32
    }
}
