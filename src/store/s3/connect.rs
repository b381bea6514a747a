//! The HTTP connection below the S3 store, and how the store is put together.

use super::S3Store;
use super::fault::Refusal;
use crate::base::clock::{Clock, Timestamp};
use crate::base::{Code, Error, Result};
use crate::store::aws::{Aws, Credentials, REGION_DEFAULT, innermost};
use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientOptions, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

/// Longer than any sane handshake; shorter than a start may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than servers and load balancers keep idle connections: reusing one that the other side
/// is closing makes a conditional PUT ambiguous.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// The most of an error's body that is looked at.
const REFUSAL_MAX_BYTES: usize = 16 << 10;

/// Makes connections that never act on their own: no redirects (a PUT that is sent elsewhere as a
/// GET looks successful) and no repeats. Time limits are the layers' business.
#[derive(Debug)]
struct Plain(Arc<dyn Clock>);

/// A connection that keeps what a refusal says (see [`Refusal`]), and tells the clock what time it is at the
/// store.
#[derive(Debug)]
struct Watched(reqwest::Client, Arc<dyn Clock>);

impl HttpConnector for Plain {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let configured = || {
            reqwest::Client::builder()
                .user_agent(concat!("brainy/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .http1_only()
                .tcp_nodelay(true)
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
        };
        let client = crate::base::http::client(configured).map_err(|error| {
            object_store::Error::Generic { store: "S3", source: Box::new(error) }
        })?;
        Ok(HttpClient::new(Watched(client, self.0.clone())))
    }
}

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.call(request).await?;
        let status = response.status();
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        if let Some(time) = date.and_then(time_of) {
            self.1.saw_store_time(time);
        }
        if status.is_success() && !is_part_of_nothing(&response) {
            return Ok(response);
        }
        let header = response.headers().get("retry-after");
        let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
        let body = response.into_body().bytes().await?;
        let body = &body[..body.len().min(REFUSAL_MAX_BYTES)];
        let refusal = Refusal {
            // A part of an empty object cannot be had; see below.
            status: match status.as_u16() {
                206 => 416,
                status => status,
            },
            body: String::from_utf8_lossy(body).into_owned(),
            retry_after_ms: seconds.map(|seconds| seconds.saturating_mul(1000)),
        };
        Err(HttpError::new(HttpErrorKind::Unknown, refusal))
    }
}

/// The time in a `Date` header.
pub(in crate::store) fn time_of(date: &str) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date.trim()).ok()?;
    u64::try_from(time.as_millisecond()).ok().map(Timestamp)
}

/// Whether a server answered the range of an empty object with success, as MinIO does: S3 answers
/// 416, and there is no valid `Content-Range` for it ("bytes 0--1/0").
fn is_part_of_nothing(response: &HttpResponse) -> bool {
    let range = response.headers().get("content-range");
    response.status().as_u16() == 206
        && range.is_some_and(|range| range.as_bytes().ends_with(b"/0"))
}

impl S3Store {
    /// The store in `bucket` behind `prefix`, with this machine's AWS configuration. Sends
    /// nothing, except to learn the bucket's region where none is set.
    pub async fn connect(
        bucket: &str,
        prefix: &str,
        aws: &Aws,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        if bucket.ends_with("--x-s3") {
            return Err(Error::new(
                Code::InvalidSettings,
                "directory buckets (S3 Express) do not list in key order, which Brainy needs; \
                 use a general purpose bucket",
            ));
        }
        aws.check_bucket(bucket)?;
        let region = match (&aws.region, &aws.endpoint) {
            (Some(region), _) => region.clone(),
            (None, Some(_)) => REGION_DEFAULT.to_owned(),
            (None, None) => find_region(bucket).await,
        };
        let credentials = Arc::new(Credentials::new(aws, clock.clone()));
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(region)
            .with_credentials(credentials.clone())
            .with_http_connector(Plain(clock))
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_bulk_delete(true)
            .with_disable_tagging(true)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        builder = builder.with_virtual_hosted_style_request(aws.is_in_host(bucket));
        if let Some(endpoint) = &aws.endpoint {
            let is_plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(is_plain);
        }
        let client = builder.build().map_err(|error| {
            Error::new(
                Code::InvalidSettings,
                format!(
                    "could not set up S3 ({}); check AWS_ENDPOINT_URL_S3 and AWS_REGION",
                    innermost(&error)
                ),
            )
        })?;
        Ok(S3Store {
            client,
            credentials,
            root: match prefix {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
        })
    }
}

/// Asks AWS where the bucket is. Where that fails, the first request says what is wrong.
async fn find_region(bucket: &str) -> String {
    let options = ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT);
    match object_store::aws::resolve_bucket_region(bucket, &options).await {
        Ok(region) => region,
        Err(error) => {
            tracing::warn!(%error, "no region is set and the bucket's could not be found");
            REGION_DEFAULT.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_answer_is_read() {
        let time = time_of("Thu, 15 Jan 2026 10:30:00 GMT");
        assert_eq!(time, Some(Timestamp(1_768_473_000_000)));
        for bad in ["", "yesterday", "Thu, 15 Jan 1926 10:30:00 GMT", "2026-01-15"] {
            assert_eq!(time_of(bad), None, "{bad}");
        }
    }
}
