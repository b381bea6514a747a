//! What the AWS SDK knows about this machine: credentials, region, endpoint.
//!
//! Read once, by the same rules as every AWS tool (environment, profile, SSO, web identity, ECS,
//! EC2), and shared by the store and by the doctor's look at the bucket.

use crate::base::clock::Clock;
use crate::base::{Code, Error, Result};
use async_trait::async_trait;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_types::service_config::ServiceConfigKey;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tokio::sync::Mutex;
use url::Url;

/// Credentials are renewed this long before they expire.
const RENEW_MS: u64 = 300_000;

/// The variables that name the endpoint, the one that counts first.
const ENDPOINT_VARIABLES: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

/// The region that servers other than AWS are addressed in where none is set.
pub(super) const REGION_DEFAULT: &str = "us-east-1";

/// This machine's AWS configuration.
#[derive(Debug, Clone)]
pub struct Aws {
    /// As the SDK found it.
    pub sdk: SdkConfig,
    /// The region, where one is set.
    pub region: Option<String>,
    /// The S3 endpoint, where it is not AWS.
    pub endpoint: Option<String>,
}

impl Aws {
    /// Reads the environment, the profile files and, where nothing else names a region, the
    /// machine's metadata service.
    ///
    /// An endpoint that is no server's URL is refused here, by the name of what says it: the libraries behind
    /// this wait for it, panic, or go to AWS instead.
    pub async fn load() -> Result<Self> {
        let variable = ENDPOINT_VARIABLES
            .into_iter()
            .find_map(|name| Some((name, std::env::var_os(name)?.to_string_lossy().into_owned())));
        if let Some((name, value)) = &variable {
            endpoint(name, value)?;
        }
        let sdk = aws_config::load_defaults(BehaviorVersion::latest()).await;
        // AWS_ENDPOINT_URL_S3, or the profile's entry for S3; then the one for all services.
        let key = ServiceConfigKey::builder()
            .service_id("S3")
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build();
        let configured = sdk
            .service_config()
            .and_then(|config| config.load_config(key.ok()?))
            .or_else(|| sdk.endpoint_url().map(str::to_owned));
        let named = variable.map_or("endpoint_url in the AWS profile", |(name, _)| name);
        Ok(Aws {
            region: sdk.region().map(|region| region.as_ref().to_owned()),
            endpoint: configured.map(|text| endpoint(named, &text)).transpose()?,
            sdk,
        })
    }

    /// Whether a bucket's name is part of the host and not of the path.
    pub(super) fn is_in_host(&self, bucket: &str) -> bool {
        // The certificate of AWS covers one label in front of the domain.
        self.endpoint.is_none() && !bucket.contains('.')
    }

    /// Refuses an endpoint that holds the bucket, which is how some consoles show it.
    pub(super) fn check_bucket(&self, bucket: &str) -> Result<()> {
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let last = endpoint.rsplit('/').next().unwrap_or_default();
        if last != bucket {
            return Ok(());
        }
        let server = endpoint.strip_suffix(bucket).unwrap_or(endpoint).trim_end_matches('/');
        Err(Error::new(
            Code::InvalidSettings,
            format!(
                "the S3 endpoint {endpoint} ends with the bucket's name, which stands in the store's URL already: \
                 set AWS_ENDPOINT_URL_S3={server}"
            ),
        ))
    }
}

/// The endpoint of a server as `name` says it, without a slash at its end.
fn endpoint(name: &str, text: &str) -> Result<String> {
    let text = text.trim();
    let refuse = |fault: String| Err(Error::new(Code::InvalidSettings, format!("{name} {fault}")));
    let hint = "write it as http://HOST:PORT or https://HOST";
    if text.is_empty() {
        return refuse(format!("is empty: {hint}, or unset it to use AWS itself"));
    }
    // It may hold a password, which belongs into no message.
    if text.contains('@') {
        return refuse(format!("holds credentials or an @: {hint}, and set AWS_ACCESS_KEY_ID"));
    }
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.is_empty())
    });
    match url {
        None => refuse(format!("is {text:?}, which is no server's URL: {hint}")),
        Some(url) if url.query().is_some() || url.fragment().is_some() => {
            refuse(format!("is {text:?}, with something behind ? or #: {hint}"))
        }
        Some(_) => Ok(text.trim_end_matches('/').to_owned()),
    }
}

