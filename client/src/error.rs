//! The errors of the client, as one enum to match on.
//!
//! A variant exists where a caller acts differently: decides again, gives up, waits, asks for another token. `message`
//! is the text that the server sent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::group::Fenced;
use eventodb_protocol::{ErrorCode, Expected};
use serde::Deserialize;
use serde_json::Value;

type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A stream is not at the version that the write expected. Nothing was written. Load the stream again and decide
    /// again.
    #[error("expected {}, stream is at version {actual}", Shown(*expected))]
    VersionConflict {
        /// What was expected of the first stream in conflict.
        expected: Expected,
        /// The version of this stream; -1 if it does not exist.
        actual: i64,
        /// Every failed expectation of an append to several streams; empty for a single stream.
        conflicts: Vec<Conflict>,
        /// The conditions of the append that failed, too.
        conditions: Vec<FailedCondition>,
    },
    /// Conditions of the append do not hold. Nothing was written. Read again and decide again.
    #[error("a condition failed: {message}")]
    ConditionFailed {
        /// The text that the server sent.
        message: String,
        /// All of them that failed.
        conditions: Vec<FailedCondition>,
    },
    /// The message's id was written before with other content.
    #[error("message id conflict: {message}")]
    IdConflict {
        /// The text that the server sent.
        message: String,
    },
    /// The server does not accept the request as it is.
    #[error("invalid request: {message}")]
    InvalidRequest {
        /// The text that the server sent. It names the argument.
        message: String,
    },
    /// The request had no token, or something that is none (status 401).
    #[error("no token: {message}")]
    Unauthenticated {
        /// The text that the server sent.
        message: String,
    },
    /// The token does not allow this: it opens nothing, or does not have the right (status 403).
    #[error("not allowed: {message}")]
    Forbidden {
        /// The text that the server sent. It names the right that is missing.
        message: String,
    },
    /// There is no namespace of that name.
    #[error("namespace not found: {message}")]
    NamespaceNotFound {
        /// The text that the server sent.
        message: String,
    },
    /// There is no token of that id, or none that this caller may know of.
    #[error("token not found: {message}")]
    TokenNotFound {
        /// The text that the server sent.
        message: String,
    },
    /// There already is a namespace of that name.
    #[error("namespace exists: {message}")]
    NamespaceExists {
        /// The text that the server sent.
        message: String,
    },
    /// There is no group of that name.
    #[error("group not found: {message}")]
    GroupNotFound {
        /// The text that the server sent.
        message: String,
    },
    /// What was asked for is at odds with the state of a group, or a condition of an append does not hold. Nothing was
    /// done.
    #[error("refused: {message}")]
    Refused {
        /// Which refusal it is.
        code: ErrorCode,
        /// The text that the server sent.
        message: String,
    },
    /// What a member of a group did stands on something that does not hold any more: its lease, an epoch. Nothing was
    /// done.
    #[error("fenced: {message}")]
    Fenced {
        /// What the member has to give up.
        fenced: Fenced,
        /// The text that the server sent.
        message: String,
    },
    /// The server has no such method or path.
    #[error("not supported by this server: {message}")]
    NotSupported {
        /// The text that the server sent.
        message: String,
    },
    /// A message or a request is larger than the server takes.
    #[error("too large: {message}")]
    TooLarge {
        /// The text that the server sent.
        message: String,
    },
    /// The namespace holds as much as it may. Nothing was written.
    #[error("quota exceeded: {message}")]
    QuotaExceeded {
        /// The text that the server sent.
        message: String,
    },
    /// Too many requests.
    #[error("rate limited: {message}")]
    RateLimited {
        /// The text that the server sent.
        message: String,
        /// How long the server asks to wait, as it says it.
        retry_after: Option<Duration>,
    },
    /// The server could not be reached, was cut off, is overloaded or did not answer in time, and the
    /// retries that the policy allows are used up.
    #[error("unavailable: {message}")]
    Unavailable {
        /// What happened last.
        message: String,
        /// How long the server asks to wait, as it says it.
        retry_after: Option<Duration>,
        /// Whether the server may have done what was requested nevertheless.
        maybe_done: bool,
        /// The cause, if the connection failed.
        #[source]
        source: Option<Source>,
    },
    /// The store behind the server failed; the details are in the server's log.
    #[error("server error (status {status}): {message}")]
    Server {
        /// The HTTP status.
        status: u16,
        /// The text that the server sent.
        message: String,
    },
    /// A stored message is not as it was written. Reads end before it until an operator has repaired the log; a write was
    /// not done.
    #[error("damaged: {message}")]
    Damaged {
        /// The text that the server sent. It names the global position.
        message: String,
    },
    /// The reply does not have the form of the protocol.
    #[error("unexpected reply: {message}")]
    Protocol {
        /// What was wrong with it.
        message: String,
    },
    /// A message's data or metadata could not be written as a JSON object.
    #[error("cannot encode: {message}")]
    Encode {
        /// What was wrong with it.
        message: String,
    },
    /// A message's data or metadata is not of the wanted type.
    #[error("cannot decode {what}: {message}")]
    Decode {
        /// Which part of which message.
        what: String,
        /// What was wrong with it.
        message: String,
    },
    /// The client's settings cannot work.
    #[error("invalid setting: {message}")]
    Setting {
        /// Which, and why.
        message: String,
    },
    /// The writer or subscription was closed.
    #[error("closed")]
    Closed,
}

