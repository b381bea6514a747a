//! One error type: a stable code for programs, a message that says what to do next for people.
//!
//! Error semantics: [`Code`] is part of the public contract (`docs/errors.md` lists every one with
//! its HTTP status); messages may change. `details` carries the values that a client may want to
//! act on, in camelCase.

mod kind;

pub use kind::ErrorKind;

use serde_json::{Map, Value};
use std::fmt;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Declares the codes once: the enum, its stable name and the list of all of them.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A stable, machine-readable reason.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The name that clients see, for example `dimension_mismatch`.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }
        }
    };
}

codes! {
    /// The request does not have the documented form.
    InvalidRequest = "invalid_request",
    /// A vector's length differs from the collection's dimensions.
    DimensionMismatch = "dimension_mismatch",
    /// A vector holds NaN or infinity, is zero under cosine, or is not valid base64.
    InvalidVector = "invalid_vector",
    /// An id is empty, longer than 512 bytes, or has control characters.
    InvalidId = "invalid_id",
    /// A record's metadata is not an object or is larger than 40 KiB.
    InvalidMetadata = "invalid_metadata",
    /// A filter does not have the documented form; `details.path` names the fault.
    InvalidFilter = "invalid_filter",
    /// A collection's name is outside `[a-z0-9][a-z0-9_-]{0,62}`.
    InvalidCollectionName = "invalid_collection_name",
    /// A setting is unknown, malformed or contradicts another.
    InvalidSettings = "invalid_settings",
    /// There is no such collection.
    CollectionNotFound = "collection_not_found",
    /// There is no such record.
    VectorNotFound = "vector_not_found",
    /// There is no such route.
    RouteNotFound = "route_not_found",
    /// The route exists, but not for this HTTP method.
    MethodNotAllowed = "method_not_allowed",
    /// The collection exists with other settings; `details` shows both.
    SettingsConflict = "settings_conflict",
    /// Another process that is alive runs under this instance's id.
    InstanceIdInUse = "instance_id_in_use",
    /// There is no such instance in the cluster.
    InstanceNotFound = "instance_not_found",
    /// Nobody would take writes any more.
    LastWriter = "last_writer",
    /// The instance is alive, so it cannot be removed.
    InstanceAlive = "instance_alive",
    /// Another process took over this instance's id; this one has to stop.
    InstanceSuperseded = "instance_superseded",
    /// The shared config was edited into something that cannot be read.
    SharedConfigInvalid = "shared_config_invalid",
    /// There is no such entry in the shared state.
    StateNotFound = "state_not_found",
    /// What the request demands of the current version does not hold.
    PreconditionFailed = "precondition_failed",
    /// The web page that asks is from an origin that is not allowed.
    OriginNotAllowed = "origin_not_allowed",
    /// The server does not answer to the host that the request names.
    HostNotAllowed = "host_not_allowed",
    /// This instance does not take writes.
    ReadOnlyInstance = "read_only_instance",
    /// This instance does not answer reads.
    WriteOnlyInstance = "write_only_instance",
    /// The asked-for version was not applied within the deadline.
    VersionTimeout = "version_timeout",
    /// The write is durable, but live readers did not show it in time.
    ReplicationTimeout = "replication_timeout",
    /// This instance has not joined the cluster, or has left it.
    NotAMember = "not_a_member",
    /// The unindexed tail or the write queue is full; retry later.
    Backpressure = "backpressure",
    /// More requests are in flight than this instance takes; retry later.
    Overloaded = "overloaded",
    /// The request took longer than this instance allows.
    RequestTimeout = "request_timeout",
    /// Nobody waits for the answer any more: the client has gone, or the caller cancelled.
    Cancelled = "cancelled",
    /// The request's body stood still for too long.
    BodyTimeout = "body_timeout",
    /// The request's body is larger than this instance takes.
    PayloadTooLarge = "payload_too_large",
    /// The answer would hold more than this instance gives at a time.
    AnswerTooLarge = "answer_too_large",
    /// The request's body has a content type or encoding that is not supported.
    UnsupportedMediaType = "unsupported_media_type",
    /// The object store did not answer, or answered with a passing error.
    StoreUnavailable = "store_unavailable",
    /// The object store rejected the credentials or the permission.
    StoreDenied = "store_denied",
    /// The bucket or folder does not exist.
    StoreNotFound = "store_not_found",
    /// The object store does not honour what Brainy needs to be safe.
    StoreUnsafe = "store_unsafe",
    /// The clock of this machine is too far from the store's.
    ClockSkew = "clock_skew",
    /// A stored object was written by a newer version of Brainy.
    NewerFormat = "newer_format",
    /// An entry of the collection's log is missing or damaged; `details` names it.
    LogDamaged = "log_damaged",
    /// A stored object fails its checksum or its invariants.
    Corrupt = "corrupt",
    /// The address to listen on is taken, or this machine does not have it.
    AddressUnavailable = "address_unavailable",
    /// The machine gives this process no more threads or files.
    ResourcesExhausted = "resources_exhausted",
    /// The server that a command was to ask does not answer.
    ServerUnavailable = "server_unavailable",
    /// Who answered a command is no Brainy server.
    UnexpectedAnswer = "unexpected_answer",
    /// The runtime of the embedding program lacks something.
    RuntimeUnsuitable = "runtime_unsuitable",
    /// The instance is shutting down.
    ShuttingDown = "shutting_down",
    /// A defect in Brainy.
    Internal = "internal",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
struct Inner {
    code: Code,
    message: String,
    details: Map<String, Value>,
    retry_after_ms: Option<u64>,
    ambiguous: bool,
    source: Option<Source>,
}

/// What went wrong, for a program (`code`, `details`) and for a person (`message`).
#[derive(Debug)]
pub struct Error(Box<Inner>);

impl Error {
    /// A new error. `message` is lowercase, unpunctuated, and says what the caller can do.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            code,
            message: message.into(),
            details: Map::new(),
            retry_after_ms: None,
            ambiguous: false,
            source: None,
        }))
    }

    /// A request that does not have the documented form.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, message)
    }

    /// A binary format that is newer than this build.
    pub fn newer_format(what: &str, found: u32, known: u32) -> Self {
        Error::new(
            Code::NewerFormat,
            format!(
                "{what} has format version {found}, and this build knows up to {known}; \
                 upgrade this instance"
            ),
        )
    }

    /// A stored object that fails its checksum or its invariants.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Code::Corrupt, message)
    }

    /// The object store did not answer, or answered with a passing error.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::StoreUnavailable, message)
    }

    /// This instance ends, and others go on.
    pub fn shutting_down() -> Self {
        Self::new(Code::ShuttingDown, "this instance is shutting down; use another one")
    }

    /// A defect in Brainy.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// Adds one value for programs; `key` is camelCase.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.details.insert(key.to_owned(), value.into());
        self
    }

    /// Says after how long a retry makes sense.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.0.retry_after_ms = Some(ms);
        self
    }

    /// Says that the effect may or may not have happened.
    #[must_use]
    pub fn ambiguous(mut self) -> Self {
        self.0.ambiguous = true;
        self.with("ambiguous", true)
    }

    /// The same where `perhaps` the effect has happened.
    #[must_use]
    pub fn ambiguous_if(self, perhaps: bool) -> Self {
        if perhaps { self.ambiguous() } else { self }
    }

    /// Keeps what caused this error.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts `context` in front of the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// The stable reason.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The values for programs.
    pub fn details(&self) -> &Map<String, Value> {
        &self.0.details
    }

    /// After how long a retry makes sense, where that is known.
    pub fn retry_after(&self) -> Option<u64> {
        self.0.retry_after_ms
    }

    /// Whether the effect may have happened in spite of the error.
    pub fn is_ambiguous(&self) -> bool {
        self.0.ambiguous
    }

    /// Whether the same call may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self.0.code, Code::StoreUnavailable | Code::Overloaded | Code::Backpressure)
    }

    /// Whether it is about what one object holds: others may be as they should.
    pub fn is_about_content(&self) -> bool {
        matches!(self.0.code, Code::Corrupt | Code::NewerFormat)
    }

    /// A copy for a second receiver of the same failure (the source stays with the first).
    pub fn replicate(&self) -> Self {
        Error(Box::new(Inner {
            code: self.0.code,
            message: self.0.message.clone(),
            details: self.0.details.clone(),
            retry_after_ms: self.0.retry_after_ms,
            ambiguous: self.0.ambiguous,
            source: None,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.message, self.0.code)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
