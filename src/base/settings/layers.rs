//! Where each value comes from: defaults < file < environment < flags.

use super::aliases::{self, Meaning, Notice, SECTION};
use super::value::{Entry, Fault, Raw};
use super::{Settings, check, keys, redact, service_links, value};
use crate::base::{Code, Error, Result};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

const PREFIX: &str = "BRAINY_";
/// Names the settings file.
const CONFIG_VARIABLE: &str = "BRAINY_CONFIG";
/// The one variable that beats its flag; see `role`.
pub(super) const ROLE_VARIABLE: &str = "BRAINY_ROLE";
/// Belongs to test suites, not to settings.
const TEST_PREFIX: &str = "BRAINY_TEST_";
/// What container platforms call `service_endpoint`.
const ENDPOINT_VARIABLE: &str = "SERVICE_ENDPOINT";

/// The flag that sets any setting.
const SET_FLAG: &str = "--set";

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
    /// The memory that there is, and how.
    Derived(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "file {path}"),
            Source::Env(name) => write!(f, "variable {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
            Source::Derived(how) => f.write_str(how),
        }
    }
}

/// A setting that was given on the command line.
#[derive(Debug, Clone)]
pub struct FlagValue {
    /// The flag as it was written, for example `--store`.
    pub flag: String,
    /// The setting's name, or `cluster.` and its name elsewhere.
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
    notices: Vec<Notice>,
}

impl Effective {
    /// What to log once about names from elsewhere that were used.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Where the value of a setting came from.
    pub fn source(&self, key: &str) -> &Source {
        self.sources.get(key).unwrap_or(&Source::Default)
    }

    pub(super) fn derive(&mut self, key: &'static str, how: String) {
        self.sources.insert(key, Source::Derived(how));
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
        Effective { settings, sources: BTreeMap::new(), notices: Vec::new() }
    }
}

/// Loads, merges and validates settings. `file` is what `--config` says and goes before
/// `BRAINY_CONFIG`; of `environment` only `BRAINY_*`, `SERVICE_ENDPOINT` and names from elsewhere
/// ([`super::ALIASES`]) are looked at, and an empty variable counts as not set. In one layer our own name
/// goes before an alias.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[FlagValue],
) -> Result<Effective> {
    let environment: BTreeMap<String, String> =
        environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let file = file.or_else(|| environment.get(CONFIG_VARIABLE).map(Path::new));
    let mut layers = Layers::default();
    if let Some(path) = file {
        layers.add_file(path)?;
    }
    layers.add_environment(&environment)?;
    layers.add_flags(flags)?;
    let Layers { entries, notices } = layers;
    let entries: Vec<Entry> = entries.into_values().collect();
    let sources: BTreeMap<&'static str, Source> =
        entries.iter().map(|entry| (entry.key, entry.source.clone())).collect();
    let settings = value::settings(&entries).map_err(|fault| type_error(fault, &sources))?;
    let effective = Effective { settings, sources, notices };
    check::validate(&effective)?;
    Ok(effective)
}

/// A value under a name from elsewhere.
struct Foreign {
    meaning: Meaning,
    /// The name as it was written.
    name: String,
    raw: Raw,
    source: Source,
}

/// What the layers so far say.
#[derive(Default)]
struct Layers {
    entries: BTreeMap<&'static str, Entry>,
    notices: Vec<Notice>,
}

impl Layers {
    fn add(&mut self, key: &'static str, raw: Raw, source: Source) {
        let decided = |entry: &Entry| entry.source == Source::Env(ROLE_VARIABLE.to_owned());
        let fixed = key == "role" && self.entries.get(key).is_some_and(decided);
        if !fixed {
            self.entries.insert(key, Entry { key, raw, source });
        }
    }

