//! An index over the vectors of a segment: built, added to, merged.

use crate::index::build::by_length::{self, form_for};
use crate::index::build::calibrate::Calibration;
use crate::index::build::clusters::{Clusters, arrange};
use crate::index::graph::{
    Bulk, Graph, GraphBuilder, Input, NONE, Plan, by_proximity, connect, entries, link,
};
use crate::index::machine::integer::Line;
use crate::index::quantize::code::{Code, LINES_MAX, RowQueries, SCALAR_DIMS_MAX};
use crate::index::quantize::codes::Codes;
use crate::index::quantize::space::Form;
use crate::index::query::pool::ROWS_MAX;
use crate::index::query::search::SCANNED_PER_KEPT;
use crate::index::vectors::Picked;
use crate::index::{Effort, Metric, Scratch, Threads};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// An index of fewer rows is good enough in any form.
const FEW_ROWS: usize = 4_096;
/// Most rows that an index can hold.
pub const INDEX_ROWS_MAX: usize = ROWS_MAX;
/// Most dimensions that its vectors can have.
pub const INDEX_DIMENSIONS_MAX: usize = SCALAR_DIMS_MAX - 1;

/// Who builds the graph of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Builder {
    /// Brainy's own, in bulk.
    #[default]
    Brainy,
    /// The crate `hnsw_rs`, to compare with. Its graph differs from build to build unless with
    /// [`Threads::One`].
    #[cfg(feature = "hnsw_rs")]
    HnswRs,
}

/// How an index is built. The names are those of HNSW.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IndexParams {
    /// Half the number of neighbours of a row, 4 to 64. More give a better recall for more memory
    /// (8 bytes a row each) and time.
    pub m: usize,
    /// How hard a row's neighbours are looked for, 16 to 2,000: a fifth of it is how many candidates
    /// come from the groups that the row is compared with, a third is how many come from a walk.
    pub ef_construction: usize,
    /// Who builds the graph. Rows are added, and graphs merged, by Brainy's own in any case.
    pub builder: Builder,
}

impl Default for IndexParams {
    fn default() -> Self {
        IndexParams { m: 16, ef_construction: 200, builder: Builder::default() }
    }
}

impl IndexParams {
    /// The same with each number brought into its range.
    pub fn clamped(self) -> IndexParams {
        IndexParams {
            m: self.m.clamp(4, 64),
            ef_construction: self.ef_construction.clamp(16, 2_000),
            builder: self.builder,
        }
    }

    pub(in crate::index) fn plan(self) -> Plan {
        let params = self.clamped();
        let degree = 2 * params.m;
        let share = |divisor: usize| (params.ef_construction / divisor).max(degree);
        Plan { degree, near: share(5), walked: share(3) }
    }
}

/// An index: codes and a graph over them.
///
/// Its rows are in an order of its own, in which near rows are close together: what it is built from
/// is to be put into that order, and results name rows by it.
#[derive(Debug, Clone)]
pub struct Index {
    pub(in crate::index) codes: Codes,
    pub(in crate::index) graph: Graph,
    pub(in crate::index) clusters: Clusters,
    pub(in crate::index) calibration: Calibration,
    /// Where walks start, and those rows' codes, one after the other.
    pub(in crate::index) entries: Vec<u32>,
    pub(in crate::index) entry_lines: Vec<Line>,
}

impl Index {
    /// Builds an index over `vectors`, of `dims` finite values each, and says which of them each of
    /// its rows is. The outcome is the same on every machine of the same instruction set, on any
    /// number of threads.
    ///
    /// # Panics
    ///
    /// If there are more rows or dimensions than [`INDEX_ROWS_MAX`] and [`INDEX_DIMENSIONS_MAX`], or
    /// no whole number of rows: defects of the caller.
    pub fn build(
        metric: Metric,
        dims: usize,
        vectors: &[f32],
        params: IndexParams,
        threads: Threads,
    ) -> (Index, Vec<u32>) {
        assert!((1..=INDEX_DIMENSIONS_MAX).contains(&dims), "checked at the door");
        assert_eq!(vectors.len() % dims, 0, "a row of another length");
        let rows = vectors.len() / dims;
        assert!(rows < INDEX_ROWS_MAX, "checked at the door");
        let form = form_for((metric, params.builder), dims, vectors, threads);
        Index::build_as((metric, form), dims, vectors, params, threads)
    }

