//! Against codes that are decoded by hand, from the table at the top of the module.

use super::*;
use crate::index::build::random::Random;
use crate::index::machine::parallel::Threads;
use crate::index::quantize::code::axes::Axes;
use crate::index::quantize::code::{RowQueries, fit_short};
use proptest::prelude::*;

/// Rows that vary less from one dimension to the next, and a format fitted to them.
struct Fitted {
    short: Short,
    axes: Axes,
    sample: Vec<Placed>,
}

impl Fitted {
    fn new(random: &mut Random, lines: usize, wide: usize, dims: usize, count: usize) -> Fitted {
        let rows: Vec<f32> = (0..count).flat_map(|_| row(random, dims)).collect();
        let shape = Shape::new(lines, wide, dims);
        let axes = axes(random, dims, shape.components);
        let sample: Vec<Placed> = rows.chunks_exact(dims).map(placed).collect();
        let (isa, threads) = (Isa::detect(), Threads::One);
        let projection = Projection::new(&axes.directions, dims);
        let projected = Projected::new(isa, &projection, &sample, threads);
        let short = Short::fit(isa, shape, &projection, &projected, threads);
        Fitted { short, axes, sample }
    }

    fn encode(&self, rows: &[Placed]) -> Vec<Line> {
        let width = self.short.lines();
        let mut codes = vec![Line([0xaa; 64]); rows.len() * width];
        for (row, lines) in rows.iter().zip(codes.chunks_exact_mut(width)) {
            self.short.encode(row, 0.5 * row.square, lines, &mut self.short.query());
        }
        codes
    }

    fn prepare(&self, placed: &Placed) -> ShortQuery {
        let mut query = self.short.query();
        // What it was prepared for before must not matter.
        self.short.prepare(&self.sample[0], &mut query);
        self.short.prepare(placed, &mut query);
        query
    }

    /// The components of a vector, in `f64`.
    fn components(&self, placed: &Placed) -> Vec<f64> {
        let dims = placed.values.len();
        let directions = self.axes.directions.chunks_exact(dims).take(self.short.shape.components);
        directions
            .map(|axis| {
                let pairs = axis.iter().zip(&placed.values);
                pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
            })
            .collect()
    }

    /// How far off a component may be for the rounding of its direction to 8 bits and of the vector to
    /// 15: both are relative to a largest value that is at most 1 and `largest`.
    fn component_error(placed: &Placed) -> f64 {
        let (mut sizes, mut largest) = (0.0, 0f64);
        for &value in &placed.values {
            sizes += f64::from(value).abs();
            largest = largest.max(f64::from(value).abs());
        }
        let dims = placed.values.len() as f64;
        (0.5 / 127.0) * sizes + dims * largest * (0.5 / 16_319.0 + 1e-6)
    }
}

/// A reflection, of which every row is a direction at right angles to the others.
fn axes(random: &mut Random, dims: usize, count: usize) -> Axes {
    let mirror = random.vector(dims, 1.0);
    let square: f32 = mirror.iter().map(|value| value * value).sum();
    let value = |at: usize, dim: usize| {
        f32::from(u8::from(at == dim)) - 2.0 * mirror[at] * mirror[dim] / square
    };
    let directions = (0..count).flat_map(|at| (0..dims).map(move |dim| (at, dim)));
    Axes {
        directions: directions.map(|(at, dim)| value(at, dim)).collect(),
        variances: vec![1.0; count],
    }
}

fn row(random: &mut Random, dims: usize) -> Vec<f32> {
    (0..dims).map(|dim| random.signed() * 2.0 / (1.0 + 0.2 * dim as f32)).collect()
}

fn placed(values: &[f32]) -> Placed {
    let mut placed = Placed::new(values.len());
    placed.values = values.to_vec();
    placed.split();
    placed
}

/// The levels of a row's components, read as the table says.
fn levels(shape: Shape, row: &[Line]) -> Vec<u8> {
    let bytes: Vec<u8> = row.iter().flat_map(|line| line.0).collect();
    let end = 64 * shape.lines - 4;
    let wide = bytes[..shape.wide].to_vec();
    let narrow = &bytes[shape.wide..end];
    let lower = narrow.iter().map(|byte| byte % 16);
    let upper = narrow.iter().map(|byte| byte / 16);
    wide.into_iter().chain(lower).chain(upper).take(shape.components).collect()
}

fn bias(row: &[Line]) -> f32 {
    let bytes: Vec<u8> = row.iter().flat_map(|line| line.0).collect();
    f32::from_le_bytes(*bytes.last_chunk().expect("a row is longer"))
}

/// The row's components by hand.
fn decoded(short: &Short, row: &[Line]) -> Vec<f64> {
    let scales = short.lows.iter().zip(&short.steps);
    let levels = levels(short.shape, row);
    scales
        .zip(levels)
        .map(|((&low, &step), level)| f64::from(low) + f64::from(step) * f64::from(level))
        .collect()
}

/// A score by hand, from a query's components and half its squared length.
fn score(short: &Short, query: &[f64], half_square: f64, row: &[Line]) -> f64 {
    let dot: f64 = decoded(short, row).iter().zip(query).map(|(a, b)| a * b).sum();
    f64::from(bias(row)) - dot + half_square
}

