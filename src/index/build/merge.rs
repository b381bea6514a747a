//! One index from several, or from what is left of them.

use crate::index::build::by_length::form_for;
use crate::index::graph::{Graph, connect, link, take_all, take_some};
use crate::index::index::all_rows;
use crate::index::quantize::code::LINES_MAX;
use crate::index::quantize::codes::Codes;
use crate::index::quantize::space::Form;
use crate::index::vectors::Picked;
use crate::index::{Index, IndexParams, Threads};

/// The formats of a part of fewer rows are not worth keeping: they are fitted anew soon, and better.
const FITTED_ROWS: usize = 1_024;

/// What a merge takes of an index.
#[derive(Debug, Clone, Copy)]
pub struct MergePart<'a> {
    /// The index.
    pub index: &'a Index,
    /// Which of its rows are kept, in ascending order; `None` for all.
    pub kept: Option<&'a [u32]>,
}

impl<'a> MergePart<'a> {
    /// An index with all its rows.
    pub fn whole(index: &'a Index) -> MergePart<'a> {
        MergePart { index, kept: None }
    }

    /// How many rows are kept.
    pub fn rows(&self) -> usize {
        self.kept.map_or(self.index.len(), <[u32]>::len)
    }
}

impl Index {
    /// One index over the rows that are kept of several, of which `vectors` are the vectors, one index
    /// after the other; says which of those each of its rows is. Cheaper than building it: neighbours
    /// within each part are kept, and so are the code formats of the largest part, where they suit the
    /// others too. Where a row loses neighbours, theirs take their places.
    ///
    /// # Panics
    ///
    /// If there are no parts, they have different metrics or dimensions, a part has no row of a number
    /// that is kept, or `vectors` is of another length: defects of the caller.
    pub fn merge(
        parts: &[MergePart<'_>],
        vectors: &[f32],
        params: IndexParams,
        threads: Threads,
    ) -> (Index, Vec<u32>) {
        let shape = |part: &MergePart<'_>| (part.index.metric(), part.index.dimensions());
        let (metric, dims) = shape(&parts[0]);
        assert!(parts.iter().all(|part| shape(part) == shape(&parts[0])));
        let rows: usize = parts.iter().map(MergePart::rows).sum();
        assert_eq!(vectors.len(), rows * dims, "the vectors of all parts");
        let largest = parts.iter().max_by_key(|part| part.rows()).expect("there are parts");
        let form = form_for((metric, params.builder), dims, vectors, threads);
        if form == Form::Products || parts.iter().any(|part| part.index.is_by_length()) {
            // There is no graph to be kept, or none that is.
            return Index::build_as((metric, form), dims, vectors, params, threads);
        }
        let codes = kept_codes(parts, largest, vectors, threads)
            .unwrap_or_else(|| fitted_codes(largest.index, vectors, threads));
        let queries = codes.row_queries(threads);
        let plan = params.plan();
        let mut graph = Graph::empty(0, plan.degree);
        for MergePart { index, kept } in parts {
            let first = graph.rows() as u32;
            match kept {
                None => take_all(&mut graph, &index.graph),
                Some(kept) => {
                    take_some(&mut graph, codes.graph_rows(&queries), &index.graph, kept, threads);
                }
            }
            let range = first..graph.rows() as u32;
            if first > 0 {
                link(&mut graph, codes.graph_rows(&queries), range, false, plan, threads);
            } else if kept.is_some() {
                connect(&mut graph, codes.coded());
            }
        }
        drop(queries);
        let own = Picked { vectors, dims, rows: &all_rows(vectors, dims) };
        let (merged, order) = Index::finish(codes, graph, own, threads);
        merged.or_by_length(order, vectors, params, threads)
    }
}

/// All rows in the formats of the largest part, of which the codes are kept; `None` where those do
/// not suit the other rows.
fn kept_codes(
    parts: &[MergePart<'_>],
    largest: &MergePart<'_>,
    vectors: &[f32],
    threads: Threads,
) -> Option<Codes> {
    let like = largest.index;
    if largest.rows() < FITTED_ROWS || like.calibration.points.is_empty() {
        return None;
    }
    let dims = like.dimensions();
    let mut codes = like.codes.without_rows();
    let mut share = vectors;
    for part in parts {
        let (own, later) = share.split_at(part.rows() * dims);
        share = later;
        if std::ptr::eq(part.index, like) {
            codes.take_over(&part.index.codes, part.kept);
        } else if like.codes.could_hold(own, threads) {
            let first = codes.rows();
            codes.append(Picked { vectors: own, dims, rows: &all_rows(own, dims) }, threads);
            if !like.codes.suit(&codes, first) {
                return None;
            }
        } else {
            return None;
        }
    }
    Some(codes)
}

/// All rows in formats fitted to them.
fn fitted_codes(like: &Index, vectors: &[f32], threads: Threads) -> Codes {
    let dims = like.dimensions();
    let (mut codes, _) =
        Codes::fit((like.metric(), Form::Distances), dims, vectors, LINES_MAX, threads);
    codes.append(Picked { vectors, dims, rows: &all_rows(vectors, dims) }, threads);
    codes
}