/// One failed condition of an append.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct FailedCondition {
    /// Its place among the checks of the append.
    pub check: usize,
    /// The global position of a message that matches; none if the condition looks at what comes after a head that the log
    /// does not have, as after a restore.
    pub found: Option<i64>,
    /// The log's head in that case.
    #[serde(default)]
    pub head: Option<i64>,
}

/// One failed expectation of an append to several streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its place among the checks of the append; none if the stream was to be written.
    pub check: Option<usize>,
    /// The stream.
    pub stream: String,
    /// The expected version.
    pub expected: Expected,
    /// The version of the stream; -1 if it does not exist.
    pub actual: i64,
}

impl Error {
    /// Whether this is a version conflict. Loading and deciding again may resolve it.
    pub fn is_version_conflict(&self) -> bool {
        matches!(self, Self::VersionConflict { .. })
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::RateLimited { .. } | Self::Server { .. })
    }

    /// Whether a worker that has nothing else to do waits until it passes: an operator may also repair what is damaged.
    pub(crate) fn may_pass(&self) -> bool {
        self.is_transient() || matches!(self, Self::Damaged { .. })
    }

    /// Whether the server has certainly not done what was requested.
    pub fn is_certainly_not_done(&self) -> bool {
        !matches!(
            self,
            Self::Unavailable { maybe_done: true, .. } | Self::Server { .. } | Self::Protocol { .. } | Self::Closed
        )
    }

    /// How long the server asks to wait before the next attempt, as it says it: it may ask for years. The client itself waits
    /// [`RetryPolicy::LONGEST_ASKED`](crate::RetryPolicy::LONGEST_ASKED) at most.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } | Self::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn unavailable(message: impl Into<String>, maybe_done: bool) -> Self {
        Self::Unavailable { message: message.into(), retry_after: None, maybe_done, source: None }
    }

    pub(crate) fn connection(
        message: impl Into<String>,
        maybe_done: bool,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Unavailable { message: message.into(), retry_after: None, maybe_done, source: Some(Arc::new(source)) }
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::Protocol { message: message.into() }
    }

    pub(crate) fn encode(error: impl fmt::Display) -> Self {
        Self::Encode { message: error.to_string() }
    }

    pub(crate) fn setting(message: impl Into<String>) -> Self {
        Self::Setting { message: message.into() }
    }

    /// The error for a reply with this status and body. If the body does not have the form of the protocol, such as an
    /// error page of a proxy, the status decides.
    pub(crate) fn from_reply(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Reply {
            error: Body,
        }
        #[derive(Deserialize)]
        struct Body {
            code: String,
            #[serde(default)]
            message: String,
            #[serde(default)]
            details: Value,
        }
        match serde_json::from_slice::<Reply>(body) {
            Ok(Reply { error }) => match ErrorCode::parse(&error.code) {
                Some(code) => Self::from_code(code, status, error.message, &error.details, retry_after),
                None => Self::from_status(status, format!("{}: {}", error.code, error.message), retry_after),
            },
            Err(_) => {
                let start: String = String::from_utf8_lossy(body).chars().take(200).collect();
                Self::from_status(status, format!("status {status}: {start}"), retry_after)
            }
        }
    }

    fn from_code(
        code: ErrorCode,
        status: u16,
        message: String,
        details: &Value,
        retry_after: Option<Duration>,
    ) -> Self {
        match code {
            ErrorCode::StreamVersionConflict => Self::version_conflict(details),
            ErrorCode::ConditionFailed => Self::ConditionFailed { message, conditions: conditions(details) },
            ErrorCode::MessageIdConflict => Self::IdConflict { message },
            ErrorCode::InvalidRequest | ErrorCode::InvalidJson | ErrorCode::PositionExists => {
                Self::InvalidRequest { message }
            }
            ErrorCode::AuthRequired | ErrorCode::AuthInvalidToken => Self::Unauthenticated { message },
            ErrorCode::AuthUnauthorized => Self::Forbidden { message },
            ErrorCode::NamespaceNotFound => Self::NamespaceNotFound { message },
            ErrorCode::TokenNotFound => Self::TokenNotFound { message },
            ErrorCode::NamespaceExists => Self::NamespaceExists { message },
            ErrorCode::GroupNotFound => Self::GroupNotFound { message },
            ErrorCode::Fenced => match Fenced::deserialize(details) {
                Ok(fenced) => Self::Fenced { fenced, message },
                Err(_) => Self::Refused { code, message },
            },
            ErrorCode::GroupExists | ErrorCode::GroupBusy | ErrorCode::ParkFull => Self::Refused { code, message },
            ErrorCode::MethodNotFound | ErrorCode::NotFound => Self::NotSupported { message },
            ErrorCode::PayloadTooLarge => Self::TooLarge { message },
            ErrorCode::QuotaExceeded => Self::QuotaExceeded { message },
            ErrorCode::RateLimited => Self::RateLimited { message, retry_after },
            ErrorCode::Overloaded | ErrorCode::BackendUnavailable => {
                Self::Unavailable { message, retry_after, maybe_done: false, source: None }
            }
            ErrorCode::Timeout => Self::Unavailable { message, retry_after, maybe_done: true, source: None },
            ErrorCode::DataDamaged => Self::Damaged { message },
            ErrorCode::BackendError | ErrorCode::ImportFailed => Self::Server { status, message },
        }
    }

    fn from_status(status: u16, message: String, retry_after: Option<Duration>) -> Self {
        match status {
            401 => Self::Unauthenticated { message },
            403 => Self::Forbidden { message },
            404 | 405 | 501 => Self::NotSupported { message },
            413 => Self::TooLarge { message },
            429 => Self::RateLimited { message, retry_after },
            400..=499 => Self::InvalidRequest { message },
            // A proxy between client and server answered. It may have forwarded the request.
            502..=504 => Self::Unavailable { message, retry_after, maybe_done: true, source: None },
            _ => Self::Server { status, message },
        }
    }

    /// From `{"expected","actual"}`, or `{"conflicts":[{"check","stream","expected","actual"},…]}`, in which conditions may
    /// stand, too.
    fn version_conflict(details: &Value) -> Self {
        let of_streams = entries(details).filter(|entry| entry.get("stream").is_some());
        let conflicts: Vec<Conflict> = of_streams.map(conflict).collect();
        let first = conflicts.first().cloned().unwrap_or_else(|| conflict(details));
        let conditions = conditions(details);
        Self::VersionConflict { expected: first.expected, actual: first.actual, conflicts, conditions }
    }
}

