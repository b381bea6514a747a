//! Who may ask? One rule for all routes, against web pages that ask in the name of whoever looks at them.
//!
//! 1. A request that changes or computes something (any method but GET, HEAD and OPTIONS) and says that it comes
//!    from a page is refused unless the page is from this server itself, or from an origin in
//!    `cors_allowed_origins`.
//! 2. A server that listens on loopback only answers to its own names: `localhost` and names below it, loopback
//!    addresses, the host of `service_endpoint`, and the hosts in `cors_allowed_origins`. So no page reaches it by
//!    a name of its own that leads to 127.0.0.1. A server that listens elsewhere answers to any name.
//!
//! Programs that are no browsers send no `Origin`, and notice nothing.

use crate::api::error::ApiError;
use crate::base::settings::Settings;
use crate::base::{Code, Error};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tower_http::cors::{Any, CorsLayer};
use url::{Host, Url};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// How long a browser may remember what it is allowed.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// Who may ask. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Origins as browsers write them; `None` where all are allowed.
    origins: Option<Vec<String>>,
    /// Names that the server answers to beside those of loopback; `None` where it answers to all.
    names: Option<Vec<String>>,
}

impl Door {
    /// That of a server with these settings that listens at `address`, if it listens.
    pub fn new(settings: &Settings, address: Option<SocketAddr>) -> Door {
        let listed = settings.allowed_origins();
        let host = |url: &str| Some(Url::parse(url).ok()?.host_str()?.to_owned());
        let names = address.filter(|address| address.ip().is_loopback()).map(|_| {
            let endpoint = settings.service_endpoint.iter();
            endpoint.chain(&listed).filter_map(|url| host(url)).collect()
        });
        let all = listed.iter().any(|origin| origin == "*");
        Door(Arc::new(Inner { origins: (!all).then_some(listed), names }))
    }

    /// What tells browsers of the origins that are allowed, where any are.
    pub fn cors(&self) -> Option<CorsLayer> {
        let expose = ["x-request-id", "x-brainy-version", "retry-after", "etag"];
        let layer = CorsLayer::new()
            .allow_methods(Any)
            .allow_headers(Any)
            .expose_headers(expose.map(HeaderName::from_static))
            .max_age(PREFLIGHT_MAX_AGE);
        match &self.0.origins {
            None => Some(layer.allow_origin(Any)),
            Some(origins) if origins.is_empty() => None,
            Some(origins) => {
                let values = origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok());
                Some(layer.allow_origin(values.collect::<Vec<_>>()))
            }
        }
    }

    fn check(&self, method: &Method, headers: &HeaderMap, host: Option<&str>) -> Result<(), Error> {
        if let (Some(names), Some(host)) = (&self.0.names, host)
            && !is_own(host, names)
        {
            let message = format!(
                "this server listens on loopback only and does not answer to the host {:?}: ask for localhost, or \
                 put the name into service_endpoint or, as an origin, into cors_allowed_origins",
                short(host)
            );
            return Err(Error::new(Code::HostNotAllowed, message));
        }
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("null"));
        let fetched = headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site");
        let Some(origin) = origin.or(fetched.then_some("null")) else { return Ok(()) };
        let Some(allowed) = &self.0.origins else { return Ok(()) };
        if allowed.iter().any(|allowed| allowed == origin) || is_same(origin, host) {
            return Ok(());
        }
        let message = format!(
            "a web page from {:?} may not ask this server to do something: put its origin into \
             cors_allowed_origins, or ask from a program",
            short(origin)
        );
        Err(Error::new(Code::OriginNotAllowed, message))
    }
}

/// Lets a request in, or says why not.
pub async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = request.headers().get(header::HOST);
    // What cannot be read is no name of ours.
    let host = host.map(|host| host.to_str().unwrap_or("?")).or(authority);
    match door.check(request.method(), request.headers(), host) {
        Ok(()) => next.run(request).await,
        Err(error) => ApiError(error).into_response(),
    }
}

