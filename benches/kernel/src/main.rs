//! `kernel-bench DIR --metric euclidean|cosine|dot [--builder brainy|hnsw_rs] [--threads N]
//! [--m N] [--ef-construction N] [--full-precision]`: builds and searches an index for
//! `benches/kernel.py`, which asks by lines of JSON on standard input and gets a line each on
//! standard output:
//!
//! - `{"op": "build"}`: `{"buildSeconds", "bytesPerVector", "params"}`
//! - `{"op": "search", "ef": 64, "k": 10}`: `{"seconds", "ids"}`; the default effort without `ef`
//! - `{"op": "filters", "path": "F.npy"}`: query i is restricted by row i % F of a matrix of bytes
//! - `{"op": "merge", "sizes": [..]}`: builds parts of these sizes (two halves without them) and merges
//!   them: `{"partsSeconds", "mergeSeconds", "rebuildSeconds"}`; searches then go to the outcome
//! - `{"op": "parts", "sizes": [..], "flat": [..]}`: cuts the rows at random into parts of these sizes,
//!   builds an index of each of the first and codes only of the others: `{"buildSeconds": [..]}`;
//!   searches then go to all of them together, and measure the best by the vectors
//! - `{"op": "thin", "dead": [..]}`: leaves these rows out of an index of all, and builds one of the
//!   others: `{"mergeSeconds", "rebuildSeconds"}`; searches then go to the first, and to the second
//!   where they say `"rebuilt": true`
//! - `{"op": "rebuilt"}`: searches go to what was built whole again
//! - `{"op": "clusters", "share": 0.02, "truth": [[..], ..]}`: of each query's true rows, the share that
//!   the nearest clusters hold when they hold that share of all rows: `{"found", "ranges", "clusters",
//!   "bytes"}`, ranges being what is read of the file on average, bytes the size of the directory
//!
//! An error is `{"error"}`. Results are those of the 8-bit codes, as they are of the engines that
//! keep no more; with filters, or `--full-precision`, the best are measured again by the vectors
//! themselves (what is far from a query is too much alike for 8 bits).

use kernel_bench::index::{
    Effort, Flat, Index, IndexParams, MergePart, Metric, Part, RowSet, Rows, Scratch, Search,
    Threads, Vectors, search_parts,
};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// An index and the vectors in its order.
struct Built {
    index: Index,
    /// The number in the data set of each row of the index.
    order: Vec<u32>,
    vectors: Vec<f32>,
}

/// Some of the rows, with a graph or without.
enum Cut {
    Index(Built),
    Flat { flat: Flat, order: Vec<u32>, vectors: Vec<f32> },
}

impl Cut {
    fn rows(&self) -> Rows<'_> {
        match self {
            Cut::Index(built) => Rows::Index(&built.index),
            Cut::Flat { flat, .. } => Rows::Flat(flat),
        }
    }

    fn order(&self) -> &[u32] {
        match self {
            Cut::Index(Built { order, .. }) | Cut::Flat { order, .. } => order,
        }
    }

    fn vectors(&self) -> &[f32] {
        match self {
            Cut::Index(Built { vectors, .. }) | Cut::Flat { vectors, .. } => vectors,
        }
    }
}

struct Bench {
    metric: Metric,
    params: IndexParams,
    pool: rayon::ThreadPool,
    dims: usize,
    base: Vec<f32>,
    queries: Vec<f32>,
    whole: Option<Built>,
    /// Of all rows, where `whole` is not.
    full: Option<Built>,
    merged: Option<Built>,
    /// Searched instead of the whole where there are any.
    parts: Vec<Cut>,
    filters: Vec<Vec<u8>>,
    /// Whether the best results are measured again by the full-precision vectors.
    full_precision: bool,
    scratch: Scratch,
}