/// The entries of `{"conflicts":[…]}`.
fn entries(details: &Value) -> impl Iterator<Item = &Value> {
    details["conflicts"].as_array().into_iter().flatten()
}

/// The conditions among them.
fn conditions(details: &Value) -> Vec<FailedCondition> {
    let of_conditions = entries(details).filter(|entry| entry.get("stream").is_none());
    of_conditions.filter_map(|entry| FailedCondition::deserialize(entry).ok()).collect()
}

fn conflict(details: &Value) -> Conflict {
    let expected = match &details["expected"] {
        Value::String(word) if word == "exists" => Expected::Exists,
        Value::Number(version) => match version.as_i64() {
            Some(version) if version >= 0 => Expected::Version(version),
            _ => Expected::NoStream,
        },
        _ => Expected::Any,
    };
    Conflict {
        check: details["check"].as_u64().and_then(|check| usize::try_from(check).ok()),
        stream: details["stream"].as_str().unwrap_or_default().to_owned(),
        expected,
        actual: details["actual"].as_i64().unwrap_or(-1),
    }
}

/// Writes an expected version as text.
struct Shown(Expected);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expected::Any => f.write_str("any version"),
            Expected::NoStream => f.write_str("no stream"),
            Expected::Exists => f.write_str("an existing stream"),
            Expected::Version(version) => write!(f, "version {version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_tells_expected_and_actual() {
        let body = br#"{"error":{"code":"STREAM_VERSION_CONFLICT","message":"Expected version 5, stream is at version 1","details":{"expected":5,"actual":1}}}"#;
        let Error::VersionConflict { expected, actual, conflicts, conditions } = Error::from_reply(409, None, body)
        else {
            panic!("a conflict")
        };
        assert_eq!((expected, actual, conflicts, conditions), (Expected::Version(5), 1, vec![], vec![]));
    }

    #[test]
    fn all_conflicts_of_an_append_to_several_streams_are_told() {
        let body = br#"{"error":{"code":"STREAM_VERSION_CONFLICT","message":"2 streams","details":{"conflicts":[{"stream":"a-1","expected":-1,"actual":4},{"check":0,"stream":"b-1","expected":"exists","actual":-1},{"check":2,"absent":{"types":["T"]},"found":7}]}}}"#;
        let Error::VersionConflict { expected, actual, conflicts, conditions } = Error::from_reply(409, None, body)
        else {
            panic!("a conflict")
        };
        assert_eq!((expected, actual), (Expected::NoStream, 4));
        let second = Conflict { check: Some(0), stream: "b-1".into(), expected: Expected::Exists, actual: -1 };
        assert_eq!((conflicts.len(), &conflicts[1]), (2, &second));
        assert_eq!(conditions, [FailedCondition { check: 2, found: Some(7), head: None }]);
    }

    #[test]
    fn failed_conditions_are_told() {
        let body = br#"{"error":{"code":"CONDITION_FAILED","message":"m","details":{"conflicts":[{"check":1,"match":{"types":["T"]},"after":9,"found":null,"head":7}]}}}"#;
        let Error::ConditionFailed { conditions, .. } = Error::from_reply(409, None, body) else {
            panic!("a conflict")
        };
        assert_eq!(conditions, [FailedCondition { check: 1, found: None, head: Some(7) }]);
    }

    #[test]
    fn a_member_learns_what_it_has_to_give_up() {
        let body = br#"{"error":{"code":"FENCED","message":"m","details":{"reason":"epoch","partition":3}}}"#;
        let Error::Fenced { fenced, .. } = Error::from_reply(409, None, body) else { panic!("fenced") };
        assert_eq!(fenced, Fenced { reason: eventodb_protocol::group::Fence::Epoch, partition: Some(3) });
    }

    #[test]
    fn certain_refusals_and_open_outcomes_are_told_apart() {
        let overloaded = Error::from_reply(503, None, br#"{"error":{"code":"OVERLOADED","message":"full"}}"#);
        assert!(overloaded.is_certainly_not_done() && overloaded.is_transient());
        let timeout = Error::from_reply(504, None, br#"{"error":{"code":"TIMEOUT","message":"slow"}}"#);
        assert!(!timeout.is_certainly_not_done() && timeout.is_transient());
        let proxy = Error::from_reply(502, None, b"<html>bad gateway</html>");
        assert!(!proxy.is_certainly_not_done() && proxy.is_transient());
    }

    #[test]
    fn every_code_of_the_table_has_an_error() {
        for &code in ErrorCode::ALL {
            let body = format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
            let error = Error::from_reply(code.status(), None, body.as_bytes());
            assert!(!matches!(error, Error::Protocol { .. }), "{code}");
        }
    }
}
