//! An index as bytes, and bytes as an index.
//!
//! Five sections are used where they lie (a mapped file, a downloaded object): the short codes, the
//! 8-bit codes, the neighbours, the first rows of the clusters (with the end of the last), and their
//! centroids, as short codes. They are arrays of fixed width without pointers, aligned to 64 bytes (the
//! row numbers to 4), little-endian. Two are small and read into memory: the rows that walks start
//! from, and the head:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic, `BRNYIDX1`, or `BRNYIDX2` where rows lie by their lengths: those have one place for a neighbour, which is empty, their biases are lengths, their codes are of directions, and the space has no dimension more under dot |
//! | 4 each, `u32` | metric (0 cosine, 1 euclidean, 2 dot), dimensions, rows, places for neighbours, lines of a short code, components in 7 bits, components, 1 if the 8-bit codes are the values themselves, points of the calibration, rows that it was measured with |
//! | 4 each, `f32` | scale and radius of the space |
//! | 4 each, `f32` | the centre: dimensions, and 1 more under dot |
//! | 4 each, `f32` | for each component what a unit of its direction is worth; then its lowest value; then its step |
//! | 4 + 4 each | the calibration: width of a walk (`u32`, ever larger), recall (`f32`, 0 to 1, never less) |
//! | 64 each | the directions: for each component its lines of signed bytes + 128 |
//!
//! Checksums are the business of the file that holds the sections. Sections that do not fit together
//! are refused; bytes that are wrong in another way give wrong results, but never a panic.

use crate::index::build::calibrate::Calibration;
use crate::index::build::clusters::Clusters;
use crate::index::graph::Graph;
use crate::index::machine::buffer::{Buffer, Bytes, Plain};
use crate::index::machine::integer::Line;
use crate::index::machine::isa::Isa;
use crate::index::quantize::code::{Code, Scalar, Short, ShortParts};
use crate::index::quantize::codes::Codes;
use crate::index::quantize::space::{Form, Space};
use crate::index::{INDEX_DIMENSIONS_MAX, INDEX_ROWS_MAX, Index, Metric};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"BRNYIDX1";
/// Of an index whose rows lie by their lengths.
const MAGIC_BY_LENGTH: &[u8; 8] = b"BRNYIDX2";
/// Most places for neighbours, lines of a short code, and points of a calibration that are read.
const DEGREE_MAX: usize = 1_024;
const LINES_MAX: usize = 64;
const POINTS_MAX: usize = 4_096;

/// An index as bytes.
#[derive(Debug)]
pub struct Sections<'a> {
    /// What is not in the others.
    pub head: Vec<u8>,
    /// The short codes, to be aligned to 64 bytes.
    pub short: &'a [u8],
    /// The 8-bit codes, to be aligned to 64 bytes.
    pub scalar: &'a [u8],
    /// The neighbours of each row, to be aligned to 4 bytes.
    pub neighbours: &'a [u8],
    /// The first row of each cluster, and the end of the last, to be aligned to 4 bytes.
    pub clusters: &'a [u8],
    /// The clusters' centroids, to be aligned to 64 bytes.
    pub centroids: &'a [u8],
    /// The rows that walks start from, to be aligned to 4 bytes.
    pub entries: Vec<u8>,
}

/// Where the sections of an index lie, besides its head.
#[derive(Clone)]
pub struct Placed {
    /// As in [`Sections::short`].
    pub short: Section,
    /// As in [`Sections::scalar`].
    pub scalar: Section,
    /// As in [`Sections::neighbours`].
    pub neighbours: Section,
    /// As in [`Sections::clusters`].
    pub clusters: Section,
    /// As in [`Sections::centroids`].
    pub centroids: Section,
    /// As in [`Sections::entries`].
    pub entries: Section,
}

/// Where a section lies.
#[derive(Clone)]
pub struct Section {
    /// What holds its bytes.
    pub holder: Arc<dyn Bytes>,
    /// Which of the holder's bytes it is.
    pub range: Range<usize>,
}

/// Why bytes are no index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnIndex(
    /// What is wrong with them.
    pub &'static str,
);

