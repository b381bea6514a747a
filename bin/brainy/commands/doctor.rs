//! `brainy doctor`: is this store safe to use, and how fast is it?

use crate::args::{DoctorArgs, SettingsArgs};
use crate::failure::Result;
use crate::{instance, output};
use brainy::base::Env;
use brainy::store::open::{Location, open, parse};
use brainy::store::probe::{Check, Effort, Latency, Status, probe, require_safe};
use serde_json::json;

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
    if !json {
        output::note("racing many writers for the same keys; this takes up to a minute on S3");
    }
    #[cfg_attr(not(feature = "s3"), expect(unused_mut, reason = "only a bucket has more to check"))]
    let mut report = probe(&store, &env, Effort::THOROUGH).await?;
    #[cfg(feature = "s3")]
    if let Location::S3 { bucket, prefix } = &location {
        let aws = brainy::store::aws::Aws::load().await?;
        let checks = brainy::store::bucket::inspect(bucket, prefix, &aws, &*env.clock).await;
        report.checks.extend(checks);
    }
    let verdict = require_safe(&report);
    if json {
        output::json(&json!({
            "store": location.to_string(),
            "safe": verdict.is_ok(),
            "checks": report.checks,
            "latencies": report.latencies,
        }))?;
    } else {
        print(&location, &report.checks, &report.latencies)?;
        if verdict.is_ok() {
            output::line("\nThis store is safe to use.")?;
        }
    }
    Ok(verdict?)
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
