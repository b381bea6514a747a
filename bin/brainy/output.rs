//! What people and programs get to see.

use crate::failure::{Failure, Result};
use brainy::base::clock::{Clock, SystemClock};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Prints text and a line's end to standard output.
pub fn line(text: &str) -> Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes to standard output.
pub fn bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // Whoever read it has seen enough, as in `brainy export | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::io("could not write to standard output", &error)),
    }
}

/// Prints one JSON value on one line.
pub fn json(value: &Value) -> Result<()> {
    line(&value.to_string())
}

/// Says something beside the result.
pub fn note(text: &str) {
    eprintln!("note: {text}");
}

/// Prints why a command failed.
pub fn failure(failure: &Failure, json: bool) {
    if failure.is_said() {
        return;
    }
    if json {
        eprintln!("{}", failure.to_json());
        return;
    }
    eprintln!("error: {} ({})", failure.message, failure.code);
    if let Some(hint) = failure.hint() {
        eprintln!("hint: {hint}");
    }
}

/// Prints why an instance failed as its log prints everything else: one JSON object on a line.
pub fn failure_as_log_line(failure: &Failure) {
    let line = json!({
        "timestamp": SystemClock.now(),
        "level": "ERROR",
        "message": failure.message,
        "code": failure.code,
        "details": failure.details,
        "hint": failure.hint(),
        "target": "brainy",
    });
    eprintln!("{line}");
}

/// A table without lines, as wide as the terminal or, in a pipe, as its content.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().map(|name| name.to_uppercase()));
    table
}

/// Prints a table.
pub fn print(table: &Table) -> Result<()> {
    line(&table.trim_fmt())
}

/// Prints an object as lines of name and value; objects inside it become dotted names.
pub fn properties(value: &Value) -> Result<()> {
    let mut rows = Vec::new();
    flatten("", value, &mut rows);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.add_rows(rows);
    print(&table)
}

fn flatten(path: &str, value: &Value, rows: &mut Vec<[String; 2]>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(&format!("{path}{dot}{name}"), value, rows);
            }
        }
        value => rows.push([path.to_owned(), cell(value)]),
    }
}

/// A value as it stands in a table.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A count with its thousands apart.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun, which takes an `s` where there is not one.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A size in powers of 1,000.
pub fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB"];
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in units {
        // What would be rounded up to 1000.0 belongs to the next unit.
        if size < 999.95 {
            break;
        }
        size /= 1_000.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

/// How long ago something was, in its largest unit.
pub fn age(seconds: u64) -> String {
    let units = [(86_400, "days"), (3_600, "h"), (60, "min")];
    // Up to two of a unit are said in the smaller one.
    match units.into_iter().find(|(unit, _)| seconds >= unit * 2) {
        Some((unit, name)) => format!("{} {name} ago", count(seconds / unit)),
        None => format!("{seconds} s ago"),
    }
}

/// The beginning of a text, on one line.
pub fn excerpt(text: &str, characters_max: usize) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = line.join(" ");
    if line.chars().count() <= characters_max {
        return line;
    }
    let cut: String = line.chars().take(characters_max.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_sizes_are_readable() {
        let counts = [0, 999, 1_000, 1_234_567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([counted(1, "row"), counted(2, "row")], ["1 row", "2 rows"]);
        let sizes = [0, 999, 1_000, 999_949, 999_950, 83_200_000].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "83.2 MB"]);
    }

    #[test]
    fn ages_are_said_in_their_largest_unit() {
        let ages = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(age);
        let told = ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"];
        assert_eq!(ages, told.map(|age| format!("{age} ago")));
    }

    #[test]
    fn excerpts_are_one_line_and_cut_between_characters() {
        assert_eq!(excerpt("a\n  b", 10), "a b");
        assert_eq!(excerpt("äöüß", 4), "äöüß");
        assert_eq!(excerpt("äö üßx", 5), "äö ü…");
    }
}
