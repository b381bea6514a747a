//! The reader's side: entries after a position, with their chunks, in order.

use crate::base::ids::{CollectionName, Seq};
use crate::base::{Code, Error, Result};
use crate::log::chunk::Chunk;
use crate::log::entry::{Entry, HEAD_BYTES, HEADER_BYTES, Head, Header, Part};
use crate::store::{ByteRange, DynStore, Fetched, GetOptions, Key, get, paths};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

/// How many entries are asked for at a time while catching up.
const WINDOW_MAX: u64 = 32;
/// How many positions are listed at a time.
const LIST_PAGE: usize = 1_000;
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

/// Why an entry cannot be applied.
#[derive(Debug)]
pub struct Fault {
    /// Its position.
    pub seq: Seq,
    /// The object that cannot be read.
    pub key: Key,
    /// Whether that is a data object, which the entry names.
    pub of_data: bool,
    /// What is wrong with it.
    pub error: Error,
}

impl Fault {
    /// Whether the object is missing or not what was written, rather than out of reach.
    fn is_damage(&self) -> bool {
        self.error.code() == Code::Corrupt
    }
}

/// What comes behind the entries that were read.
#[derive(Debug)]
pub enum Stop {
    /// Nothing, as far as was looked.
    End,
    /// Perhaps more: as many were read as were asked for.
    Window,
    /// An entry that is not there, although one behind it is. It may have come since: to be looked at again.
    Gap(Seq),
    /// An entry that cannot be applied.
    Damaged(Fault),
}

/// The next entries of the log.
#[derive(Debug)]
pub struct Ahead {
    /// Those that follow the position asked about, without a gap.
    pub batches: Vec<Batch>,
    /// What comes behind them.
    pub stop: Stop,
}

/// The first position behind `after` at which the store lists an entry; one LIST. The log has no gaps, so
/// where this is not the next one, entries are missing, unless they came while it was listed.
pub async fn listed_after(
    store: &DynStore,
    collection: &CollectionName,
    after: Seq,
) -> Result<Option<Seq>> {
    let after = paths::wal_entry(collection, after);
    let listing = store.list(&paths::wal_entries(collection), Some(&after), 1).await?;
    Ok(listing.objects.first().and_then(|object| paths::parse_wal_entry(&object.key)))
}

/// What the store lists of the log behind `after`: up to 1,000 positions in ascending order, and whether there
/// may be more.
pub async fn positions_after(
    store: &DynStore,
    collection: &CollectionName,
    after: Seq,
) -> Result<(Vec<Seq>, bool)> {
    let after = paths::wal_entry(collection, after);
    let listing = store.list(&paths::wal_entries(collection), Some(&after), LIST_PAGE).await?;
    let seqs = listing.objects.iter().filter_map(|object| paths::parse_wal_entry(&object.key));
    Ok((seqs.collect(), listing.more))
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

    /// Where the log lies.
    pub fn store(&self) -> &DynStore {
        &self.store
    }

    /// The entries that follow `after`, as many as can be applied up to a window that doubles while
    /// there are more, and what comes behind them.
    pub async fn next(&mut self, after: Seq) -> Result<Ahead> {
        let wanted: Vec<Seq> = (1..=self.window).map(|step| Seq(after.0 + step)).collect();
        let looks = stream::iter(wanted.clone()).map(|seq| self.batch(seq));
        let found: Vec<Result<Option<Batch>, Fault>> =
            looks.buffered(WINDOW_MAX as usize).collect().await;
        let (mut batches, mut rest) = (Vec::new(), found.into_iter().zip(wanted));
        let stop = loop {
            match rest.next() {
                None => break Stop::Window,
                Some((Ok(Some(batch)), _)) => batches.push(batch),
                Some((Ok(None), missing)) => {
                    let behind = rest.find(|(found, _)| matches!(found, Ok(Some(_))));
                    break match behind {
                        Some(_) => Stop::Gap(missing),
                        None => Stop::End,
                    };
                }
                Some((Err(fault), _)) if fault.is_damage() => break Stop::Damaged(fault),
                // What was read before it counts; the next call meets it again.
                Some((Err(_), _)) if !batches.is_empty() => break Stop::Window,
                Some((Err(fault), _)) => return Err(fault.error),
            }
        };
        self.window = match batches.len() as u64 {
            full if full == self.window => (self.window * 2).min(WINDOW_MAX),
            _ => 1,
        };
        Ok(Ahead { batches, stop })
    }

    async fn batch(&self, seq: Seq) -> Result<Option<Batch>, Fault> {
        let key = paths::wal_entry(&self.collection, seq);
        let fault = |error: Error| Fault { seq, key: key.clone(), of_data: false, error };
        let Fetched::Found(object) = get(&*self.store, &key).await.map_err(fault)? else {
            return Ok(None);
        };
        let entry = Entry::decode(&object.bytes).map_err(fault)?;
        if entry.header.seq != seq {
            let says = format!("it says that it is entry {}", entry.header.seq);
            return Err(fault(Error::corrupt(says)));
        }
        let chunks = stream::iter(entry.parts)
            .map(|part| self.chunk(seq, part))
            .buffered(OBJECTS_AT_A_TIME)
            .try_collect()
            .await?;
        Ok(Some(Batch { header: entry.header, chunks }))
    }

    async fn chunk(&self, seq: Seq, part: Part) -> Result<Chunk, Fault> {
        let (key, of_data) = match &part {
            Part::Inline { .. } => (paths::wal_entry(&self.collection, seq), false),
            Part::Object { id, .. } => (paths::wal_data(&self.collection, *id), true),
        };
        let operations = part.operations();
        let open = async {
            let chunk = Chunk::open(self.part_bytes(part).await?)?;
            if chunk.operations() != operations as usize {
                return Err(Error::corrupt(
                    "a log chunk has another number of operations than its entry says",
                ));
            }
            Ok(chunk)
        };
        open.await.map_err(|error| Fault { seq, key, of_data, error })
    }

    async fn part_bytes(&self, part: Part) -> Result<Bytes> {
        let (id, length, crc) = match part {
            Part::Inline { chunk, .. } => return Ok(chunk),
            Part::Object { id, length, crc, .. } => (id, length, crc),
        };
        let key = paths::wal_data(&self.collection, id);
        let object = get(&*self.store, &key).await?.required(&key)?;
        if object.size != length || crc32c::crc32c(&object.bytes) != crc {
            return Err(Error::corrupt("it differs from what its log entry says"));
        }
        Ok(object.bytes)
    }
}
