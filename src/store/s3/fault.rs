//! What did a failed S3 request come to? The one place that reads status codes and error bodies.

use crate::base::{Code, Error};
use crate::store::aws::{NoCredentials, innermost};
use crate::store::{Precondition, PutOutcome};
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error as StdError;
use std::fmt;

/// An answer other than success, as [`connect`](super::connect) saw it. It travels through
/// `object_store` as the cause of its own error, which does not let others look inside.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) retry_after_ms: Option<u64>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store answered {}", self.status)
    }
}

impl StdError for Refusal {}

/// A failed request, as far as it can be told apart.
#[derive(Debug)]
pub(super) enum Fault {
    /// The store answered.
    Answer {
        status: u16,
        /// S3's error code, such as `NoSuchKey`; empty where the answer has none.
        code: String,
        message: String,
        retry_after_ms: Option<u64>,
    },
    /// The store answered that another address is responsible.
    Redirect,
    /// There was no connection: nothing was sent.
    NotConnected(String),
    /// There were no credentials: nothing was sent.
    NoCredentials(Error),
    /// The key does not have a form that S3 can hold: nothing was sent.
    BadKey(String),
    /// Anything may have happened.
    Unknown(String),
}

/// Finds out why `error` happened.
pub(super) fn fault(error: &object_store::Error) -> Fault {
    if let object_store::Error::InvalidPath { source } = error {
        return Fault::BadKey(source.to_string());
    }
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(missing) = current.downcast_ref::<NoCredentials>() {
            return Fault::NoCredentials(missing.error());
        }
        if let Some(refusal) = current.downcast_ref::<Refusal>() {
            return of_answer(refusal);
        }
        let transport = current.downcast_ref::<HttpError>();
        // `object_store` says so only where the connection itself could not be made.
        if transport.is_some_and(|error| error.kind() == HttpErrorKind::Connect) {
            return Fault::NotConnected(innermost(current));
        }
        next = current.source();
    }
    Fault::Unknown(innermost(error))
}

fn of_answer(refusal: &Refusal) -> Fault {
    let Refusal { status, ref body, retry_after_ms } = *refusal;
    // 304 is an answer to a condition and not another address.
    if (300..=399).contains(&status) && status != 304 {
        return Fault::Redirect;
    }
    Fault::Answer {
        status,
        code: element(body, "Code").unwrap_or("").to_owned(),
        message: unescaped(element(body, "Message").unwrap_or("")),
        retry_after_ms,
    }
}

/// The text of an XML element that holds only text.
pub(in crate::store) fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let start = body.find(&format!("<{name}>"))? + name.len() + 2;
    let end = body[start..].find(&format!("</{name}>"))? + start;
    Some(body[start..end].trim())
}

/// Text of an XML element as it reads: with its characters in the place of their names and numbers.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(';').filter(|end| *end <= 10);
        let read = end.and_then(|end| Some((character(&rest[1..end])?, end)));
        match read {
            Some((character, end)) => {
                plain.push(character);
                rest = &rest[end + 1..];
            }
            None => {
                plain.push('&');
                rest = &rest[1..];
            }
        }
    }
    plain.push_str(rest);
    // A message goes into one line of a log.
    plain.replace(char::is_control, " ")
}

fn character(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        number => {
            let number = number.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    })
}

impl Fault {
    /// The status, or 0 where there was no answer.
    pub(super) fn status(&self) -> u16 {
        match self {
            Fault::Answer { status, .. } => *status,
            _ => 0,
        }
    }

    pub(super) fn is_expired(&self) -> bool {
        matches!(self, Fault::Answer { code, .. }
            if matches!(code.as_str(), "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken"))
    }

    /// A 404 that speaks of the key, not of the bucket.
    pub(super) fn is_missing_key(&self) -> bool {
        matches!(self, Fault::Answer { status: 404, code, .. } if code != "NoSuchBucket")
    }