/// Why there are no credentials, on its way through `object_store`'s errors.
#[derive(Debug)]
pub(super) struct NoCredentials(pub(super) String);

impl fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoCredentials {}

impl NoCredentials {
    /// The error that callers see.
    pub(super) fn error(&self) -> Error {
        Error::new(
            Code::StoreDenied,
            format!(
                "found no AWS credentials ({}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                 AWS_PROFILE, or give this machine a role",
                self.0
            ),
        )
    }
}

/// The SDK's credential chain for `object_store`, asked again only shortly before they expire.
#[derive(Debug)]
pub(super) struct Credentials {
    chain: Option<SharedCredentialsProvider>,
    clock: Arc<dyn Clock>,
    cached: Mutex<Option<Cached>>,
}

#[derive(Debug, Clone)]
struct Cached {
    credential: Arc<AwsCredential>,
    expires_ms: Option<u64>,
}

impl Credentials {
    pub(super) fn new(aws: &Aws, clock: Arc<dyn Clock>) -> Self {
        Credentials { chain: aws.sdk.credentials_provider(), clock, cached: Mutex::default() }
    }

    /// Forgets what is cached, because the store says that it has expired.
    pub(super) async fn forget(&self) {
        *self.cached.lock().await = None;
    }

    async fn fetch(&self) -> Result<Cached, NoCredentials> {
        let chain = self.chain.as_ref().ok_or_else(|| {
            NoCredentials("the AWS configuration has no source of credentials".to_owned())
        })?;
        let found = chain.provide_credentials().await;
        let found = found.map_err(|error| {
            // Behind the first line comes a list of every source that was tried.
            let reason = innermost(&error);
            NoCredentials(reason.lines().next().unwrap_or("").to_owned())
        })?;
        let expires_ms = found.expiry().and_then(|time| {
            let since = time.duration_since(UNIX_EPOCH).ok()?.as_millis();
            u64::try_from(since).ok()
        });
        Ok(Cached {
            credential: Arc::new(AwsCredential {
                key_id: found.access_key_id().to_owned(),
                secret_key: found.secret_access_key().to_owned(),
                token: found.session_token().map(str::to_owned),
            }),
            expires_ms,
        })
    }
}

/// The most telling message of a chain of errors: the first says little more than "it failed".
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        // Held while fetching, so that one request fetches and the others wait for it.
        let mut slot = self.cached.lock().await;
        let now = self.clock.now().0;
        let lasts = |cached: &Cached, margin: u64| {
            let expires = cached.expires_ms;
            expires.is_none_or(|expires| now.saturating_add(margin) < expires)
        };
        if let Some(cached) = slot.as_ref().filter(|cached| lasts(cached, RENEW_MS)) {
            return Ok(cached.credential.clone());
        }
        match self.fetch().await {
            Ok(fresh) => Ok(slot.insert(fresh).credential.clone()),
            // The old ones are still good for a while.
            Err(error) => match slot.as_ref().filter(|cached| lasts(cached, 0)) {
                Some(cached) => {
                    tracing::warn!(%error, "could not renew the store's credentials");
                    Ok(cached.credential.clone())
                }
                None => Err(object_store::Error::Generic { store: "S3", source: Box::new(error) }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_servers_url_or_refused_by_its_name() {
        for (text, expected) in [
            ("http://127.0.0.1:8333", "http://127.0.0.1:8333"),
            (" https://s3.example.com/ \n", "https://s3.example.com"),
            ("https://x.example.com/storage/v1/s3", "https://x.example.com/storage/v1/s3"),
            ("http://[::1]:9000", "http://[::1]:9000"),
        ] {
            assert_eq!(endpoint("AWS_ENDPOINT_URL", text).unwrap(), expected);
        }
        for text in [
            "",
            " ",
            "127.0.0.1:8333",
            "localhost:8333",
            "s3.example.com",
            "ftp://s3.example.com",
            "http://",
            "http://bad host",
            "http://host:99999",
            "http://key:secret@host",
            "http://host/?x=y",
            "http://host/#x",
        ] {
            let error = endpoint("AWS_ENDPOINT_URL", text).unwrap_err();
            assert_eq!(error.code(), Code::InvalidSettings);
            let message = error.message();
            assert!(message.starts_with("AWS_ENDPOINT_URL ") && message.contains("http://HOST"));
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
