//! What people and programs get to see.

use crate::failure::{Failure, Result};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
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
    if json {
        eprintln!("{}", failure.to_json());
        return;
    }
    eprintln!("error: {} ({})", failure.message, failure.code);
    if let Some(hint) = failure.hint() {
        eprintln!("hint: {hint}");
    }
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
    fn excerpts_are_one_line_and_cut_between_characters() {
        assert_eq!(excerpt("a\n  b", 10), "a b");
        assert_eq!(excerpt("äöüß", 4), "äöüß");
        assert_eq!(excerpt("äö üßx", 5), "äö ü…");
    }
}
