//! The short format: leading principal components, the first few in 7 bits, the others in 4.
//!
//! What a component adds to a distance falls with its variance, and so does the harm of rounding
//! it: 7 bits pay for the strongest components only, and 4 bits for twice as many others are worth
//! more than 8 bits for half of them. A row is
//!
//! | bytes | what |
//! |---|---|
//! | `0..wide` | a component each, 0..=127 |
//! | `wide..64 * lines - 4` | two components each, 0..=15, in the lower and the upper half |
//! | the last 4 | the bias, `f32`: half the squared distance from the centre, all dimensions; or the length |

use super::projection::{Projected, Projection};
use super::queries::RowQuery;
use super::{Code, Placed, rounded};
use crate::index::machine::integer::{Line, Nibbles};
use crate::index::machine::isa::Isa;
use crate::index::machine::parallel::Threads;
use crate::index::quantize::space::Form;

const BIAS_BYTES: usize = 4;
const WIDE_MAX: f32 = 127.0;
const NARROW_MAX: f32 = 15.0;
/// The share of a component's values, on either side, that is cut off by its range: a finer step
/// for the others is worth more (measured: 0.0005, 0.003 and 0.01 on three sets).
const WIDE_CUT: f32 = 0.0005;
const NARROW_CUT: f32 = 0.003;

/// How many components a row holds, and in how many bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::index) struct Shape {
    pub(super) lines: usize,
    /// Components of 7 bits.
    pub(super) wide: usize,
    /// All components.
    pub(super) components: usize,
}

impl Shape {
    /// `lines` lines, `wide` components of 7 bits, and as many of 4 as there are and fit.
    pub(super) fn new(lines: usize, wide: usize, dims: usize) -> Shape {
        let bytes = Shape::value_bytes(lines);
        let wide = wide.min(bytes).min(dims);
        Shape { lines, wide, components: dims.min(wide + 2 * (bytes - wide)) }
    }

    pub(super) fn value_bytes(lines: usize) -> usize {
        lines * Line::BYTES - BIAS_BYTES
    }

    /// The byte of component `at`, and whether it is in the upper half.
    fn position(&self, at: usize) -> (usize, bool) {
        match at.checked_sub(self.first_upper()) {
            None => (at, false),
            Some(upper) => (self.wide + upper, true),
        }
    }

    /// The first component that lies in an upper half.
    fn first_upper(&self) -> usize {
        Shape::value_bytes(self.lines)
    }
}

/// The short format, fitted to a set of vectors.
#[derive(Debug, Clone)]
pub(in crate::index) struct Short {
    isa: Isa,
    form: Form,
    shape: Shape,
    projection: Projection,
    /// The value of level 0 of each component, and of one level.
    lows: Box<[f32]>,
    steps: Box<[f32]>,
    masks: Box<[Line]>,
}

/// A query against this format.
#[derive(Debug, Clone)]
pub(in crate::index) struct ShortQuery {
    pub(super) low: Box<[Line]>,
    pub(super) high: Box<[Line]>,
    /// What a unit of the integer sum is worth.
    pub(super) unit: f32,
    /// What is the same for all rows.
    pub(super) base: f32,
    components: Vec<f32>,
    dots: Vec<[i32; 2]>,
}

/// What a short format consists of, as it is written and read.
#[derive(Debug, Clone, Copy)]
pub(in crate::index) struct ShortParts<'a> {
    pub(in crate::index) lines: usize,
    pub(in crate::index) wide: usize,
    pub(in crate::index) directions: &'a [Line],
    pub(in crate::index) scales: &'a [f32],
    pub(in crate::index) lows: &'a [f32],
    pub(in crate::index) steps: &'a [f32],
}

impl Short {
    /// What its queries depend on: one prepared for another shape is not to be used again.
    pub(in crate::index) fn shape(&self) -> Shape {
        self.shape
    }

