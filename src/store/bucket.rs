//! The doctor's look at the bucket itself, through `aws-sdk-s3`: what its owner should know.
//!
//! Nothing here is needed for operation: a server that lacks a call, or credentials that may not
//! make it, give a line that says so.

use crate::base::clock::{Clock, Timestamp};
use crate::store::aws::{Aws, REGION_DEFAULT};
use crate::store::probe::{Check, Status};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, ConfigBag, Intercept, Region, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{BucketVersioningStatus, ExpirationStatus, LifecycleRule};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A clock that is off by more than this makes signatures fail soon (S3 allows 15 minutes).
const SKEW_WARN_MS: u64 = 60_000;
const SKEW_MAX_MS: u64 = 900_000;
/// One call may take this long: the doctor's table should not wait for minutes.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Looks at `bucket`, of which the store uses what is behind `prefix`.
pub async fn inspect(bucket: &str, prefix: &str, aws: &Aws, clock: &dyn Clock) -> Vec<Check> {
    let date = ReadDate::default();
    let client = client(aws, date.clone());
    let region = region(&client, bucket, aws).await;
    let skew = skew(&date, clock);
    let rest = tokio::join!(
        versioning(&client, bucket),
        public_access(&client, bucket),
        encryption(&client, bucket),
        lifecycle(&client, bucket, prefix),
    );
    vec![region, skew, rest.0, rest.1, rest.2, rest.3]
}

fn client(aws: &Aws, date: ReadDate) -> Client {
    let region = aws.region.clone();
    let region = region.unwrap_or_else(|| REGION_DEFAULT.to_owned());
    let timeouts = TimeoutConfig::builder().operation_timeout(CALL_TIMEOUT).build();
    let config = aws_sdk_s3::config::Builder::from(&aws.sdk)
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .force_path_style(aws.endpoint.is_some())
        .retry_config(RetryConfig::standard().with_max_attempts(2))
        .timeout_config(timeouts)
        .interceptor(date);
    // As it was checked, not as the SDK has read it.
    let config = match &aws.endpoint {
        Some(endpoint) => config.endpoint_url(endpoint),
        None => config,
    };
    Client::from_conf(config.build())
}

fn check(name: &'static str, status: Status, detail: impl Into<String>) -> Check {
    Check { name, status, detail: detail.into() }
}