impl fmt::Display for NotAnIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "not an index of this version: {}", self.0)
    }
}

impl std::error::Error for NotAnIndex {}

impl Index {
    /// The index as bytes.
    pub fn sections(&self) -> Sections<'_> {
        Sections {
            head: self.head(),
            short: self.codes.short_lines.as_bytes(),
            scalar: self.codes.scalar_lines.as_bytes(),
            neighbours: self.graph.neighbours.as_bytes(),
            clusters: self.clusters.starts.as_bytes(),
            centroids: self.clusters.centroids.as_bytes(),
            entries: self.entries.iter().flat_map(|row| row.to_le_bytes()).collect(),
        }
    }

    fn head(&self) -> Vec<u8> {
        let Codes { space, short, scalar, .. } = &self.codes;
        let parts = short.parts();
        let metric = match space.metric {
            Metric::Cosine => 0,
            Metric::Euclidean => 1,
            Metric::Dot => 2,
        };
        let numbers = [
            metric,
            space.dims,
            self.len(),
            self.graph.degree,
            parts.lines,
            parts.wide,
            parts.scales.len(),
            usize::from(scalar.is_exact()),
            self.calibration.points.len(),
            self.calibration.rows as usize,
        ];
        let magic = if self.is_by_length() { MAGIC_BY_LENGTH } else { MAGIC };
        let mut head = magic.to_vec();
        head.extend(numbers.iter().flat_map(|&number| (number as u32).to_le_bytes()));
        let floats = [space.scale, space.radius].into_iter().chain(space.centre.iter().copied());
        let of_components = parts.scales.iter().chain(parts.lows).chain(parts.steps).copied();
        head.extend(floats.chain(of_components).flat_map(f32::to_le_bytes));
        for (ef, recall) in &self.calibration.points {
            head.extend(ef.to_le_bytes());
            head.extend(recall.to_le_bytes());
        }
        head.extend(parts.directions.iter().flat_map(|line| line.0));
        head
    }

    /// The index that lies in these bytes.
    pub fn open(head: &[u8], placed: Placed) -> Result<Index, NotAnIndex> {
        let head = Head::read(head)?;
        let codes = Codes {
            short_lines: shared(placed.short)?,
            scalar_lines: shared(placed.scalar)?,
            space: head.space,
            short: head.short,
            scalar: head.scalar,
        };
        let graph = Graph { degree: head.degree, neighbours: shared(placed.neighbours)? };
        let clusters =
            Clusters { starts: shared(placed.clusters)?, centroids: shared(placed.centroids)? };
        let fit = codes.short_lines.len() == head.rows * codes.short.lines()
            && codes.scalar_lines.len() == head.rows * codes.scalar.lines()
            && graph.neighbours.len() == head.rows * head.degree
            && clusters.are_sound(head.rows, codes.short.lines());
        if !fit {
            return Err(NotAnIndex("the lengths of its sections differ from its head"));
        }
        let entries: Buffer<u32> = shared(placed.entries)?;
        let (has_entries, rows) = (!entries.is_empty() || head.rows == 0, head.rows);
        if !has_entries || entries.iter().any(|&row| row as usize >= rows) {
            return Err(NotAnIndex("walks would start outside of its rows"));
        }
        Ok(Index::assemble(codes, graph, clusters, head.calibration, entries.to_vec()))
    }
}

fn shared<T: Plain>(section: Section) -> Result<Buffer<T>, NotAnIndex> {
    Buffer::shared(section.holder, section.range)
        .ok_or(NotAnIndex("a section lies outside of its file or is not aligned"))
}

struct Head {
    rows: usize,
    degree: usize,
    space: Space,
    short: Short,
    scalar: Scalar,
    calibration: Calibration,
}