    /// What it consists of.
    pub(in crate::index) fn parts(&self) -> ShortParts<'_> {
        ShortParts {
            lines: self.shape.lines,
            wide: self.shape.wide,
            directions: &self.projection.directions,
            scales: &self.projection.scales,
            lows: &self.lows,
            steps: &self.steps,
        }
    }

    /// The format that consists of these; `None` where they do not fit together.
    pub(in crate::index) fn from_parts(
        isa: Isa,
        form: Form,
        parts: ShortParts<'_>,
    ) -> Option<Short> {
        let components = parts.scales.len();
        let shape = Shape { lines: parts.lines, wide: parts.wide, components };
        let bytes = Shape::value_bytes(parts.lines);
        if parts.wide > bytes.min(components) || components > parts.wide + 2 * (bytes - parts.wide)
        {
            return None;
        }
        Some(Short {
            isa,
            form,
            shape,
            projection: Projection::from_parts(parts.directions, parts.scales),
            lows: parts.lows.into(),
            steps: parts.steps.into(),
            masks: masks(shape),
        })
    }

    /// The same for other scores.
    pub(in crate::index) fn of_form(self, form: Form) -> Short {
        Short { form, ..self }
    }

    /// The biases of rows, one after the other.
    pub(in crate::index) fn biases<'a>(&self, codes: &'a [Line]) -> impl Iterator<Item = f32> + 'a {
        codes.chunks_exact(self.shape.lines).map(Self::bias)
    }

    /// Fits the ranges of the leading components to those of a sample.
    pub(super) fn fit(
        isa: Isa,
        shape: Shape,
        projection: &Projection,
        sample: &Projected,
        threads: Threads,
    ) -> Short {
        let ranges = threads.map(
            shape.components,
            || (),
            |(), at| {
                let wide = at < shape.wide;
                let (cut, levels) =
                    if wide { (WIDE_CUT, WIDE_MAX) } else { (NARROW_CUT, NARROW_MAX) };
                let (low, high) = range(&mut sample.column(at), cut);
                (low, ((high - low) / levels).max(f32::MIN_POSITIVE))
            },
        );
        let (lows, steps): (Vec<f32>, Vec<f32>) = ranges.into_iter().unzip();
        let projection = projection.leading(shape.components);
        Short {
            isa,
            form: Form::Distances,
            shape,
            projection,
            lows: lows.into(),
            steps: steps.into(),
            masks: masks(shape),
        }
    }

    /// Writes the components of a placed vector into `query.components`.
    fn project(&self, placed: &Placed, query: &mut ShortQuery) {
        self.projection.project(self.isa, placed, &mut query.dots, &mut query.components);
    }

    /// Writes a row that was projected already.
    pub(super) fn encode_components(&self, components: &[f32], bias: f32, row: &mut [Line]) {
        row.fill(Line::ZERO);
        let scales = self.lows.iter().zip(&self.steps);
        for (at, (&value, (low, step))) in components.iter().zip(scales).enumerate() {
            let most = if at < self.shape.wide { WIDE_MAX } else { NARROW_MAX };
            let level = rounded(((value - low) / step).clamp(0.0, most)) as u8;
            let (byte, upper) = self.shape.position(at);
            row[byte / Line::BYTES].0[byte % Line::BYTES] |= level << (4 * u8::from(upper));
        }
        let last = row.len() - 1;
        row[last].0[Line::BYTES - BIAS_BYTES..].copy_from_slice(&bias.to_le_bytes());
    }

    /// Prepares a query that was projected already.
    pub(super) fn prepare_projected(
        &self,
        components: &[f32],
        square: f32,
        query: &mut ShortQuery,
    ) {
        query.components.clear();
        query.components.extend_from_slice(&components[..self.shape.components]);
        self.prepare_components(0.5 * square, query);
    }

    /// Prepares a query from its components.
    fn prepare_components(&self, of_query: f32, query: &mut ShortQuery) {
        let ShortQuery { components, .. } = query;
        let constant = super::sum_of_products(components, &self.lows);
        components.iter_mut().zip(&self.steps).for_each(|(value, step)| *value *= step);
        let largest = super::largest_and_square(components).0;
        let scale = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let scale = if scale.is_finite() { scale } else { 0.0 };
        query.unit = if scale > 0.0 { scale.recip() } else { 0.0 };
        query.base = of_query - constant;
        let in_low = self.shape.first_upper();
        let (low, high) = components.split_at(in_low.min(components.len()));
        spread(low, scale, 0, &mut query.low);
        spread(high, scale, self.shape.wide, &mut query.high);
    }

    fn bias(row: &[Line]) -> f32 {
        let [.., a, b, c, d] = row[row.len() - 1].0;
        f32::from_le_bytes([a, b, c, d])
    }
}

