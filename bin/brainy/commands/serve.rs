//! `brainy serve`: answer HTTP requests until a signal.

use crate::args::InstanceArgs;
use crate::failure::{Failure, Result};
use crate::{instance, output};
use brainy::api::HttpPeers;
use brainy::base::Code;
use brainy::base::metrics::Metrics;
use brainy::base::settings::{Effective, Source, resolve_role};
use brainy::engine::Brainy;
use brainy::engine::node::cluster::Invitation;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How often log lines that were dropped are counted.
const DROPPED_EVERY: Duration = Duration::from_secs(5);

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
    let env = brainy.env();
    let watch = count_dropped(env.metrics.clone(), env.tasks.stopping().clone());
    drop(env.tasks.spawn("log watch", watch));
    let listener = bind(&effective.settings.listen).await?;
    until_stopped(brainy, listener, signals).await
}

/// Says how many log lines nobody took in time, until `stop`: a shutdown waits for it as for everything else.
async fn count_dropped(metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut before = 0;
    while stop.run_until_cancelled(tokio::time::sleep(DROPPED_EVERY)).await.is_some() {
        let lines = instance::log_lines_dropped();
        if lines > before {
            metrics.log_lines_dropped.inc_by((lines - before) as u64);
            tracing::warn!(
                lines = lines - before,
                "log lines were dropped: nobody reads them as fast as they come"
            );
            before = lines;
        }
    }
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
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                "another process listens there: stop it, or set --listen to another port (port 0 picks a \
                 free one)"
            }
            ErrorKind::PermissionDenied => {
                "ports below 1024 need rights of their own: set --listen to a higher port"
            }
            ErrorKind::AddrNotAvailable => {
                "this machine does not have the address: set --listen to one of its own, or to 0.0.0.0:PORT"
            }
            _ => "set --listen to an address and a port of this machine, for example 127.0.0.1:3000",
        };
        Failure::new(
            Code::AddressUnavailable,
            format!("could not listen on {listen}: {error}; {advice}"),
        )
    })
}

/// Joins the cluster, says that it is ready, serves until a signal, finishes what is in flight, and leaves.
/// A second signal ends the process at once.
pub async fn until_stopped(
    brainy: Brainy,
    listener: TcpListener,
    mut signals: Signals,
) -> Result<()> {
    let address =
        listener.local_addr().map_err(|error| Failure::io("the listening socket", &error))?;
    let stop = CancellationToken::new();
    let server = brainy::api::serve(brainy.clone(), listener, stop.clone());
    let graceful = async {
        let served = server.await;
        let finished = brainy.shutdown().await;
        (served, finished)
    };
    // Answers come before the others are told where: they may ask whether this process lives.
    let ready = async {
        join(&brainy, address).await?;
        output::line(&format!("listening on http://{address}"))?;
        brainy.cluster().ousted().cancelled().await;
        stop.cancel();
        std::future::pending::<Result<()>>().await
    };
    let watch = async {
        signals.next().await;
        tracing::info!("stopping");
        stop.cancel();
        brainy.cluster().drain().await;
        signals.next().await;
    };
    tokio::select! {
        biased;
        (served, finished) = graceful => {
            served?;
            if !finished {
                tracing::warn!("tasks in flight were dropped; nothing acknowledged is lost");
            }
            if brainy.cluster().ousted().is_cancelled() {
                return Err(ousted(&brainy));
            }
            tracing::info!("stopped");
            Ok(())
        }
        failed = ready => failed,
        () = watch => Err(Failure::new(Code::ShuttingDown, "stopped at once by a second signal")),
    }
}

async fn join(brainy: &Brainy, address: SocketAddr) -> Result<()> {
    let endpoint = brainy.settings().service_endpoint.clone();
    let endpoint = endpoint.unwrap_or_else(|| endpoint_of(address));
    let peers = Arc::new(HttpPeers::new()?);
    let joined = brainy.cluster().join(Invitation { endpoint: Some(endpoint), peers }).await;
    Ok(joined?)
}

/// Where others reach a server that listens at `address`, as far as this machine can tell.
fn endpoint_of(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return format!("http://{address}");
    }
    let host = sysinfo::System::host_name().unwrap_or_else(|_| "localhost".to_owned());
    let endpoint = format!("http://{host}:{}", address.port());
    tracing::warn!(endpoint, "others are told this address; set SERVICE_ENDPOINT if it is wrong");
    endpoint
}

fn ousted(brainy: &Brainy) -> Failure {
    Failure::new(
        Code::InstanceSuperseded,
        format!(
            "another process took over the id {}; give this one an id of its own (--instance-id)",
            brainy.instance_id()
        ),
    )
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
