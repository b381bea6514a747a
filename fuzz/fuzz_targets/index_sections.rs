//! An index of which any bytes are changed is refused or can be searched.

#![no_main]

use brainy::index::{
    Bytes, Effort, Index, IndexParams, Metric, Placed, RowSet, Scratch, Search, Section, Threads,
};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, OnceLock};

const DIMS: usize = 5;

/// A cache line, for alignment.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes that begin on a cache line.
struct Aligned {
    lines: Vec<Line>,
    length: usize,
}

impl Bytes for Aligned {
    fn bytes(&self) -> &[u8] {
        &self.lines.as_flattened_bytes()[..self.length]
    }
}

trait AsFlattenedBytes {
    fn as_flattened_bytes(&self) -> &[u8];
}

impl AsFlattenedBytes for Vec<Line> {
    fn as_flattened_bytes(&self) -> &[u8] {
        // SAFETY: lines are plain bytes without padding.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.len() * 64) }
    }
}

fn section(bytes: &[u8]) -> Section {
    let mut lines = vec![Line([0; 64]); bytes.len().div_ceil(64)];
    for (line, bytes) in lines.iter_mut().zip(bytes.chunks(64)) {
        line.0[..bytes.len()].copy_from_slice(bytes);
    }
    let length = bytes.len();
    Section { holder: Arc::new(Aligned { lines, length }), range: 0..length }
}

fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let value = |at: usize| (at * 2_654_435_761 % 1_009) as f32 / 1_009.0;
        let vectors: Vec<f32> = (0..120 * DIMS).map(value).collect();
        let params = IndexParams { m: 4, ef_construction: 16, ..IndexParams::default() };
        Index::build(Metric::Dot, DIMS, &vectors, params, Threads::One).0
    })
}

fuzz_target!(|patches: Vec<(u16, u8)>| {
    let sections = index().sections();
    let mut parts = [
        sections.head.clone(),
        sections.short.to_vec(),
        sections.scalar.to_vec(),
        sections.neighbours.to_vec(),
        sections.clusters.to_vec(),
        sections.centroids.to_vec(),
        sections.entries.clone(),
    ];
    // Half of the patches hit the head, which decides most.
    for (count, (at, byte)) in patches.into_iter().enumerate() {
        let part = if count % 2 == 0 { 0 } else { usize::from(byte) % 7 };
        let length = parts[part].len();
        parts[part][usize::from(at) % length] = byte;
    }
    let [head, short, scalar, neighbours, clusters, centroids, entries] =
         parts.each_ref().map(|part| &part[..]);
    let placed = Placed {
        short: section(short),
        scalar: section(scalar),
        neighbours: section(neighbours),
        clusters: section(clusters),
        centroids: section(centroids),
        entries: section(entries),
    };
    let opened = Index::open(head, placed);
    let Ok(opened) = opened else { return };
    let allowed: RowSet = (0..opened.len() as u32).step_by(3).collect();
    let query = vec![0.5; opened.dimensions()];
    let mut scratch = Scratch::default();
    assert!(opened.ranges(&query, &mut scratch).iter().all(|range| range.end as usize <= opened.len()));
    for (effort, allowed) in [(Effort::Default, None), (Effort::Ef(4), Some(&allowed))] {
        let search = Search { k: 3, effort, allowed, vectors: None };
        let results = opened.search(&query, &search, &mut scratch);
        assert!(results.len() <= 3);
    }
});
