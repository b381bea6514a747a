//! What can a caller do about an error?

use super::{Code, Error};

/// What a caller can do about an error; [`Code`] says exactly what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Try again a moment later, after [`Error::retry_after`] where that is known. A write that
    /// [`Error::is_ambiguous`] may have happened: with ids of one's own it can be sent again safely.
    Retry,
    /// Correct the request, or what it names: it will never succeed as it is.
    Input,
    /// This instance may not do it, by its role or its place in the cluster: ask another one.
    Fenced,
    /// The instance is ending, or the caller has given up.
    Closed,
    /// Somebody has to mend the surroundings: credentials, the bucket, what is stored there, the version of this build.
    Environment,
    /// A defect in Brainy: report it.
    Internal,
}

impl Error {
    /// What a caller can do about it.
    ///
    /// ```
    /// use brainy::{Brainy, ErrorKind};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let db = Brainy::open("memory:").await.unwrap();
    /// let error = db.collection("No such name").info().await.unwrap_err();
    /// assert_eq!((error.kind(), error.code().name()), (ErrorKind::Input, "invalid_collection_name"));
    /// # });
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.code().kind()
    }
}

impl Code {
    /// What a caller can do about errors of this code.
    pub fn kind(self) -> ErrorKind {
        use Code::*;
        match self {
            StoreUnavailable | Overloaded | Backpressure | RequestTimeout | BodyTimeout
            | VersionTimeout | ReplicationTimeout | ServerUnavailable => ErrorKind::Retry,
            InvalidRequest
            | DimensionMismatch
            | InvalidVector
            | InvalidId
            | InvalidMetadata
            | InvalidFilter
            | InvalidCollectionName
            | InvalidSettings
            | CollectionNotFound
            | VectorNotFound
            | RouteNotFound
            | MethodNotAllowed
            | SettingsConflict
            | InstanceNotFound
            | LastWriter
            | InstanceAlive
            | StateNotFound
            | PreconditionFailed
            | PayloadTooLarge
            | AnswerTooLarge
            | UnsupportedMediaType
            | OriginNotAllowed
            | HostNotAllowed => ErrorKind::Input,
            ReadOnlyInstance | WriteOnlyInstance | NotAMember | InstanceIdInUse
            | InstanceSuperseded => ErrorKind::Fenced,
            ShuttingDown | Cancelled => ErrorKind::Closed,
            StoreDenied | StoreNotFound | StoreUnsafe | ClockSkew | NewerFormat | LogDamaged
            | Corrupt | SharedConfigInvalid | AddressUnavailable | ResourcesExhausted
            | UnexpectedAnswer | RuntimeUnsuitable => ErrorKind::Environment,
            Internal => ErrorKind::Internal,
        }
    }
}
