//! Makes objects as `docs/format.md` has them, also such as no build writes.

use crate::decode::chunk::Operation;
use serde_json::Value;

/// An operation of any kind, with what its bits say that it has.
pub fn operation(kind: u8, id: &str, value: f32) -> Operation {
    let has = |bit: u8| kind & bit != 0;
    Operation {
        kind,
        id: id.to_owned(),
        metadata: if has(1) { format!("{{\"n\":{value}}}") } else { String::new() },
        text: has(4).then(|| format!("text of {id}")),
        vector: has(1).then(|| vec![value.to_bits(), 1f32.to_bits()]),
        limit: has(8).then_some(value as u64),
    }
}

/// A chunk of vectors of two dimensions.
pub fn chunk(version: u16, operations: &[Operation]) -> Vec<u8> {
    let mut columns: Vec<u8> = operations.iter().map(|operation| operation.kind).collect();
    let texts = |of: fn(&Operation) -> &str| {
        let (mut ends, mut column) = (Vec::new(), Vec::new());
        for operation in operations {
            column.extend_from_slice(of(operation).as_bytes());
            ends.extend((column.len() as u32).to_le_bytes());
        }
        (ends, column)
    };
    let texts = [
        texts(|operation| &operation.id),
        texts(|operation| &operation.metadata),
        texts(|operation| operation.text.as_deref().unwrap_or_default()),
    ];
    texts.iter().for_each(|(ends, _)| columns.extend(ends));
    texts.iter().for_each(|(_, column)| columns.extend(column));
    let vectors: Vec<u32> =
        operations.iter().filter_map(|op| op.vector.clone()).flatten().collect();
    columns.extend(vectors.iter().flat_map(|value| value.to_le_bytes()));
    columns.extend(operations.iter().filter_map(|op| op.limit).flat_map(u64::to_le_bytes));

    let mut data = b"BRNYCHK1".to_vec();
    data.extend([version, 0].iter().flat_map(|number| number.to_le_bytes()));
    let dimensions = if vectors.is_empty() { 0 } else { 2 };
    let lengths = texts.map(|(_, column)| column.len() as u32);
    let numbers = [dimensions, operations.len() as u32].into_iter().chain(lengths);
    let numbers = numbers.chain([4 * vectors.len() as u32, crc32c::crc32c(&columns)]);
    data.extend(numbers.flat_map(u32::to_le_bytes));
    data.extend(crc32c::crc32c(&data).to_le_bytes());
    data.extend([0; 4]);
    data.extend(columns);
    data
}

/// A chunk in an entry, or its data object.
pub enum Part<'a> {
    Inline(u32, &'a [u8]),
    Object(u32, &'a [u8], u128),
}

/// An entry behind those that have so many operations and bytes.
pub fn entry(head: (u16, u64, u64), before: (u64, u64), parts: &[Part]) -> Vec<u8> {
    let (kind, position, incarnation) = head;
    let write_id = [9; 16];
    let (mut rows, mut inline, mut totals) = (Vec::new(), Vec::new(), before);
    for part in parts {
        let (kind, operations, chunk, number) = match *part {
            Part::Inline(operations, chunk) => (1u32, operations, chunk, 77),
            Part::Object(operations, chunk, id) => (2, operations, chunk, id),
        };
        let mut first = [kind, operations].map(u32::to_le_bytes).concat();
        first.extend((chunk.len() as u64).to_le_bytes());
        first.extend(crc32c::crc32c(chunk).to_le_bytes());
        let mark = crc32c::crc32c(&[&write_id[..], &first, &number.to_le_bytes()].concat());
        rows.extend(first.iter().chain(&mark.max(1).to_le_bytes()).chain(&number.to_le_bytes()));
        totals = (totals.0 + u64::from(operations), totals.1 + chunk.len() as u64);
        if kind == 1 {
            inline.extend(chunk);
        }
    }
    let body = [rows, inline].concat();
    totals.1 += 80 + 40 * parts.len() as u64;
    let mut data = b"BRNYWAL1".to_vec();
    data.extend([1, kind].iter().flat_map(|number| number.to_le_bytes()));
    data.extend((parts.len() as u32).to_le_bytes());
    data.extend([position, incarnation].iter().flat_map(|number| number.to_le_bytes()));
    data.extend(write_id);
    data.extend([0, totals.0, totals.1].iter().flat_map(|number: &u64| number.to_le_bytes()));
    data.extend(crc32c::crc32c(&body).to_le_bytes());
    data.extend(crc32c::crc32c(&data).to_le_bytes());
    data.extend(body);
    data
}

/// The sections of a segment as they lie, and its footer.
pub fn footer(segment: &[u8]) -> (Vec<u8>, Value) {
    let end = segment.len() - 24;
    let length = u32::from_le_bytes(segment[end..end + 4].try_into().unwrap()) as usize;
    let footer = serde_json::from_slice(&segment[end - length..end]).unwrap();
    (segment[..end - length].to_vec(), footer)
}

/// A segment of these sections and this footer.
pub fn segment(mut sections: Vec<u8>, footer: &Value) -> Vec<u8> {
    let footer = footer.to_string();
    let numbers = [footer.len() as u32, crc32c::crc32c(footer.as_bytes()), 1, 0];
    sections.extend(footer.as_bytes());
    sections.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    sections.extend(b"BRNYSEG1");
    sections
}

/// A segment with one more section, behind the others.
pub fn with_section(segment: &[u8], body: &[u8], mut section: Value) -> Vec<u8> {
    let (mut sections, mut footer) = footer(segment);
    sections.resize(sections.len().next_multiple_of(64), 0);
    section["offset"] = sections.len().into();
    section["length"] = body.len().into();
    section["crc32c"] = crc32c::crc32c(body).into();
    footer["sections"].as_array_mut().unwrap().push(section);
    sections.extend(body);
    self::segment(sections, &footer)
}
