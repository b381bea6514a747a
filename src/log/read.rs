//! The reader's side: entries after a position, with their chunks, in order.

use crate::base::ids::{CollectionName, Seq};
use crate::base::{Error, Result};
use crate::log::chunk::Chunk;
use crate::log::entry::{Entry, HEAD_BYTES, HEADER_BYTES, Head, Header, Part};
use crate::store::{ByteRange, DynStore, Fetched, GetOptions, get, paths};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

/// How many entries are asked for at a time while catching up.
const WINDOW_MAX: u64 = 32;
/// How many data objects of one entry are read at a time.
const OBJECTS_AT_A_TIME: usize = 8;

/// The header of an entry, by one small read; `None` where there is no such entry.
pub async fn header_at(
    store: &DynStore,
    collection: &CollectionName,
    seq: Seq,
) -> Result<Option<Header>> {
    let key = paths::wal_entry(collection, seq);
    let range = Some(ByteRange::Bounded(0..HEADER_BYTES as u64));
    match store.get(&key, GetOptions { range, if_none_match: None }).await? {
        Fetched::Found(object) => {
            Header::decode(&object.bytes).map(Some).map_err(|error| error.context(key))
        }
        _ => Ok(None),
    }
}

/// The head of an entry, by one small read, or two where it has many parts; `None` where there is no
/// such entry.
pub async fn head_at(
    store: &DynStore,
    collection: &CollectionName,
    seq: Seq,
) -> Result<Option<Head>> {
    let key = paths::wal_entry(collection, seq);
    let mut length = HEAD_BYTES;
    loop {
        let range = Some(ByteRange::Bounded(0..length as u64));
        let Fetched::Found(object) =
            store.get(&key, GetOptions { range, if_none_match: None }).await?
        else {
            return Ok(None);
        };
        let needed = Head::length(&Header::decode(&object.bytes).map_err(|e| e.context(&key))?);
        if needed <= length {
            return Head::decode(&object.bytes).map(Some).map_err(|error| error.context(key));
        }
        length = needed;
    }
}

/// An entry with all its chunks at hand.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The entry's header.
    pub header: Header,
    /// Its chunks, in the order in which they apply.
    pub chunks: Vec<Chunk>,
}

/// Reads one collection's log forward.
#[derive(Debug)]
pub struct LogReader {
    store: DynStore,
    collection: CollectionName,
    window: u64,
}

impl LogReader {
    /// A reader of `collection`'s log.
    pub fn new(store: DynStore, collection: CollectionName) -> Self {
        LogReader { store, collection, window: 1 }
    }

    /// The entries that follow `after`, as many as are there up to a window that doubles while
    /// there are more; empty at the end of the log.
    pub async fn next(&mut self, after: Seq) -> Result<Vec<Batch>> {
        let wanted = (1..=self.window).map(|step| Seq(after.0 + step));
        let found: Vec<Option<Batch>> = stream::iter(wanted)
            .map(|seq| self.batch(seq))
            .buffered(WINDOW_MAX as usize)
            .try_collect()
            .await?;
        let batches: Vec<Batch> = found.into_iter().map_while(|batch| batch).collect();
        self.window = match batches.len() as u64 {
            full if full == self.window => (self.window * 2).min(WINDOW_MAX),
            _ => 1,
        };
        Ok(batches)
    }

    async fn batch(&self, seq: Seq) -> Result<Option<Batch>> {
        let key = paths::wal_entry(&self.collection, seq);
        let Fetched::Found(object) = get(&*self.store, &key).await? else {
            return Ok(None);
        };
        let entry = Entry::decode(&object.bytes).map_err(|error| error.context(&key))?;
        if entry.header.seq != seq {
            return Err(Error::corrupt(format!(
                "{key} says that it is entry {}",
                entry.header.seq
            )));
        }
        let chunks = stream::iter(entry.parts)
            .map(|part| self.chunk(part))
            .buffered(OBJECTS_AT_A_TIME)
            .try_collect()
            .await
            .map_err(|error: Error| error.context(&key))?;
        Ok(Some(Batch { header: entry.header, chunks }))
    }

    async fn chunk(&self, part: Part) -> Result<Chunk> {
        let operations = part.operations();
        let bytes = self.part_bytes(part).await?;
        let chunk = Chunk::open(bytes)?;
        if chunk.operations() != operations as usize {
            return Err(Error::corrupt(
                "a log chunk has another number of operations than its entry says",
            ));
        }
        Ok(chunk)
    }

    async fn part_bytes(&self, part: Part) -> Result<Bytes> {
        let (id, length, crc) = match part {
            Part::Inline { chunk, .. } => return Ok(chunk),
            Part::Object { id, length, crc, .. } => (id, length, crc),
        };
        let key = paths::wal_data(&self.collection, id);
        let object = get(&*self.store, &key).await?.required(&key)?;
        if object.size != length || crc32c::crc32c(&object.bytes) != crc {
            return Err(Error::corrupt(format!("{key} differs from what its log entry says")));
        }
        Ok(object.bytes)
    }
}