/// Writes scaled values, as signed bytes, from byte `first` on.
fn spread(values: &[f32], scale: f32, first: usize, lines: &mut [Line]) {
    let skipped = first / Line::BYTES;
    let start = (Line::BYTES - first % Line::BYTES).min(values.len());
    let (head, rest) = values.split_at(start);
    let parts = std::iter::once(head).chain(rest.chunks(Line::BYTES));
    let firsts = std::iter::once(first % Line::BYTES).chain(std::iter::repeat(0));
    for ((values, first), line) in parts.zip(firsts).zip(&mut lines[skipped..]) {
        for (byte, value) in line.0[first..].iter_mut().zip(values) {
            *byte = rounded(value * scale) as u8;
        }
    }
}

fn masks(shape: Shape) -> Box<[Line]> {
    let mut masks = vec![Line::ZERO; shape.lines];
    for at in 0..Shape::value_bytes(shape.lines) {
        masks[at / Line::BYTES].0[at % Line::BYTES] = if at < shape.wide { 127 } else { 15 };
    }
    masks.into()
}

/// The range of all values but `cut` of them on either side.
fn range(values: &mut [f32], cut: f32) -> (f32, f32) {
    let Some(last) = values.len().checked_sub(1) else { return (0.0, 1.0) };
    let skipped = (last as f32 * cut).round() as usize;
    let (_, low, _) = values.select_nth_unstable_by(skipped, f32::total_cmp);
    let low = *low;
    let (_, high, _) = values.select_nth_unstable_by(last - skipped, f32::total_cmp);
    (low, *high)
}

impl Code for Short {
    type Query = ShortQuery;

    fn lines(&self) -> usize {
        self.shape.lines
    }

    fn encode(&self, placed: &Placed, bias: f32, row: &mut [Line], query: &mut ShortQuery) {
        self.project(placed, query);
        self.encode_components(&query.components, bias, row);
    }

    fn query(&self) -> ShortQuery {
        let zeros: Box<[Line]> = vec![Line::ZERO; self.shape.lines].into();
        ShortQuery {
            low: zeros.clone(),
            high: zeros,
            unit: 0.0,
            base: 0.0,
            components: Vec::with_capacity(self.shape.components),
            dots: Vec::with_capacity(self.shape.components),
        }
    }

    fn prepare(&self, placed: &Placed, query: &mut ShortQuery) {
        self.project(placed, query);
        self.prepare_components(placed.constant, query);
    }

    fn scores(&self, query: &ShortQuery, codes: &[Line], rows: &[u32], out: &mut [f32]) {
        self.scores_of(query.view(), codes, rows, out);
    }
}

impl ShortQuery {
    pub(in crate::index) fn view(&self) -> RowQuery<'_> {
        RowQuery { low: &self.low, high: &self.high, unit: self.unit, base: self.base }
    }
}

impl Short {
    /// Prepares a row of codes as a query.
    pub(in crate::index) fn prepare_row(&self, row: &[Line], query: &mut ShortQuery) {
        self.decode(row, &mut query.components);
        self.prepare_components(Self::bias(row), query);
    }

