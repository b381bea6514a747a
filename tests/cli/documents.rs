//! The commands and examples of README.md and docs/, run as a reader would run them.

use super::data::{npy, singles};
use super::serving::Server;
use super::{Ran, Store, ok};
use serde_json::Value;
use std::process::Command;

const README: &str = include_str!("../../README.md");
const API: &str = include_str!("../../docs/api.md");
const CLI: &str = include_str!("../../docs/cli.md");
const FILTERS: &str = include_str!("../../docs/filters.md");
/// What the documents call the etag that a client was given.
const ETAG: &str = "01KB9XQ9Y4R2W7N0Z1V5T8M3CD";

/// A block of a document, with the heading that it stands under.
#[derive(Debug, Clone)]
struct Block {
    heading: String,
    language: String,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let (mut blocks, mut heading, mut open) = (Vec::new(), String::new(), None::<Block>);
    for line in document.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let (heading, language) = (heading.clone(), language.to_owned());
                open = Some(Block { heading, language, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) if line.starts_with('#') => line.clone_into(&mut heading),
            (None, None) => {}
        }
    }
    blocks
}

/// Runs a block of shell in a folder: `brainy` is the program, and an answer that is a failure ends it.
fn shell(script: &str, dir: &std::path::Path, server: &str) -> Ran {
    let binary = env!("CARGO_BIN_EXE_brainy");
    // Where a document shows an etag, it is that of the answer before.
    let prelude = format!(
        r#"set -eu
        B='{server}'
        brainy() {{ '{binary}' "$@"; }}
        curl() {{
            local arguments=() argument
            for argument in "$@"; do arguments+=("${{argument//{ETAG}/${{etag:-}}}}"); done
            command curl -sS --fail-with-body -o answer "${{arguments[@]}}" || {{ cat answer >&2; exit 1; }}
            etag=$(sed -n 's/.*"etag":"\([^"]*\)".*/\1/p' answer)
            cat answer; echo
        }}
        "#
    );
    let output = Command::new("bash").args(["-c", &(prelude + script)]).current_dir(dir).output();
    Ran::from(output.unwrap())
}

/// Whether there is what the examples need.
fn can_run() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no curl on this machine");
    }
    found
}

/// The members of an example that an answer does not have.
fn missing(example: &Value, answer: &Value, path: &str, found: &mut Vec<String>) {
    match (example, answer) {
        // Collections and state are named by whoever uses them.
        (Value::Object(_), _) if path.ends_with("appliedVersions") || path.ends_with("heads") => {}
        (Value::Object(example), Value::Object(answer)) => {
            for (name, value) in example {
                match answer.get(name) {
                    Some(there) => missing(value, there, &format!("{path}.{name}"), found),
                    // A heartbeat of before the first read has none.
                    None if name == "appliedVersions" => {}
                    None => found.push(format!("{path}.{name}")),
                }
            }
        }
        (Value::Array(example), Value::Array(answer)) => {
            if let (Some(example), Some(answer)) = (example.first(), answer.first()) {
                missing(example, answer, &format!("{path}[]"), found);
            }
        }
        (Value::Object(_) | Value::Array(_), other) => found.push(format!("{path} is {other}")),
        _ => {}
    }
}

/// What the examples of docs/api.md are about.
const ARTICLES: &str = r#"
    curl $B/v1/collections -H 'content-type: application/json' \
      -d '{"name": "articles", "dimensions": 3, "description": "news"}' >/dev/null
    curl $B/v1/collections/articles/vectors -H 'content-type: application/json' -d '{"vectors": [
      {"id": "doc-1", "vector": [1, 0, 0], "metadata": {"lang": "en", "year": 2024}, "text": "x"},
      {"id": "docs/a.html", "vector": [0, 1, 0], "metadata": {"lang": "en", "year": 2020}},
      {"id": "old", "vector": [0, 0, 1], "metadata": {"year": 2001}}]}' >/dev/null
    brainy export --url $B -c articles >articles.ndjson 2>/dev/null
"#;