    /// Whether the store did nothing and never will, whatever else is wrong.
    fn is_certain(&self) -> bool {
        match self {
            Fault::Answer { status, code, .. } => match status {
                // 400 RequestTimeout is a slow upload; who knows where it was cut.
                400 => code != "RequestTimeout" && !code.is_empty(),
                408 | 429 => false,
                501 => code == "NotImplemented",
                _ => (401..=499).contains(status),
            },
            Fault::Unknown(_) => false,
            _ => true,
        }
    }

    /// The error that callers see; `what` names the request and the key.
    pub(super) fn error(self, what: &str) -> Error {
        match self {
            Fault::Answer { status, code, message, retry_after_ms } => {
                let error = answered(what, status, &code, &message);
                match retry_after_ms {
                    Some(ms) => error.retry_after_ms(ms),
                    None => error,
                }
            }
            Fault::Redirect => Error::new(
                Code::InvalidSettings,
                format!(
                    "the store sent the {what} to another address: the bucket is in another \
                     region; set AWS_REGION to the bucket's region, and check the endpoint"
                ),
            ),
            Fault::NotConnected(reason) => Error::unavailable(format!(
                "could not connect to the store for the {what} ({reason}); \
                 check the endpoint and the network"
            )),
            Fault::NoCredentials(error) => error,
            Fault::BadKey(reason) => Error::invalid(format!(
                "an object key is not one of ours ({reason}); \
                 give Brainy a prefix of its own in the bucket"
            )),
            Fault::Unknown(reason) => {
                Error::unavailable(format!("the {what} failed without an answer ({reason})"))
            }
        }
    }

    /// How a conditional PUT ended that failed in this way.
    pub(super) fn outcome(self, what: &str, condition: &Precondition) -> PutOutcome {
        let status = self.status();
        let lost = match status {
            // 412 and 304: the condition did not hold. 409: a conflicting request was under way,
            // and S3 took none.
            304 | 409 | 412 => true,
            404 => matches!(condition, Precondition::Matches(_)) && self.is_missing_key(),
            _ => false,
        };
        if lost {
            return PutOutcome::Lost;
        }
        let certain = self.is_certain();
        let error = self.error(what);
        if certain { PutOutcome::Failed(error) } else { PutOutcome::Ambiguous(error.ambiguous()) }
    }
}

