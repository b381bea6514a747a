//! Is the code still layered, small and safe where it says it is?
//!
//! Reads every Rust file as tokens (so comments and strings cannot confuse it, and paths inside
//! macros count) and enforces the tables below. The checker itself is tested on snippets that
//! break each rule: see the end of this file.

mod scan;

use scan::{Scan, scan};
use std::fmt;
use std::path::{Path, PathBuf};

/// The modules of `src`, top to bottom. A module may import from the layers below its own, never
/// from its siblings or from above. `bin/` stands above them all.
const LAYERS: &[&[&str]] = &[
    &["api", "library"],
    &["engine"],
    &["cluster", "log", "segment", "manifest", "cache", "embed"],
    &["index", "filter", "partition"],
    &["store"],
    &["base"],
];

/// Modules without I/O, clock or runtime. Of the layers below they may use only what is as pure.
const PURE: &[&str] = &["index", "filter", "partition"];
const PURE_MAY_USE: &[&str] =
    &["base::error", "base::Error", "base::Result", "base::Code", "base::compute", "base::json"];
const PURE_MUST_NOT_USE: &[&str] = &[
    "tokio",
    "tokio_util",
    "tokio_stream",
    "futures",
    "reqwest",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Crates that only some modules of `src` may name: the rest of the code talks to those modules.
const CRATE_OWNERS: &[(&str, &[&str])] = &[
    ("axum", &["api"]),
    ("tower", &["api"]),
    ("tower_http", &["api"]),
    ("utoipa", &["api"]),
    ("utoipa_axum", &["api"]),
    ("object_store", &["store"]),
    ("aws_config", &["store"]),
    ("aws_credential_types", &["store"]),
    ("quick_xml", &["store"]),
    ("clap", &[]),
];

/// The one file that builds or parses object keys, and what gives a key away.
const KEYS_FILE: &str = "src/store/paths.rs";
const KEY_STARTS: &[&str] = &["_brainy/", "collections/", "wal/", "manifests/", "vectors/p"];
const KEY_PARTS: &[&str] = &["/manifest.json", "/manifests/", "/wal/", "/heartbeats/", "/leases/"];
const KEY_ENDS: &[&str] = &[".wal", ".seg", ".del"];

/// Where the one key that people may set has its default.
const SETTINGS_FILE: &str = "src/base/settings/mod.rs";
const SETTINGS_KEY: &str = "_brainy/config.json";

/// Suites that tests run on every implementation; the keys that they make up are examples.
const TEST_SUPPORT: &[&str] = &["src/store/conformance.rs", "src/store/conformance/"];

/// Where `unsafe` may stand: in the kernel, and in the one file that maps files into memory.
const UNSAFE_FOLDER: &str = "src/index/";
const UNSAFE_FILE: &str = "src/base/mapped.rs";

/// Lines of a file that hold code (not blank, not only comment); sibling `tests.rs` are exempt.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// One broken rule.
#[derive(Debug, PartialEq)]
struct Fault {
    file: String,
    line: usize,
    rule: &'static str,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.what)
    }
}

/// Every rule that `text` breaks as the file at `file` (relative to the repository).
fn check(file: &str, text: &str) -> Vec<Fault> {
    let scan = match scan(&module_of(file), text) {
        Ok(scan) => scan,
        Err(fault) => {
            return vec![Fault { file: file.to_owned(), line: 0, rule: "unreadable", what: fault }];
        }
    };
    let mut faults = Vec::new();
    let mut report = |line: usize, rule: &'static str, what: String| {
        faults.push(Fault { file: file.to_owned(), line, rule, what });
    };
    check_sizes(file, &scan, &mut report);
    if file.starts_with("src/") && !is_tests_file(file) {
        check_imports(file, &scan, &mut report);
        check_keys(file, &scan, &mut report);
    }
    if !file.starts_with(UNSAFE_FOLDER) && file != UNSAFE_FILE {
        for line in &scan.unsafe_lines {
            report(*line, "unsafe", format!("belongs in {UNSAFE_FOLDER} and {UNSAFE_FILE} only"));
        }
    }
    faults
}

type Report<'a> = dyn FnMut(usize, &'static str, String) + 'a;

fn check_sizes(file: &str, scan: &Scan, report: &mut Report) {
    let lines = scan.code_lines.len();
    if lines > FILE_LINES_MAX && !is_tests_file(file) {
        report(1, "file size", format!("{lines} lines of code, at most {FILE_LINES_MAX}"));
    }
    for function in &scan.functions {
        if function.lines > FUNCTION_LINES_MAX {
            let (name, lines) = (&function.name, function.lines);
            let what = format!("{name} has {lines} lines, at most {FUNCTION_LINES_MAX}");
            report(function.line, "function size", what);
        }
    }
}

