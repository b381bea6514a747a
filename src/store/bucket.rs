//! The doctor's look at the bucket itself: what its owner should know.
//!
//! Nothing here is needed for operation: a server that lacks a call, or credentials that may not
//! make it, give a line that says so.

use crate::base::clock::{Clock, Timestamp};
use crate::store::aws::{Aws, Credentials, REGION_DEFAULT, innermost};
use crate::store::probe::{Check, Status};
use crate::store::s3::{element, time_of};
use object_store::CredentialProvider;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A clock that is off by more than this makes signatures fail soon (S3 allows 15 minutes).
const SKEW_WARN_MS: u64 = 60_000;
const SKEW_MAX_MS: u64 = 900_000;
/// One call may take this long: the doctor's table should not wait for minutes.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Looks at `bucket`, of which the store uses what is behind `prefix`.
pub async fn inspect(bucket: &str, prefix: &str, aws: &Aws, clock: &Arc<dyn Clock>) -> Vec<Check> {
    let bucket = Bucket::new(bucket, aws, clock).await;
    let region = region(&bucket).await;
    let skew = skew(bucket.date(), &**clock);
    let rest = tokio::join!(
        versioning(&bucket),
        public_access(&bucket),
        encryption(&bucket),
        lifecycle(&bucket, prefix),
    );
    vec![region, skew, rest.0, rest.1, rest.2, rest.3]
}

/// A bucket that is asked about itself.
struct Bucket {
    /// Without a slash at its end.
    url: String,
    region: String,
    /// A client and what signs its requests, or why there is none.
    access: Result<(reqwest::Client, Arc<AwsCredential>), String>,
    /// The `Date` of the last answer.
    date: Mutex<Option<Timestamp>>,
}

/// What an answer that is no success says.
#[derive(Debug)]
enum Refusal {
    /// Nothing: there was none, or the server has trouble of its own.
    NoAnswer(String),
    /// S3's code, which is empty where the answer has no body, and the region that it names.
    Refused { status: u16, code: String, region: Option<String> },
}

/// An answer, and the region that it names.
struct Answer {
    body: String,
    region: Option<String>,
}

impl Bucket {
    async fn new(name: &str, aws: &Aws, clock: &Arc<dyn Clock>) -> Bucket {
        let region = aws.region.as_deref().unwrap_or(REGION_DEFAULT).to_owned();
        let url = match &aws.endpoint {
            Some(endpoint) => format!("{endpoint}/{name}"),
            None if aws.is_in_host(name) => format!("https://{name}.s3.{region}.amazonaws.com"),
            None => format!("https://s3.{region}.amazonaws.com/{name}"),
        };
        let access = async {
            let credential = Credentials::new(aws, clock.clone()).get_credential().await;
            let credential = credential.map_err(|error| innermost(&error))?;
            let configured = || {
                let redirects = reqwest::redirect::Policy::none();
                reqwest::Client::builder().redirect(redirects).timeout(CALL_TIMEOUT)
            };
            let client = crate::base::http::client(configured);
            Ok((client.map_err(|error| innermost(&error))?, credential))
        };
        Bucket { url, region, access: access.await, date: Mutex::default() }
    }

