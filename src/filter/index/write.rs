//! Writes what was collected, as `docs/format.md` describes it.

use super::super::ast::Num;
use super::build::{FacetRows, FieldRows};
use super::postings::Writer;
use super::read::{ALL_HASHED, FLOATS, INTEGERS, WIDE};
use super::{FORMAT_VERSION, FilterIndexBuilder, Limits, MAGIC};
use roaring::RoaringBitmap;

pub(super) fn write(builder: FilterIndexBuilder) -> Vec<u8> {
    let FilterIndexBuilder { limits, rows, fields, mut left_out } = builder;
    let mut fields: Vec<_> = fields.into_iter().collect();
    fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let (mut entries, mut paths, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
    let mut written: u32 = 0;
    for (path, field) in fields {
        let exists = field.exists.clone();
        // Of a field too large for 32-bit places nothing is known.
        let Some(block) = block(field, &limits) else {
            left_out |= exists;
            continue;
        };
        paths.extend(path.as_bytes());
        blocks.extend(block);
        entries.extend((paths.len() as u64).to_le_bytes());
        entries.extend((blocks.len() as u64).to_le_bytes());
        written += 1;
    }
    let mut bitmap = Vec::new();
    if !left_out.is_empty() {
        left_out.optimize();
        left_out.serialize_into(&mut bitmap).expect("a vector takes all that is written");
    }
    let mut out = Vec::with_capacity(64 + entries.len() + paths.len() + blocks.len());
    out.extend(MAGIC);
    out.extend(FORMAT_VERSION.to_le_bytes());
    out.extend([0; 2]);
    for number in [rows, written, limits.string_bytes, paths.len() as u32, bitmap.len() as u32] {
        out.extend(number.to_le_bytes());
    }
    out.extend([0; 8]);
    for part in [entries, paths, bitmap, blocks] {
        out.extend(part);
        pad(&mut out);
    }
    out
}

/// Up to the next multiple of 8 bytes.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

/// A field's block; `None` where a place in it does not fit into its bits.
fn block(field: FieldRows, limits: &Limits) -> Option<Vec<u8>> {
    let FieldRows { exists, single, elements } = field;
    let mut postings = Writer::default();
    let exists = add(&mut postings, &exists)?;
    let (single_header, single_arrays) = facet(single, &mut postings, limits)?;
    let (elements_header, elements_arrays) = facet(elements, &mut postings, limits)?;
    pad(&mut postings.bytes);
    let mut block = Vec::new();
    block.extend(exists.to_le_bytes());
    block.extend([0; 4]);
    block.extend((postings.bytes.len() as u64).to_le_bytes());
    for part in [single_header, elements_header, single_arrays, elements_arrays, postings.bytes] {
        block.extend(part);
    }
    Some(block)
}

fn add(postings: &mut Writer, rows: &RoaringBitmap) -> Option<u32> {
    postings.add(&rows.iter().collect::<Vec<_>>())
}

/// A facet's header and its arrays.
fn facet(
    mut facet: FacetRows,
    postings: &mut Writer,
    limits: &Limits,
) -> Option<(Vec<u8>, Vec<u8>)> {
    facet.weigh(limits);
    let mut references = [0; 4];
    let hashed_rows = facet.hashes.iter().map(|(_, row)| *row).collect();
    let sets = [&facet.null, &facet.falsehood, &facet.truth, &hashed_rows];
    for (reference, rows) in references.iter_mut().zip(sets) {
        *reference = add(postings, rows)?;
    }
    let mut arrays = Vec::new();
    let (numbers, rows) = facet.numbers.sorted(|a, b| a.compare(*b));
    let kind = write_numbers(&numbers, &mut arrays);
    write_references(&rows, postings, &mut arrays)?;
    let (strings, rows) = facet.strings.sorted(|a, b| a.cmp(b));
    let mut text: Vec<u8> = Vec::new();
    for string in &strings {
        text.extend(string.as_bytes());
        arrays.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
    }
    pad(&mut arrays);
    write_references(&rows, postings, &mut arrays)?;
    arrays.extend(&text);
    pad(&mut arrays);
    facet.hashes.sort_unstable();
    facet.hashes.dedup();
    arrays.extend(facet.hashes.iter().flat_map(|(hash, _)| hash.to_le_bytes()));
    pad(&mut arrays);
    arrays.extend(facet.hashes.iter().flat_map(|(_, row)| row.to_le_bytes()));
    pad(&mut arrays);

    let flags = if facet.all_hashed { ALL_HASHED } else { 0 };
    let mut header: Vec<u8> = references.iter().flat_map(|number| number.to_le_bytes()).collect();
    header.extend([flags, kind].iter().flat_map(|number| number.to_le_bytes()));
    for count in [numbers.len(), strings.len(), text.len(), facet.hashes.len()] {
        header.extend(u32::try_from(count).ok()?.to_le_bytes());
    }
    Some((header, arrays))
}

fn write_references(rows: &[Vec<u32>], postings: &mut Writer, arrays: &mut Vec<u8>) -> Option<()> {
    for rows in rows {
        arrays.extend(postings.add(rows)?.to_le_bytes());
    }
    pad(arrays);
    Some(())
}

/// Writes numbers in the narrowest kind that holds all of them exactly; says which.
fn write_numbers(numbers: &[Num], arrays: &mut Vec<u8>) -> u32 {
    let integers: Option<Vec<i64>> = numbers.iter().map(|number| number.to_i64()).collect();
    if let Some(integers) = integers {
        arrays.extend(integers.iter().flat_map(|integer| integer.to_le_bytes()));
        return INTEGERS;
    }
    let floats: Option<Vec<f64>> = numbers.iter().map(|number| number.to_f64()).collect();
    if let Some(floats) = floats {
        arrays.extend(floats.iter().flat_map(|float| float.to_le_bytes()));
        return FLOATS;
    }
    for number in numbers {
        let (low, high) = match *number {
            Num::Int(int) => (int as u64, (int >> 64) as i64),
            Num::Float(bits) => (bits, 1),
        };
        arrays.extend(low.to_le_bytes());
        arrays.extend(high.to_le_bytes());
    }
    WIDE
}
