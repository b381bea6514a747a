//! `brainy segments`: a picture of the partitions and their segments, for a terminal of 80 columns.

use crate::args::SegmentsArgs;
use crate::failure::{Failure, Result};
use crate::output;
use crate::transport::{Access, Transport, collection_path};
use axum::http::Method;
use brainy::base::Code;
use serde::Deserialize;
use serde_json::{Value, json};

/// Characters for all hashes.
const HASHES_WIDTH: u128 = 32;
/// Characters for the rows of the largest segment.
const ROWS_WIDTH: u64 = 18;
const GROUP_CHARACTERS_MAX: usize = 60;

/// Runs `brainy segments`.
pub async fn run(args: &SegmentsArgs, json: bool) -> Result<()> {
    let collection = collection_path(&args.data.collection)?;
    let call = if args.unnamed { "unnamed" } else { "stats" };
    let transport = Transport::open(&args.data.target, Access::Read).await?;
    let answer = transport.json(Method::GET, &format!("{collection}/{call}"), None).await;
    transport.close().await;
    let answer = answer?;
    match (args.unnamed, json) {
        (true, true) => output::json(&answer),
        (true, false) => unnamed(&answer),
        (false, true) => output::json(&json!({
            "name": answer["name"],
            "version": answer["version"],
            "indexedVersion": answer["indexedVersion"],
            "tail": answer["tail"],
            "partitions": answer["partitions"],
        })),
        (false, false) => output::line(&picture(&parsed(answer)?)),
    }
}