    /// [`Index::build`] in one form or the other; in the other one where this one finds too little.
    pub(in crate::index) fn build_as(
        (metric, form): (Metric, Form),
        dims: usize,
        vectors: &[f32],
        params: IndexParams,
        threads: Threads,
    ) -> (Index, Vec<u32>) {
        let (mut codes, _) = Codes::fit((metric, form), dims, vectors, LINES_MAX, threads);
        let mut order = all_rows(vectors, dims);
        codes.append(Picked { vectors, dims, rows: &order }, threads);
        let graph = match form {
            Form::Products => Graph::empty(order.len(), 1),
            Form::Distances => {
                reorder(&mut codes, &mut order, threads);
                let own = Picked { vectors, dims, rows: &order };
                build_graph(&codes, own, params, threads)
            }
        };
        let own = Picked { vectors, dims, rows: &order };
        let (index, arranged) = Index::finish(codes, graph, own, threads);
        let order = arranged.iter().map(|&row| order[row as usize]).collect();
        index.or_by_length(order, vectors, params, threads)
    }

    /// This index, unless searches would look at all of its rows: under dot then those in the order of their lengths,
    /// and by codes that suit them.
    pub(in crate::index) fn or_by_length(
        self,
        order: Vec<u32>,
        vectors: &[f32],
        params: IndexParams,
        threads: Threads,
    ) -> (Index, Vec<u32>) {
        let could = self.metric() == Metric::Dot && params.builder == Builder::Brainy;
        if could && !self.is_by_length() && self.is_scanned() {
            let kind = (Metric::Dot, Form::Products);
            return Index::build_as(kind, self.dimensions(), vectors, params, threads);
        }
        (self, order)
    }

    /// An index over the rows of `codes`, which are those of `vectors`, once there is a graph over them;
    /// and which of them each of its rows is.
    pub(in crate::index) fn finish(
        mut codes: Codes,
        mut graph: Graph,
        vectors: Picked<'_>,
        threads: Threads,
    ) -> (Index, Vec<u32>) {
        let by_length = codes.space.form == Form::Products;
        let (order, clusters) =
            if by_length { by_length::arrange(&codes) } else { arrange(&codes, threads) };
        codes.reorder(&order, threads);
        let entries = if by_length {
            vec![0; order.len().min(1)]
        } else {
            graph.reorder(&order, threads);
            // Walks start from rows evenly spread over the clusters.
            connect(&mut graph, codes.coded());
            entries(graph.rows())
        };
        let mut index = Index::assemble(codes, graph, clusters, Calibration::default(), entries);
        let numbers: Vec<u32> = order.iter().map(|&row| vectors.rows[row as usize]).collect();
        let vectors = Picked { rows: &numbers, ..vectors };
        index.calibration = Calibration::measure(&mut index, vectors, threads);
        (index, order)
    }

    /// Adds rows after the others. Many at once are cheaper than one after the other. Rows much
    /// unlike those that the index was built from are found less surely.
    pub fn append(&mut self, vectors: &[f32], params: IndexParams, threads: Threads) {
        if vectors.is_empty() {
            return;
        }
        if self.is_empty() {
            // Nothing is known yet of what the codes are to be fitted to.
            let kind = (self.metric(), Form::Distances);
            (self.codes, _) = Codes::fit(kind, self.dimensions(), vectors, LINES_MAX, threads);
        }
        let dims = self.dimensions();
        let all = all_rows(vectors, dims);
        if self.is_by_length() {
            // They are read whatever their lengths are, until the index is built anew.
            self.codes.append(Picked { vectors, dims, rows: &all }, threads);
            self.graph = Graph::empty(self.codes.rows(), self.graph.degree);
            return;
        }
        let queries = self.codes.row_queries(threads);
        self.link_more(Picked { vectors, dims, rows: &all }, queries, params, threads);
    }

    /// Adds rows; `queries` are those that are in already.
    fn link_more(
        &mut self,
        vectors: Picked<'_>,
        mut queries: RowQueries,
        params: IndexParams,
        threads: Threads,
    ) {
        let before = self.len() as u32;
        self.codes.append(vectors, threads);
        queries.extend(&self.codes.short, &self.codes.short_lines, threads);
        let range = before..self.codes.rows() as u32;
        self.graph.neighbours.to_mut().resize(range.end as usize * self.graph.degree, NONE);
        let rows = self.codes.graph_rows(&queries);
        let plan = Plan { degree: self.graph.degree, ..params.plan() };
        link(&mut self.graph, rows, range, true, plan, threads);
        self.set_entries(entries(self.len()));
    }