/// What rounding the factors of a query to a byte each may change of its score.
fn factor_error(short: &Short, unit: f32, row: &[Line]) -> f64 {
    let levels: f64 = levels(short.shape, row).into_iter().map(f64::from).sum();
    f64::from(unit) * 0.501 * levels
}

fn shapes() -> impl Strategy<Value = (usize, usize, usize)> {
    // From fewer components than lower halves to more than all halves.
    let dims = prop_oneof![1usize..=12, 50usize..=70, 110usize..=130, 240usize..=260];
    let dims = if cfg!(miri) { (1usize..=12).boxed() } else { dims.boxed() };
    (1usize..=3, dims).prop_flat_map(|(lines, dims)| {
        (Just(lines), prop_oneof![Just(0), 0..=Shape::value_bytes(lines)], Just(dims))
    })
}

fn cases(usual: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: asked.cases.min(usual), ..asked }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_row_holds_its_components_to_half_a_step(
        seed: u64, (lines, wide, dims) in shapes(), count in 1usize..=8,
    ) {
        let fitted = Fitted::new(&mut Random::new(seed), lines, wide, dims, count);
        let short = &fitted.short;
        prop_assert_eq!(short.lines(), lines);
        let codes = fitted.encode(&fitted.sample);
        for (row, lines) in fitted.sample.iter().zip(codes.chunks_exact(short.lines())) {
            prop_assert_eq!(bias(lines), 0.5 * row.square);
            let by_hand = decoded(short, lines);
            prop_assert_eq!(by_hand.len(), short.shape.components);
            let mut by_short = Vec::new();
            short.decode(lines, &mut by_short);
            for (at, &value) in fitted.components(row).iter().enumerate() {
                let most = if at < short.shape.wide { 127.0 } else { 15.0 };
                let (low, step) = (f64::from(short.lows[at]), f64::from(short.steps[at]));
                let nearest = value.clamp(low, low + most * step);
                let bound = 0.501 * step + Fitted::component_error(row);
                let error = (by_hand[at] - nearest).abs();
                prop_assert!(error <= bound, "{}: {} > {}", at, error, bound);
                let rounding = 1e-6 * (low.abs() + most * step);
                prop_assert!((f64::from(by_short[at]) - by_hand[at]).abs() <= rounding);
            }
        }
        // Nothing stands where no component is.
        let used = levels(Shape { components: usize::MAX, ..short.shape }, &codes[..lines]);
        prop_assert!(used[short.shape.components..].iter().all(|&level| level == 0));
    }

    #[test]
    fn scores_are_those_of_the_decoded_rows(
        seed: u64, (lines, wide, dims) in shapes(), count in 1usize..=8,
    ) {
        let random = &mut Random::new(seed);
        let fitted = Fitted::new(random, lines, wide, dims, count);
        let short = &fitted.short;
        let codes = fitted.encode(&fitted.sample);
        let target = placed(&row(random, dims));
        let query = fitted.prepare(&target);
        let components = fitted.components(&target);
        let half_square = 0.5 * f64::from(target.square);
        let rows: Vec<u32> = (0..count as u32).collect();
        let mut scores = vec![f32::NAN; count];
        short.scores(&query, &codes, &rows, &mut scores);
        for (row, &found) in codes.chunks_exact(lines).zip(&scores) {
            let sizes: f64 = decoded(short, row).iter().map(|value| value.abs()).sum();
            let bound = factor_error(short, query.unit, row)
                + Fitted::component_error(&target) * sizes
                + 1e-5 * (f64::from(bias(row)) + half_square + sizes);
            let error = (f64::from(found) - score(short, &components, half_square, row)).abs();
            prop_assert!(error <= bound, "{} > {}", error, bound);
        }
    }

    #[test]
    fn all_ways_to_score_give_the_same_bits(
        seed: u64, (lines, wide, dims) in shapes(), count in 1usize..=150,
    ) {
        let random = &mut Random::new(seed);
        let count = if cfg!(miri) { count % 8 + 1 } else { count };
        let fitted = Fitted::new(random, lines, wide, dims, count);
        let codes = fitted.encode(&fitted.sample);
        let targets: [Placed; 4] = std::array::from_fn(|_| placed(&row(random, dims)));
        let rows: Vec<u32> = (0..count as u32).map(|_| random.below(count) as u32).collect();
        let mut first = None;
        for isa in Isa::all() {
            let short = Short { isa, ..fitted.short.clone() };
            let queries = targets.each_ref().map(|target| {
                let mut query = short.query();
                short.prepare(target, &mut query);
                query
            });
            let views = queries.each_ref().map(ShortQuery::view);
            let mut four = vec![[7.0; 4]; 3];
            short.scores_of_four(views, &codes, &mut four);
            let four: Vec<[u32; 4]> = four.iter().map(|scores| scores.map(f32::to_bits)).collect();
            prop_assert_eq!(four.len(), count);
            prop_assert_eq!(first.get_or_insert(four.clone()), &four, "{:?}", isa);
            for (at, query) in views.into_iter().enumerate() {
                let mut run = vec![f32::NAN; count];
                short.scores_of_run(query, &codes, &mut run);
                prop_assert!(run.iter().zip(&four).all(|(run, four)| run.to_bits() == four[at]));
                let mut picked = vec![f32::NAN; count];
                short.scores_of(query, &codes, &rows, &mut picked);
                let expected = rows.iter().map(|&row| four[row as usize][at]);
                prop_assert!(picked.iter().map(|score| score.to_bits()).eq(expected));
            }
        }
    }

    #[test]
    fn a_row_as_a_query_is_the_query_of_what_it_decodes_to(
        seed: u64, (lines, wide, dims) in shapes(), count in 1usize..=8,
    ) {
        let fitted = Fitted::new(&mut Random::new(seed), lines, wide, dims, count);
        let short = &fitted.short;
        let codes = fitted.encode(&fitted.sample);
        let queries = row_queries(short, &codes, Threads::One);
        let (mut scores, mut asymmetric) = (vec![f32::NAN; count], vec![f32::NAN; count]);
        for (row, own) in codes.chunks_exact(lines).enumerate() {
            short.scores_of_run(queries.of(row as u32), &codes, &mut scores);
            let query = fitted.prepare(&fitted.sample[row]);
            short.scores_of_run(query.view(), &codes, &mut asymmetric);
            let components = decoded(short, own);
            let lost: Vec<f64> = components
                .iter()
                .zip(fitted.components(&fitted.sample[row]))
                .map(|(decoded, value)| (decoded - value).abs())
                .collect();
            let half_square = f64::from(bias(own));
            for (at, other) in codes.chunks_exact(lines).enumerate() {
                let others = decoded(short, other);
                let sizes: f64 = others.iter().map(|value| value.abs()).sum();
                let rounding = 1e-5 * (half_square + f64::from(bias(other)) + sizes);
                let bound = factor_error(short, queries.of(row as u32).unit, other) + rounding;
                let expected = score(short, &components, half_square, other);
                let error = (f64::from(scores[at]) - expected).abs();
                prop_assert!(error <= bound, "{} > {}", error, bound);
                // What the row loses by its own rounding, and no more.
                let bound = bound
                    + factor_error(short, query.unit, other)
                    + lost.iter().zip(&others).map(|(lost, value)| lost * value.abs()).sum::<f64>()
                    + Fitted::component_error(&fitted.sample[row]) * sizes;
                let error = f64::from((scores[at] - asymmetric[at]).abs());
                prop_assert!(error <= bound, "{} > {}", error, bound);
            }
        }
    }
}

