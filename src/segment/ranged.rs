//! Which row has this id, in a segment that stays in the bucket?
//!
//! An indexer has to find the older rows of the ids that it writes, in segments that it need not
//! load. What says where to look is small and at the end of the file: one GET brings it. After that a
//! request brings only blocks of ids that may hold one that is asked for.
//!
//! The footer and the lists are verified by their checksums, and so are the ids where all of them are
//! fetched. Single blocks have no checksum: the store is trusted with them as far as that the
//! object is still the one that was opened, and that a block is where the list says.

use super::ids::{self, IdDirectory};
use super::layout::{Contents, Footer, Name, Section, fault};
use crate::base::Result;
use crate::base::codec::u64_at;
use crate::base::ids::{Seq, record_hash};
use crate::store::{ByteRange, DynStore, Etag, GetOptions, Key, Object};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::fmt;
use std::ops::Range;

/// The first GET asks for this many bytes or more, whichever the segment.
const END_BYTES_MIN: u64 = 64 << 10;
/// It asks for this part of a larger file. The lists take about 1.2 bytes a row: with 150 dimensions
/// and more, where a row takes 600 bytes, they fit.
const END_SHARE: u64 = 512;
/// Ranges that are less apart are fetched together: a request costs more than these bytes.
const GAP_BYTES: usize = 64 << 10;
/// Requests under way at a time.
const REQUESTS: usize = 8;
/// Bytes of a log position.
const WRITTEN_BYTES: usize = size_of::<u64>();

/// What finds ids in a segment by ranges of its object.
#[derive(Clone)]
pub struct RangedSegment {
    key: Key,
    /// The object's, whenever a part of it is read: objects of segments never change.
    etag: Etag,
    bytes: u64,
    footer: Footer,
    list: Bytes,
    filter: Bytes,
}

impl fmt::Debug for RangedSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RangedSegment { key, footer, .. } = self;
        f.debug_struct("RangedSegment")
            .field("key", key)
            .field("contents", &footer.contents)
            .finish_non_exhaustive()
    }
}

/// What a section is asked for: an id that may be in it, or a row.
#[derive(Debug)]
struct Wanted {
    /// Which of those that were asked for.
    at: usize,
    hash: u64,
    /// Where it may be in the section.
    range: Range<usize>,
}

/// A range of a section, and what may be in it.
#[derive(Debug)]
struct Span<'a> {
    range: Range<usize>,
    wanted: &'a [Wanted],
}

impl RangedSegment {
    /// Opens the segment in the object at `key`, which has so many bytes. Takes one GET, or two where
    /// the lists are long for the size of the file.
    pub async fn open(store: &DynStore, key: &Key, bytes: u64) -> Result<RangedSegment> {
        let length = END_BYTES_MIN.max(bytes / END_SHARE);
        let end = fetch(store, key, ByteRange::Suffix(length)).await?;
        if end.size != bytes || end.bytes.len() as u64 != length.min(bytes) {
            return Err(fault("its object has another length"));
        }
        let footer = Footer::read(&end.bytes, bytes)?;
        let (list, filter) = (footer.section(Name::IdBlocks), footer.section(Name::IdFilter));
        let end_of = |section: &Section| section.offset + section.length;
        let wanted = list.offset.min(filter.offset)..end_of(list).max(end_of(filter));
        let (start, part) = match bytes - end.bytes.len() as u64 {
            start if start <= wanted.start => (start, end.bytes),
            _ => {
                let object = fetch(store, key, ByteRange::Bounded(wanted.clone())).await?;
                if (object.size, &object.etag) != (bytes, &end.etag) {
                    return Err(fault("its object has changed while it was opened"));
                }
                (wanted.start, object.bytes)
            }
        };
        // Copied, for what they lie in is larger.
        let section = |name| -> Result<Bytes> {
            let section = footer.section(name);
            let at = (section.offset - start) as usize;
            let bytes = part.get(at..at + section.length as usize).unwrap_or_default();
            footer.verify(name, bytes)?;
            Ok(Bytes::copy_from_slice(bytes))
        };
        let (list, filter) = (section(Name::IdBlocks)?, section(Name::IdFilter)?);
        IdDirectory::open(&list, &filter, footer.section(Name::Ids).length as usize)?;
        Ok(RangedSegment { key: key.clone(), etag: end.etag, bytes, footer, list, filter })
    }

    /// What it holds.
    pub fn contents(&self) -> &Contents {
        &self.footer.contents
    }