    fn date(&self) -> Option<Timestamp> {
        *self.date.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the bucket says of `what`, such as `versioning`.
    async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T, Refusal> {
        let answer = self.ask("GET", &format!("/?{what}")).await?;
        quick_xml::de::from_str(&answer.body)
            .map_err(|error| Refusal::NoAnswer(format!("not what S3 answers: {error}")))
    }

    async fn ask(&self, method: &str, rest: &str) -> Result<Answer, Refusal> {
        let no_answer = |error: &dyn std::error::Error| Refusal::NoAnswer(innermost(error));
        let (client, credential) =
            self.access.as_ref().map_err(|e| Refusal::NoAnswer(e.clone()))?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method.parse().map_err(|e| no_answer(&e))?;
        let url = format!("{}{rest}", self.url);
        *request.uri_mut() = url.parse().map_err(|e| no_answer(&e))?;
        AwsAuthorizer::new(credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|e| no_answer(&e))?;
        let response = client.call(request).await.map_err(|e| no_answer(&e))?;
        let header = |name| response.headers().get(name)?.to_str().ok();
        if let Some(date) = header("date").and_then(time_of) {
            *self.date.lock().unwrap_or_else(PoisonError::into_inner) = Some(date);
        }
        let status = response.status();
        let region = header("x-amz-bucket-region").map(str::to_owned);
        let body = response.into_body().bytes().await.map_err(|e| no_answer(&e))?;
        let body = String::from_utf8_lossy(&body).into_owned();
        match status.as_u16() {
            _ if status.is_success() => Ok(Answer { body, region }),
            // A server that lacks a call says 501.
            status @ (429 | 500 | 502..) => {
                Err(Refusal::NoAnswer(format!("the store answered {status}")))
            }
            status => {
                let code = element(&body, "Code").unwrap_or_default().to_owned();
                Err(Refusal::Refused { status, code, region })
            }
        }
    }
}

impl Refusal {
    fn code(&self) -> &str {
        match self {
            Refusal::NoAnswer(_) => "",
            Refusal::Refused { code, .. } => code,
        }
    }

