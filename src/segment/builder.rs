//! Rows become a segment.

use super::Segment;
use super::ids::IdSections;
use super::layout::{Contents, FileBuilder, Name, fault};
use super::records::{RecordBlock, RecordSections};
use crate::base::ids::{Seq, record_hash};
use crate::base::spill::{Buffer, Spill};
use crate::base::{Error, Result};
use crate::filter::index::FilterIndexBuilder;
use crate::index::{INDEX_ROWS_MAX, Index, IndexParams, MergePart, Metric, Threads};
use bytes::Bytes;

/// Collects the rows of a segment, in any order.
#[derive(Debug)]
pub struct SegmentBuilder {
    dimensions: usize,
    metric: Metric,
    spill: Spill,
    vectors: Buffer<f32>,
    written: Vec<Seq>,
    hashes: Vec<u64>,
    ids: Strings,
    metadata: Strings,
    texts: Strings,
    has_text: Vec<bool>,
}

/// Many strings in one buffer.
#[derive(Debug)]
struct Strings {
    bytes: Buffer<u8>,
    ends: Vec<usize>,
}

impl Strings {
    fn new(spill: &Spill) -> Strings {
        Strings { bytes: spill.buffer(), ends: Vec::new() }
    }

    fn push(&mut self, text: &str) -> Result<()> {
        self.bytes.extend_from_slice(text.as_bytes())?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    fn get(&self, at: usize) -> Result<&str> {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        std::str::from_utf8(&self.bytes[start..self.ends[at]])
            .map_err(|_| Error::internal("a string of a segment that is made is no text"))
    }
}

impl SegmentBuilder {
    /// For vectors of `dimensions`.
    pub fn new(dimensions: usize, metric: Metric) -> SegmentBuilder {
        SegmentBuilder::spilling(dimensions, metric, Spill::none())
    }