#[test]
fn the_calls_of_the_api_page_work_and_answer_as_it_shows() {
    if !can_run() {
        return;
    }
    let store = Store::new();
    let (dir, id) = (store.dir.path(), "reader-01");
    let serve = ["serve", "--store", &store.url, "--listen", "127.0.0.1:0", "--instance-id", id];
    let server = Server::start(&serve);
    let all = blocks(API);
    let (mut calls, mut compared) = (0, 0);
    let mut last: Option<(String, Value)> = None;
    for block in &all {
        if block.language == "json" {
            let answered = last.as_ref().filter(|(heading, _)| *heading == block.heading);
            let answer = match answered {
                Some((_, answer)) => answer.clone(),
                None => got(&block.heading, dir, &server.url),
            };
            let example: Value = serde_json::from_str(&block.text).expect(&block.text);
            let mut absent = Vec::new();
            missing(&example, &answer, "", &mut absent);
            assert!(absent.is_empty(), "{}: {absent:?} of {answer}", block.heading);
            compared += 1;
            continue;
        }
        let ran = shell(&format!("{ARTICLES}\n{}", block.text), dir, &server.url);
        assert_eq!(ran.code, 0, "{}\n{}{}", block.heading, ran.out, ran.err);
        calls += block.text.matches("curl").count();
        let answer = ran.out.lines().filter_map(|line| serde_json::from_str(line).ok()).next_back();
        last = answer.map(|answer| (block.heading.clone(), answer));
    }
    assert!(calls > 20 && compared > 8, "{calls} calls, {compared} examples");
}

/// The answer to the call that a heading names.
fn got(heading: &str, dir: &std::path::Path, server: &str) -> Value {
    let start = heading.find("`GET ").unwrap_or_else(|| panic!("{heading} has an example alone"));
    // The first of several, or with the name that the example has.
    let path: String = heading[start + 5..].chars().take_while(|c| *c != '`').collect();
    let one = path.replace("{collection}", "articles");
    let one =
        if heading.contains("/cluster/nodes/{id}") { format!("{one}/reader-01") } else { one };
    let ran = shell(&format!("{ARTICLES}\ncurl $B{one}"), dir, server);
    assert_eq!(ran.code, 0, "{heading}: {}{}", ran.out, ran.err);
    serde_json::from_str(ran.out.lines().last().unwrap()).unwrap()
}

