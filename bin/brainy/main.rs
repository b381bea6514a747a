//! The `brainy` command: parse, run one command, report. `docs/cli.md` describes it for people.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed,
//! 2 wrong usage or settings.

mod args;
mod commands;
mod failure;
mod instance;
mod output;
mod telemetry;
mod transport;

use args::Cli;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    report_panics();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: could not start: {error} (internal)");
            return ExitCode::FAILURE;
        }
    };
    let json = cli.json;
    let result = runtime.block_on(commands::run(cli));
    instance::finish_log();
    // A thread may still wait for standard input, which nobody will read any more.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure, json);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// A panic is a defect of ours: say so in one line, without a backtrace. Through the log where there is one,
/// which never waits for whoever reads it.
fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let message = info.payload_as_str().unwrap_or("unknown reason");
        let said = format!("a defect in brainy stopped a part of it: {message}, at {place}");
        if tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!("{said} (internal); please report this line");
        } else {
            eprintln!("error: {said} (internal)\nhint: please report this line");
        }
    }));
}