/// The beginning of what a client has sent, for a message.
fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The host and the port of an authority.
fn parts(authority: &str) -> Option<(Host<String>, Option<u16>)> {
    let url = Url::parse(&format!("http://{authority}")).ok()?;
    Some((url.host()?.to_owned(), url.port()))
}

fn is_own(host: &str, names: &[String]) -> bool {
    let loopback = |address: IpAddr| address.is_loopback();
    match parts(host) {
        Some((Host::Ipv4(address), _)) => loopback(address.into()),
        Some((Host::Ipv6(address), _)) => loopback(address.into()),
        Some((Host::Domain(name), _)) => {
            let name = name.trim_end_matches('.');
            name == "localhost"
                || name.ends_with(".localhost")
                || names.iter().any(|own| own.eq_ignore_ascii_case(name))
        }
        None => false,
    }
}

/// Whether a page is from the server that it asks.
fn is_same(origin: &str, host: Option<&str>) -> bool {
    let Some((_, authority)) = origin.split_once("://") else { return false };
    // Behind a proxy the scheme may be another, and with it the port that need not be written.
    let bare = |authority: &str| {
        let (host, port) = parts(authority)?;
        Some((host, port.filter(|port| *port != 443)))
    };
    host.and_then(bare).is_some_and(|own| bare(authority) == Some(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(door: &Door, method: Method, origin: Option<&str>, host: &str) -> Option<Code> {
        let mut headers = HeaderMap::new();
        headers.extend(origin.map(|it| (header::ORIGIN, HeaderValue::from_str(it).unwrap())));
        door.check(&method, &headers, Some(host)).err().map(|error| error.code())
    }

    fn door(origins: &str, listen: &str) -> Door {
        let settings = Settings {
            cors_allowed_origins: (!origins.is_empty()).then(|| origins.to_owned()),
            service_endpoint: Some("http://own.example:3000".to_owned()),
            ..Settings::default()
        };
        Door::new(&settings, Some(listen.parse().unwrap()))
    }

    #[test]
    fn pages_from_elsewhere_change_nothing() {
        let door = self::door("https://app.example, http://b.example:8080", "0.0.0.0:3000");
        let post = |origin| refused(&door, Method::POST, origin, "db.example:3000");
        let foreign = Some(Code::OriginNotAllowed);
        for origin in
            ["https://evil.example", "null", "http://app.example", "https://app.example.evil"]
        {
            assert_eq!(post(Some(origin)), foreign, "{origin}");
            assert_eq!(refused(&door, Method::DELETE, Some(origin), "db.example:3000"), foreign);
            // A browser shows such a page nothing of the answer.
            assert_eq!(refused(&door, Method::GET, Some(origin), "db.example:3000"), None);
        }
        for origin in [
            None,
            Some("https://app.example"),
            Some("http://b.example:8080"),
            Some("http://db.example:3000"),
        ] {
            assert_eq!(post(origin), None, "{origin:?}");
        }
        assert_eq!(refused(&self::door("*", "0.0.0.0:1"), Method::POST, Some("null"), "a"), None);
        assert!(self::door("", "0.0.0.0:1").cors().is_none() && door.cors().is_some());
        let mut headers = HeaderMap::new();
        headers.insert(FETCH_SITE, HeaderValue::from_static("cross-site"));
        assert!(door.check(&Method::POST, &headers, Some("db.example")).is_err());
    }

    #[test]
    fn on_loopback_only_own_names_are_answered() {
        let door = self::door("https://app.example", "127.0.0.1:3000");
        for host in [
            "localhost:3000",
            "127.0.0.1:3000",
            "127.1.2.3",
            "[::1]:3000",
            "a.localhost",
            "LOCALHOST.",
            "own.example",
            "app.example:1",
        ] {
            assert_eq!(refused(&door, Method::GET, None, host), None, "{host}");
        }
        for host in ["evil.example:3000", "10.0.0.1", "localhost.evil.example", "", "a b"] {
            let code = refused(&door, Method::GET, None, host);
            assert_eq!(code, Some(Code::HostNotAllowed), "{host}");
        }
        assert_eq!(
            refused(&self::door("", "0.0.0.0:3000"), Method::GET, None, "any.example"),
            None
        );
    }
}
