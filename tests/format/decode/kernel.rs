//! The kernel's sections of a segment: graph, clusters, and codes, as far as they tell about the rows.

use super::bytes::Bytes;
use super::segment::Contents;
use super::{Result, corrupt, ensure};
use std::collections::BTreeMap;

/// A line of codes.
const LINE: usize = 64;
/// Behind the values of an 8-bit code: bias, lowest value, step.
const TAIL: usize = 12;
/// Behind the components of a short code: its bias.
const BIAS: usize = 4;
/// In a place for a neighbour that is not taken.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    pub head: Head,
    /// The first row of each cluster, and the end of the last.
    pub clusters: Vec<u32>,
    /// The rows that walks start from.
    pub entries: Vec<u32>,
    /// The neighbours of each row.
    pub neighbours: Vec<Vec<u32>>,
    /// The 8-bit code and the short code of each row.
    pub codes: Vec<(Scalar, Short)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Whether rows lie by falling length.
    pub by_length: bool,
    /// Places for the neighbours of each row.
    pub places: usize,
    /// Whether 8-bit codes are the values themselves.
    pub exact: bool,
    /// Widths of walks with the recall that they reach.
    pub calibration: Vec<(u32, f32)>,
    pub scale: f32,
    pub radius: f32,
    pub centre: Vec<f32>,
    pub components: Vec<Component>,
    /// How many components have 7 bits.
    wide: usize,
    /// Lines of a short code, and of an 8-bit code.
    lines: (usize, usize),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    pub direction: Vec<f32>,
    pub low: f32,
    pub step: f32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    pub values: Vec<f32>,
    pub bias: f32,
    pub step: f32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Short {
    /// Each with whether it may have been cut to its range.
    pub components: Vec<(f32, bool)>,
    pub bias: f32,
}

/// Decodes the sections of the kernel.
pub fn decode(sections: &BTreeMap<&str, &[u8]>, contents: &Contents) -> Result<Kernel> {
    let of = |name: &str| sections.get(name).copied().unwrap_or_default();
    let head = head(of("head"), contents).map_err(|fault| fault.within("head"))?;
    let rows = contents.rows as usize;
    let clusters = numbers(of("clusters"), "clusters")?;
    let entries = numbers(of("entries"), "entries")?;
    let directory = clusters.len().saturating_sub(1);
    for (name, lines) in [
        ("short", head.lines.0 * rows),
        ("scalar", head.lines.1 * rows),
        ("centroids", head.lines.0 * directory),
    ] {
        let length = of(name).len();
        ensure(length == LINE * lines, || format!("{name}: {length} bytes for {lines} lines"))?;
    }
    let ascending = clusters.first() == Some(&0) && clusters.is_sorted();
    let fits = clusters.last().is_some_and(|end| *end as usize <= rows);
    ensure(ascending && fits, || format!("clusters: {clusters:?}"))?;
    ensure(entries.iter().all(|row| *row < contents.rows), || format!("entries: {entries:?}"))?;
    ensure(rows == 0 || !entries.is_empty(), || "entries: none".to_owned())?;
    let neighbours = neighbours(of("neighbours"), &head, contents.rows)?;
    let short = of("short").chunks(LINE * head.lines.0);
    let codes = of("scalar").chunks(LINE * head.lines.1).zip(short);
    let codes = codes.map(|(scalar, short)| Ok((head.scalar(scalar)?, head.short(short)?)));
    let codes = codes.collect::<Result<_>>()?;
    Ok(Kernel { head, clusters, entries, neighbours, codes })
}

fn neighbours(section: &[u8], head: &Head, rows: u32) -> Result<Vec<Vec<u32>>> {
    let all = numbers(section, "neighbours")?;
    ensure(head.places.checked_mul(rows as usize) == Some(all.len()), || {
        format!("neighbours: {} of {rows} rows", all.len())
    })?;
    let mut found = Vec::new();
    for of_row in all.chunks(head.places) {
        let (taken, free) = of_row.split_at(of_row.iter().take_while(|row| **row != NONE).count());
        let right = taken.iter().all(|row| *row < rows) && free.iter().all(|row| *row == NONE);
        ensure(right && (taken.is_empty() || !head.by_length), || {
            format!("neighbours: {of_row:?}")
        })?;
        found.push(taken.to_vec());
    }
    Ok(found)
}

