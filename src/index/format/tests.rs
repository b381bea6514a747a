use super::*;
use crate::index::{Effort, IndexParams, Neighbour, Scratch, Search, Threads};
use proptest::prelude::*;
use std::sync::OnceLock;

/// Bytes aligned as those of a mapped file are.
struct Held {
    lines: Buffer<Line>,
    length: usize,
}

impl Bytes for Held {
    fn bytes(&self) -> &[u8] {
        &self.lines.as_bytes()[..self.length]
    }
}

fn section(bytes: &[u8]) -> Section {
    let mut lines = vec![Line::ZERO; bytes.len().div_ceil(Line::BYTES)];
    for (line, bytes) in lines.iter_mut().zip(bytes.chunks(Line::BYTES)) {
        line.0[..bytes.len()].copy_from_slice(bytes);
    }
    let held = Held { lines: lines.into(), length: bytes.len() };
    Section { holder: Arc::new(held), range: 0..bytes.len() }
}

fn vectors(rows: usize, dims: usize) -> Vec<f32> {
    let mixed = |at: u64| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / 16_777_216.0;
    (0..(rows * dims) as u64).map(mixed).collect()
}

fn built(metric: Metric, rows: usize) -> Index {
    let params = IndexParams { m: 4, ef_construction: 16, ..IndexParams::default() };
    Index::build(metric, 5, &vectors(rows, 5), params, Threads::One).0
}

fn placed(sections: &Sections<'_>) -> Placed {
    Placed {
        short: section(sections.short),
        scalar: section(sections.scalar),
        neighbours: section(sections.neighbours),
        clusters: section(sections.clusters),
        centroids: section(sections.centroids),
        entries: section(&sections.entries),
    }
}

fn reopened(index: &Index) -> Result<Index, NotAnIndex> {
    let sections = index.sections();
    Index::open(&sections.head, placed(&sections))
}

fn ranges(index: &Index) -> Vec<Range<u32>> {
    index.ranges(&[0.5, 0.1, 0.9, 0.3, 0.7], &mut Scratch::default())
}

fn results(index: &Index) -> Vec<Neighbour> {
    let search = Search { k: 10, effort: Effort::Default, allowed: None, vectors: None };
    index.search(&[0.5, 0.1, 0.9, 0.3, 0.7], &search, &mut Scratch::default()).to_vec()
}

#[test]
fn an_opened_index_is_the_one_that_was_written() {
    for metric in [Metric::Cosine, Metric::Euclidean, Metric::Dot] {
        for rows in [0, 1, 60] {
            let index = built(metric, rows);
            let opened = reopened(&index).unwrap();
            assert_eq!(results(&opened), results(&index), "{metric:?}, {rows} rows");
            assert_eq!(results(&index).len(), rows.min(10));
            assert_eq!(ranges(&opened), ranges(&index));
            assert_eq!(opened.sections().head, index.sections().head);
        }
    }
}

/// Rows so different in length that they lie by it.
fn by_length() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut rows = vectors(1_100, 5);
        for (at, row) in rows.chunks_exact_mut(5).enumerate() {
            row.iter_mut().for_each(|value| *value *= 1.03f32.powi(at as i32));
        }
        let (index, _) = Index::build(Metric::Dot, 5, &rows, IndexParams::default(), Threads::One);
        assert!(index.is_by_length());
        index
    })
}

#[test]
fn an_index_by_length_is_opened_as_such() {
    let opened = reopened(by_length()).unwrap();
    assert!(opened.is_by_length());
    assert_eq!(results(&opened), results(by_length()));
    assert_eq!(ranges(&opened), ranges(by_length()));
    assert_eq!(opened.recall_reached(), by_length().recall_reached());
    // A metric that has no such order.
    let sections = by_length().sections();
    let mut head = sections.head.clone();
    head[8] = 1;
    assert!(Index::open(&head, placed(&sections)).is_err());
}

#[test]
fn rows_can_be_added_to_an_opened_index() {
    let mut opened = reopened(&built(Metric::Euclidean, 40)).unwrap();
    opened.append(&[0.5, 0.1, 0.9, 0.3, 0.7], IndexParams::default(), Threads::One);
    assert_eq!(results(&opened)[0].row, 40);
}