/// The line for a call that failed. `absent` are the codes by which S3 says "none is set".
fn refused<E, R>(name: &'static str, error: &SdkError<E, R>) -> Check
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: Debug,
{
    match code(error) {
        "AccessDenied" | "AllAccessDisabled" | "Forbidden" => {
            check(name, Status::Unsupported, "these credentials may not ask; nothing depends on it")
        }
        "" if error.as_service_error().is_none() => check(
            name,
            Status::Warning,
            format!("no answer ({}); try again", DisplayErrorContext(error)),
        ),
        _ => check(name, Status::Unsupported, "not supported by this server"),
    }
}

fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> &str {
    error.code().unwrap_or("")
}

async fn region(client: &Client, bucket: &str, aws: &Aws) -> Check {
    let name = "region";
    let configured = aws.region.as_deref().unwrap_or(REGION_DEFAULT);
    match client.head_bucket().bucket(bucket).send().await {
        Ok(head) => match head.bucket_region() {
            Some(actual) if actual != configured => check(
                name,
                Status::Warning,
                format!("the bucket is in {actual}, requests go to {configured}; set AWS_REGION"),
            ),
            Some(actual) => check(name, Status::Ok, actual),
            None => check(name, Status::Unsupported, "not told by this server"),
        },
        Err(error) => {
            let told = error.raw_response().and_then(|response| {
                let told = response.headers().get("x-amz-bucket-region")?;
                (told != configured).then(|| told.to_owned())
            });
            match told {
                Some(actual) => check(
                    name,
                    Status::Failed,
                    format!("the bucket is in {actual}; set AWS_REGION={actual}"),
                ),
                None => refused(name, &error),
            }
        }
    }
}

async fn versioning(client: &Client, bucket: &str) -> Check {
    let name = "versioning";
    match client.get_bucket_versioning().bucket(bucket).send().await {
        Ok(found) => match found.status() {
            Some(BucketVersioningStatus::Enabled) => check(
                name,
                Status::Ok,
                "on: deleted objects can be restored; \
                 add a lifecycle rule that expires noncurrent versions, or they are kept for ever",
            ),
            _ => check(
                name,
                Status::Ok,
                "off: what is deleted by mistake is gone; turn it on if that matters",
            ),
        },
        Err(error) => refused(name, &error),
    }
}

async fn public_access(client: &Client, bucket: &str) -> Check {
    let name = "public access";
    let warn = |detail: &str| check(name, Status::Warning, detail);
    match client.get_public_access_block().bucket(bucket).send().await {
        Ok(found) => {
            let blocks = found.public_access_block_configuration().is_some_and(|c| {
                let parts = [
                    c.block_public_acls(),
                    c.ignore_public_acls(),
                    c.block_public_policy(),
                    c.restrict_public_buckets(),
                ];
                parts.iter().all(|part| *part == Some(true))
            });
            if blocks {
                check(name, Status::Ok, "blocked")
            } else {
                warn("partly allowed; turn on all four settings of Block Public Access")
            }
        }
        Err(error) if code(&error) == "NoSuchPublicAccessBlockConfiguration" => {
            warn("not blocked; turn on Block Public Access")
        }
        Err(error) => refused(name, &error),
    }
}

async fn encryption(client: &Client, bucket: &str) -> Check {
    let name = "encryption";
    match client.get_bucket_encryption().bucket(bucket).send().await {
        Ok(found) => {
            let rules = found.server_side_encryption_configuration();
            let algorithm = rules.and_then(|rules| {
                let default = rules.rules().first()?;
                Some(default.apply_server_side_encryption_by_default()?.sse_algorithm())
            });
            match algorithm {
                Some(algorithm) => check(name, Status::Ok, algorithm.as_str()),
                None => check(name, Status::Ok, "on"),
            }
        }
        Err(error) if code(&error) == "ServerSideEncryptionConfigurationNotFoundError" => check(
            name,
            Status::Warning,
            "no default encryption; turn it on in the bucket's properties",
        ),
        Err(error) => refused(name, &error),
    }
}

async fn lifecycle(client: &Client, bucket: &str, prefix: &str) -> Check {
    let name = "lifecycle";
    let call = client.get_bucket_lifecycle_configuration().bucket(bucket);
    match call.send().await {
        Ok(found) => match found.rules().iter().find(|rule| deletes_ours(rule, prefix)) {
            Some(rule) => check(
                name,
                Status::Failed,
                format!(
                    "the rule {:?} deletes or moves objects of the store by their age: \
                     remove it, or restrict it to another prefix",
                    rule.id().unwrap_or("without a name")
                ),
            ),
            None => check(name, Status::Ok, "no rule deletes the store's objects"),
        },
        Err(error) if code(&error) == "NoSuchLifecycleConfiguration" => {
            check(name, Status::Ok, "no rules")
        }
        Err(error) => refused(name, &error),
    }
}

/// Whether a rule expires current objects behind `prefix`, or moves them where they cannot be
/// read at once. Aborting uploads and expiring old versions is fine.
fn deletes_ours(rule: &LifecycleRule, prefix: &str) -> bool {
    use aws_sdk_s3::types::TransitionStorageClass as Class;
    let expires = rule
        .expiration()
        .is_some_and(|expiration| expiration.days().is_some() || expiration.date().is_some());
    let archives = rule.transitions().iter().any(|transition| {
        matches!(transition.storage_class(), Some(Class::Glacier | Class::DeepArchive))
    });
    let filter = rule.filter();
    // Our objects have no tags.
    let tagged = filter.is_some_and(|filter| {
        let and = filter.and().is_some_and(|and| !and.tags().is_empty());
        filter.tag().is_some() || and
    });
    let and = filter.and_then(|filter| filter.and()?.prefix());
    #[expect(deprecated, reason = "old rules still have it here")]
    let old = rule.prefix();
    let theirs = filter.and_then(|filter| filter.prefix());
    let theirs = theirs.or(and).or(old).unwrap_or("");
    let overlap = theirs.starts_with(prefix) || prefix.starts_with(theirs);
    *rule.status() == ExpirationStatus::Enabled && (expires || archives) && !tagged && overlap
}

fn skew(date: &ReadDate, clock: &dyn Clock) -> Check {
    let name = "clock skew";
    let seen = date.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(theirs) = seen else {
        return check(name, Status::Unsupported, "the server sends no date");
    };
    // The header has whole seconds, and has been on its way.
    let skew_ms = clock.now().0.abs_diff(theirs.0);
    let seconds = skew_ms / 1000;
    match skew_ms {
        0..SKEW_WARN_MS => check(name, Status::Ok, format!("about {seconds} s")),
        SKEW_WARN_MS..SKEW_MAX_MS => check(
            name,
            Status::Warning,
            format!("{seconds} s; set this machine's clock before S3 refuses requests (15 min)"),
        ),
        _ => check(
            name,
            Status::Failed,
            format!("{seconds} s; S3 refuses requests: set this machine's clock"),
        ),
    }
}

/// Keeps the `Date` of the last answer.
#[derive(Debug, Clone, Default)]
struct ReadDate(Arc<Mutex<Option<Timestamp>>>);

impl Intercept for ReadDate {
    fn name(&self) -> &'static str {
        "read the date header"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(parse_date);
        if date.is_some() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        }
        Ok(())
    }
}

