//! `brainy serve`: answer HTTP requests until a signal.

use crate::args::InstanceArgs;
use crate::failure::{Failure, Result};
use crate::{instance, output};
use brainy::base::Code;
use brainy::base::settings::{Effective, Source, resolve_role};
use brainy::engine::Brainy;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs `brainy serve`.
pub async fn run(args: &InstanceArgs) -> Result<()> {
    let effective = instance::load(args.settings.config.as_deref(), args.flags())?;
    let (role, source) = resolve_role(&effective)?;
    let _telemetry = instance::log_and_export(&effective, &effective.settings.log_level)?;
    for notice in effective.notices() {
        tracing::warn!("{notice}");
    }
    tracing::info!(target: "brainy::role", role = role.name(), source = %source, "role detected");
    let mut signals = Signals::listen()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), settings = changed(&effective), "starting");
    // A store that hangs must not make the process deaf.
    let brainy = tokio::select! {
        biased;
        () = signals.next() => return Ok(()),
        started = instance::start(&effective.settings, role) => started?,
    };
    let listener = bind(&effective.settings.listen).await?;
    until_stopped(brainy, listener, signals).await
}

/// The settings that somebody set, as they may be shown.
fn changed(effective: &Effective) -> String {
    let changed: Vec<String> = effective
        .shown()
        .into_iter()
        .filter(|(_, _, source)| **source != Source::Default)
        .map(|(key, value, source)| format!("{key}={} ({source})", output::cell(&value)))
        .collect();
    changed.join(", ")
}

/// Takes a port.
pub async fn bind(listen: &str) -> Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        Failure::new(
            Code::Internal,
            format!("could not listen on {listen}: {error}; set --listen to a free address"),
        )
    })
}

/// Says that it is ready, serves until a signal, and finishes what is in flight. A second signal
/// ends the process at once.
pub async fn until_stopped(
    brainy: Brainy,
    listener: TcpListener,
    mut signals: Signals,
) -> Result<()> {
    let address =
        listener.local_addr().map_err(|error| Failure::io("the listening socket", &error))?;
    let stop = CancellationToken::new();
    let server = brainy::api::serve(brainy.clone(), listener, stop.clone());
    output::line(&format!("listening on http://{address}"))?;
    let graceful = async {
        let served = server.await;
        let finished = brainy.shutdown().await;
        (served, finished)
    };
    let watch = async {
        signals.next().await;
        tracing::info!("stopping");
        stop.cancel();
        signals.next().await;
    };
    tokio::select! {
        biased;
        (served, finished) = graceful => {
            served?;
            if !finished {
                tracing::warn!("tasks in flight were dropped; nothing acknowledged is lost");
            }
            tracing::info!("stopped");
            Ok(())
        }
        () = watch => Err(Failure::new(Code::ShuttingDown, "stopped at once by a second signal")),
    }
}

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes them over from now on.
    pub fn listen() -> Result<Self> {
        let take = |kind| {
            signal(kind).map_err(|error| Failure::io("could not listen for signals", &error))
        };
        Ok(Signals {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
