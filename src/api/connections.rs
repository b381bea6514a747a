//! Connections: how many there may be, how long each may stand still, and how they end.
//!
//! A client can hold what it opens: a descriptor, a little memory. So the number of connections has a
//! bound, which leaves descriptors to the store and to heartbeats; when it is reached, the connection that
//! has been idle longest makes room, and where none is idle, the new one is told to come back. A connection
//! over which nothing moves is closed: without a request, or with an answer that nobody takes. One whose client
//! still sends when it is answered is closed so that the answer arrives ([`Lingering`]).
//!
//! The end is polite: first every answer says `connection: close`, for as long as load balancers need to
//! notice that this instance is not ready; then what waits to be accepted is accepted, requests in flight
//! are answered, and idle connections are closed.

mod refused;

use crate::api::error::ApiError;
use crate::api::linger::{Lingering, Unread};
use crate::base::settings::Settings;
use crate::base::{Code, Env, Error};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use axum::response::IntoResponse;
use futures::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use refused::Told;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Descriptors that are left to the store, to files and to peers, beside one for each store request.
const DESCRIPTORS_KEPT: u64 = 128;
/// How long the machine gets to recover where it takes no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a client that is turned away may take to read why.
const REFUSAL_MAX: Duration = Duration::from_secs(5);
/// Clients that are told at a time that they are turned away; the others are just closed.
const REFUSALS_MAX: usize = 64;

/// The limits of connections; see the settings of the same names.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    most: usize,
    idle: Duration,
}

impl ConnectionLimits {
    /// As the settings say, and no more than the process has descriptors for.
    pub(super) fn new(settings: &Settings) -> ConnectionLimits {
        let kept = DESCRIPTORS_KEPT + settings.store_concurrency as u64;
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let room = descriptors.map_or(u64::MAX, |all| all.saturating_sub(kept).max(1));
        let most = (settings.max_connections as u64).min(room) as usize;
        if most < settings.max_connections {
            tracing::warn!(
                max_connections = settings.max_connections,
                most,
                descriptors,
                "fewer connections than max_connections are taken; raise the limit of open files (ulimit -n)"
            );
        }
        ConnectionLimits { most, idle: Duration::from_millis(settings.idle_timeout_ms) }
    }
}

/// One connection as the others see it.
#[derive(Debug)]
struct Connection {
    /// Since when no request is in flight, if none is.
    idle_since: Mutex<Option<Instant>>,
    /// Ends it after what is in flight.
    close: CancellationToken,
}

/// All connections of a server.
#[derive(Debug)]
pub(super) struct Connections {
    env: Env,
    limits: ConnectionLimits,
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    /// How many are open; those that are told to come back count apart.
    count: watch::Sender<usize>,
    refusals: watch::Sender<usize>,
    /// Every answer says that its connection ends.
    leaving: CancellationToken,
    /// Every connection ends after what is in flight.
    closing: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// None yet. From `leaving` on, answers say that their connections end.
    pub(super) fn new(env: Env, limits: ConnectionLimits, leaving: CancellationToken) -> Arc<Self> {
        Arc::new(Connections {
            env,
            limits,
            open: Mutex::default(),
            count: watch::Sender::new(0),
            refusals: watch::Sender::new(0),
            leaving,
            closing: CancellationToken::new(),
        })
    }

