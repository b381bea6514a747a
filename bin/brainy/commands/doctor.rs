//! `brainy doctor`: is this store safe to use, for whom, and how fast is it?

use crate::args::{DoctorArgs, SettingsArgs};
use crate::failure::Result;
use crate::{instance, output};
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Env, Error};
use brainy::store::open::{Location, open, parse};
use brainy::store::probe::reading::{inspect, require_readable};
use brainy::store::probe::{
    Check, Effort, Latency, Report, Status, cannot_write, probe, require_safe,
};
use brainy::store::{DynStore, paths};
use serde_json::json;

/// What was found out.
struct Findings {
    report: Report,
    /// Why a reader could not work.
    reader: Result<(), Error>,
    /// Why a writer could not; `None` where that was not tried.
    writer: Option<Result<(), Error>>,
}

/// Runs `brainy doctor`.
pub async fn run(args: &DoctorArgs, json: bool) -> Result<()> {
    let settings = SettingsArgs { store: Some(args.store.clone()), ..SettingsArgs::default() };
    let effective = instance::load(args.config.as_deref(), settings.flags())?;
    instance::log(&effective, "error")?;
    let settings = &effective.settings;
    let location = parse(&settings.store)?;
    location.check_there()?;
    let env = Env::system(1)?;
    let store = open(settings, &env).await?;
    let reads_only = args.role.as_deref() == Some(Role::Reader.name());
    if !json && !reads_only {
        output::note("racing many writers for the same keys; this takes up to a minute on S3");
    }
    let found = examine(settings, &store, &env, reads_only).await?;
    #[cfg_attr(not(feature = "s3"), expect(unused_mut, reason = "only a bucket has more to check"))]
    let Findings { mut report, reader, writer } = found;
    #[cfg(feature = "s3")]
    if let Location::S3 { bucket, prefix } = &location {
        let aws = brainy::store::aws::Aws::load().await?;
        let checks = brainy::store::bucket::inspect(bucket, prefix, &aws, &env.clock).await;
        report.checks.extend(checks);
    }
    let (reads, writes) = (reader.is_ok(), writer.as_ref().map(Result::is_ok));
    let verdict = reader.and(writer.unwrap_or(Ok(()))).and(require_safe(&report));
    if json {
        output::json(&json!({
            "store": location.to_string(),
            "safe": writes.map(|_| verdict.is_ok()),
            "reader": reads,
            "writer": writes,
            "checks": report.checks,
            "latencies": report.latencies,
        }))?;
    } else {
        print(&location, &report.checks, &report.latencies)?;
        let refused = verdict.as_ref().is_err_and(|error| error.code() == Code::StoreDenied);
        let word = match (&verdict, writes) {
            (Ok(()), Some(_)) => "This store is safe to use.",
            (Ok(()), None) => {
                "A reader can work with these rights. Whether a writer could was not tried, because that takes \
                 writing: `brainy doctor` without --role reader does."
            }
            (Err(_), Some(_)) if reads && refused => {
                "A reader can work with these rights (it is not listed in the cluster). A writer cannot."
            }
            (Err(_), _) => "This store cannot be used so.",
        };
        output::line(&format!("\n{word}"))?;
    }
    Ok(verdict?)
}

/// Tries what a reader does, or what a writer does; where nothing may be written, whether a reader could.
async fn examine(
    settings: &Settings,
    store: &DynStore,
    env: &Env,
    reads_only: bool,
) -> Result<Findings> {
    let config = paths::config(&settings.config_path);
    let samples = Effort::THOROUGH.samples;
    if reads_only {
        let report = inspect(store, env, &config, samples).await?;
        return Ok(Findings { reader: require_readable(&report), report, writer: None });
    }
    match probe(store, env, Effort::THOROUGH).await {
        Ok(report) => {
            let writer = Some(require_safe(&report));
            Ok(Findings { report, reader: Ok(()), writer })
        }
        Err(refused) if refused.code() == Code::StoreDenied => {
            let mut report = inspect(store, env, &config, samples).await?;
            let reader = require_readable(&report);
            let (name, detail) = ("write", refused.message().to_owned());
            report.checks.push(Check { name, status: Status::Failed, detail });
            Ok(Findings { report, reader, writer: Some(Err(cannot_write(refused))) })
        }
        Err(error) => Err(error.into()),
    }
}

fn print(location: &Location, checks: &[Check], latencies: &[Latency]) -> Result<()> {
    output::line(&format!("{location}\n"))?;
    let mut table = output::table(&["check", "result", "what was seen"]);
    for check in checks {
        let status = match check.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failed => "FAILED",
            Status::Unsupported => "unsupported",
        };
        table.add_row([check.name, status, &check.detail]);
    }
    output::print(&table)?;
    output::line("")?;
    let mut table = output::table(&["request", "p50 ms", "p99 ms", "samples"]);
    for latency in latencies {
        table.add_row([
            latency.op.to_owned(),
            format!("{:.2}", latency.p50_ms),
            format!("{:.2}", latency.p99_ms),
            latency.count.to_string(),
        ]);
    }
    output::print(&table)
}
