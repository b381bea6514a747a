//! The `brainy` command: parse, run one command, report. `docs/cli.md` describes it for people.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed,
//! 2 wrong usage or settings; `cluster health` has more.

mod args;
mod commands;
mod failure;
mod instance;
mod one_line;
mod output;
mod telemetry;
mod transport;

use args::Cli;
use brainy::base::Code;
use clap::Parser;
use failure::Failure;
use std::process::ExitCode;

/// Gives back what a pass or a request no longer needs; the system's allocator keeps most of it.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    report_panics();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::new(
                Code::ResourcesExhausted,
                format!(
                    "could not start: {error}; raise the limit of threads or files (ulimit -u, -n)"
                ),
            );
            output::failure(&failure, cli.json);
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
            match instance::logs_json() {
                true => output::failure_as_log_line(&failure),
                false => output::failure(&failure, json),
            }
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