#[test]
fn sections_that_do_not_fit_together_are_refused() {
    let (small, large) = (built(Metric::Euclidean, 30), built(Metric::Euclidean, 60));
    let (small, large) = (small.sections(), large.sections());
    let lengths = Some(NotAnIndex("the lengths of its sections differ from its head"));
    let centroids = [small.centroids, small.centroids].concat();
    let mixed = [
        Placed { short: section(large.short), ..placed(&small) },
        Placed { scalar: section(large.scalar), ..placed(&small) },
        Placed { neighbours: section(large.neighbours), ..placed(&small) },
        Placed { clusters: section(&[]), ..placed(&small) },
        Placed { centroids: section(&centroids), ..placed(&small) },
        // The clusters of more rows than there are.
        Placed { clusters: section(large.clusters), ..placed(&small) },
    ];
    for mixed in mixed {
        assert_eq!(Index::open(&small.head, mixed).err(), lengths);
    }
    for entries in [&[][..], &60u32.to_le_bytes()] {
        let outside = Placed { entries: section(entries), ..placed(&small) };
        assert!(Index::open(&small.head, outside).is_err());
    }
    let unaligned = Section { range: 1..65, ..section(&[0; 128]) };
    assert!(Index::open(&small.head, Placed { short: unaligned, ..placed(&small) }).is_err());
}

#[test]
fn a_calibration_that_does_not_rise_is_refused() {
    let mut index = built(Metric::Dot, 120);
    let points = &mut index.calibration.points;
    *points = vec![(10, 0.5), (20, 0.7), (30, 0.7)];
    assert!(reopened(&index).is_ok());
    for wrong in [(20, 0.9), (5, 0.9), (0, 0.9), (1 << 20, 0.9), (30, 0.6), (30, 1.1)] {
        index.calibration.points[2] = wrong;
        let refused = Some(NotAnIndex("a calibration in which wider walks find less"));
        assert_eq!(reopened(&index).err(), refused, "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn a_damaged_index_by_length_is_refused_or_searched_without_panic(
        at in 0usize..400,
        byte: u8,
        codes in proptest::collection::vec((0usize..1 << 20, any::<u8>()), 0..40),
    ) {
        let sections = by_length().sections();
        let (mut head, mut short) = (sections.head.clone(), sections.short.to_vec());
        let length = head.len();
        head[at % length] = byte;
        for (at, byte) in codes {
            // The ends of rows are their lengths.
            let length = short.len();
            short[(at | 60) % length] = byte;
        }
        let placed = Placed { short: section(&short), ..placed(&sections) };
        if let Ok(opened) = Index::open(&head, placed)
            && opened.dimensions() == 5
        {
            let _ = (results(&opened), ranges(&opened));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn a_damaged_head_is_refused_or_searched_without_panic(
        at in 0usize..400,
        byte: u8,
        cut in proptest::option::of(0usize..400),
    ) {
        // So many rows that the recall of walks was measured at several widths.
        let index = built(Metric::Dot, 120);
        let sections = index.sections();
        let mut head = sections.head.clone();
        let at = at % head.len();
        head[at] = byte;
        if let Some(cut) = cut {
            head.truncate(cut);
        }
        let opened = Index::open(&head, placed(&sections));
        // An index of other dimensions cannot be asked the tests' query.
        if let Some(opened) = opened.ok().filter(|opened| opened.dimensions() == 5) {
            prop_assert!(results(&opened).len() <= 10);
        }
    }

    #[test]
    fn damaged_sections_are_searched_without_panic(at in 0usize..10_000, byte: u8, which in 0..6) {
        let index = built(Metric::Euclidean, 60);
        let sections = index.sections();
        let damaged = |bytes: &[u8], hit: bool| {
            let mut bytes = bytes.to_vec();
            let at = at % bytes.len();
            if hit {
                bytes[at] = byte;
            }
            section(&bytes)
        };
        let damaged = Placed {
            short: damaged(sections.short, which == 0),
            scalar: damaged(sections.scalar, which == 1),
            neighbours: damaged(sections.neighbours, which == 2),
            clusters: damaged(sections.clusters, which == 3),
            centroids: damaged(sections.centroids, which == 4),
            entries: damaged(&sections.entries, which == 5),
        };
        let opened = Index::open(&sections.head, damaged);
        // Clusters and entries that lie outside of the rows are seen.
        prop_assert!(opened.is_ok() || which == 3 || which == 5);
        if let Ok(opened) = opened {
            prop_assert!(results(&opened).len() <= 10);
            prop_assert!(ranges(&opened).iter().all(|range| range.end <= 60));
        }
    }
}