fn check_imports(file: &str, scan: &Scan, report: &mut Report) {
    let module = module_of(file).into_iter().next();
    for path in scan.paths.iter().filter(|path| !path.in_test) {
        let text = path.segments.join("::");
        let fault = match (&module, path.segments.split_first()) {
            (_, None) => None,
            // The crate root declares every module and may re-export from any.
            (None, _) => None,
            (Some(own), Some((root, rest))) if root == "crate" => {
                rest.first().and_then(|target| inner_fault(own, target, &rest.join("::")))
            }
            (Some(own), Some(_)) => outer_fault(own, &text),
        };
        if let Some(why) = fault {
            report(path.line, "layers", format!("{text}: {why}"));
        }
    }
}

/// Why module `own` must not import `path`, which starts at module `target` of this crate.
fn inner_fault(own: &str, target: &str, path: &str) -> Option<String> {
    if own == target {
        return None;
    }
    let Some(own_layer) = layer_of(own) else {
        return Some(format!("module {own} is not in the layer table"));
    };
    // What is not a module (a macro, an item that the root re-exports) stands above every layer.
    let Some(target_layer) = layer_of(target) else {
        return Some(format!("{target} is not a module of the layer table"));
    };
    if PURE.contains(&own) {
        let allowed = PURE_MAY_USE.iter().any(|may| starts_with_path(path, may));
        return (!allowed).then(|| format!("{own} is pure and may use only base::error"));
    }
    if own_layer == target_layer {
        return Some(format!("{own} and {target} are siblings"));
    }
    (own_layer > target_layer).then(|| format!("{target} is above {own}"))
}

/// Why module `own` must not use `path`, which starts at an external crate.
fn outer_fault(own: &str, path: &str) -> Option<String> {
    if PURE.contains(&own) {
        let banned = PURE_MUST_NOT_USE.iter().find(|ban| starts_with_path(path, ban));
        if let Some(banned) = banned {
            return Some(format!("{own} is pure: no {banned}"));
        }
    }
    let (name, owners) = CRATE_OWNERS.iter().find(|(name, _)| starts_with_path(path, name))?;
    (!owners.contains(&own)).then(|| match owners {
        [] => format!("{name} belongs in bin/"),
        owners => format!("{name} belongs in src/{}", owners.join(", src/")),
    })
}

fn check_keys(file: &str, scan: &Scan, report: &mut Report) {
    if file == KEYS_FILE || TEST_SUPPORT.iter().any(|start| file.starts_with(start)) {
        return;
    }
    for literal in scan.strings.iter().filter(|literal| !literal.in_test) {
        let text = literal.text.as_str();
        if file == SETTINGS_FILE && text == SETTINGS_KEY {
            continue;
        }
        if KEY_STARTS.iter().any(|start| text.starts_with(start))
            || KEY_PARTS.iter().any(|part| text.contains(part))
            || KEY_ENDS.iter().any(|end| text.ends_with(end))
        {
            report(literal.line, "object keys", format!("{text:?} belongs in {KEYS_FILE}"));
        }
    }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn starts_with_path(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_tests_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

/// The module path of a file of `src`: `src/store/cas.rs` is `[store, cas]`.
fn module_of(file: &str) -> Vec<String> {
    let Some(inside) = file.strip_prefix("src/").and_then(|rest| rest.strip_suffix(".rs")) else {
        return Vec::new();
    };
    let mut parts: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
        parts.pop();
    }
    parts
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a folder of the repository can be read").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_keeps_to_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "bin", "tests", "benches"] {
        rust_files(&root.join(folder), &mut files);
    }
    files.sort();
    assert!(files.len() > 20, "only {} files were found", files.len());
    let mut faults = Vec::new();
    for path in &files {
        let name = path.strip_prefix(root).expect("it was found below the root");
        let text = std::fs::read_to_string(path).expect("a source file can be read");
        faults.extend(check(&name.to_string_lossy(), &text));
    }
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert!(faults.is_empty(), "{} broken rules:\n{}", lines.len(), lines.join("\n"));
}

mod checker {
    use super::check;