fn main() -> Outcome<()> {
    let mut bench = Bench::from_args(std::env::args().skip(1).collect())?;
    for line in std::io::stdin().lock().lines() {
        let answer = serde_json::from_str(&line?)
            .map_err(Into::into)
            .and_then(|request: Value| bench.answer(&request))
            .unwrap_or_else(|error| json!({"error": error.to_string()}));
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

impl Bench {
    fn from_args(args: Vec<String>) -> Outcome<Bench> {
        let option = |name: &str, default: &str| {
            let at = args.iter().position(|arg| arg == name);
            at.and_then(|at| args.get(at + 1)).map_or(default.to_owned(), Clone::clone)
        };
        let folder = Path::new(args.first().ok_or("kernel-bench DIR --metric METRIC")?);
        let number = |name: &str, default: usize| -> Outcome<usize> {
            Ok(option(name, &default.to_string()).parse()?)
        };
        let defaults = IndexParams::default();
        let params = IndexParams {
            m: number("--m", defaults.m)?,
            ef_construction: number("--ef-construction", defaults.ef_construction)?,
            builder: serde_json::from_value(json!(option("--builder", "brainy")))?,
        };
        let (base, dims) = read_matrix(&folder.join("base.npy"))?;
        let (queries, query_dims) = read_matrix(&folder.join("queries.npy"))?;
        if dims != query_dims {
            return Err("base.npy and queries.npy have different dimensions".into());
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(number("--threads", 2)?).build()?;
        Ok(Bench {
            metric: serde_json::from_value(json!(option("--metric", "cosine")))?,
            params,
            pool,
            dims,
            base,
            queries,
            whole: None,
            full: None,
            merged: None,
            parts: Vec::new(),
            filters: Vec::new(),
            full_precision: args.iter().any(|arg| arg == "--full-precision"),
            scratch: Scratch::default(),
        })
    }

    fn answer(&mut self, request: &Value) -> Outcome<Value> {
        match request["op"].as_str().unwrap_or_default() {
            "build" => {
                let (built, seconds) = self.build(&self.base);
                let bytes = built.index.bytes() as f64 / built.index.len().max(1) as f64;
                self.whole = Some(built);
                Ok(json!({
                    "buildSeconds": seconds, "bytesPerVector": bytes, "params": self.params,
                }))
            }
            "search" if self.parts.is_empty() => self.search(request),
            "search" => self.search_parts(request),
            "parts" => self.cut(request),
            "filters" => {
                self.filters = match request["path"].as_str() {
                    Some(path) => read_bytes(Path::new(path))?,
                    None => Vec::new(),
                };
                Ok(json!({}))
            }
            "merge" => self.merge(request),
            "thin" => self.thin(request),
            "clusters" => self.clusters(request),
            "rebuilt" => {
                self.merged = None;
                Ok(json!({}))
            }
            other => Err(format!("unknown op {other:?}").into()),
        }
    }

    fn build(&self, vectors: &[f32]) -> (Built, f64) {
        let start = Instant::now();
        let (index, order) = self
            .pool
            .install(|| Index::build(self.metric, self.dims, vectors, self.params, Threads::Pool));
        let seconds = start.elapsed().as_secs_f64();
        let vectors = self.ordered(vectors, &order);
        (Built { index, order, vectors }, seconds)
    }

    fn ordered(&self, vectors: &[f32], order: &[u32]) -> Vec<f32> {
        order
            .iter()
            .flat_map(|&row| &vectors[row as usize * self.dims..][..self.dims])
            .copied()
            .collect()
    }

    fn merge(&mut self, request: &Value) -> Outcome<Value> {
        let rows = self.base.len() / self.dims;
        let sizes: Vec<usize> = match &request["sizes"] {
            Value::Null => vec![rows / 2, rows - rows / 2],
            sizes => serde_json::from_value(sizes.clone())?,
        };
        if sizes.iter().sum::<usize>() != rows {
            return Err("sizes: not all rows".into());
        }
        let (mut parts, mut seconds, mut first) = (Vec::new(), 0.0, 0);
        for size in sizes {
            let end = first + size;
            let (mut part, took) = self.build(&self.base[first * self.dims..end * self.dims]);
            part.order.iter_mut().for_each(|row| *row += first as u32);
            parts.push(part);
            (seconds, first) = (seconds + took, end);
        }
        let numbers: Vec<u32> = parts.iter().flat_map(|part| &part.order).copied().collect();
        let vectors = self.ordered(&self.base, &numbers);
        let start = Instant::now();
        let merged: Vec<MergePart<'_>> =
            parts.iter().map(|part| MergePart::whole(&part.index)).collect();
        let (index, order) =
            self.pool.install(|| Index::merge(&merged, &vectors, self.params, Threads::Pool));
        let merge_seconds = start.elapsed().as_secs_f64();
        let order: Vec<u32> = order.iter().map(|&row| numbers[row as usize]).collect();
        let vectors = self.ordered(&self.base, &order);
        self.merged = Some(Built { index, order, vectors });
        let (whole, rebuild_seconds) = self.build(&self.base);
        self.whole = Some(whole);
        Ok(json!({
            "partsSeconds": seconds,
            "mergeSeconds": merge_seconds,
            "rebuildSeconds": rebuild_seconds,
            "params": self.params,
        }))
    }

    fn thin(&mut self, request: &Value) -> Outcome<Value> {
        let mut is_dead = vec![false; self.base.len() / self.dims];
        for row in serde_json::from_value::<Vec<usize>>(request["dead"].clone())? {
            *is_dead.get_mut(row).ok_or("dead: there is no such row")? = true;
        }
        let full = match self.full.take() {
            Some(full) => full,
            None => self.build(&self.base).0,
        };
        let kept = (0u32..).zip(&full.order).filter(|(_, row)| !is_dead[**row as usize]);
        let kept: Vec<u32> = kept.map(|(at, _)| at).collect();
        let numbers: Vec<u32> = kept.iter().map(|&at| full.order[at as usize]).collect();
        let vectors = self.ordered(&self.base, &numbers);
        let named = |Built { index, order, .. }: Built| {
            let order: Vec<u32> = order.iter().map(|&row| numbers[row as usize]).collect();
            let vectors = self.ordered(&self.base, &order);
            Built { index, order, vectors }
        };
        let start = Instant::now();
        let part = MergePart { index: &full.index, kept: Some(&kept) };
        let (index, order) =
            self.pool.install(|| Index::merge(&[part], &vectors, self.params, Threads::Pool));
        let merge_seconds = start.elapsed().as_secs_f64();
        let merged = named(Built { index, order, vectors: Vec::new() });
        let (rebuilt, rebuild_seconds) = self.build(&vectors);
        let rebuilt = named(rebuilt);
        (self.merged, self.whole, self.full) = (Some(merged), Some(rebuilt), Some(full));
        Ok(json!({"mergeSeconds": merge_seconds, "rebuildSeconds": rebuild_seconds}))
    }

    fn clusters(&mut self, request: &Value) -> Outcome<Value> {
        let built = self.whole.as_ref().ok_or("build first")?;
        let share = request["share"].as_f64().ok_or("share: a number")?;
        let truth: Vec<Vec<u32>> = serde_json::from_value(request["truth"].clone())?;
        let budget = (share * built.index.len() as f64) as usize;
        let (mut found, mut wanted, mut read) = (0, 0, 0);
        for (query, truth) in self.queries.chunks_exact(self.dims).zip(&truth) {
            let ranges = built.index.ranges(query, &mut self.scratch);
            let (mut rows, mut taken) = (0, Vec::new());
            for range in ranges {
                if rows >= budget {
                    break;
                }
                rows += range.len();
                taken.push(range);
            }
            let ids = taken.iter().cloned().flatten().map(|row| built.order[row as usize]);
            let ids: std::collections::HashSet<u32> = ids.collect();
            found += truth.iter().filter(|id| ids.contains(id)).count();
            wanted += truth.len();
            // Clusters that follow each other are one range.
            taken.sort_unstable_by_key(|range| range.start);
            read += 1 + taken.windows(2).filter(|pair| pair[0].end != pair[1].start).count();
        }
        let sections = built.index.sections();
        Ok(json!({
            "found": found as f64 / wanted.max(1) as f64,
            "ranges": read as f64 / truth.len().max(1) as f64,
            "clusters": sections.clusters.len() / 4 - 1,
            "bytes": sections.clusters.len() + sections.centroids.len() + sections.head.len(),
        }))
    }

    /// Builds an index of each of several parts of these sizes, of rows picked at random, and codes
    /// only of others.
    fn cut(&mut self, request: &Value) -> Outcome<Value> {
        let sizes: Vec<usize> = serde_json::from_value(request["sizes"].clone())?;
        let flat: Vec<usize> = serde_json::from_value(request["flat"].clone()).unwrap_or_default();
        let mut rows: Vec<u32> = (0..(self.base.len() / self.dims) as u32).collect();
        // A multiplicative hash, the same every time.
        rows.sort_unstable_by_key(|row| u64::from(*row).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7);
        let mut rest = &rows[..];
        self.parts.clear();
        let mut seconds = Vec::new();
        let graphs = sizes.len();
        for (at, size) in sizes.into_iter().chain(flat).enumerate() {
            let (now, later) = rest.split_at_checked(size).ok_or("sizes: more than all rows")?;
            rest = later;
            let vectors = self.ordered(&self.base, now);
            let start = Instant::now();
            if at < graphs {
                let (mut built, _) = self.build(&vectors);
                seconds.push(start.elapsed().as_secs_f64());
                for row in &mut built.order {
                    *row = now[*row as usize];
                }
                self.parts.push(Cut::Index(built));
            } else {
                let flat = Flat::build(self.metric, self.dims, &vectors, Threads::One);
                seconds.push(start.elapsed().as_secs_f64());
                self.parts.push(Cut::Flat { flat, order: now.to_vec(), vectors });
            }
        }
        Ok(json!({"buildSeconds": seconds}))
    }

    fn search_parts(&mut self, request: &Value) -> Outcome<Value> {
        let Bench { dims, queries, parts, scratch, .. } = self;
        let effort = request["ef"].as_u64().map_or(Effort::Default, |ef| Effort::Ef(ef as usize));
        let k = request["k"].as_u64().unwrap_or(10) as usize;
        let vectors: Vec<&[f32]> = parts.iter().map(Cut::vectors).collect();
        let searched: Vec<Part<'_>> = parts
            .iter()
            .zip(&vectors)
            .map(|(part, vectors)| Part { rows: part.rows(), allowed: None, vectors })
            .collect();
        let mut ids: Vec<Vec<u32>> = Vec::with_capacity(queries.len() / *dims);
        let start = Instant::now();
        for query in queries.chunks_exact(*dims) {
            let found = search_parts(query, &searched, k, effort, Threads::One, scratch).iter();
            ids.push(
                found.map(|found| parts[found.part as usize].order()[found.row as usize]).collect(),
            );
        }
        Ok(json!({"seconds": start.elapsed().as_secs_f64(), "ids": ids}))
    }

    fn search(&mut self, request: &Value) -> Outcome<Value> {
        let Bench { dims, queries, whole, merged, filters, full_precision, scratch, .. } = self;
        let merged = merged.as_ref().filter(|_| request["rebuilt"] != json!(true));
        let built = merged.or(whole.as_ref()).ok_or("build first")?;
        let effort = request["ef"].as_u64().map_or(Effort::Default, |ef| Effort::Ef(ef as usize));
        let k = request["k"].as_u64().unwrap_or(10) as usize;
        let allowed: Vec<RowSet> = filters
            .iter()
            .map(|mask| {
                let rows = built.order.iter().enumerate();
                rows.filter(|(_, row)| mask[**row as usize] != 0).map(|(at, _)| at as u32).collect()
            })
            .collect();
        let vectors = &built.vectors[..];
        let vectors = (*full_precision || !allowed.is_empty()).then_some(&vectors as &dyn Vectors);
        let mut ids: Vec<Vec<u32>> = Vec::with_capacity(queries.len() / *dims);
        let start = Instant::now();
        for (at, query) in queries.chunks_exact(*dims).enumerate() {
            let allowed = (!allowed.is_empty()).then(|| &allowed[at % allowed.len()]);
            let search = Search { k, effort, allowed, vectors };
            let results = built.index.search(query, &search, scratch);
            ids.push(results.iter().map(|result| built.order[result.row as usize]).collect());
        }
        Ok(json!({"seconds": start.elapsed().as_secs_f64(), "ids": ids}))
    }
}

/// A matrix of bytes, or of 16- or 32-bit floats, and the length of its rows.
fn read_matrix(path: &Path) -> Outcome<(Vec<f32>, usize)> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file = npyz::NpyFile::new(&bytes[..])?;
    let dims = *file.shape().get(1).ok_or("a matrix was expected")? as usize;
    let values = match file.dtype() {
        npyz::DType::Plain(kind) => match kind.to_string().trim_start_matches(['<', '|', '=']) {
            "u1" | "b1" => file.into_vec::<u8>()?.into_iter().map(f32::from).collect(),
            "f2" => file.into_vec::<half::f16>()?.into_iter().map(f32::from).collect(),
            "f4" => file.into_vec::<f32>()?,
            other => return Err(format!("values of type {other} are not read").into()),
        },
        other => return Err(format!("values of type {} are not read", other.descr()).into()),
    };
    Ok((values, dims))
}

/// The rows of a matrix of bytes.
fn read_bytes(path: &Path) -> Outcome<Vec<Vec<u8>>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file = npyz::NpyFile::new(&bytes[..])?;
    let columns = *file.shape().get(1).ok_or("a matrix was expected")? as usize;
    let is_bool = file.dtype().descr().contains("b1");
    let values: Vec<u8> = if is_bool {
        file.into_vec::<bool>()?.into_iter().map(u8::from).collect()
    } else {
        file.into_vec::<u8>()?
    };
    Ok(values.chunks_exact(columns.max(1)).map(<[u8]>::to_vec).collect())
}