fn unnamed(answer: &Value) -> Result<()> {
    let none = Vec::new();
    let objects = answer["objects"].as_array().unwrap_or(&none);
    if objects.is_empty() {
        return output::line("no object beside those of the collection");
    }
    let mut table = output::table(&["bytes", "object"]);
    for object in objects {
        table.add_row([output::cell(&object["bytes"]), output::cell(&object["key"])]);
    }
    output::print(&table)?;
    let bytes = objects.iter().filter_map(|object| object["bytes"].as_u64()).sum();
    output::line(&format!(
        "\n{}, {}: being made, replaced, or left behind; instances that write delete\nwhat stays \
         without a name for longer than gc_grace_ms",
        output::counted(objects.len() as u64, "object"),
        output::size(bytes),
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    name: String,
    /// `None` where the instance does not read, so does not know its tail.
    vector_count: Option<u64>,
    version: u64,
    indexed_version: u64,
    segment_bytes: u64,
    tail: Tail,
    partitions: Vec<Partition>,
}

#[derive(Deserialize)]
struct Tail {
    entries: u64,
    rows: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Partition {
    number: u32,
    group: String,
    first_hash: String,
    last_hash: String,
    vectors: u64,
    bytes: u64,
    segments: Vec<Segment>,
}

#[derive(Deserialize)]
struct Segment {
    id: String,
    rows: u64,
    dead: u64,
}

fn parsed(answer: Value) -> Result<Stats> {
    serde_json::from_value(answer).map_err(|error| {
        Failure::new(
            Code::UnexpectedAnswer,
            format!("the server does not describe partitions: {error}"),
        )
    })
}

/// All of it as lines of up to 80 characters.
fn picture(stats: &Stats) -> String {
    let segments = || stats.partitions.iter().flat_map(|partition| &partition.segments);
    // A row of the tail may be in newer segments already, until this instance has taken them up.
    let tail = if stats.tail.entries > 0 { stats.tail.rows } else { 0 };
    let most = segments().map(|segment| segment.rows).chain([tail]).max().unwrap_or_default();
    let mut lines = vec![
        format!(
            "{}: {} in {}, {}",
            stats.name,
            output::counted(segments().count() as u64, "segment"),
            output::counted(stats.partitions.len() as u64, "partition"),
            output::size(stats.segment_bytes),
        ),
        format!("indexed up to version {} of {}", stats.indexed_version, stats.version),
        String::new(),
        format!("{:<41} {:<10} {:>13} {:>10}", "where in all hashes", "hashes", "vectors", "bytes"),
    ];
    let mut partitions: Vec<&Partition> = stats.partitions.iter().collect();
    partitions.sort_by_key(|partition| (&partition.group, &partition.first_hash));
    let mut group = "";
    for partition in partitions {
        if partition.group != group {
            group = &partition.group;
            lines.push(format!("group {:?}", output::excerpt(group, GROUP_CHARACTERS_MAX)));
        }
        lines.push(partition_line(partition));
        lines.extend(partition.segments.iter().map(|segment| segment_line(segment, most)));
    }
    lines.push(String::new());
    if stats.vector_count.is_some() {
        lines.push(rows_line("tail (not in segments yet)", tail, 0, most));
    } else {
        let entries = output::count(stats.tail.entries);
        lines
            .push(format!("  tail (not in segments yet): log entries that it knows of: {entries}"));
    }
    lines.push(format!("\n# live   x dead   a whole bar is {}", output::counted(most, "row")));
    lines.join("\n")
}

fn partition_line(partition: &Partition) -> String {
    let hash = |text: &str| u64::from_str_radix(text, 16).unwrap_or_default();
    let cell = |hash: u64| (u128::from(hash) * HASHES_WIDTH) >> 64;
    let (first, last) = (cell(hash(&partition.first_hash)), cell(hash(&partition.last_hash)));
    let bar: String =
        (0..HASHES_WIDTH).map(|at| if (first..=last).contains(&at) { '#' } else { '.' }).collect();
    let short = |hash: &str| hash.chars().take(4).collect::<String>();
    format!(
        "p{:03}{:pad$} [{bar}] {}..{} {:>13} {:>10}",
        partition.number,
        "",
        short(&partition.first_hash),
        short(&partition.last_hash),
        output::count(partition.vectors),
        output::size(partition.bytes),
        pad = 5_usize.saturating_sub(partition.number.to_string().len().max(3)),
    )
}

fn segment_line(segment: &Segment, most: u64) -> String {
    rows_line(&segment.id, segment.rows, segment.dead, most)
}

/// A bar for rows, of which some are dead, in proportion to `most`.
fn rows_line(name: &str, rows: u64, dead: u64, most: u64) -> String {
    // However few there are, they are to be seen; and however few are not dead.
    let part = |rows: u64, of: u64, width: u64| match rows {
        0 => 0,
        rows => ((rows as f64 / of as f64 * width as f64).round() as u64).clamp(1, width),
    };
    let width = part(rows, most, ROWS_WIDTH);
    let ends = if dead == 0 || dead >= rows { 0 } else { 1 };
    let x = part(dead, rows, width).min(width.saturating_sub(ends));
    let bar: String = (0..ROWS_WIDTH)
        .map(|at| match at {
            at if at >= width => '.',
            at if at >= width - x => 'x',
            _ => '#',
        })
        .collect();
    let share = match (dead, dead as f64 / rows.max(1) as f64 * 100.0) {
        (0, _) => String::new(),
        (_, share) if share < 1.0 => ", <1 % dead".to_owned(),
        (_, share) => format!(", {share:.0} % dead"),
    };
    format!("  {name:<26} [{bar}] {:>11} rows{share}", output::count(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Stats {
        parsed(json!({
            "name": "articles", "vectorCount": 12_700, "version": 42, "indexedVersion": 40,
            "segmentBytes": 31_200_000,
            "tail": {"entries": 2, "rows": 312},
            "partitions": [
                {"number": 1, "group": "", "firstHash": "0000000000000000",
                 "lastHash": "7fffffffffffffff", "vectors": 11_100, "bytes": 30_000_000,
                 "segments": [{"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "rows": 12_000, "dead": 1_000},
                              {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAW", "rows": 101, "dead": 1}]},
                {"number": 2, "group": "", "firstHash": "8000000000000000",
                 "lastHash": "ffffffffffffffff", "vectors": 0, "bytes": 0, "segments": []},
                {"number": 4_095, "group": "europe", "firstHash": "0000000000000000",
                 "lastHash": "ffffffffffffffff", "vectors": 0, "bytes": 1_200_000,
                 "segments": [{"id": "01ARZ3NDEKTSV4RRFFQ69G5FAX", "rows": 10_000_000,
                               "dead": 10_000_000}]}]
        }))
        .unwrap()
    }

    #[test]
    fn a_picture_says_where_everything_is() {
        let mut stats = stats();
        stats.partitions[2].segments[0] = Segment { id: "last".to_owned(), rows: 600, dead: 600 };
        let expected = "\
articles: 3 segments in 3 partitions, 31.2 MB
indexed up to version 40 of 42

where in all hashes                       hashes           vectors      bytes
p001   [################................] 0000..7fff        11,100    30.0 MB
  01ARZ3NDEKTSV4RRFFQ69G5FAV [################xx]      12,000 rows, 8 % dead
  01ARZ3NDEKTSV4RRFFQ69G5FAW [#.................]         101 rows, <1 % dead
p002   [................################] 8000..ffff             0        0 B
group \"europe\"
p4095  [################################] 0000..ffff             0     1.2 MB
  last                       [x.................]         600 rows, 100 % dead

  tail (not in segments yet) [#.................]         312 rows

# live   x dead   a whole bar is 12,000 rows";
        assert_eq!(picture(&stats), expected);
    }

    #[test]
    fn no_line_is_longer_than_a_terminal() {
        let mut stats = stats();
        stats.partitions[0].vectors = 1_000_000_000;
        stats.partitions[2].group = "é".repeat(64);
        let picture = picture(&stats);
        for line in picture.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn a_writer_does_not_pretend_to_know_its_tail() {
        let mut stats = stats();
        stats.vector_count = None;
        assert!(picture(&stats).contains("log entries that it knows of: 2"));
        stats.partitions.clear();
        stats.tail = Tail { entries: 0, rows: 0 };
        assert!(picture(&stats).contains("a whole bar is 0 rows"));
    }
}