fn row_queries(short: &Short, codes: &[Line], threads: Threads) -> RowQueries {
    let mut queries = RowQueries::new(short);
    queries.extend(short, codes, threads);
    queries
}

#[test]
fn threads_change_nothing_of_row_queries() {
    let random = &mut Random::new(9);
    let fitted = Fitted::new(random, 2, 5, 20, 30);
    let rows: Vec<Placed> = (0..600).map(|_| placed(&row(random, 20))).collect();
    let rows = if cfg!(miri) { &rows[..3] } else { &rows };
    let codes = fitted.encode(rows);
    let one = row_queries(&fitted.short, &codes, Threads::One);
    assert_eq!(one.scales.len(), rows.len());
    // More than a chunk, so that pieces are put together.
    for row in 0..rows.len() {
        let alone = row_queries(&fitted.short, &codes[2 * row..][..2], Threads::One);
        let (of_all, alone) = (one.of(row as u32), alone.of(0));
        assert_eq!((of_all.low, of_all.high), (alone.low, alone.high));
        assert_eq!((of_all.unit, of_all.base), (alone.unit, alone.base));
    }
    if !cfg!(miri) {
        let pool = row_queries(&fitted.short, &codes, Threads::Pool);
        assert_eq!((&pool.factors, &pool.scales), (&one.factors, &one.scales));
        // Rows that are added later are the same.
        let mut later = row_queries(&fitted.short, &codes[..2 * 37], Threads::Pool);
        later.extend(&fitted.short, &codes, Threads::Pool);
        assert_eq!((later.factors, later.scales), (one.factors, one.scales));
    }
}

#[test]
fn the_format_of_a_few_rows_has_as_many_components_and_loses_nothing_else() {
    for (count, components) in [(0, 1), (1, 1), (2, 2), (5, 5), (40, 40)] {
        let random = &mut Random::new(7);
        let rows: Vec<Placed> = (0..count).map(|_| placed(&random.vector(96, 1.0))).collect();
        let (short, _) = fit_short(Isa::detect(), 96, &rows, 2, Threads::One);
        assert_eq!(short.shape.components, components);
        let mut codes = vec![Line::ZERO; count * short.lines()];
        for (row, lines) in rows.iter().zip(codes.chunks_exact_mut(short.lines())) {
            short.encode(row, 0.5 * row.square, lines, &mut short.query());
        }
        let captured = short.captured(codes.chunks_exact(short.lines()));
        assert!((captured - 1.0).abs() < 0.01, "{count} rows: {captured}");
    }
}
