//! How a command reaches the data: over HTTP, or through the same routes in this process.
//!
//! Every data command speaks the HTTP API, so that none is written twice and all behave alike with
//! `--url` and with `--store`.

use crate::args::TargetArgs;
use crate::failure::{Failure, Result};
use crate::{instance, output};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use brainy::base::Code;
use brainy::base::ids::CollectionName;
use brainy::base::settings::{Role, Source};
use brainy::engine::Brainy;
use brainy::store::open::parse as parse_store;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use std::sync::Once;
use std::time::Duration;
use tokio::time::Instant;
use tower::ServiceExt;
use url::{Url, form_urlencoded};

/// How long to wait for a server to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent; longer than its own time limit for a request.
const READ_TIMEOUT: Duration = Duration::from_secs(150);
/// Entries of a page of a listing.
const PAGE: &str = "1000";
/// How often a machine is asked whether it is still there, where an answer takes long.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long a request is repeated while the server asks to come back later.
const RETRY_TIME_MAX: Duration = Duration::from_secs(600);
/// How long to wait before a repetition where the server does not say.
const RETRY_PAUSE_DEFAULT: Duration = Duration::from_secs(1);
/// The longest wait before a repetition, whatever the server says.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often a request whose connection broke is repeated: a server may be restarting.
const RECONNECTS_MAX: u32 = 30;

/// What a command does to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It reads.
    Read,
    /// It writes, into a new store where there is none.
    Write,
    /// It removes what is there.
    Remove,
    /// It writes, and a server may be silent for hours before it answers.
    Rework,
}

/// The way to the data.
pub enum Transport {
    /// A server.
    Http {
        /// Connections to it.
        client: reqwest::Client,
        /// Its URL, without a slash at the end.
        base: String,
    },
    /// An instance in this process.
    InProcess {
        /// Its routes.
        router: Router,
        /// The instance.
        brainy: Brainy,
    },
}

/// A successful answer whose body is still to be read.
pub struct Answer {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: BoxStream<'static, Result<Bytes>>,
}

impl Transport {
    /// The way that the command line names.
    pub async fn open(target: &TargetArgs, access: Access) -> Result<Self> {
        if let Some(url) = &target.url {
            return http(url, access);
        }
        let effective = instance::load(target.settings.config.as_deref(), target.settings.flags())?;
        if effective.source("store") == &Source::Default {
            return Err(Failure::usage(
                "where is the data? say --url http://HOST:PORT or --store URL (or set BRAINY_STORE)",
            ));
        }
        let role = match access {
            Access::Read => Role::Reader,
            Access::Write | Access::Remove | Access::Rework => Role::Writer,
        };
        instance::log(&effective, "warn")?;
        if access != Access::Write {
            parse_store(&effective.settings.store)?.check_there()?;
        }
        let brainy = instance::start(&effective.settings, role).await?;
        Ok(Self::in_process(brainy))
    }

    /// A server.
    pub fn server(url: &str) -> Result<Self> {
        http(url, Access::Write)
    }

    /// The routes of an instance in this process.
    pub fn in_process(brainy: Brainy) -> Self {
        Transport::InProcess { router: brainy::api::router(brainy.clone()), brainy }
    }

    /// Lets an instance in this process finish what it has begun.
    pub async fn close(self) {
        if let Transport::InProcess { brainy, .. } = self {
            brainy.shutdown().await;
        }
    }