#[test]
fn the_commands_of_the_readme_work_and_print_what_it_shows() {
    if !can_run() {
        return;
    }
    let store = Store::new();
    let dir = store.dir.path();
    let folder = format!("file://{}/bucket", dir.display());
    std::fs::create_dir(dir.join("bucket")).unwrap();
    store.file("notes.ndjson", "{\"id\": \"n\", \"text\": \"what we decided about retries\"}\n");
    store.file("vectors.npy", npy("<f4", 2, 2, &singles()));
    store.file("records.ndjson", "{\"id\": \"x\"}\n{\"id\": \"y\"}\n");
    let mut servers: Vec<(String, Server)> = Vec::new();
    let mut shown = 0;
    for block in blocks(README).iter().filter(|block| block.language == "sh") {
        let mut script = String::new();
        let mut expected = Vec::new();
        for line in block.text.lines().filter(|line| !line.starts_with("cargo ")) {
            if let Some(comment) = line.strip_prefix("# {") {
                expected.push(format!("{{{comment}"));
                continue;
            }
            // Servers stay, on ports of their own.
            let command = line.split(" # ").next().unwrap_or_default().trim();
            let Some(at) = command.find("brainy serve") else {
                let line = line.replace("s3://my-bucket/brainy", &folder);
                script += &(line.replace("export AWS_REGION", "AWS_REGION") + "\n");
                continue;
            };
            let flags: Vec<String> = command[at..]
                .split_whitespace()
                .skip(1)
                .map(|word| word.replace("s3://my-bucket/brainy", &folder))
                .map(|word| word.replace("./my-data", dir.join("my-data").to_str().unwrap()))
                .collect();
            let port =
                flags.iter().find_map(|flag| flag.strip_prefix("0.0.0.0:").map(str::to_owned));
            let mut flags: Vec<&str> = flags
                .iter()
                .map(|flag| if flag.starts_with("0.0.0.0:") { "127.0.0.1:0" } else { flag })
                .collect();
            if port.is_none() {
                flags.extend(["--listen", "127.0.0.1:0"]);
            }
            let role =
                command.split_whitespace().find_map(|word| word.strip_prefix("BRAINY_ROLE="));
            flags.extend(role.iter().flat_map(|role| ["--role", role]));
            servers.push((port.unwrap_or_default(), Server::start(&flags)));
        }
        for (port, server) in servers.iter().filter(|(port, _)| !port.is_empty()) {
            let address = server.url.strip_prefix("http://").unwrap();
            script = script.replace(&format!("localhost:{port}"), address);
        }
        let ran = shell(&script, dir, "");
        assert_eq!(ran.code, 0, "{script}\n{}{}", ran.out, ran.err);
        let answers: Vec<&str> = ran.out.lines().filter(|line| line.starts_with('{')).collect();
        for (answer, expected) in answers.iter().zip(&expected) {
            let mut rest = *answer;
            for part in expected.split('…') {
                // Digits go on behind what is shown of a number, and members behind what is shown of an object.
                let at = rest
                    .find(part)
                    .unwrap_or_else(|| panic!("README shows {expected}, but {answer}"));
                rest = &rest[at + part.len()..];
            }
            shown += 1;
        }
        assert_eq!(answers.len().min(1), expected.len().min(1), "{script}");
    }
    assert_eq!((servers.len(), shown), (3, 2));
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

#[test]
fn the_flags_of_the_command_page_are_there() {
    let mut flags = 0;
    for block in blocks(CLI).iter().filter(|block| block.language.is_empty()) {
        let mut command: Vec<&str> = Vec::new();
        for line in block.text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for (at, word) in words.iter().enumerate() {
                let names = words[at + 1..].iter().take_while(|word| is_name(word));
                match *word {
                    "brainy" => command = names.copied().collect(),
                    // Another of the same kind.
                    "|" if names.clone().next().is_some() => {
                        command.pop();
                        command.extend(names);
                    }
                    _ => {}
                }
                let flag = word.trim_start_matches(['[', '\'']);
                if command.is_empty() || !flag.starts_with("--") {
                    continue;
                }
                let flag = flag.trim_end_matches([']', '.']);
                let help = ok(&[&command[..], &["--help"]].concat());
                assert!(help.contains(flag), "docs/cli.md: {command:?} has no {flag}");
                flags += 1;
            }
        }
    }
    assert!(flags > 30, "{flags}");
}

#[test]
fn the_filters_of_the_filter_page_are_filters() {
    let whole = |text: &&str| {
        text.starts_with("{\"")
            && !text.contains("...")
            && serde_json::from_str::<Value>(text).is_ok()
    };
    // In a table, `|` would end a cell; inside backticks only filters begin with `{"`.
    let in_line = FILTERS.split('`').filter(whole).map(str::to_owned);
    let blocks = blocks(FILTERS);
    let json =
        blocks.iter().filter(|block| block.language == "json").map(|block| block.text.clone());
    let (mut right, mut wrong) = (0, 0);
    for text in in_line.chain(json) {
        let value: Value = serde_json::from_str(&text).unwrap();
        match value.get("error") {
            Some(error) => {
                let path = error["details"]["path"].as_str().unwrap();
                let filter = r#"{"year": {"$gte3": 1}}"#;
                let told = brainy::filter::Filter::from_json_str(filter).unwrap_err();
                assert_eq!(
                    (told.message(), told.details()["path"].as_str()),
                    (error["message"].as_str().unwrap(), Some(path))
                );
                wrong += 1;
            }
            None => {
                brainy::filter::Filter::from_json_str(&text)
                    .unwrap_or_else(|error| panic!("{text}: {error}"));
                right += 1;
            }
        }
    }
    assert!(right > 12 && wrong == 1, "{right} {wrong}");
}