fn parse_date(text: &str) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::parse(text).ok()?;
    let ms = time.timestamp().as_millisecond();
    u64::try_from(ms).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::VirtualClock;
    use aws_sdk_s3::types::{LifecycleExpiration, LifecycleRuleFilter};

    fn rule(prefix: &str, status: ExpirationStatus) -> LifecycleRule {
        LifecycleRule::builder()
            .status(status)
            .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
            .expiration(LifecycleExpiration::builder().days(30).build())
            .build()
            .unwrap()
    }

    #[test]
    fn rules_that_reach_the_store_are_found() {
        for (theirs, ours, reaches) in [
            ("", "", true),
            ("", "brainy", true),
            ("brainy/", "brainy", true),
            ("brainy/collections/", "brainy", true),
            ("logs/", "brainy", false),
            ("logs/", "", true),
        ] {
            let found = deletes_ours(&rule(theirs, ExpirationStatus::Enabled), ours);
            assert_eq!(found, reaches, "{theirs:?} {ours:?}");
        }
        assert!(!deletes_ours(&rule("", ExpirationStatus::Disabled), ""));
    }

    #[tokio::test(start_paused = true)]
    async fn the_skew_is_judged_by_its_size() {
        let server = parse_date("Thu, 15 Jan 2026 10:30:00 GMT").unwrap();
        assert_eq!(server, Timestamp(1_768_473_000_000));
        for (off_ms, status) in [
            (0, Status::Ok),
            (59_000, Status::Ok),
            (61_000, Status::Warning),
            (1_000_000, Status::Failed),
        ] {
            for now in [server.0 - off_ms, server.0 + off_ms] {
                let date = ReadDate(Arc::new(Mutex::new(Some(server))));
                let clock = VirtualClock::starting_at(Timestamp(now));
                assert_eq!(skew(&date, &clock).status, status, "{off_ms}");
            }
        }
        assert_eq!(parse_date("yesterday"), None);
    }
}
