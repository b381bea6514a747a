//! Reading records by id and in order, from one snapshot.

use crate::engine::model::Record;
use crate::engine::search::{metadata_or_empty, passes};
use crate::engine::tail::{Block, Snapshot};
use crate::filter::Filter;
use serde_json::value::RawValue;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A record as it is read.
pub fn record(block: &Block, row: usize, include_vector: bool) -> Record {
    Record {
        id: block.id(row).to_owned(),
        vector: include_vector.then(|| block.vector(row).to_vec()),
        metadata: metadata_or_empty(block, row).into(),
        text: block.text(row).map(Into::into),
        version: block.written(row),
    }
}

/// The ids of all records that pass a filter.
pub fn matching_ids(snapshot: &Snapshot, filter: &Filter) -> Vec<String> {
    let rows = snapshot.blocks().iter().flat_map(|block| {
        (0..block.rows()).filter(|row| snapshot.shows(block, *row)).map(move |row| (block, row))
    });
    let matching = rows.filter(|(block, row)| passes(filter, block, *row));
    matching.map(|(block, row)| block.id(row).to_owned()).collect()
}

/// Visits up to `limit` records with ids greater than `after`, in ascending order of their ids;
/// returns whether there are more.
pub fn visit<'a>(
    snapshot: &'a Snapshot,
    after: Option<&str>,
    limit: usize,
    mut visit: impl FnMut(&'a Block, usize),
) -> bool {
    // One cursor per block, merged by id.
    let mut heads = BinaryHeap::new();
    let blocks = snapshot.blocks();
    let push = |heads: &mut BinaryHeap<_>, number: usize, at: usize| {
        let block: &'a Block = &blocks[number];
        let order = block.by_id();
        let shown = (at..order.len()).find(|at| snapshot.shows(block, order[*at] as usize));
        if let Some(at) = shown {
            heads.push(Reverse((block.id(order[at] as usize), number, at)));
        }
    };
    for (number, block) in blocks.iter().enumerate() {
        let beyond = |row: &u32| after.is_some_and(|after| block.id(*row as usize) <= after);
        push(&mut heads, number, block.by_id().partition_point(beyond));
    }
    for _ in 0..limit {
        let Some(Reverse((_, number, at))) = heads.pop() else {
            return false;
        };
        let block = &blocks[number];
        visit(block, block.by_id()[at] as usize);
        push(&mut heads, number, at + 1);
    }
    !heads.is_empty()
}

/// Writes one record as a line of NDJSON, in the form that import reads.
pub fn write_line(out: &mut Vec<u8>, block: &Block, row: usize, include_vector: bool) {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        vector: Option<&'a [f32]>,
        metadata: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
    }
    // Metadata was checked to be JSON when it was written; writing to memory cannot fail.
    let Ok(metadata) = serde_json::from_str(metadata_or_empty(block, row)) else {
        return;
    };
    let line = Line {
        id: block.id(row),
        vector: include_vector.then(|| block.vector(row)),
        metadata,
        text: block.text(row),
    };
    let _ = serde_json::to_writer(&mut *out, &line);
    out.push(b'\n');
}
