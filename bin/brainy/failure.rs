//! Why a command ended without success: the API's error object, wherever it came from.

use axum::http::StatusCode;
use brainy::base::{Code, Error};
use serde_json::{Map, Value, json};
use std::fmt;
use std::time::Duration;

/// The result of a command or a part of one.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// An error of ours or of a server. A newer server may have codes that we do not know, so the code
/// is text.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The stable reason.
    pub code: String,
    /// For people.
    pub message: String,
    /// For programs.
    pub details: Map<String, Value>,
    /// The status of the answer that said so, where there was one.
    pub status: Option<StatusCode>,
    /// After how long a retry makes sense, where the answer says.
    pub retry_after: Option<Duration>,
    usage: bool,
    /// The exit code where everything has been said.
    said: Option<u8>,
}

impl Failure {
    /// Ends with `code` without another word: the output says why.
    pub fn said(code: u8) -> Self {
        Failure { said: Some(code), ..Self::new(Code::InvalidRequest, "") }
    }

    /// Whether the output says it all.
    pub fn is_said(&self) -> bool {
        self.said.is_some()
    }

    /// A failure with one of the API's codes.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error::new(code, message).into()
    }

    /// The command line asks for something that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { usage: true, ..Self::new(Code::InvalidRequest, message) }
    }

    /// A file or a stream could not be read or written.
    pub fn io(what: impl fmt::Display, error: &dyn fmt::Display) -> Self {
        Self::new(Code::InvalidRequest, format!("{what}: {error}"))
    }

    /// What a server answered instead of a success.
    pub fn from_answer(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let parsed: Option<Value> = serde_json::from_slice(body).ok();
        let error = parsed.as_ref().and_then(|body| body.get("error"));
        let text = |key: &str| {
            let value = error.and_then(|error| error.get(key));
            value.and_then(Value::as_str).map(str::to_owned)
        };
        let details = error.and_then(|error| error.get("details"));
        Failure {
            code: text("code").unwrap_or_else(|| Code::UnexpectedAnswer.name().to_owned()),
            message: text("message")
                .unwrap_or_else(|| format!("the server answered {status}, not as Brainy does")),
            details: details.and_then(Value::as_object).cloned().unwrap_or_default(),
            status: Some(status),
            retry_after,
            usage: false,
            said: None,
        }
    }

    /// Whether this failure has a code.
    pub fn is(&self, code: Code) -> bool {
        self.code == code.name()
    }

    /// Whether a server asks to come back later. Other answers with the same statuses, such as
    /// wrong credentials for the store, do not pass by themselves.
    pub fn is_passing(&self) -> bool {
        self.retry_after.is_some()
            && matches!(
                self.status,
                Some(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            )
    }

    /// Whether the content of the request was refused, so that a part of it may be accepted.
    pub fn is_rejection(&self) -> bool {
        matches!(self.status, Some(StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE))
    }

    /// 2 for wrong usage or settings, 1 for anything else.
    pub fn exit_code(&self) -> u8 {
        if let Some(code) = self.said {
            return code;
        }
        if self.usage || (self.status.is_none() && self.is(Code::InvalidSettings)) {
            return 2;
        }
        1
    }

    /// The API's error object.
    pub fn to_json(&self) -> Value {
        json!({"error": {"code": self.code, "message": self.message, "details": self.details}})
    }

    /// What to do next, where the message alone may not say.
    pub fn hint(&self) -> Option<&'static str> {
        let code = Code::ALL.iter().find(|code| code.name() == self.code)?;
        Some(match code {
            Code::InvalidSettings => {
                "`brainy config show` prints the settings in force; docs/settings.md explains them"
            }
            Code::CollectionNotFound => "`brainy collections list` prints what there is",
            Code::ReadOnlyInstance => "send writes to an instance with the role writer or hybrid",
            Code::WriteOnlyInstance => "send reads to an instance with the role reader or hybrid",
            Code::SettingsConflict => {
                "use the settings that the collection or the cluster has, or another collection"
            }
            Code::NotAMember => {
                "`brainy cluster join --url URL` has a server join; with --store, `brainy cluster nodes` \
                 shows what was last written"
            }
            Code::InstanceNotFound => "`brainy cluster nodes` lists the nodes",
            Code::StateNotFound => "`brainy cluster state list` lists the entries",
            Code::PreconditionFailed => "`brainy cluster state get KEY` prints the current etag",
            Code::StoreUnavailable | Code::StoreDenied | Code::StoreNotFound => {
                "`brainy doctor URL` checks a store; credentials come from the AWS_* variables or a \
                 profile"
            }
            Code::StoreUnsafe => "`brainy doctor URL` prints what the store does not honour",
            Code::Backpressure | Code::Overloaded => "try again a little later",
            Code::Internal | Code::Corrupt => "please report this, with the log of the instance",
            _ if self.usage => "`brainy help` and docs/cli.md explain the commands",
            _ => return None,
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut message = error.message().to_owned();
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        Failure {
            code: error.code().name().to_owned(),
            message,
            details: error.details().clone(),
            status: None,
            retry_after: error.retry_after().map(Duration::from_millis),
            usage: false,
            said: None,
        }
    }
}
