//! The new objects of a pass: put before they are named, deleted where the pass comes to nothing.

use crate::base::Result;
use crate::base::defect::Defect;
use crate::base::ids::{Ulid, ulid};
use crate::engine::context::Context;
use crate::manifest::{DeletionsMeta, Extra, Manifest, SegmentMeta};
use crate::segment::Deletions;
use crate::segment::{Contents, Footer};
use crate::store::{Key, paths};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

/// Objects that no manifest names yet.
pub(super) struct Objects<'a> {
    context: &'a Context,
    manifest: &'a Manifest,
    put: Vec<(Ulid, Key)>,
    /// Only in a build that is broken on purpose.
    late: Vec<(Key, Bytes)>,
}

/// A segment that was just made.
#[derive(Debug, Clone)]
pub(super) struct NewSegment {
    /// The number of its partition.
    pub partition: u32,
    /// What the manifest is to say of it.
    pub meta: SegmentMeta,
}

impl<'a> Objects<'a> {
    /// None yet. Names are made so that what `manifest` was swept of does not forbid them.
    pub(super) fn new(context: &'a Context, manifest: &'a Manifest) -> Objects<'a> {
        Objects { context, manifest, put: Vec::new(), late: Vec::new() }
    }

    fn name(&self) -> Ulid {
        let env = &self.context.env;
        ulid(self.manifest.time_of_names(env.clock.now()), &*env.rng)
    }

    fn is_late(&self) -> bool {
        self.context.env.defects.has(Defect::CommitBeforePut)
    }

    /// Puts segments, each with the number of its partition, several at a time.
    pub(super) async fn segments(&mut self, files: Vec<(u32, Bytes)>) -> Result<Vec<NewSegment>> {
        let (mut made, mut puts) = (Vec::with_capacity(files.len()), Vec::new());
        for (partition, file) in files {
            let id = self.name();
            let bytes = file.clone();
            let describe = move || described(id, &bytes);
            let meta = self.context.env.background.run(describe).await??;
            let key = paths::segment(&self.manifest.name, partition, id);
            self.put.push((id, key.clone()));
            puts.push((key, file));
            made.push(NewSegment { partition, meta });
        }
        if self.is_late() {
            self.late.extend(puts);
            return Ok(made);
        }
        let (store, at_a_time) = (&self.context.store, self.context.limits.upload_concurrency);
        let puts = puts.into_iter().map(|(key, file)| async move { store.put(&key, file).await });
        let puts: Vec<_> = puts.collect();
        stream::iter(puts).buffered(at_a_time).try_for_each(|_| async { Ok(()) }).await?;
        Ok(made)
    }

    /// Puts deletions.
    pub(super) async fn deletions(&mut self, deletions: &Deletions) -> Result<DeletionsMeta> {
        let (id, file) = (self.name(), Bytes::from(deletions.write()));
        let meta = DeletionsMeta {
            id,
            rows: deletions.rows(),
            bytes: file.len() as u64,
            extra: Extra::new(),
        };
        let key = paths::deletions(&self.manifest.name, id);
        self.put.push((id, key.clone()));
        if self.is_late() {
            self.late.push((key, file));
        } else {
            self.context.store.put(&key, file).await?;
        }
        Ok(meta)
    }

    /// Whether `current` may name all of these: what was swept meanwhile may be gone.
    pub(super) fn may_be_named(&self, current: &Manifest) -> bool {
        self.put.iter().all(|(id, _)| current.may_name(*id))
    }

    /// Deletes one that is not needed, unless `current`, which was in force a moment ago, names it.
    pub(super) async fn discard(&mut self, id: Ulid, current: &Manifest) {
        let found = self.put.iter().position(|(put, _)| *put == id);
        if let Some(at) = found {
            let (id, key) = self.put.swap_remove(at);
            if !current.names().contains(&id) {
                self.delete(&key).await;
            }
        }
    }

    /// Deletes all that `current`, which was in force a moment ago, does not name: what lost a race may have
    /// lost it to itself. What is left over is found by the collector.
    pub(super) async fn discard_all(self, current: &Manifest) {
        let names = current.names();
        for (_, key) in self.put.iter().filter(|(id, _)| !names.contains(id)) {
            self.delete(key).await;
        }
    }

    async fn delete(&self, key: &Key) {
        if let Err(error) = self.context.store.delete(key).await {
            tracing::debug!(%error, %key, "an object is left to the collector");
        }
    }

    /// All are named now.
    pub(super) async fn named(self) -> Result<()> {
        for (key, bytes) in self.late {
            self.context.store.put(&key, bytes).await?;
        }
        Ok(())
    }
}

/// What a manifest is to say of a file.
fn described(id: Ulid, file: &[u8]) -> Result<SegmentMeta> {
    let footer = Footer::read(file, file.len() as u64);
    let Contents { rows, written, .. } =
        footer.map_err(|error| error.context("a segment that was made"))?.contents;
    let (bytes, crc32c) = (file.len() as u64, crc32c::crc32c(file));
    Ok(SegmentMeta { id, rows, dead: 0, bytes, crc32c, written, extra: Extra::new() })
}