    /// The same, whose rows and file are where `spill` says. In memory are only the index, the ids as they are put in
    /// order, what filters need, and some 60 bytes a row.
    pub fn spilling(dimensions: usize, metric: Metric, spill: Spill) -> SegmentBuilder {
        SegmentBuilder {
            dimensions,
            metric,
            vectors: spill.buffer(),
            written: Vec::new(),
            hashes: Vec::new(),
            ids: Strings::new(&spill),
            metadata: Strings::new(&spill),
            texts: Strings::new(&spill),
            has_text: Vec::new(),
            spill,
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.written.len()
    }

    /// Bytes of the rows.
    fn bytes(&self) -> usize {
        let strings = [&self.ids, &self.metadata, &self.texts];
        let strings: usize = strings.iter().map(|all| all.bytes.len()).sum();
        4 * self.vectors.len() + 41 * self.rows() + strings
    }

    /// Adds a row that log position `written` wrote; no other row has its id. `metadata` is a JSON
    /// object, or empty.
    ///
    /// # Panics
    ///
    /// If `vector` has another length than the others, a defect of the caller.
    pub fn push(
        &mut self,
        id: &str,
        written: Seq,
        vector: &[f32],
        metadata: &str,
        text: Option<&str>,
    ) -> Result<()> {
        assert_eq!(vector.len(), self.dimensions, "a vector of another length");
        self.vectors.extend_from_slice(vector)?;
        self.written.push(written);
        self.hashes.push(record_hash(id));
        self.ids.push(id)?;
        self.metadata.push(metadata)?;
        self.texts.push(text.unwrap_or_default())?;
        self.has_text.push(text.is_some());
        Ok(())
    }

    /// Adds each row of a segment to the builder that `to` gives it, in the order of the segment; rows
    /// that are given none are left out. The segment is read once, however many builders there are.
    ///
    /// # Panics
    ///
    /// If there is no such builder, a defect of the caller.
    pub fn append(
        builders: &mut [SegmentBuilder],
        segment: &Segment,
        mut to: impl FnMut(u32) -> Option<usize>,
    ) -> Result<()> {
        let mut block = None::<RecordBlock>;
        for row in 0..segment.contents().rows {
            let Some(to) = to(row) else { continue };
            if block.as_ref().is_none_or(|block| block.get(row).is_none()) {
                block = Some(segment.records(row)?);
            }
            let record = block.as_ref().and_then(|block| block.get(row));
            let (metadata, text) = record.ok_or_else(|| fault("a row has no record"))?;
            let (id, written) = (segment.id(row)?, segment.written(row));
            builders[to].push(id, written, segment.vector(row), metadata, text)?;
        }
        Ok(())
    }

    /// Merges what is kept of the indexes of the segments whose rows these are, in the same order, and
    /// writes the file: cheaper than [`SegmentBuilder::finish`].
    pub fn finish_merged(
        self,
        parts: &[MergePart<'_>],
        params: IndexParams,
        threads: Threads,
    ) -> Result<Bytes> {
        let rows: usize = parts.iter().map(MergePart::rows).sum();
        if rows == 0 || rows != self.rows() || rows >= INDEX_ROWS_MAX {
            return Err(Error::internal("a segment cannot be merged from other rows"));
        }
        let (index, order) = Index::merge(parts, &self.vectors, params, threads);
        self.write(&index, &order, threads)
    }

    /// Builds the index and writes the file. Takes a core for a while: to be run on the compute pool.
    pub fn finish(self, params: IndexParams, threads: Threads) -> Result<Bytes> {
        if self.rows() == 0 || self.rows() >= INDEX_ROWS_MAX {
            let rows = self.rows();
            return Err(Error::internal(format!("a segment of {rows} rows cannot be built")));
        }
        let (index, order) =
            Index::build(self.metric, self.dimensions, &self.vectors, params, threads);
        self.write(&index, &order, threads)
    }

    /// Writes the file with its rows in `order`.
    fn write(self, index: &Index, order: &[u32], threads: Threads) -> Result<Bytes> {
        let rows = || order.iter().map(|&row| row as usize);
        let (mut ids, mut records, mut filter) = (None, None, None);
        threads.join(
            || records = Some(self.records(order)),
            || (ids, filter) = (Some(self.id_sections(order)), Some(self.filter_index(order))),
        );
        let undone = || Error::internal("a part of a segment was not made");
        let ids = ids.ok_or_else(undone)??;
        let records = records.ok_or_else(undone)??;
        let filter = filter.ok_or_else(undone)??;
        let sections = index.sections();
        let mut file = FileBuilder::new(&self.spill, self.bytes() + index.bytes())?;
        file.section(Name::Vectors, |out| {
            rows().try_for_each(|row| {
                let vector = &self.vectors[row * self.dimensions..][..self.dimensions];
                // Little-endian, as segments are read in place.
                out.extend_from_slice(bytemuck::cast_slice(vector))
            })
        })?;
        file.section(Name::Scalar, |out| out.extend_from_slice(sections.scalar))?;
        file.section(Name::Short, |out| out.extend_from_slice(sections.short))?;
        file.section(Name::Neighbours, |out| out.extend_from_slice(sections.neighbours))?;
        file.section(Name::Records, |out| out.extend_from_slice(&records.blocks))?;
        file.section(Name::Ids, |out| out.extend_from_slice(&ids.blocks))?;
        file.section(Name::IdPlaces, |out| out.extend_from_slice(&ids.places))?;
        file.section(Name::Written, |out| {
            rows().try_for_each(|row| out.extend_from_slice(&self.written[row].0.to_le_bytes()))
        })?;
        file.section(Name::Filter, |out| out.extend_from_slice(&filter))?;
        file.section(Name::Clusters, |out| out.extend_from_slice(sections.clusters))?;
        file.section(Name::Centroids, |out| out.extend_from_slice(sections.centroids))?;
        file.section(Name::Entries, |out| out.extend_from_slice(&sections.entries))?;
        file.section(Name::Head, |out| out.extend_from_slice(&sections.head))?;
        file.section(Name::RecordBlocks, |out| out.extend_from_slice(&records.list))?;
        file.section(Name::IdBlocks, |out| out.extend_from_slice(&ids.list))?;
        file.section(Name::IdFilter, |out| out.extend_from_slice(&ids.filter))?;
        file.finish(self.contents()?)
    }

    fn id_sections(&self, order: &[u32]) -> Result<IdSections> {
        let rows = order.iter().map(|&row| row as usize);
        let ids = rows.map(|row| Ok((self.hashes[row], self.ids.get(row)?)));
        IdSections::build(&ids.collect::<Result<Vec<(u64, &str)>>>()?)
    }

    fn records(&self, order: &[u32]) -> Result<RecordSections> {
        let mut records = RecordSections::new(&self.spill);
        for row in order.iter().map(|&row| row as usize) {
            let text = self.has_text[row].then(|| self.texts.get(row)).transpose()?;
            records.push(self.metadata.get(row)?, text)?;
        }
        records.close()?;
        Ok(records)
    }

    fn filter_index(&self, order: &[u32]) -> Result<Vec<u8>> {
        let mut filter = FilterIndexBuilder::new();
        for &row in order {
            filter.push_text(self.metadata.get(row as usize)?);
        }
        Ok(filter.finish())
    }

    fn contents(&self) -> Result<Contents> {
        fn ends<T: Copy + Ord>(values: &[T]) -> Option<(T, T)> {
            Some((*values.iter().min()?, *values.iter().max()?))
        }
        let empty = || Error::internal("a segment without rows cannot be built");
        Ok(Contents {
            rows: self.rows() as u32,
            dimensions: self.dimensions as u32,
            metric: self.metric,
            written: ends(&self.written).ok_or_else(empty)?,
            hashes: ends(&self.hashes).ok_or_else(empty)?,
        })
    }
}