fn head(section: &[u8], contents: &Contents) -> Result<Head> {
    let mut bytes = Bytes::new(section, "section");
    let by_length = match bytes.take(8)? {
        b"BRNYIDX1" => false,
        b"BRNYIDX2" => true,
        _ => return corrupt("it begins with something else"),
    };
    let metrics = ["cosine", "euclidean", "dot"];
    let metric = metrics.get(bytes.u32()? as usize).copied();
    ensure(metric == Some(&contents.metric), || format!("metric {metric:?}"))?;
    ensure(!by_length || metric == Some("dot"), || "by length, but not under dot".to_owned())?;
    let (dimensions, rows) = (bytes.u32()?, bytes.u32()?);
    ensure((dimensions, rows) == (contents.dimensions, contents.rows), || {
        format!("{rows} rows of {dimensions} dimensions")
    })?;
    let (places, lines) = (bytes.u32()? as usize, bytes.u32()? as usize);
    let (wide, count) = (bytes.u32()? as usize, bytes.u32()? as usize);
    let (exact, points, _measured) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
    ensure(exact <= 1, || format!("{exact}, where 0 or 1 says whether codes are exact"))?;
    ensure(places > 0 && (1..=1 << 16).contains(&lines), || format!("{places}, {lines}"))?;
    let places_left = LINE * lines - BIAS;
    let fits = wide <= places_left && (wide..=2 * places_left - wide).contains(&count);
    ensure(fits, || format!("{wide} of {count} components in {lines} lines"))?;
    let placed = dimensions as usize + usize::from(metric == Some("dot") && !by_length);
    let space = floats(&mut bytes, 2)?;
    let centre = floats(&mut bytes, placed)?;
    let (units, lows) = (floats(&mut bytes, count)?, floats(&mut bytes, count)?);
    let steps = floats(&mut bytes, count)?;
    let mut calibration = Vec::new();
    for _ in 0..points {
        calibration.push((bytes.u32()?, f32::from_bits(bytes.u32()?)));
    }
    let grows = calibration.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
    ensure(grows, || format!("calibration {calibration:?}"))?;
    let mut components = Vec::new();
    for ((unit, low), step) in units.into_iter().zip(lows).zip(steps) {
        let direction = bytes.take(placed.next_multiple_of(LINE) as u64)?[..placed].iter();
        let direction = direction.map(|byte| (f32::from(*byte) - 128.0) * unit).collect();
        components.push(Component { direction, low, step });
    }
    bytes.end()?;
    let (scale, radius, exact) = (space[0], space[1], exact == 1);
    let lines = (lines, (placed + TAIL).div_ceil(LINE));
    Ok(Head {
        by_length,
        places,
        exact,
        calibration,
        scale,
        radius,
        centre,
        components,
        wide,
        lines,
    })
}

impl Head {
    fn scalar(&self, code: &[u8]) -> Result<Scalar> {
        let (values, tail) = code.split_at(code.len() - TAIL);
        let tail = floats(&mut Bytes::new(tail, "scalar"), 3)?;
        let (bias, low, step) = (tail[0], tail[1], tail[2]);
        let (values, rest) = values.split_at(self.centre.len());
        ensure(rest.iter().all(|byte| *byte == 0), || "scalar: more values".to_owned())?;
        let values = values.iter().map(|byte| low + step * f32::from(*byte)).collect();
        Ok(Scalar { values, bias, step })
    }

    fn short(&self, code: &[u8]) -> Result<Short> {
        let (levels, bias) = code.split_at(code.len() - BIAS);
        let bias = floats(&mut Bytes::new(bias, "short"), 1)?[0];
        let components = self.components.iter().enumerate().map(|(at, component)| {
            let (level, most) = match at {
                at if at < self.wide => (levels[at], 127),
                at if at < levels.len() => (levels[at] & 15, 15),
                at => (levels[at - levels.len() + self.wide] >> 4, 15),
            };
            let value = component.low + component.step * f32::from(level);
            (value, level == 0 || level == most)
        });
        Ok(Short { components: components.collect(), bias })
    }
}

fn floats(bytes: &mut Bytes, count: usize) -> Result<Vec<f32>> {
    let floats: Vec<f32> = bytes.u32s(count as u64)?.into_iter().map(f32::from_bits).collect();
    ensure(floats.iter().all(|float| float.is_finite()), || "a float is not finite".to_owned())?;
    Ok(floats)
}

fn numbers(section: &[u8], what: &'static str) -> Result<Vec<u32>> {
    let mut bytes = Bytes::new(section, what);
    let numbers = bytes.u32s(section.len() as u64 / 4)?;
    bytes.end()?;
    Ok(numbers)
}