    /// Bytes that it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        size_of::<RangedSegment>()
            + size_of_val(&self.footer.sections[..])
            + self.list.len()
            + self.filter.len()
    }

    /// The row of each id. Ids that are not here cost no request in nearly all cases, one that is costs
    /// one, and any number of them at most one for every 64 KiB of the section of ids.
    pub async fn find(&self, store: &DynStore, ids: &[&str]) -> Result<Vec<Option<u32>>> {
        let wanted = self.wanted(ids);
        let spans = spans(&wanted, self.ids_length());
        let mut rows = vec![None; ids.len()];
        let requests = spans.iter().map(|span| self.fetch_span(store, Name::Ids, span));
        let requests: Vec<_> = requests.collect();
        let mut answers = stream::iter(requests).buffered(REQUESTS);
        while let Some((span, bytes)) = answers.try_next().await? {
            for Wanted { at, hash, range } in span.wanted {
                let range = range.start - span.range.start..range.end - span.range.start;
                let blocks = bytes.get(range).unwrap_or_default();
                rows[*at] = self.checked(ids::row_of(blocks, *hash, ids[*at])?)?;
            }
        }
        Ok(rows)
    }

    /// The log position that wrote each of some rows: a request for those that lie near each other.
    pub async fn written(&self, store: &DynStore, rows: &[u32]) -> Result<Vec<Seq>> {
        let wanted = rows.iter().enumerate().map(|(at, row)| {
            let start = *row as usize * WRITTEN_BYTES;
            Wanted { at, hash: 0, range: start..start + WRITTEN_BYTES }
        });
        let mut wanted: Vec<Wanted> = wanted.collect();
        wanted.sort_unstable_by_key(|wanted| (wanted.range.start, wanted.at));
        let length = self.footer.section(Name::Written).length as usize;
        let spans = spans(&wanted, length);
        let mut written = vec![Seq(0); rows.len()];
        let requests = spans.iter().map(|span| self.fetch_span(store, Name::Written, span));
        let requests: Vec<_> = requests.collect();
        let mut answers = stream::iter(requests).buffered(REQUESTS);
        while let Some((span, bytes)) = answers.try_next().await? {
            for Wanted { at, range, .. } in span.wanted {
                let row = (range.start - span.range.start) / WRITTEN_BYTES;
                written[*at] = Seq(u64_at(&bytes, row));
            }
        }
        let (oldest, newest) = self.contents().written;
        match written.iter().all(|written| (oldest..=newest).contains(written)) {
            true => Ok(written),
            false => Err(fault("a row was written at a position that is not among its own")),
        }
    }

    fn ids_length(&self) -> usize {
        self.footer.section(Name::Ids).length as usize
    }

    /// Those that may be here, in the order of the file.
    fn wanted(&self, ids: &[&str]) -> Vec<Wanted> {
        let directory = IdDirectory::checked_before(&self.list, &self.filter, self.ids_length());
        let wanted = ids.iter().enumerate().filter_map(|(at, id)| {
            let hash = record_hash(id);
            directory.find(hash).map(|range| Wanted { at, hash, range })
        });
        let mut wanted: Vec<Wanted> = wanted.collect();
        wanted.sort_unstable_by_key(|wanted| (wanted.range.start, wanted.range.end, wanted.at));
        wanted
    }

    /// The bytes of a range of a section.
    async fn fetch_span<'a>(
        &self,
        store: &DynStore,
        section: Name,
        span: &'a Span<'a>,
    ) -> Result<(&'a Span<'a>, Bytes)> {
        let range = &span.range;
        let start = self.footer.section(section).offset;
        let of_file = start + range.start as u64..start + range.end as u64;
        let object = fetch(store, &self.key, ByteRange::Bounded(of_file)).await?;
        if (object.size, &object.etag) != (self.bytes, &self.etag) {
            return Err(fault("its object is another one than the one that was opened"));
        }
        if object.bytes.len() != range.len() {
            return Err(fault("a range of it has another length than was asked for"));
        }
        if range.len() as u64 == self.footer.section(section).length {
            self.footer.verify(section, &object.bytes)?;
        }
        Ok((span, object.bytes))
    }

    fn checked(&self, row: Option<u32>) -> Result<Option<u32>> {
        match row {
            Some(row) if row >= self.contents().rows => Err(fault("an id is of no row")),
            row => Ok(row),
        }
    }
}

async fn fetch(store: &DynStore, key: &Key, range: ByteRange) -> Result<Object> {
    let options = GetOptions { range: Some(range), if_none_match: None };
    store.get(key, options).await?.required(key)
}

/// What to fetch of a section of `length` bytes for `wanted`, which are in the order of the file: all
/// of it where that is most of it anyway.
fn spans(wanted: &[Wanted], length: usize) -> Vec<Span<'_>> {
    let mut spans: Vec<Span> = Vec::new();
    let mut first = 0;
    for (at, Wanted { range, .. }) in wanted.iter().enumerate() {
        match spans.last_mut() {
            Some(last) if range.start < last.range.end + GAP_BYTES => {
                last.range.end = last.range.end.max(range.end);
                last.wanted = &wanted[first..=at];
            }
            _ => {
                first = at;
                spans.push(Span { range: range.clone(), wanted: &wanted[at..=at] });
            }
        }
    }
    let bytes: usize = spans.iter().map(|span| span.range.len()).sum();
    if bytes > length / 2 { vec![Span { range: 0..length, wanted }] } else { spans }
}

#[cfg(test)]
mod tests;