fn answered(what: &str, status: u16, code: &str, message: &str) -> Error {
    let shown = match (code, message) {
        ("", _) => format!("{status}"),
        (code, "") => format!("{status} {code}"),
        (code, message) => format!("{status} {code}: {message}"),
    };
    let (kind, advice) = match (status, code) {
        (_, "RequestTimeTooSkewed" | "RequestExpired") => {
            (Code::ClockSkew, "set this machine's clock; it differs too much from the store's")
        }
        (404, "" | "NoSuchBucket") => {
            (Code::StoreNotFound, "create the bucket, or check its name and the endpoint")
        }
        (501, "NotImplemented") => (
            Code::StoreUnsafe,
            "the store lacks a function that Brainy needs; use a server that has conditional puts",
        ),
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidSecurity") => {
            (Code::StoreDenied, "check the access key and the secret")
        }
        (_, "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken") => {
            (Code::StoreDenied, "renew the session's credentials")
        }
        (401 | 403, _) => (
            Code::StoreDenied,
            "allow s3:GetObject and s3:ListBucket, and for writers s3:PutObject and \
             s3:DeleteObject, on the bucket and the prefix",
        ),
        (408 | 429 | 500.., _) | (400, "RequestTimeout" | "") => {
            (Code::StoreUnavailable, "try again in a moment")
        }
        _ => {
            (Code::StoreDenied, "the store does not take this request; check the bucket's settings")
        }
    };
    Error::new(kind, format!("the store answered the {what} with {shown}; {advice}"))
        .with("storeStatus", status)
        .with("storeCode", code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Etag;

    fn answer(status: u16, code: &str) -> Fault {
        of_answer(&Refusal {
            status,
            body: format!("<?xml?><Error><Code>{code}</Code><Message>m</Message></Error>"),
            retry_after_ms: None,
        })
    }

    /// Outcome and error code of a conditional PUT that was answered so.
    fn ended(fault: Fault, condition: &Precondition) -> (&'static str, Option<Code>) {
        match fault.outcome("put", condition) {
            PutOutcome::Won(_) => ("won", None),
            PutOutcome::Lost => ("lost", None),
            PutOutcome::Ambiguous(error) => ("ambiguous", Some(error.code())),
            PutOutcome::Failed(error) => ("failed", Some(error.code())),
        }
    }

    #[test]
    fn messages_read_as_they_were_meant() {
        for (sent, read) in [
            ("The bucket&#39;s policy", "The bucket's policy"),
            ("a &lt;b&gt; &amp;amp; &quot;c&quot; &#x2014; &apos;", "a <b> &amp; \"c\" \u{2014} '"),
            ("R&D; &unknown; & &#xZZ;", "R&D; &unknown; & &#xZZ;"),
            ("two&#10;lines", "two lines"),
        ] {
            assert_eq!(unescaped(sent), read);
        }
    }

    #[test]
    fn every_answer_has_its_outcome() {
        use Code::*;
        let matches = Precondition::Matches(Etag("e".into()));
        let absent = Precondition::Absent;
        for (status, code, condition, outcome, error) in [
            (412, "PreconditionFailed", &absent, "lost", None),
            (412, "PreconditionFailed", &matches, "lost", None),
            (304, "", &absent, "lost", None),
            (409, "ConditionalRequestConflict", &absent, "lost", None),
            (409, "ConditionalRequestConflict", &matches, "lost", None),
            (404, "NoSuchKey", &matches, "lost", None),
            (404, "", &matches, "lost", None),
            (404, "NoSuchBucket", &matches, "failed", Some(StoreNotFound)),
            (404, "NoSuchBucket", &absent, "failed", Some(StoreNotFound)),
            (403, "AccessDenied", &absent, "failed", Some(StoreDenied)),
            (401, "", &absent, "failed", Some(StoreDenied)),
            (403, "RequestTimeTooSkewed", &absent, "failed", Some(ClockSkew)),
            (403, "SignatureDoesNotMatch", &absent, "failed", Some(StoreDenied)),
            (400, "ExpiredToken", &absent, "failed", Some(StoreDenied)),
            (400, "InvalidArgument", &absent, "failed", Some(StoreDenied)),
            (400, "RequestTimeout", &absent, "ambiguous", Some(StoreUnavailable)),
            (301, "PermanentRedirect", &absent, "failed", Some(InvalidSettings)),
            (307, "TemporaryRedirect", &absent, "failed", Some(InvalidSettings)),
            (501, "NotImplemented", &absent, "failed", Some(StoreUnsafe)),
            (429, "SlowDown", &absent, "ambiguous", Some(StoreUnavailable)),
            (408, "", &absent, "ambiguous", Some(StoreUnavailable)),
            (500, "InternalError", &matches, "ambiguous", Some(StoreUnavailable)),
            (502, "", &absent, "ambiguous", Some(StoreUnavailable)),
            (503, "SlowDown", &absent, "ambiguous", Some(StoreUnavailable)),
        ] {
            let got = ended(answer(status, code), condition);
            assert_eq!(got, (outcome, error), "{status} {code}");
        }
    }

    #[test]
    fn silence_is_ambiguous_and_no_connection_is_not() {
        let absent = Precondition::Absent;
        let unknown = ended(Fault::Unknown("cut".into()), &absent);
        assert_eq!(unknown, ("ambiguous", Some(Code::StoreUnavailable)));
        let refused = ended(Fault::NotConnected("refused".into()), &absent);
        assert_eq!(refused, ("failed", Some(Code::StoreUnavailable)));
    }

    #[test]
    fn bodies_that_are_not_xml_do_no_harm() {
        for body in ["", "<Code>", "</Code><Code>", "<html>", "<Code>é"] {
            let refusal = Refusal { status: 503, body: body.to_owned(), retry_after_ms: Some(5) };
            assert!(matches!(of_answer(&refusal), Fault::Answer { status: 503, .. }));
        }
    }
}