impl Head {
    fn read(bytes: &[u8]) -> Result<Head, NotAnIndex> {
        let mut reader = Reader { left: bytes };
        let magic = reader.take(MAGIC.len())?;
        let form = match magic {
            magic if magic == MAGIC => Form::Distances,
            magic if magic == MAGIC_BY_LENGTH => Form::Products,
            _ => return Err(NotAnIndex("it does not begin with BRNYIDX1 or BRNYIDX2")),
        };
        let metric = match reader.number()? {
            0 => Metric::Cosine,
            1 => Metric::Euclidean,
            2 => Metric::Dot,
            _ => return Err(NotAnIndex("an unknown metric")),
        };
        if form == Form::Products && metric != Metric::Dot {
            return Err(NotAnIndex("only under dot rows lie by their lengths"));
        }
        let dims = reader.number_within(1, INDEX_DIMENSIONS_MAX)?;
        let rows = reader.number_within(0, INDEX_ROWS_MAX - 1)?;
        let degree = reader.number_within(1, DEGREE_MAX)?;
        let lines = reader.number_within(1, LINES_MAX)?;
        let wide = reader.number()?;
        let components = reader.number()?;
        let exact = reader.number_within(0, 1)? == 1;
        let points = reader.number_within(0, POINTS_MAX)?;
        let measured = reader.number_within(0, INDEX_ROWS_MAX - 1)? as u32;
        let (scale, radius) = (reader.float()?, reader.float()?);
        let mut space = Space { metric, form, dims, scale, radius, centre: Box::default() };
        space.centre = reader.floats(space.placed_dims())?.into();
        let [scales, lows, steps] =
            [reader.floats(components)?, reader.floats(components)?, reader.floats(components)?];
        let calibration = Calibration::from_points(measured, reader.pairs(points)?)
            .ok_or(NotAnIndex("a calibration in which wider walks find less"))?;
        let directions = reader.lines(components * space.placed_dims().div_ceil(Line::BYTES))?;
        if !reader.left.is_empty() {
            return Err(NotAnIndex("its head is too long"));
        }
        let parts = ShortParts {
            lines,
            wide,
            directions: &directions,
            scales: &scales,
            lows: &lows,
            steps: &steps,
        };
        let short = Short::from_parts(Isa::detect(), form, parts)
            .ok_or(NotAnIndex("more components than its short codes hold"))?;
        let centre = exact.then(|| space.centre.clone());
        let scalar = Scalar::new(Isa::detect(), space.placed_dims(), centre).of_form(form);
        Ok(Head { rows, degree, space, short, scalar, calibration })
    }
}

/// Reads from the front of what is left.
struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], NotAnIndex> {
        let (taken, left) = self.left.split_at_checked(bytes).ok_or(NotAnIndex("it ends early"))?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotAnIndex> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("so many were taken"))
    }

    fn number(&mut self) -> Result<usize, NotAnIndex> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn number_within(&mut self, least: usize, most: usize) -> Result<usize, NotAnIndex> {
        let number = self.number()?;
        let fits = (least..=most).contains(&number);
        fits.then_some(number).ok_or(NotAnIndex("a number in its head is out of range"))
    }

    fn float(&mut self) -> Result<f32, NotAnIndex> {
        let float = f32::from_le_bytes(self.array()?);
        float.is_finite().then_some(float).ok_or(NotAnIndex("a number in its head is not finite"))
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>, NotAnIndex> {
        self.enough(count, 4)?;
        (0..count).map(|_| self.float()).collect()
    }

    fn pairs(&mut self, count: usize) -> Result<Vec<(u32, f32)>, NotAnIndex> {
        self.enough(count, 8)?;
        (0..count).map(|_| Ok((self.number()? as u32, self.float()?))).collect()
    }

    fn lines(&mut self, count: usize) -> Result<Vec<Line>, NotAnIndex> {
        self.enough(count, Line::BYTES)?;
        (0..count).map(|_| Ok(Line(self.array()?))).collect()
    }

    /// Before room is made for `count` values of `size` bytes.
    fn enough(&self, count: usize, size: usize) -> Result<(), NotAnIndex> {
        let bytes = count.checked_mul(size);
        let enough = bytes.is_some_and(|bytes| bytes <= self.left.len());
        enough.then_some(()).ok_or(NotAnIndex("it ends early"))
    }
}

#[cfg(test)]
mod tests;
