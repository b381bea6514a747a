//! How long opening a segment takes whose file is mapped into memory, and verifying it.
//!
//!     cargo bench --bench segment -- [--rows 100000] [--openings 200]
//!
//! Vectors of 384 dimensions lie in clusters; each row has an id, metadata and a short text.

use brainy::base::ids::{CollectionName, Seq, Ulid};
use brainy::base::rng::{Rng, SeededRng};
use brainy::index::{IndexParams, Metric, Threads};
use brainy::segment::{Segment, SegmentBuilder};
use brainy::store::local::LocalStore;
use brainy::store::{Store, get, paths};
use bytes::Bytes;
use clap::Parser;
use std::hint::black_box;
use std::time::Duration;

const DIMENSIONS: usize = 384;
const CLUSTERS: usize = 200;

#[derive(Parser)]
struct Options {
    /// Rows of the segment.
    #[arg(long, default_value_t = 100_000)]
    rows: usize,
    /// How often it is opened.
    #[arg(long, default_value_t = 200)]
    openings: usize,
    /// `cargo bench` says so; without it (`cargo test --all-targets`) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    if !options.bench {
        return;
    }
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let store = LocalStore::open(folder.path(), false).await.expect("it is new");
    // Any key does.
    let key = paths::wal_data(&CollectionName::new("bench").expect("it is a name"), Ulid(1));
    let (file, took) = time(|| build(options.rows));
    let (rows, size) = (options.rows, file.len());
    println!("{rows} rows of {DIMENSIONS} dimensions, {size} bytes, built in {took:.1?}");
    store.put(&key, file.into()).await.expect("there is room");

    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    let start = std::time::Instant::now();
    let object = get(&store, &key).await.and_then(|fetched| fetched.required(&key));
    let bytes = object.expect("it was just written").bytes;
    println!("mapped, and read once for its etag, in {:.1?}", start.elapsed());

    let open = |bytes: Bytes| Segment::from_bytes(bytes).expect("it was just written");
    let (segment, first) = time(|| open(bytes.clone()));
    // Where it was not copied, a vector is one of the bytes that were given.
    let copied = !bytes.as_ptr_range().contains(&segment.vector(0).as_ptr().cast::<u8>());
    println!("opened for the first time in {first:.1?}, copied: {copied}");
    let mut times: Vec<Duration> =
        (0..options.openings.max(1)).map(|_| time(|| black_box(open(bytes.clone()))).1).collect();
    times.sort_unstable();
    println!(
        "opened {} times: median {:.1?}, {:.1?} to {:.1?}",
        times.len(),
        times[times.len() / 2],
        times[0],
        times[times.len() - 1],
    );
    let (verified, took) = time(|| segment.verify());
    verified.expect("it was just written");
    println!("verified in {took:.1?}, {:.1} GB/s", size as f64 / 1e9 / took.as_secs_f64());
}

fn build(rows: usize) -> Vec<u8> {
    let random = SeededRng::new(1);
    let noise = |count: usize| -> Vec<f32> {
        let mut bytes = vec![0; 2 * count];
        random.fill(&mut bytes);
        let number = |pair: &[u8]| f32::from(i16::from_le_bytes([pair[0], pair[1]]));
        bytes.chunks_exact(2).map(|pair| number(pair) / 32_768.0).collect()
    };
    let centres = noise(CLUSTERS * DIMENSIONS);
    let mut builder = SegmentBuilder::new(DIMENSIONS, Metric::Cosine);
    for row in 0..rows {
        let centre = &centres[random.below(CLUSTERS as u64) as usize * DIMENSIONS..][..DIMENSIONS];
        let vector: Vec<f32> =
            centre.iter().zip(noise(DIMENSIONS)).map(|(at, off)| at + 0.5 * off).collect();
        let metadata = format!("{{\"kind\":\"k{}\",\"number\":{row}}}", row % 50);
        let text = format!("the text of record {row}");
        let (id, written) = (format!("record-{row}"), Seq(row as u64 + 1));
        builder.push(&id, written, &vector, &metadata, Some(&text)).expect("memory");
    }
    builder.finish(IndexParams::default(), Threads::Pool).expect("rows can be built").into()
}

fn time<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    let start = std::time::Instant::now();
    let result = run();
    (result, start.elapsed())
}