    /// The line for a call that failed.
    fn check(&self, name: &'static str) -> Check {
        match self {
            Refusal::NoAnswer(reason) => {
                check(name, Status::Warning, format!("no answer ({reason}); try again"))
            }
            Refusal::Refused { status: 401 | 403, .. } => check(
                name,
                Status::Unsupported,
                "these credentials may not ask; nothing depends on it",
            ),
            Refusal::Refused { .. } => {
                check(name, Status::Unsupported, "not supported by this server")
            }
        }
    }
}

fn check(name: &'static str, status: Status, detail: impl Into<String>) -> Check {
    Check { name, status, detail: detail.into() }
}

async fn region(bucket: &Bucket) -> Check {
    let name = "region";
    let configured = &bucket.region;
    match bucket.ask("HEAD", "/").await {
        Ok(Answer { region: Some(actual), .. }) if actual != *configured => check(
            name,
            Status::Warning,
            format!("the bucket is in {actual}, requests go to {configured}; set AWS_REGION"),
        ),
        Ok(Answer { region: Some(actual), .. }) => check(name, Status::Ok, actual),
        Ok(Answer { region: None, .. }) => {
            check(name, Status::Unsupported, "not told by this server")
        }
        Err(Refusal::Refused { region: Some(actual), .. }) if actual != *configured => check(
            name,
            Status::Failed,
            format!("the bucket is in {actual}; set AWS_REGION={actual}"),
        ),
        Err(refusal) => refusal.check(name),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Versioning {
    status: Option<String>,
}

async fn versioning(bucket: &Bucket) -> Check {
    let name = "versioning";
    match bucket.get::<Versioning>("versioning").await {
        Ok(Versioning { status: Some(status) }) if status == "Enabled" => check(
            name,
            Status::Ok,
            "on: deleted objects can be restored; \
             add a lifecycle rule that expires noncurrent versions, or they are kept for ever",
        ),
        Ok(_) => check(
            name,
            Status::Ok,
            "off: what is deleted by mistake is gone; turn it on if that matters",
        ),
        Err(refusal) => refusal.check(name),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct PublicAccess {
    block_public_acls: bool,
    block_public_policy: bool,
    ignore_public_acls: bool,
    restrict_public_buckets: bool,
}

async fn public_access(bucket: &Bucket) -> Check {
    let name = "public access";
    let warn = |detail: &str| check(name, Status::Warning, detail);
    match bucket.get::<PublicAccess>("publicAccessBlock").await {
        Ok(PublicAccess {
            block_public_acls: true,
            block_public_policy: true,
            ignore_public_acls: true,
            restrict_public_buckets: true,
        }) => check(name, Status::Ok, "blocked"),
        Ok(_) => warn("partly allowed; turn on all four settings of Block Public Access"),
        Err(refusal) if refusal.code() == "NoSuchPublicAccessBlockConfiguration" => {
            warn("not blocked; turn on Block Public Access")
        }
        Err(refusal) => refusal.check(name),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Encryption {
    rule: Vec<EncryptionRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct EncryptionRule {
    apply_server_side_encryption_by_default: EncryptionDefault,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EncryptionDefault {
    #[serde(rename = "SSEAlgorithm")]
    algorithm: Option<String>,
}

async fn encryption(bucket: &Bucket) -> Check {
    let name = "encryption";
    match bucket.get::<Encryption>("encryption").await {
        Ok(Encryption { rule }) => {
            let first = rule.into_iter().next().unwrap_or_default();
            let algorithm = first.apply_server_side_encryption_by_default.algorithm;
            check(name, Status::Ok, algorithm.unwrap_or_else(|| "on".to_owned()))
        }
        Err(refusal) if refusal.code() == "ServerSideEncryptionConfigurationNotFoundError" => {
            check(
                name,
                Status::Warning,
                "no default encryption; turn it on in the bucket's properties",
            )
        }
        Err(refusal) => refusal.check(name),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Lifecycle {
    rule: Vec<LifecycleRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct LifecycleRule {
    #[serde(rename = "ID")]
    id: Option<String>,
    status: String,
    /// Where old rules have it.
    prefix: Option<String>,
    filter: Filter,
    expiration: Expiration,
    transition: Vec<Transition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Filter {
    prefix: Option<String>,
    tag: Option<Tag>,
    and: And,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct And {
    prefix: Option<String>,
    tag: Vec<Tag>,
}

/// Its name and value do not matter.
#[derive(Debug, Default, Deserialize)]
struct Tag {}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Expiration {
    days: Option<String>,
    date: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Transition {
    storage_class: String,
}

async fn lifecycle(bucket: &Bucket, prefix: &str) -> Check {
    let name = "lifecycle";
    match bucket.get::<Lifecycle>("lifecycle").await {
        Ok(found) => match found.rule.iter().find(|rule| rule.deletes_ours(prefix)) {
            Some(rule) => check(
                name,
                Status::Failed,
                format!(
                    "the rule {:?} deletes or moves objects of the store by their age: \
                     remove it, or restrict it to another prefix",
                    rule.id.as_deref().unwrap_or("without a name")
                ),
            ),
            None => check(name, Status::Ok, "no rule deletes the store's objects"),
        },
        Err(refusal) if refusal.code() == "NoSuchLifecycleConfiguration" => {
            check(name, Status::Ok, "no rules")
        }
        Err(refusal) => refusal.check(name),
    }
}

impl LifecycleRule {
    /// Whether it expires current objects behind `ours`, or moves them where they cannot be read
    /// at once. Aborting uploads and expiring old versions is fine.
    fn deletes_ours(&self, ours: &str) -> bool {
        let expires = self.expiration.days.is_some() || self.expiration.date.is_some();
        let archives = self
            .transition
            .iter()
            .any(|moved| matches!(moved.storage_class.as_str(), "GLACIER" | "DEEP_ARCHIVE"));
        let filter = &self.filter;
        // Our objects have no tags.
        let tagged = filter.tag.is_some() || !filter.and.tag.is_empty();
        let theirs = filter.prefix.as_deref().or(filter.and.prefix.as_deref());
        let theirs = theirs.or(self.prefix.as_deref()).unwrap_or_default();
        let overlap = theirs.starts_with(ours) || ours.starts_with(theirs);
        self.status == "Enabled" && (expires || archives) && !tagged && overlap
    }
}

fn skew(date: Option<Timestamp>, clock: &dyn Clock) -> Check {
    let name = "clock skew";
    let Some(theirs) = date else {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::VirtualClock;

    /// A rule as S3 sends it.
    fn rule(scope: &str, status: &str, action: &str) -> LifecycleRule {
        let document = format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Rule><ID>first</ID>{scope}<Status>{status}</Status>{action}</Rule>
              <Rule><ID>other</ID><Filter/><Status>Enabled</Status></Rule>
            </LifecycleConfiguration>"#
        );
        let found: Lifecycle = quick_xml::de::from_str(&document).unwrap();
        assert_eq!(found.rule.len(), 2);
        assert_eq!(found.rule[1].id.as_deref(), Some("other"));
        found.rule.into_iter().next().unwrap()
    }

    #[test]
    fn rules_that_reach_the_store_are_found() {
        let expires = "<Expiration><Days>30</Days></Expiration>";
        let behind = |prefix: &str| format!("<Filter><Prefix>{prefix}</Prefix></Filter>");
        for (theirs, ours, reaches) in [
            ("", "", true),
            ("", "brainy", true),
            ("brainy/", "brainy", true),
            ("brainy/collections/", "brainy", true),
            ("logs/", "brainy", false),
            ("logs/", "", true),
        ] {
            let found = rule(&behind(theirs), "Enabled", expires).deletes_ours(ours);
            assert_eq!(found, reaches, "{theirs:?} {ours:?}");
            let old = format!("<Prefix>{theirs}</Prefix>");
            assert_eq!(rule(&old, "Enabled", expires).deletes_ours(ours), reaches);
        }
        assert!(!rule(&behind(""), "Disabled", expires).deletes_ours(""));
        let tag = "<Tag><Key>a</Key><Value>b</Value></Tag>";
        let tagged = format!("<Filter>{tag}</Filter>");
        assert!(!rule(&tagged, "Enabled", expires).deletes_ours(""));
        let both = format!("<Filter><And><Prefix>x</Prefix>{tag}{tag}</And></Filter>");
        assert!(!rule(&both, "Enabled", expires).deletes_ours(""));
        for (action, reaches) in [
            ("<Expiration><Date>2027-01-01T00:00:00Z</Date></Expiration>", true),
            (
                "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
                false,
            ),
            (
                "<Transition><Days>9</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>",
                true,
            ),
            (
                "<Transition><Days>9</Days><StorageClass>STANDARD_IA</StorageClass></Transition>",
                false,
            ),
            (
                "<NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays></NoncurrentVersionExpiration>",
                false,
            ),
        ] {
            assert_eq!(rule("<Filter/>", "Enabled", action).deletes_ours(""), reaches, "{action}");
        }
    }

    #[test]
    fn what_s3_says_of_a_bucket_is_read() {
        let versioning =
            r#"<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>"#;
        let found: Versioning = quick_xml::de::from_str(versioning).unwrap();
        assert_eq!(found.status, None);
        let encryption = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
            <SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault>\
            <BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>";
        let found: Encryption = quick_xml::de::from_str(encryption).unwrap();
        let default = &found.rule[0].apply_server_side_encryption_by_default;
        assert_eq!(default.algorithm.as_deref(), Some("aws:kms"));
        let access = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>\
            <IgnorePublicAcls>false</IgnorePublicAcls></PublicAccessBlockConfiguration>";
        let found: PublicAccess = quick_xml::de::from_str(access).unwrap();
        assert!(found.block_public_acls && !found.ignore_public_acls);
    }

    #[tokio::test(start_paused = true)]
    async fn the_skew_is_judged_by_its_size() {
        let server = Timestamp(1_768_473_000_000);
        for (off_ms, status) in [
            (0, Status::Ok),
            (59_000, Status::Ok),
            (61_000, Status::Warning),
            (1_000_000, Status::Failed),
        ] {
            for now in [server.0 - off_ms, server.0 + off_ms] {
                let clock = VirtualClock::starting_at(Timestamp(now));
                assert_eq!(skew(Some(server), &clock).status, status, "{off_ms}");
            }
        }
    }
}
