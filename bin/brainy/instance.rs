//! From the command line to an instance: the one place that reads the environment.

use crate::failure::{Failure, Result};
use crate::one_line::OneLine;
use crate::telemetry::{self, Telemetry};
use brainy::base::process;
use brainy::base::settings::{self, Effective, FlagValue, LogFormat, Role, Settings, Source};
use brainy::engine::Brainy;
use std::io::IsTerminal;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

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
    let environment: Vec<(String, String)> = environment.collect();
    // Also of settings that are wrong: whoever reads the log reads why.
    let asks = |(name, value): &(String, String)| name == "BRAINY_LOG_FORMAT" && value == "json";
    let flag = flags.iter().any(|flag| flag.key == "log_format" && flag.value == "json");
    JSON.store(flag || environment.iter().any(asks), Ordering::Relaxed);
    let mut effective = settings::load(file, environment, &flags)?;
    JSON.store(effective.settings.log_format == LogFormat::Json, Ordering::Relaxed);
    effective.fit(process::memory());
    effective.settings.validate()?;
    Ok(effective)
}

/// Whether log lines are JSON, as far as the settings have been read.
static JSON: AtomicBool = AtomicBool::new(false);

/// Whether this process says as JSON what it has to say.
pub fn logs_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Lines that wait for whoever reads standard error; more are dropped and counted.
const LOG_LINES_MAX: usize = 8_192;

/// The log of this process: a thread of its own writes the lines, so that nobody waits for whoever reads
/// them.
struct Log {
    dropped: ErrorCounter,
    /// Writes what is left when it is dropped, unless nobody takes it.
    _writer: WorkerGuard,
}

static LOG: Mutex<Option<Log>> = Mutex::new(None);

fn the_log() -> MutexGuard<'static, Option<Log>> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many log lines were dropped because nobody took them in time.
pub fn log_lines_dropped() -> usize {
    the_log().as_ref().map_or(0, |log| log.dropped.dropped_lines())
}

/// Writes what is left of the log, at the end of the process. Where nobody takes it, the writer complains on
/// standard output, and panics where nobody takes that either: no reason to end otherwise than well.
pub fn finish_log() {
    let log = the_log().take();
    drop(std::panic::catch_unwind(AssertUnwindSafe(|| drop(log))));
}

/// Starts logging to standard error, at `level` where the settings do not say.
pub fn log(effective: &Effective, level: &str) -> Result<()> {
    start_log(effective, level, |_, _| Ok(()))
}

/// The same for an instance that serves: also to a collector where the settings say so, for as long as
/// the value lives.
pub fn log_and_export(effective: &Effective, level: &str) -> Result<Telemetry> {
    start_log(effective, level, |filter, layers| {
        telemetry::start(&effective.settings, filter, layers)
    })
}

fn start_log<T>(
    effective: &Effective,
    level: &str,
    add: impl FnOnce(&str, &mut telemetry::Layers) -> Result<T>,
) -> Result<T> {
    let settings = &effective.settings;
    let level = match effective.source("log_level") {
        Source::Default => level,
        _ => &settings.log_level,
    };
    let level = settings.log_filter(level);
    let filter = EnvFilter::try_new(&level)
        .map_err(|error| Failure::usage(format!("log_level {level:?}: {error}")))?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES_MAX)
        .thread_name("brainy-log")
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let colours = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_ansi(colours).with_writer(OneLine { writer, colours });
    let lines = match settings.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let mut layers: telemetry::Layers = vec![lines.with_filter(filter).boxed()];
    let added = add(&level, &mut layers)?;
    let result = tracing_subscriber::registry().with(layers).try_init();
    result.map_err(|error| Failure::usage(format!("could not start logging: {error}")))?;
    *the_log() = Some(Log { dropped, _writer: guard });
    Ok(added)
}

/// Opens the store, proves that it is safe for this role, and starts an instance on it.
pub async fn start(settings: &Settings, role: Role) -> Result<Brainy> {
    Ok(Brainy::open_with(settings.clone(), role, Vec::new()).await?)
}