    /// Takes what one layer says under names from elsewhere, before its own names.
    fn add_foreign(&mut self, mut found: Vec<Foreign>) -> Result<()> {
        found.sort_by_key(|foreign| foreign.meaning.order());
        for Foreign { meaning, name, raw, source } in found {
            let mut used = false;
            if let Meaning::Alias(alias) = meaning {
                let translated = alias.translate(&raw);
                let ours =
                    translated.map_err(|fault| check::invalid(alias.key, &source, &fault))?;
                used = ours.is_some();
                if let Some(ours) = ours {
                    self.add(alias.key, ours, source);
                }
            }
            self.notices.push(meaning.notice(name, used));
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let shown = path.display().to_string();
        let mut content = read(path)?;
        if let Some(section) = content.remove(SECTION) {
            self.add_foreign(of_section(section, &shown)?)?;
        }
        for (name, value) in content {
            let key = known(&name).ok_or_else(|| {
                let nearest = nearest(&name, keys().iter().copied());
                unknown(&format!("setting {name:?} in {shown}"), &name, &nearest)
            })?;
            self.add(key, Raw::Typed(value), Source::File(shown.clone()));
        }
        Ok(())
    }

    /// Takes out what Kubernetes has set, and says so once.
    fn without_service_links(
        &mut self,
        environment: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let (mut names, mut services) = (Vec::new(), BTreeSet::new());
        let mut kept = BTreeMap::new();
        for (name, value) in environment {
            let ours = name.starts_with(PREFIX) || Meaning::of_variable(name).is_some();
            match service_links::service(name, value).filter(|_| ours) {
                Some(service) => {
                    names.push(name.as_str());
                    services.insert(service);
                }
                None => drop(kept.insert(name.clone(), value.clone())),
            }
        }
        if !names.is_empty() {
            self.notices.push(Notice::plain(service_links::notice(&names, &services)));
        }
        kept
    }

    fn add_environment(&mut self, environment: &BTreeMap<String, String>) -> Result<()> {
        let environment = &self.without_service_links(environment);
        let foreign = |(name, value): (&String, &String)| {
            let (raw, source) = (Raw::Text(value.clone()), Source::Env(name.clone()));
            Some(Foreign { meaning: Meaning::of_variable(name)?, name: name.clone(), raw, source })
        };
        self.add_foreign(environment.iter().filter_map(foreign).collect())?;
        let mut set = |key, name: &str, value: &str| {
            self.add(key, Raw::Text(value.to_owned()), Source::Env(name.to_owned()));
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

    fn add_flags(&mut self, flags: &[FlagValue]) -> Result<()> {
        let foreign = |flag: &FlagValue| {
            let name = if flag.flag == SET_FLAG {
                format!("{SET_FLAG} {}", flag.key)
            } else {
                flag.flag.clone()
            };
            let (raw, source) = (Raw::Text(flag.value.clone()), Source::Flag(name.clone()));
            Some(Foreign { meaning: Meaning::of_flag(&flag.key)?, name, raw, source })
        };
        self.add_foreign(flags.iter().filter_map(foreign).collect())?;
        for flag in flags.iter().filter(|flag| Meaning::of_flag(&flag.key).is_none()) {
            let key = known(&flag.key).ok_or_else(|| {
                let aliases = aliases::names().map(|name| format!("{SECTION}.{name}"));
                let nearest =
                    nearest(&flag.key, keys().iter().map(|key| (*key).to_owned()).chain(aliases));
                let what = format!("setting {:?} in {}", flag.key, flag.flag);
                unknown(&what, &flag.key, &nearest)
            })?;
            self.add(key, Raw::Text(flag.value.clone()), Source::Flag(flag.flag.clone()));
        }
        Ok(())
    }
}

/// What the section `[cluster]` of the file at `shown` says.
fn of_section(section: Value, shown: &str) -> Result<Vec<Foreign>> {
    let source = |name: &str| Source::File(format!("{shown}, {name} in [{SECTION}]"));
    let Value::Object(section) = section else {
        let fault = "must be a table of names from elsewhere; docs/settings.md lists them";
        return Err(check::invalid(SECTION, &Source::File(shown.to_owned()), fault));
    };
    let set = section.into_iter().filter(|(_, value)| !value.is_null());
    set.map(|(name, value)| {
        let meaning = Meaning::of(&name).ok_or_else(|| {
            let nearest = nearest(&name, aliases::names());
            unknown(&format!("setting {name:?} in [{SECTION}] of {shown}"), &name, &nearest)
        })?;
        let (raw, source) = (Raw::Typed(value), source(&name));
        Ok(Foreign { meaning, name: format!("{name} in [{SECTION}] of {shown}"), raw, source })
    })
    .collect()
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

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
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
