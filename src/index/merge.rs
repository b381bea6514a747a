//! One index from several.

use super::calibrate::Calibration;
use super::clusters::Clusters;
use super::code::LINES_MAX;
use super::codes::Codes;
use super::graph::{Graph, NONE, entries, link};
use super::index::all_rows;
use super::vectors::Picked;
use super::{Index, IndexParams, Threads};

/// The formats of a part of fewer rows are not worth keeping: they are fitted anew soon, and better.
const FITTED_ROWS: usize = 1_024;

impl Index {
    /// One index over the rows of several, of which `vectors` are the rows, one index after the
    /// other; says which of those each of its rows is. Cheaper than building it: neighbours within
    /// each part are kept, and so are the code formats of the largest part, where they suit the
    /// others too.
    ///
    /// # Panics
    ///
    /// If there are no parts, they have different metrics or dimensions, or `vectors` is of another
    /// length: defects of the caller.
    pub fn merge(
        parts: &[&Index],
        vectors: &[f32],
        params: IndexParams,
        threads: Threads,
    ) -> (Index, Vec<u32>) {
        let (metric, dims) = (parts[0].metric(), parts[0].dimensions());
        assert!(parts.iter().all(|part| (part.metric(), part.dimensions()) == (metric, dims)));
        let rows: usize = parts.iter().map(|part| part.len()).sum();
        assert_eq!(vectors.len(), rows * dims, "the vectors of all parts");
        let largest = parts.iter().max_by_key(|part| part.len()).expect("there are parts");
        let (codes, tell) = match kept_codes(parts, largest, vectors, threads) {
            Some(codes) => (codes, true),
            None => fitted_codes(largest, vectors, threads),
        };
        let queries = codes.row_queries(threads);
        let plan = params.plan();
        let mut graph = Graph::empty(0, plan.degree);
        for part in parts {
            let range = graph.rows() as u32..(graph.rows() + part.len()) as u32;
            take_over(&mut graph, &part.graph, range.start);
            if range.start > 0 {
                link(&mut graph, codes.graph_rows(&queries), range, false, plan, threads);
            }
        }
        drop(queries);
        let calibration = if tell { largest.calibration.clone() } else { Calibration::scan() };
        let spread = entries(graph.rows());
        let mut index = Index::assemble(codes, graph, Clusters::none(), calibration, spread);
        let order = index.arrange(threads);
        (index, order)
    }
}

/// All rows in the formats of the largest part, of which the codes are kept; `None` where those do
/// not suit the other rows.
fn kept_codes(
    parts: &[&Index],
    largest: &Index,
    vectors: &[f32],
    threads: Threads,
) -> Option<Codes> {
    if largest.len() < FITTED_ROWS || largest.calibration.points.is_empty() {
        return None;
    }
    let dims = largest.dimensions();
    let mut codes = largest.codes.without_rows();
    let mut share = vectors;
    for part in parts {
        let (own, later) = share.split_at(part.len() * dims);
        share = later;
        if std::ptr::eq(*part, largest) {
            codes.take_over(&part.codes);
        } else if largest.codes.could_hold(own, threads) {
            let first = codes.rows();
            codes.append(Picked { vectors: own, dims, rows: &all_rows(own, dims) }, threads);
            if !largest.codes.suit(&codes, first) {
                return None;
            }
        } else {
            return None;
        }
    }
    Some(codes)
}

/// All rows in formats fitted to them; also says whether the short codes tell near rows from far ones.
fn fitted_codes(like: &Index, vectors: &[f32], threads: Threads) -> (Codes, bool) {
    let dims = like.dimensions();
    let (mut codes, tell) = Codes::fit(like.metric(), dims, vectors, LINES_MAX, threads);
    codes.append(Picked { vectors, dims, rows: &all_rows(vectors, dims) }, threads);
    (codes, tell)
}

/// Adds the rows of another graph with their neighbours, `first` being the number of the first; of
/// more neighbours than there are places the closest are kept.
fn take_over(graph: &mut Graph, part: &Graph, first: u32) {
    let degree = graph.degree;
    let neighbours = graph.neighbours.to_mut();
    for row in 0..part.rows() as u32 {
        let start = neighbours.len();
        neighbours.extend(part.neighbours(row).take(degree).map(|neighbour| neighbour + first));
        neighbours.resize(start + degree, NONE);
    }
}
