//! The bytes of a filter index, and how long filters take by it and by each row's JSON.
//!
//!     cargo bench --bench filter_index -- [--data ../shared/data]
//!
//! Reads the metadata of minilm-wordnet-50k and of domains.jsonl below the folder, in the order of the
//! files, which lie sorted, and in a scattered one, as writes come.

use brainy::filter::Filter;
use brainy::filter::index::{FilterIndex, FilterIndexBuilder};
use serde_json::{Value, json};
use std::hint::black_box;
use std::path::{Path, PathBuf};

/// The step from row to row that scatters them; it has no divisor in common with the files' lengths.
const SCATTER: usize = 30_917;
/// How often everything is repeated; the fastest counts, for the others were disturbed.
const ROUNDS: usize = 15;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo bench` says so; without it (`cargo test --all-targets`) nothing is measured.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let named = arguments.iter().position(|argument| argument == "--data");
    let folder = named.and_then(|at| arguments.get(at + 1)).map_or_else(
        || {
            let folder = std::env::var_os("BRAINY_TEST_DATA").map(PathBuf::from);
            folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"))
        },
        PathBuf::from,
    );
    measure(
        &folder.join("minilm-wordnet-50k/records.jsonl"),
        |record| record["metadata"].clone(),
        &[
            json!({"category": "noun.animal"}),
            json!({"words": {"$gte": 8, "$lt": 12}}),
            json!({"category": "noun.animal", "words": {"$lt": 10}}),
            json!({"$or": [{"category": "noun.plant"}, {"words": {"$gt": 20}}]}),
            json!({"category": {"$ne": "noun.animal"}}),
            json!({"category": {"$contains": "an"}}),
        ],
    );
    measure(
        &folder.join("domains.jsonl"),
        |record| {
            let mut metadata = record["data"].clone();
            metadata["domain"] = record["domain"].clone();
            metadata
        },
        &[
            json!({"domain": "legal"}),
            json!({"price": {"$gte": 50, "$lt": 100}}),
            json!({"domain": "product", "price": {"$lt": 20}}),
            json!({"$or": [{"domain": "medical"}, {"price": {"$gt": 200}}]}),
            json!({"modelno": {"$startsWith": "d"}}),
            json!({"title": {"$contains": "watch"}}),
        ],
    );
}

fn measure(file: &Path, metadata: impl Fn(&Value) -> Value, filters: &[Value]) {
    let Ok(text) = std::fs::read_to_string(file) else {
        return println!("skipped: there is no {}", file.display());
    };
    let texts: Vec<String> = text
        .lines()
        .map(|line| metadata(&serde_json::from_str(line).expect("it is JSON")).to_string())
        .collect();
    let scattered: Vec<String> =
        (0..texts.len()).map(|at| texts[at * SCATTER % texts.len()].clone()).collect();
    println!("{}", file.display());
    compare("in order", &texts, filters);
    compare("scattered", &scattered, filters);
}

fn compare(order: &str, texts: &[String], filters: &[Value]) {
    let values: Vec<Value> =
        texts.iter().map(|text| serde_json::from_str(text).expect("it is JSON")).collect();
    let build = || {
        let mut builder = FilterIndexBuilder::new();
        values.iter().for_each(|value| builder.push(Some(value)));
        builder.finish()
    };
    let bytes = build();
    let metadata_bytes: usize = texts.iter().map(String::len).sum();
    println!(
        "{order}: {} rows, {metadata_bytes} bytes of metadata, {} of index ({:.1} %), built in {:.0} ms",
        texts.len(),
        bytes.len(),
        100.0 * bytes.len() as f64 / metadata_bytes as f64,
        fastest_us(|| build().len()) / 1e3,
    );
    let index = FilterIndex::open(bytes.into()).expect("it was just written");
    println!("{:>9} {:>9} {:>11} {:>11}  filter", "rows", "unsure", "index, µs", "JSON, µs");
    for json in filters {
        let filter = Filter::parse(json).expect("it is a filter");
        let selection = filter.select(&index).expect("the index is whole");
        let passing = || {
            let passes =
                |text: &&String| filter.matches(&serde_json::from_str(text).expect("it is JSON"));
            texts.iter().filter(passes).count()
        };
        let sure = selection.rows.len() - selection.unsure.len();
        assert!((sure..=selection.rows.len()).contains(&(passing() as u64)));
        let by_index = fastest_us(|| filter.select(&index).expect("as before").rows.len() as usize);
        println!(
            "{:>9} {:>9} {by_index:>11.1} {:>11.0}  {json}",
            selection.rows.len(),
            selection.unsure.len(),
            fastest_us(passing),
        );
    }
}

fn fastest_us(run: impl Fn() -> usize) -> f64 {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    let time = || {
        let start = std::time::Instant::now();
        black_box(run());
        start.elapsed()
    };
    let fastest = (0..ROUNDS).map(|_| time()).min().expect("there are rounds");
    fastest.as_secs_f64() * 1e6
}
