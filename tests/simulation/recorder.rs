//! The store under all instances: keeps objects in memory and notes, as a bystander, every log
//! entry that was ever created and every manifest that was ever in force.

use crate::model::Model;
use async_trait::async_trait;
use brainy::base::Result;
use brainy::store::memory::MemoryStore;
use brainy::store::{
    Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use bytes::Bytes;
use std::sync::{Arc, Mutex};

#[derive(Debug)]
pub struct Recorder {
    objects: Arc<MemoryStore>,
    model: Arc<Mutex<Model>>,
}

impl Recorder {
    pub fn new(objects: Arc<MemoryStore>, model: Arc<Mutex<Model>>) -> Self {
        Recorder { objects, model }
    }

    fn model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }
}

#[async_trait]
impl Store for Recorder {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.objects.get(key, options).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.model().object_written(key, &body);
        self.objects.put(key, body).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        let outcome = self.objects.put_if(key, body.clone(), condition).await;
        if matches!(outcome, PutOutcome::Won(_)) {
            self.model().object_written(key, &body);
        }
        outcome
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.model().object_deleted(key);
        self.objects.delete(key).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.objects.list(prefix, after, limit).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.objects.list_dirs(prefix).await
    }
}
