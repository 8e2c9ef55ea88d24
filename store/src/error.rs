//! The errors of the store. There is one variant for each case in which a caller acts differently.

use std::sync::Arc;

use eventodb_protocol::Condition;
use eventodb_protocol::message::Expected;
use uuid::Uuid;

use crate::groups::Refusal;

/// Why the store could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// One or more streams are not at the expected version. Nothing was written.
    #[error("stream version conflict")]
    VersionConflict(Vec<Conflict>),
    /// All streams are at their expected versions, and a condition of the append does not hold. Nothing was written.
    #[error("a condition does not hold")]
    ConditionFailed(Vec<Conflict>),
    /// The id was written before with something else. Nothing was written.
    #[error("message id {0} was written before with something else")]
    IdConflict(Uuid),
    /// An imported record's position, global position or id is taken; the number is the record's index in the call.
    /// Nothing of the call was written.
    #[error("record {0} is at a position or has an id that exists")]
    PositionExists(usize),
    /// The namespace has no position left, or this stream has none. Nothing was written.
    #[error("{} has no position left", .0.as_ref().map_or_else(|| "the namespace".to_owned(), |stream| format!("stream {stream}")))]
    Full(Option<Arc<str>>),
    /// The namespace would hold more than its quota allows. Nothing was written.
    #[error("the namespace would exceed its quota of {0}")]
    OverQuota(QuotaOf),
    /// There is no namespace of that name.
    #[error("there is no such namespace")]
    NamespaceNotFound,
    /// There already is a namespace of that name.
    #[error("there already is such a namespace")]
    NamespaceExists,
    /// The namespace is protected: it can be neither deleted nor replaced.
    #[error("the namespace is protected")]
    Protected,
    /// There is no such token.
    #[error("there is no such token")]
    TokenNotFound,
    /// There is such a token with other rights, categories or expiry, or one that has ended. Nothing was changed.
    #[error("there is such a token with other rights, or it has ended")]
    TokenExists,
    /// The namespace has as many living tokens as it may have.
    #[error("the namespace has {} living tokens", eventodb_protocol::limits::TOKENS)]
    TooManyTokens,
    /// Without this token nobody could administer the store. Nothing was changed.
    #[error("it is the last token of default that has the right admin and does not expire")]
    LastAdministrator,
    /// There is no group of that name.
    #[error("there is no such group")]
    GroupNotFound,
    /// The call on a group, or what an append does to one, is refused. Nothing was written.
    #[error(transparent)]
    Group(Refusal),
    /// The namespace was deleted, or the store is closing: this log serves no more calls.
    #[error("the log is closed")]
    Closed,
    /// Another call replaces what the namespace holds. Certainly not written.
    #[error("the namespace is being replaced")]
    Replacing,
    /// The namespace has groups, and it was not said what becomes of them when its messages are replaced. Nothing was
    /// changed.
    #[error("the namespace has groups, and it is not said what becomes of them")]
    GroupsUndecided,
    /// The namespace was deleted or replaced meanwhile, or the replacement was given up. Nothing was replaced.
    #[error("the namespace was deleted or replaced meanwhile")]
    Overtaken,
    /// Earlier appends wait for too long, or take all the room of the queue. Certainly not written.
    #[error("earlier appends wait for too long")]
    Overloaded,
    /// The caller has no memory for the messages that a read gathers.
    #[error("there is no room for the page")]
    NoRoom,
    /// The storage does not answer, or is still getting ready. Certainly not written.
    #[error("the storage is unavailable")]
    Unavailable(#[source] Cause),
    /// The outcome of a write is unknown.
    #[error("the outcome is unknown")]
    Unknown(#[source] Cause),
    /// The message at this global position is not as it was written, and is not served. Nothing was written.
    #[error("the message at global position {0} is damaged")]
    Damaged(i64),
    /// The storage failed, and a later attempt would fail too.
    #[error("the storage failed")]
    Failed(#[source] Cause),
}

/// What a quota bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaOf {
    /// The number of messages.
    Messages,
    /// The bytes that they take.
    Bytes,
}

impl std::fmt::Display for QuotaOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Messages => "messages",
            Self::Bytes => "bytes",
        })
    }
}

/// The cause of an error: for the server's log, never for clients.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What did not hold of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// A stream is not as expected.
    Version {
        /// The place among the checks; `None` if the stream was to be written.
        check: Option<usize>,
        /// The stream.
        stream: Arc<str>,
        /// What was expected.
        expected: Expected,
        /// Its last position; -1 if it does not exist.
        actual: i64,
    },
    /// There is a message that matches a condition, or the condition looks at what comes after a head that this log does
    /// not have.
    Condition {
        /// The place among the checks.
        check: usize,
        /// The condition.
        condition: Condition,
        /// The global position of a message that matches.
        found: Option<i64>,
        /// The log's head.
        head: i64,
    },
}

impl Error {
    /// The refusal of an append of which this does not hold.
    pub(crate) fn of_conflicts(conflicts: Vec<Conflict>) -> Self {
        if conflicts.iter().any(|conflict| matches!(conflict, Conflict::Version { .. })) {
            return Self::VersionConflict(conflicts);
        }
        Self::ConditionFailed(conflicts)
    }

    /// [`Error::Unavailable`] because of `cause`.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(cause.into()))
    }

    /// [`Error::Failed`] because of `cause`.
    pub fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed(Arc::from(cause.into()))
    }

    /// [`Error::Unknown`] because of `cause`.
    pub fn unknown(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unknown(Arc::from(cause.into()))
    }
}

/// An error and its causes in one line: `the storage failed: the disk is full`. A cause that ends in the same words
/// as the error that it caused, or the other way round, is left out: some libraries report one error as its own cause.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            let words = error.to_string();
            if !words.ends_with(&told) && !told.ends_with(&words) {
                write!(f, ": {words}")?;
            }
            (told, next) = (words, error.source());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = Error::unavailable(Error::failed("the disk is full"));
        assert_eq!(error.to_string(), "the storage is unavailable");
        assert_eq!(Chain(&error).to_string(), "the storage is unavailable: the storage failed: the disk is full");
    }

    #[test]
    fn an_error_that_is_its_own_cause_is_told_once() {
        for message in [None, Some("file is not a database".to_owned())] {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
            let error = rusqlite::Error::SqliteFailure(code, message);
            let words = error.to_string();
            assert!(std::error::Error::source(&error).is_some_and(|cause| cause.to_string().ends_with(&words)));
            assert_eq!(Chain(&Error::unavailable(error)).to_string(), format!("the storage is unavailable: {words}"));
        }
    }
}