    /// Writes the mean of some rows as a row.
    pub(in crate::index) fn encode_mean<'a>(
        &self,
        rows: impl Iterator<Item = &'a [Line]>,
        mean: &mut [Line],
    ) {
        let (mut sums, mut count) = (vec![0f32; self.shape.components], 0f32);
        let mut components = Vec::new();
        for row in rows {
            self.decode(row, &mut components);
            sums.iter_mut().zip(&components).for_each(|(sum, value)| *sum += value);
            count += 1.0;
        }
        sums.iter_mut().for_each(|sum| *sum /= count.max(1.0));
        let square: f32 = sums.iter().map(|value| value * value).sum();
        self.encode_components(&sums, 0.5 * square, mean);
    }

    /// Which share of the squared distances of rows from the centre their codes hold.
    pub(in crate::index) fn captured<'a>(&self, rows: impl Iterator<Item = &'a [Line]>) -> f64 {
        let (mut held, mut all) = (0.0, 0.0);
        let mut components = Vec::new();
        for row in rows {
            self.decode(row, &mut components);
            held += components.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
            all += 2.0 * f64::from(Self::bias(row));
        }
        if all > 0.0 { held / all } else { 1.0 }
    }

    /// The components of a row.
    fn decode(&self, row: &[Line], components: &mut Vec<f32>) {
        components.clear();
        let low = self.shape.first_upper().min(self.shape.components);
        let bytes = row.iter().flat_map(|line| line.0);
        let masks = self.masks.iter().flat_map(|line| line.0);
        let levels = bytes.clone().zip(masks).map(|(byte, mask)| byte & mask).take(low);
        let levels = levels.chain(bytes.skip(self.shape.wide).map(|byte| byte >> 4));
        let scales = self.lows.iter().zip(&self.steps);
        components
            .extend(scales.zip(levels).map(|((low, step), level)| low + step * f32::from(level)));
    }

    /// The scores of a query against some rows of `codes`.
    #[inline]
    pub(in crate::index) fn scores_of(
        &self,
        query: RowQuery<'_>,
        codes: &[Line],
        rows: &[u32],
        out: &mut [f32],
    ) {
        const BLOCK: usize = 64;
        let stride = self.shape.lines;
        let nibbles = Nibbles { masks: &self.masks, low: query.low, high: query.high };
        let mut dots = [0i32; BLOCK];
        for (rows, out) in rows.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
            self.isa.nibble_dots(nibbles, codes, stride, rows, &mut dots);
            let rows = rows.iter().zip(&dots).map(|(&row, &dot)| {
                let bias = Self::bias(&codes[row as usize * stride..][..stride]);
                (bias, query.unit * dot as f32)
            });
            self.form.scores(rows, query.base, out);
        }
    }

    /// The scores of a query against each of the rows in `codes`.
    pub(in crate::index) fn scores_of_run(
        &self,
        query: RowQuery<'_>,
        codes: &[Line],
        out: &mut [f32],
    ) {
        const BLOCK: usize = 64;
        let lines = self.shape.lines;
        let nibbles = Nibbles { masks: &self.masks, low: query.low, high: query.high };
        let mut dots = [0i32; BLOCK];
        for (rows, out) in codes.chunks(BLOCK * lines).zip(out.chunks_mut(BLOCK)) {
            let dots = &mut dots[..out.len()];
            self.isa.nibble_run(nibbles, rows, dots);
            let rows = rows.chunks_exact(lines).zip(&*dots);
            let rows = rows.map(|(row, &dot)| (Self::bias(row), query.unit * dot as f32));
            self.form.scores(rows, query.base, out);
        }
    }

    /// The scores of four queries against each of the rows in `codes`.
    pub(in crate::index) fn scores_of_four(
        &self,
        queries: [RowQuery<'_>; 4],
        codes: &[Line],
        out: &mut Vec<[f32; 4]>,
    ) {
        const BLOCK: usize = 64;
        let lines = self.shape.lines;
        let mut dots = [[0i32; 4]; BLOCK];
        let nibbles =
            queries.map(|query| Nibbles { masks: &self.masks, low: query.low, high: query.high });
        let units = queries.map(|query| query.unit);
        let bases = queries.map(|query| query.base);
        out.clear();
        for rows in codes.chunks(BLOCK * lines) {
            let dots = &mut dots[..rows.len() / lines];
            self.isa.nibble_tile(nibbles, rows, dots);
            out.extend(rows.chunks_exact(lines).zip(dots).map(|(row, dots)| {
                let bias = Self::bias(row);
                std::array::from_fn(|at| bias - units[at] * dots[at] as f32 + bases[at])
            }));
        }
    }
}

#[cfg(test)]
mod tests;