    /// Takes connections until `stop`, and then those that wait already.
    pub(super) async fn accept(
        self: &Arc<Self>,
        listener: TcpListener,
        router: &Router,
        stop: CancellationToken,
    ) {
        for number in 0.. {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => match listener.accept().now_or_never() {
                    Some(accepted) => accepted,
                    None => return,
                },
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.take(number, stream, router),
                Err(error) => {
                    // A client that has gone already, or the machine is short of something.
                    tracing::debug!(%error, "no connection was accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Ends all connections after what is in flight, and waits for that.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        // The sender lives as long as we do.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    fn take(self: &Arc<Self>, number: u64, stream: TcpStream, router: &Router) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not set TCP_NODELAY");
        }
        if lock(&self.open).len() >= self.limits.most && !self.make_room() {
            self.refuse(stream);
            return;
        }
        let connection = Arc::new(Connection {
            idle_since: Mutex::new(Some(Instant::now())),
            close: self.closing.child_token(),
        });
        lock(&self.open).insert(number, connection.clone());
        self.count.send_modify(|count| *count += 1);
        self.env.metrics.http_connections.inc();
        let (all, router) = (self.clone(), router.clone());
        let gone = Gone { all: self.clone(), number };
        drop(self.env.tasks.spawn("connection", async move {
            let _gone = gone;
            all.serve(stream, &connection, router).await;
        }));
    }

    /// Ends the connection that has been idle longest; whether there was one. It goes at its next turn, so
    /// for a moment there is one more than the bound, for which descriptors are kept.
    fn make_room(&self) -> bool {
        let mut open = lock(&self.open);
        let idle = open.iter().filter_map(|(number, connection)| {
            let since = (*lock(&connection.idle_since))?;
            (!connection.close.is_cancelled()).then_some((since, *number))
        });
        let Some((_, number)) = idle.min() else { return false };
        if let Some(connection) = open.remove(&number) {
            connection.close.cancel();
        }
        true
    }

    /// Says that there are too many, and closes.
    fn refuse(self: &Arc<Self>, stream: TcpStream) {
        self.env.metrics.http_connections_refused.inc();
        if *self.refusals.borrow() >= REFUSALS_MAX {
            return;
        }
        self.refusals.send_modify(|count| *count += 1);
        let all = self.clone();
        let mut stream = Lingering::new(stream, Unread::all(), self.closing.clone());
        drop(self.env.tasks.spawn("refusal", async move {
            let said = timeout(REFUSAL_MAX, async {
                stream.write_all(too_many(all.limits.most).await.as_bytes()).await?;
                stream.shutdown().await
            });
            drop(said.await);
            all.refusals.send_modify(|count| *count -= 1);
        }));
    }

    async fn serve(&self, stream: TcpStream, connection: &Connection, router: Router) {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.idle));
        let unread = Unread::default();
        let stream = Lingering::new(Box::pin(stream), unread.clone(), connection.close.clone());
        let service = hyper::service::service_fn(|request: Request<Incoming>| {
            *lock(&connection.idle_since) = None;
            let answer = router.clone().oneshot(request.map(|body| Body::new(unread.watch(body))));
            let unread = unread.clone();
            async move {
                let mut answer = answer.await?;
                let ends = self.leaving.is_cancelled() || connection.close.is_cancelled();
                if ends || unread.is_some() {
                    answer.headers_mut().insert(header::CONNECTION, CLOSE);
                }
                *lock(&connection.idle_since) = Some(Instant::now());
                Ok::<Response<Body>, Infallible>(answer)
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            // From the last answer to the end of the next request's headers.
            .header_read_timeout(self.limits.idle)
            .serve_connection(TokioIo::new(Told::new(stream, unread.clone())), service);
        let mut served = pin!(served);
        let ended = tokio::select! {
            biased;
            ended = &mut served => ended,
            () = connection.close.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended before its time");
        }
    }
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Takes a connection off the list, however it ends.
struct Gone {
    all: Arc<Connections>,
    number: u64,
}

impl Drop for Gone {
    fn drop(&mut self) {
        lock(&self.all.open).remove(&self.number);
        self.all.count.send_modify(|count| *count -= 1);
        self.all.env.metrics.http_connections.dec();
    }
}

/// The answer to a client for which there is no room, as it goes over the wire.
async fn too_many(most: usize) -> String {
    let error = Error::new(
        Code::Overloaded,
        format!(
            "this instance has {most} connections, as many as it takes; retry later, share connections, \
             or ask another instance"
        ),
    );
    let (parts, body) = ApiError(error).into_response().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut text = format!("HTTP/1.1 {}\r\n", parts.status);
    for (name, value) in &parts.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    let length = body.len();
    text.push_str(&format!("content-length: {length}\r\nconnection: close\r\n\r\n"));
    text.push_str(&String::from_utf8_lossy(&body));
    text
}
