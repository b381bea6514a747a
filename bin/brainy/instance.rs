//! From the command line to an instance: the one place that reads the environment.

use crate::failure::{Failure, Result};
use brainy::base::Env;
use brainy::base::settings::{self, Effective, FlagValue, LogFormat, Role, Settings, Source};
use brainy::engine::Brainy;
use brainy::store::open::open;
use brainy::store::probe::{Effort, probe, readable, require_safe};
use std::io::IsTerminal;
use std::path::Path;
use tracing_subscriber::EnvFilter;

/// Settings from all layers. `flags` is what the command line says, or what could not be read.
pub fn load(file: Option<&Path>, flags: Result<Vec<FlagValue>, String>) -> Result<Effective> {
    let flags = flags.map_err(|pair| {
        Failure::usage(format!("--set {pair:?} has no value: write --set NAME=VALUE"))
    })?;
    // Names and values that are not UTF-8 are shown with replacement characters, as unknown names
    // or wrong values.
    let environment = std::env::vars_os().map(|(name, value)| {
        let text = |os: &std::ffi::OsStr| os.to_string_lossy().into_owned();
        (text(&name), text(&value))
    });
    Ok(settings::load(file, environment, &flags)?)
}

/// Starts logging to standard error, at `level` where the settings do not say.
pub fn log(effective: &Effective, level: &str) -> Result<()> {
    let settings = &effective.settings;
    let level = match effective.source("log_level") {
        Source::Default => level,
        _ => &settings.log_level,
    };
    let filter = EnvFilter::try_new(level)
        .map_err(|error| Failure::usage(format!("log_level {level:?}: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let result = match settings.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| Failure::usage(format!("could not start logging: {error}")))
}

/// Opens the store, proves that it is safe for this role, and starts an instance on it.
pub async fn start(settings: &Settings, role: Role) -> Result<Brainy> {
    let env = Env::system(settings.compute_threads)?;
    let store = open(settings, &env).await?;
    if role.writes() {
        require_safe(&probe(&store, &env, Effort::START).await?)?;
    } else {
        readable(&*store).await?;
    }
    Ok(Brainy::start(settings.clone(), role, store, env).await?)
}