    pub(in crate::index) fn assemble(
        codes: Codes,
        graph: Graph,
        clusters: Clusters,
        calibration: Calibration,
        entries: Vec<u32>,
    ) -> Index {
        let (none, entry_lines) = (Vec::new(), Vec::new());
        let mut index = Index { codes, graph, clusters, calibration, entries: none, entry_lines };
        index.set_entries(entries);
        index
    }

    /// The rows in clusters, those whose centroid is closest to `query` first; at the end, as one, those
    /// that were added since and are in none.
    ///
    /// # Panics
    ///
    /// If `query` has another number of dimensions than the index, a defect of the caller.
    pub fn ranges(&self, query: &[f32], scratch: &mut Scratch) -> Vec<Range<u32>> {
        assert_eq!(query.len(), self.dimensions(), "a query of another length");
        scratch.prepare(0, &self.codes, query);
        let mut ranges = scratch.rank_clusters(self);
        let end = self.clusters.starts.last().copied().unwrap_or_default();
        if end < self.len() as u32 {
            ranges.push(end..self.len() as u32);
        }
        ranges
    }

    /// Lets walks start from these rows, from which every other can be reached.
    pub(in crate::index) fn set_entries(&mut self, entries: Vec<u32>) {
        self.entries = entries;
        let width = self.codes.short.lines();
        let lines = &self.codes.short_lines;
        let of_entries =
            self.entries.iter().flat_map(|&row| &lines[row as usize * width..][..width]);
        self.entry_lines = of_entries.copied().collect();
    }

    /// Whether a search that says nothing of its effort looks at all rows, for a walk finds too little, or no sooner.
    fn is_scanned(&self) -> bool {
        let few = self.len() <= self.ef(Effort::Default, 1).saturating_mul(SCANNED_PER_KEPT);
        !self.has_few_rows() && (few || !self.finds_enough())
    }

    /// Whether it has so few rows that no index is needed: to look at all of them is quick, and of their recall
    /// hardly more than chance is measured.
    pub fn has_few_rows(&self) -> bool {
        self.len() < FEW_ROWS
    }

    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.graph.rows()
    }

    /// Whether it holds no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The dimensions of its vectors.
    pub fn dimensions(&self) -> usize {
        self.codes.space.dims
    }

    /// How distance is measured.
    pub fn metric(&self) -> Metric {
        self.codes.space.metric
    }

    /// The bytes that it needs in memory, besides the full-precision vectors.
    pub fn bytes(&self) -> usize {
        let codes = self.codes.short_lines.len() + self.codes.scalar_lines.len();
        let lines = codes + self.entry_lines.len() + self.clusters.centroids.len();
        let numbers = self.graph.neighbours.len() + self.entries.len() + self.clusters.starts.len();
        lines * Line::BYTES + numbers * size_of::<u32>()
    }
}

/// Builds a graph over the rows of `codes`, which are those of `vectors`.
fn build_graph(codes: &Codes, vectors: Picked<'_>, params: IndexParams, threads: Threads) -> Graph {
    let queries = codes.row_queries(threads);
    let input = Input {
        rows: codes.graph_rows(&queries),
        placed: &|row, into| {
            codes.space.place_row(vectors.get(row as usize), into);
        },
        dims: codes.space.placed_dims(),
        plan: params.plan(),
        threads,
    };
    match params.builder {
        Builder::Brainy => Bulk.build(&input),
        #[cfg(feature = "hnsw_rs")]
        Builder::HnswRs => crate::index::graph::HnswRs.build(&input),
    }
}

/// The numbers of all vectors.
pub(in crate::index) fn all_rows(vectors: &[f32], dims: usize) -> Vec<u32> {
    (0..(vectors.len() / dims) as u32).collect()
}

/// Puts rows and their numbers into an order of proximity.
fn reorder(codes: &mut Codes, numbers: &mut [u32], threads: Threads) {
    let order = by_proximity(codes.coded(), threads);
    codes.reorder(&order, threads);
    let before = numbers.to_vec();
    for (number, &row) in numbers.iter_mut().zip(&order) {
        *number = before[row as usize];
    }
}
