//! How is an immutable run of rows read?
//!
//! A segment is one immutable file: vectors, the kernel's index over them, ids, metadata. Guarantees:
//!
//! 1. What [`SegmentBuilder`] was given is what a [`Segment`] gives back, to the byte.
//! 2. Opening reads the footer and checks that everything fits together. For that it looks at the lists of blocks and
//!    clusters, which have one entry for dozens of rows. It looks at nothing that has an entry for each row, and
//!    copies none of it. The vectors and the index are used where they lie.
//! 3. [`Segment::verify`] finds any change of a byte. So does the checksum of the whole file in the manifest, which
//!    whoever brings a segment from the bucket compares (`engine/reading/segments/shelf.rs`). Without either, damaged bytes
//!    give wrong answers or errors, but never a panic.
//!
//! [`layout`] says what lies where; [`ids`] and [`records`] say how ids and metadata are found, also by readers that
//! have only parts of a file, such as [`RangedSegment`]; `builder.rs` writes. Which rows have died since is said
//! beside the segments, in [`Deletions`]. docs/format.md has every byte.

mod builder;
mod deletions;
pub mod ids;
pub mod layout;
mod ranged;
pub mod records;
#[cfg(test)]
mod tests;

pub use builder::SegmentBuilder;
pub use deletions::Deletions;
pub use layout::{Contents, Footer};
pub use ranged::RangedSegment;

use crate::base::Result;
use crate::base::codec::{u32_at, u64_at};
use crate::base::ids::{Seq, record_hash};
use crate::filter::index::FilterIndex;
use crate::index::{self, Bytes, Index};
use aligned_vec::{AVec, ConstAlign};
use ids::IdDirectory;
use layout::{Name, fault};
use records::{RecordBlock, RecordDirectory};
use std::ops::Range;
use std::sync::Arc;

/// A segment whose file is in memory, or mapped into it. Cloning is cheap.
#[derive(Clone)]
pub struct Segment {
    file: Arc<dyn Bytes>,
    footer: Arc<Footer>,
    index: Arc<Index>,
    filter_index: FilterIndex,
}

/// Bytes of a file that stay as long as they are held.
struct Held {
    file: Arc<dyn Bytes>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.file.bytes()[self.range.clone()]
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("footer", &self.footer).finish_non_exhaustive()
    }
}

impl Segment {
    /// Opens a file, without a look at most of its bytes: see [`Segment::verify`]. They are used
    /// where they lie if the first is aligned to [`layout::ALIGNMENT`], as it is where a file is
    /// mapped; otherwise they are copied.
    pub fn from_bytes(bytes: bytes::Bytes) -> Result<Segment> {
        if bytes.as_ptr().addr().is_multiple_of(layout::ALIGNMENT) {
            return Segment::open(Arc::new(bytes));
        }
        let copy: AVec<u8, ConstAlign<{ layout::ALIGNMENT }>> =
            AVec::from_slice(layout::ALIGNMENT, &bytes);
        Segment::open(Arc::new(copy))
    }

    /// Opens a file whose first byte is aligned.
    fn open(file: Arc<dyn Bytes>) -> Result<Segment> {
        let all = file.bytes();
        let footer = Footer::read(all, all.len() as u64)?;
        let section = |name| index::Section { holder: file.clone(), range: footer.range(name) };
        let placed = index::Placed {
            short: section(Name::Short),
            scalar: section(Name::Scalar),
            neighbours: section(Name::Neighbours),
            clusters: section(Name::Clusters),
            centroids: section(Name::Centroids),
            entries: section(Name::Entries),
        };
        let index = Index::open(&all[footer.range(Name::Head)], placed)
            .map_err(|error| fault(&error.to_string()))?;
        let Contents { rows, dimensions, metric, .. } = footer.contents;
        let same = (index.len(), index.dimensions(), index.metric());
        if same != (rows as usize, dimensions as usize, metric) {
            return Err(fault("its index is of other rows"));
        }
        let held = Held { file: file.clone(), range: footer.range(Name::Filter) };
        let filter_index = FilterIndex::open(bytes::Bytes::from_owner(held))?;
        if filter_index.rows() != rows {
            return Err(fault("its filter index is of other rows"));
        }
        let (footer, index) = (Arc::new(footer), Arc::new(index));
        let segment = Segment { file, footer, index, filter_index };
        let section = |name| segment.section(name);
        let (ids, records) = (section(Name::Ids).len(), section(Name::Records).len());
        IdDirectory::open(section(Name::IdBlocks), section(Name::IdFilter), ids)?;
        RecordDirectory::open(section(Name::RecordBlocks), rows, records)?;
        if bytemuck::try_cast_slice::<u8, f32>(segment.section(Name::Vectors)).is_err() {
            return Err(fault("its bytes are not aligned in memory"));
        }
        Ok(segment)
    }