    /// The rules that a snippet breaks, in order.
    fn rules(file: &str, text: &str) -> Vec<&'static str> {
        check(file, text).iter().map(|fault| fault.rule).collect()
    }

    #[test]
    fn imports_from_below_pass() {
        assert!(
            rules("src/api/a.rs", "use crate::engine::Brainy; use crate::base::Error;").is_empty()
        );
        assert!(rules("src/log/a.rs", "use crate::{base::Error, store::{cas, Key}};").is_empty());
        assert!(rules("src/filter/a.rs", "use crate::base::{Error as E, error::Code};").is_empty());
        assert!(
            rules("src/store/a.rs", "use super::cas; use object_store::ObjectStore;").is_empty()
        );
        assert!(
            rules("bin/brainy/main.rs", "use brainy::api::router; use clap::Parser;").is_empty()
        );
    }

    #[test]
    fn imports_from_above_or_beside_fail() {
        for (file, text) in [
            ("src/base/a.rs", "use crate::store::Key;"),
            ("src/store/a.rs", "use crate::{base::Error, log::Entry};"),
            ("src/store/a.rs", "fn f() { crate::engine::start() }"),
            ("src/store/a.rs", "fn f() { println!(\"{}\", crate::engine::NAME) }"),
            ("src/store/a.rs", "use super::super::engine::Brainy;"),
            ("src/store/mod.rs", "use super::engine::Brainy;"),
            ("src/store/a.rs", "mod inner { use super::super::super::engine::Brainy; }"),
            ("src/log/a.rs", "use crate::manifest::Manifest;"),
            ("src/engine/a.rs", "use crate::api::router;"),
            ("src/index/a.rs", "use crate::base::{Error, clock::Clock};"),
            ("src/index/a.rs", "use crate::store::Key;"),
            ("src/misc/a.rs", "use crate::base::Error;"),
        ] {
            assert_eq!(rules(file, text), ["layers"], "{file}: {text}");
        }
    }

    #[test]
    fn crates_outside_their_modules_fail() {
        for (file, text) in [
            ("src/index/a.rs", "use tokio::time::sleep;"),
            ("src/filter/a.rs", "use std::{fs::File, sync::Arc};"),
            ("src/engine/a.rs", "use axum::http::StatusCode;"),
            ("src/engine/a.rs", "fn f() { let s = object_store::memory::InMemory::new(); }"),
            ("src/api/a.rs", "#[derive(Debug)] struct A; use clap::Parser;"),
        ] {
            assert_eq!(rules(file, text), ["layers"], "{file}: {text}");
        }
        assert!(rules("src/engine/a.rs", "use tokio::sync::oneshot; use std::fs;").is_empty());
    }

    #[test]
    fn test_code_is_free_to_import() {
        let text = "#[cfg(test)] mod tests { use crate::engine::Brainy; }";
        assert!(rules("src/store/a.rs", text).is_empty());
        assert!(rules("src/store/a.rs", "#[cfg(test)] use crate::engine::{A, B};").is_empty());
        assert!(rules("src/store/tests.rs", "use crate::engine::Brainy;").is_empty());
        // What follows the test item is production code again.
        let text = "#[cfg(test)] use crate::engine::{A, B}; use crate::engine::C;";
        assert_eq!(rules("src/store/a.rs", text), ["layers"]);
        let text = "#[cfg(not(test))] use crate::engine::A;";
        assert_eq!(rules("src/store/a.rs", text), ["layers"]);
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let text = "//! use crate::engine::A;\n/// unsafe { }\n/* unsafe */ const A: &str = \
                    \"use crate::engine::A; unsafe fn\";";
        assert!(rules("src/base/a.rs", text).is_empty());
    }

    #[test]
    fn unsafe_outside_its_places_fails() {
        let text = "fn f() { unsafe { g() } }";
        for file in ["src/base/a.rs", "src/store/local/mod.rs", "src/store/map.rs", "benches/a.rs"]
        {
            assert_eq!(rules(file, text), ["unsafe"], "{file}");
        }
        assert_eq!(
            rules("src/base/a.rs", "macro_rules! m { () => { unsafe { g() } } }"),
            ["unsafe"]
        );
        assert!(rules("src/index/a.rs", text).is_empty());
        assert!(rules("src/base/mapped.rs", text).is_empty());
    }

    #[test]
    fn object_keys_outside_their_file_fail() {
        for literal in
            ["collections/{c}/x", "_brainy/config.json", "{root}/wal/{seq:020}", "{n}.seg"]
        {
            let text = format!("fn f() -> String {{ format!({literal:?}) }}");
            assert_eq!(rules("src/log/a.rs", &text), ["object keys"], "{literal}");
            assert!(rules("src/store/paths.rs", &text).is_empty(), "{literal}");
        }
        let default = |key: &str| format!("const A: &str = {key:?};");
        assert!(rules(super::SETTINGS_FILE, &default("_brainy/config.json")).is_empty());
        assert_eq!(rules(super::SETTINGS_FILE, &default("_brainy/other.json")), ["object keys"]);
        assert!(rules("src/api/a.rs", "const ROUTE: &str = \"/v1/collections/{c}\";").is_empty());
        assert!(rules("src/log/a.rs", "/// `collections/<c>/wal/`\nconst A: u8 = 1;").is_empty());
    }

    #[test]
    fn long_functions_fail() {
        let function = |lines: usize| format!("fn f() {{\n{}}}", "g();\n".repeat(lines - 2));
        assert!(rules("src/base/a.rs", &function(70)).is_empty());
        assert_eq!(rules("src/base/a.rs", &function(71)), ["function size"]);
        let method = format!("impl A {{ {} }}", function(71));
        assert_eq!(rules("bin/brainy/main.rs", &method), ["function size"]);
        assert!(rules("src/base/a.rs", "trait A { fn f(&self) -> u8; }").is_empty());
    }

    #[test]
    fn long_files_fail() {
        let code = "use a::b;\n".repeat(500);
        assert!(rules("src/base/a.rs", &format!("//! doc\n\n// more\n{code}")).is_empty());
        assert_eq!(rules("src/base/a.rs", &format!("{code}use a::c;")), ["file size"]);
        assert!(rules("src/base/tests.rs", &format!("{code}use a::c;")).is_empty());
    }

    #[test]
    fn a_file_that_is_not_rust_fails() {
        assert_eq!(rules("src/base/a.rs", "fn f( {"), ["unreadable"]);
    }
}
