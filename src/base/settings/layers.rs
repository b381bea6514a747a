//! Where each value comes from: defaults < file < environment < flags.

use super::value::{Entry, Fault, Raw};
use super::{Settings, check, keys, redact, value};
use crate::base::{Code, Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

const PREFIX: &str = "BRAINY_";
/// Names the settings file.
const CONFIG_VARIABLE: &str = "BRAINY_CONFIG";
/// Belongs to test suites, not to settings.
const TEST_PREFIX: &str = "BRAINY_TEST_";
/// What container platforms call `service_endpoint`.
const ENDPOINT_VARIABLE: &str = "SERVICE_ENDPOINT";

/// Where the value of a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A settings file, by its path.
    File(String),
    /// A variable of the environment, by its name.
    Env(String),
    /// A command-line flag, by its name with the dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "file {path}"),
            Source::Env(name) => write!(f, "variable {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A setting that was given on the command line.
#[derive(Debug, Clone)]
pub struct FlagValue {
    /// The flag as it was written, for example `--store`.
    pub flag: String,
    /// The setting's name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// The settings in force and where each came from.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The values.
    pub settings: Settings,
    sources: BTreeMap<&'static str, Source>,
}

impl Effective {
    /// Where the value of a setting came from.
    pub fn source(&self, key: &str) -> &Source {
        self.sources.get(key).unwrap_or(&Source::Default)
    }

    /// Every setting in the order of the struct: name, value as it may be shown, source.
    pub fn shown(&self) -> Vec<(&'static str, Value, &Source)> {
        let map = self.settings.to_map();
        let value = |key: &str| redact(key, map.get(key).unwrap_or(&Value::Null));
        keys().iter().map(|key| (*key, value(key), self.source(key))).collect()
    }
}

impl From<Settings> for Effective {
    /// Settings that a program made: where they differ from the defaults is not remembered.
    fn from(settings: Settings) -> Self {
        Effective { settings, sources: BTreeMap::new() }
    }
}

/// Loads, merges and validates settings. `file` is what `--config` says and goes before
/// `BRAINY_CONFIG`; of `environment` only `BRAINY_*` and `SERVICE_ENDPOINT` are looked at, and an
/// empty variable counts as not set.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[FlagValue],
) -> Result<Effective> {
    let environment: BTreeMap<String, String> =
        environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let file = file.or_else(|| environment.get(CONFIG_VARIABLE).map(Path::new));
    let mut entries = BTreeMap::new();
    if let Some(path) = file {
        add_file(&mut entries, path)?;
    }
    add_environment(&mut entries, &environment)?;
    add_flags(&mut entries, flags)?;
    let entries: Vec<Entry> = entries.into_values().collect();
    let sources: BTreeMap<&'static str, Source> =
        entries.iter().map(|entry| (entry.key, entry.source.clone())).collect();
    let settings = value::settings(&entries).map_err(|fault| type_error(fault, &sources))?;
    let effective = Effective { settings, sources };
    check::validate(&effective)?;
    Ok(effective)
}

type Entries = BTreeMap<&'static str, Entry>;

fn add(entries: &mut Entries, key: &'static str, raw: Raw, source: Source) {
    entries.insert(key, Entry { key, raw, source });
}

fn add_file(entries: &mut Entries, path: &Path) -> Result<()> {
    let shown = path.display().to_string();
    for (name, value) in read(path)? {
        let key = known(&name).ok_or_else(|| {
            let nearest = nearest(&name, keys().iter().copied());
            unknown(&format!("setting {name:?} in {shown}"), &name, &nearest)
        })?;
        add(entries, key, Raw::Typed(value), Source::File(shown.clone()));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let invalid = |message: String| {
        Error::new(Code::InvalidSettings, message).with("file", path.display().to_string())
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        invalid(format!("settings file {} could not be read: {error}", path.display()))
    })?;
    let malformed = |what: &str, error: &dyn fmt::Display| {
        let error = error.to_string();
        let error = error.trim_end();
        invalid(format!("{} is not valid {what}: {error}", path.display()))
    };
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("toml") => toml::from_str(&text).map_err(|error| malformed("TOML", &error)),
        Some("json") => serde_json::from_str(&text).map_err(|error| malformed("JSON", &error)),
        _ => Err(invalid(format!(
            "settings file {} has an unknown format: name it .toml or .json",
            path.display()
        ))),
    }
}

fn add_environment(entries: &mut Entries, environment: &BTreeMap<String, String>) -> Result<()> {
    let mut set = |key, name: &str, value: &str| {
        let source = Source::Env(name.to_owned());
        add(entries, key, Raw::Text(value.to_owned()), source);
    };
    if let Some(value) = environment.get(ENDPOINT_VARIABLE) {
        set("service_endpoint", ENDPOINT_VARIABLE, value);
    }
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if name == CONFIG_VARIABLE || name.starts_with(TEST_PREFIX) {
            continue;
        }
        let key = keys().iter().find(|key| key.to_ascii_uppercase() == rest);
        let Some(key) = key else {
            let variables = keys().iter().map(|key| variable(key));
            let nearest = nearest(name, variables.chain([CONFIG_VARIABLE.to_owned()]));
            return Err(unknown(&format!("variable {name}"), name, &nearest));
        };
        set(key, name, value);
    }
    Ok(())
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

fn add_flags(entries: &mut Entries, flags: &[FlagValue]) -> Result<()> {
    for flag in flags {
        let key = known(&flag.key).ok_or_else(|| {
            let nearest = nearest(&flag.key, keys().iter().copied());
            let what = format!("setting {:?} in {}", flag.key, flag.flag);
            unknown(&what, &flag.key, &nearest)
        })?;
        // The one variable that beats its flag; see `role`.
        let fixed = key == "role"
            && entries.get(key).is_some_and(|entry| matches!(entry.source, Source::Env(_)));
        if !fixed {
            let raw = Raw::Text(flag.value.clone());
            add(entries, key, raw, Source::Flag(flag.flag.clone()));
        }
    }
    Ok(())
}

fn known(name: &str) -> Option<&'static str> {
    keys().iter().copied().find(|key| *key == name)
}

fn nearest(name: &str, candidates: impl Iterator<Item = impl Into<String>>) -> String {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let closeness = |candidate: &str| {
        let candidate = candidate.to_ascii_lowercase();
        strsim::normalized_damerau_levenshtein(&name, &candidate)
            .max(strsim::jaro_winkler(&name, &candidate))
    };
    candidates
        .map(Into::into)
        .max_by(|a: &String, b: &String| closeness(a).total_cmp(&closeness(b)))
        .unwrap_or_default()
}

fn unknown(what: &str, name: &str, nearest: &str) -> Error {
    Error::new(Code::InvalidSettings, format!("unknown {what}: did you mean {nearest}?"))
        .with("key", name)
        .with("nearest", nearest)
}

fn type_error(fault: Fault, sources: &BTreeMap<&'static str, Source>) -> Error {
    let source = sources.get(fault.key).unwrap_or(&Source::Default);
    check::invalid(fault.key, source, &fault.message)
}