    /// One request with a JSON body, answered with JSON.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.json_with(method, path, HeaderMap::new(), body).await
    }

    /// The same with headers of its own.
    pub async fn json_with(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Option<&Value>,
    ) -> Result<Value> {
        let bytes = body.map(|body| Bytes::from(body.to_string()));
        let answer = self.send_with(method, path, headers, bytes).await?;
        parse(answer).await
    }

    /// Everything that a listing returns page by page under `field`.
    pub async fn pages(
        &self,
        path: &str,
        query: &[(&str, &str)],
        field: &str,
    ) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut text = form_urlencoded::Serializer::new(String::new());
            text.extend_pairs(query).append_pair("limit", PAGE);
            text.extend_pairs(cursor.iter().map(|cursor| ("cursor", cursor)));
            let mut page =
                self.json(Method::GET, &format!("{path}?{}", text.finish()), None).await?;
            for damaged in page["damaged"].as_array().into_iter().flatten() {
                let name = damaged["name"].as_str().or(damaged["key"].as_str());
                let reason = damaged["reason"].as_str().unwrap_or_default();
                output::note(&format!("{} cannot be read: {reason}", name.unwrap_or_default()));
            }
            if let Value::Array(found) = page[field].take() {
                all.extend(found);
            }
            cursor = page["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// One JSON request that is repeated while the server asks for it, and after a broken
    /// connection: only for requests that do no harm twice.
    pub async fn post_retrying(&self, path: &str, body: Bytes) -> Result<Value> {
        static SAY_ONCE: Once = Once::new();
        let start = Instant::now();
        let mut reconnects = 0;
        loop {
            let answer = match self.send(Method::POST, path, Some(body.clone())).await {
                Ok(answer) => parse(answer).await,
                Err(failure) => Err(failure),
            };
            let failure = match answer {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let broken = failure.status.is_none() && failure.is(Code::ServerUnavailable);
            reconnects += u32::from(broken);
            let repeat = failure.is_passing() || (broken && reconnects <= RECONNECTS_MAX);
            if !repeat || start.elapsed() > RETRY_TIME_MAX {
                return Err(failure);
            }
            SAY_ONCE
                .call_once(|| output::note(&format!("waiting to try again: {}", failure.message)));
            let pause = failure.retry_after.unwrap_or(RETRY_PAUSE_DEFAULT);
            tokio::time::sleep(pause.min(RETRY_PAUSE_MAX)).await;
        }
    }

    /// One request; an answer that is not a success becomes the failure that it describes.
    pub async fn send(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Answer> {
        self.send_with(method, path, HeaderMap::new(), body).await
    }

    async fn send_with(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Answer> {
        let (status, headers, body) = match self {
            Transport::Http { client, base } => {
                let url = format!("{base}{path}");
                let mut request = client.request(method, url).headers(headers);
                if let Some(body) = body {
                    request = request.header(header::CONTENT_TYPE, "application/json").body(body);
                }
                let response = request.send().await.map_err(|error| broken(base, error))?;
                let (status, headers) = (response.status(), response.headers().clone());
                let base = base.clone();
                let body = response.bytes_stream();
                let body = body.map_err(move |error| broken(&base, error)).boxed();
                (status, headers, body)
            }
            Transport::InProcess { router, .. } => {
                let mut request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(Body::from(body.unwrap_or_default()))
                    .map_err(|error| Failure::io(format!("the request {path}"), &error))?;
                request.headers_mut().extend(headers);
                let response = match router.clone().oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                let (parts, body) = response.into_parts();
                let body = body.into_data_stream().map_err(cut).boxed();
                (parts.status, parts.headers, body)
            }
        };
        let answer = Answer { headers, body };
        if status.is_success() {
            return Ok(answer);
        }
        Err(refused(status, answer).await)
    }
}

/// A part of a path, percent-encoded.
pub fn segment(text: &str) -> String {
    // A form says `+` for a space, which a path does not.
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// The path of a collection, after a check of its name.
pub fn collection_path(name: &str) -> Result<String> {
    let name = CollectionName::new(name).map_err(Failure::from)?;
    Ok(format!("/v1/collections/{name}"))
}

fn http(url: &str, access: Access) -> Result<Transport> {
    let invalid = || {
        Failure::usage(format!(
            "--url {url:?} is not a server's URL: use for example http://127.0.0.1:3000"
        ))
    };
    let parsed = Url::parse(url).map_err(|_| invalid())?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(invalid());
    }
    // A proxy never reaches this machine.
    let local = parsed.host_str().is_some_and(|host| {
        let host = host.trim_matches(['[', ']']);
        let address: Result<std::net::IpAddr, _> = host.parse();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    let configured = || {
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("brainy/", env!("CARGO_PKG_VERSION")));
        let builder = match access {
            Access::Read | Access::Write | Access::Remove => builder.read_timeout(READ_TIMEOUT),
            // That the machine is gone is found out below HTTP.
            Access::Rework => builder.tcp_keepalive(KEEPALIVE),
        };
        if local { builder.no_proxy() } else { builder }
    };
    let client = brainy::base::http::client(configured)
        .map_err(|error| Failure::io("could not set up HTTP", &error))?;
    let base = url.trim().trim_end_matches('/').to_owned();
    Ok(Transport::Http { client, base })
}

async fn parse(answer: Answer) -> Result<Value> {
    let bytes = collect(answer.body).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(
            Code::UnexpectedAnswer,
            format!("the answer is not JSON, so this is not a Brainy server: {error}"),
        )
    })
}

async fn collect(body: BoxStream<'static, Result<Bytes>>) -> Result<Vec<u8>> {
    body.try_fold(Vec::new(), |mut all, piece| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    })
    .await
}

async fn refused(status: StatusCode, answer: Answer) -> Failure {
    let seconds = answer.headers.get(header::RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = seconds.map(Duration::from_secs);
    match collect(answer.body).await {
        Ok(body) => Failure::from_answer(status, retry_after, &body),
        Err(failure) => failure,
    }
}

fn broken(base: &str, error: reqwest::Error) -> Failure {
    let reason = innermost(&error);
    let message = if error.is_connect() {
        format!("could not connect to {base}: {reason}; is `brainy serve` running there?")
    } else {
        format!("the connection to {base} broke: {reason}")
    };
    Failure::new(Code::ServerUnavailable, message)
}

fn cut(error: axum::Error) -> Failure {
    Failure::new(Code::ServerUnavailable, format!("the answer was cut: {}", innermost(&error)))
}

/// The first cause, which says most; what is around it repeats itself.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