    /// Whether every byte is what was written.
    pub fn verify(&self) -> Result<()> {
        self.footer.verify_gaps(self.file.bytes())?;
        self.footer.verify_sections(self.file.bytes())
    }

    /// What it holds.
    pub fn contents(&self) -> &Contents {
        &self.footer.contents
    }

    /// Bytes of its file.
    pub fn bytes(&self) -> usize {
        self.file.bytes().len()
    }

    /// Reads a byte of every page of its file: what is mapped is in memory then.
    pub fn touch(&self) {
        /// The smallest page of a machine.
        const PAGE: usize = 4 << 10;
        let pages = self.file.bytes().iter().step_by(PAGE);
        std::hint::black_box(pages.fold(0u8, |all, byte| all ^ byte));
    }

    /// The index over its vectors; rows are numbered alike.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Which rows pass a filter.
    pub fn filter_index(&self) -> &FilterIndex {
        &self.filter_index
    }

    /// All vectors, row after row.
    pub fn vectors(&self) -> &[f32] {
        bytemuck::cast_slice(self.section(Name::Vectors))
    }

    /// The vector of a row.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn vector(&self, row: u32) -> &[f32] {
        let dimensions = self.contents().dimensions as usize;
        &self.vectors()[row as usize * dimensions..][..dimensions]
    }

    /// The log position that wrote a row.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn written(&self, row: u32) -> Seq {
        Seq(u64_at(self.section(Name::Written), row as usize))
    }

    /// The id of a row.
    pub fn id(&self, row: u32) -> Result<&str> {
        if row >= self.contents().rows {
            return Err(fault("a row has no id"));
        }
        let place = u32_at(self.section(Name::IdPlaces), row as usize);
        self.id_directory().id_at(self.section(Name::Ids), place)
    }

    /// The row with this id.
    pub fn find(&self, id: &str) -> Result<Option<u32>> {
        let hash = record_hash(id);
        let Some(range) = self.id_directory().find(hash) else { return Ok(None) };
        let blocks = self.section(Name::Ids).get(range);
        let row = ids::row_of(blocks.unwrap_or_default(), hash, id)?;
        match row {
            Some(row) if row >= self.contents().rows => Err(fault("an id is of no row")),
            row => Ok(row),
        }
    }

    /// The first row of the block that has the metadata and the text of a row.
    pub fn records_start(&self, row: u32) -> Result<u32> {
        let listed = self.record_directory().block_of(row);
        listed.map(|listed| listed.rows.start).ok_or_else(|| fault("a row has no record"))
    }

    /// The block that has the metadata and the text of a row, and of others near it.
    pub fn records(&self, row: u32) -> Result<RecordBlock> {
        let listed = self.record_directory().block_of(row);
        let listed = listed.ok_or_else(|| fault("a row has no record"))?;
        let bytes = self.section(Name::Records).get(listed.bytes.clone());
        RecordBlock::read(&listed, bytes.unwrap_or_default())
    }

    fn section(&self, name: Name) -> &[u8] {
        &self.file.bytes()[self.footer.range(name)]
    }

    fn id_directory(&self) -> IdDirectory<'_> {
        let (list, filter) = (self.section(Name::IdBlocks), self.section(Name::IdFilter));
        IdDirectory::checked_before(list, filter, self.section(Name::Ids).len())
    }

    fn record_directory(&self) -> RecordDirectory<'_> {
        let (list, blocks) = (self.section(Name::RecordBlocks), self.section(Name::Records));
        RecordDirectory::checked_before(list, self.contents().rows, blocks.len())
    }
}
