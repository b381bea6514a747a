//! Batches on their way. Which of two that travel together is stored last is open, so whoever sends them waits
//! for those that share an id with the next.

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

/// Batches on their way, each of which ends with a `T`.
#[derive(Debug)]
pub struct UnderWay<'a, T> {
    done: FuturesUnordered<BoxFuture<'a, (u64, T)>>,
    /// The hashes of the ids of each, in order, by its number.
    ids: Vec<(u64, Vec<u64>)>,
    begun: u64,
}

impl<T> Default for UnderWay<'_, T> {
    fn default() -> Self {
        UnderWay { done: FuturesUnordered::new(), ids: Vec::new(), begun: 0 }
    }
}

impl<'a, T> UnderWay<'a, T> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.done.len()
    }

    /// Whether any was ever sent.
    pub fn has_begun(&self) -> bool {
        self.begun > 0
    }

    /// Whether one of them has an id of one of these hashes.
    pub fn share(&self, ids: &[u64]) -> bool {
        let mut all = self.ids.iter().flat_map(|(_, ids)| ids);
        all.any(|id| ids.binary_search(id).is_ok())
    }

    /// Sends one with ids of these hashes, which are in order.
    pub fn push(&mut self, ids: Vec<u64>, send: impl Future<Output = T> + Send + 'a) {
        let number = self.begun;
        self.begun += 1;
        self.ids.push((number, ids));
        self.done.push(async move { (number, send.await) }.boxed());
    }

    /// Waits for one of them, if there is one.
    pub async fn next(&mut self) -> Option<T> {
        let (number, done) = self.done.next().await?;
        self.ids.retain(|(other, _)| *other != number);
        Some(done)
    }
}
