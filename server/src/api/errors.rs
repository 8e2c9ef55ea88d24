//! Errors become replies here, and nowhere else.
//!
//! What a client needs to act on is in the code, the message and the details. What went wrong inside
//! is for the log, once, and never for the client.

use std::borrow::Cow;

use axum::response::Response;
use eventodb_protocol::group::Fenced;
use eventodb_protocol::limits::POSITION_MAX;
use eventodb_protocol::message::Expected;
use eventodb_protocol::{ErrorCode, Matching, json};
use eventodb_store::Conflict;
use eventodb_store::groups::Refusal;
use http::header::{ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::{Serialize, Serializer};

use crate::api::places::Occupied;
use crate::api::rates::Limited;
use crate::api::reply;
use crate::http::{Broken, Exhausted};
use crate::observe::{Cause, Shed};

const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Why a request is not answered as it hoped.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: ErrorCode,
    message: Cow<'static, str>,
    details: Option<Box<Details>>,
    /// Where it is not the one that goes with the code.
    status: Option<StatusCode>,
    allow: Option<&'static str>,
    closes: bool,
    is_of_wrong_token: bool,
    /// Where the reason is load.
    shed: Option<Shed>,
    /// What went wrong inside.
    cause: Option<Box<Cause>>,
}

/// What a program needs beyond the code.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Details {
    One(Mismatch),
    All {
        conflicts: Vec<Failed>,
    },
    #[serde(rename_all = "camelCase")]
    Damaged {
        global_position: i64,
    },
    Fenced(Fenced),
    Differing {
        #[serde(skip_serializing_if = "Option::is_none")]
        categories: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        types: Option<Vec<String>>,
    },
}

#[derive(Clone, Debug, Serialize)]
struct Mismatch {
    #[serde(serialize_with = "expectation")]
    expected: Expected,
    actual: i64,
}

/// What did not hold of an append.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Failed {
    Version(StreamMismatch),
    Condition(FailedCondition),
}

#[derive(Clone, Debug, Serialize)]
struct FailedCondition {
    check: usize,
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    matching: Option<Matching>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<Matching>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<i64>,
    found: Option<i64>,
    /// Only if `after` lies above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<i64>,
}

#[derive(Clone, Debug, Serialize)]
struct StreamMismatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<usize>,
    stream: String,
    #[serde(flatten)]
    mismatch: Mismatch,
}

/// How a write reports streams that were not as expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflicts {
    /// As details of the one stream that was written.
    One,
    /// As a list.
    All,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
            status: None,
            allow: None,
            closes: false,
            is_of_wrong_token: false,
            shed: None,
            cause: None,
        }
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// The path takes other verbs: these.
    pub(crate) fn wrong_verb(allow: &'static str) -> Self {
        let failure = Self::invalid(format!("this path takes {allow}"));
        Self { status: Some(StatusCode::METHOD_NOT_ALLOWED), allow: Some(allow), ..failure }
    }

    /// The server takes no new work.
    pub(crate) fn stopping() -> Self {
        Self::new(ErrorCode::BackendUnavailable, "the server is shutting down")
    }

    /// The server takes no writes, because somebody has said so.
    pub(crate) fn read_only() -> Self {
        let message = "the server is in read-only mode (--read-only): nothing was done";
        Self::new(ErrorCode::BackendUnavailable, message)
    }

    /// There is no place, because somebody has said so.
    pub(crate) fn switched_off(message: &'static str) -> Self {
        Self { shed: Some(Shed::Places), ..Self::new(ErrorCode::Overloaded, message) }
    }

    /// A handler panicked, which the panic hook has logged.
    pub(crate) fn panicked() -> Self {
        Self::new(ErrorCode::BackendError, INTERNAL)
    }

    /// An append failed.
    pub(crate) fn of_append(error: eventodb_store::Error, report: Conflicts) -> Self {
        match error {
            eventodb_store::Error::VersionConflict(conflicts) => {
                Self::of_conflicts(ErrorCode::StreamVersionConflict, &conflicts, report)
            }
            eventodb_store::Error::ConditionFailed(conflicts) => {
                Self::of_conflicts(ErrorCode::ConditionFailed, &conflicts, report)
            }
            error => error.into(),
        }
    }

    /// The refusal of a call on a group, or of what an append does to one.
    fn of_group(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Invalid(_) => ErrorCode::InvalidRequest,
            Refusal::Exists { .. } => ErrorCode::GroupExists,
            Refusal::Resizing | Refusal::Carrying => ErrorCode::GroupBusy,
            Refusal::Fenced { .. } => ErrorCode::Fenced,
            Refusal::ParkFull(_) => ErrorCode::ParkFull,
            Refusal::TooMany { .. } => ErrorCode::Overloaded,
        };
        let message = refusal.to_string();
        let details = match refusal {
            Refusal::Exists { categories, types } => Some(Details::Differing { categories, types }),
            Refusal::Fenced { reason, partition } => Some(Details::Fenced(Fenced { reason, partition })),
            _ => None,
        };
        Self { details: details.map(Box::new), ..Self::new(code, message) }
    }

    fn of_conflicts(code: ErrorCode, conflicts: &[Conflict], report: Conflicts) -> Self {
        let message = conflicts.iter().map(|conflict| describe(conflict, report)).collect::<Vec<_>>().join("; ");
        let details = match (report, conflicts) {
            (Conflicts::One, [Conflict::Version { expected, actual, .. }]) => {
                Details::One(Mismatch { expected: *expected, actual: *actual })
            }
            _ => Details::All { conflicts: conflicts.iter().map(Failed::from).collect() },
        };
        Self { details: Some(Box::new(details)), ..Self::new(code, message) }
    }

    /// The same failure, after whose reply the connection is closed.
    #[must_use]
    pub(crate) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// The same failure in other words.
    #[must_use]
    pub(crate) fn in_words(self, message: &'static str) -> Self {
        Self { message: message.into(), ..self }
    }

    /// The same failure, whose reason is a token that opens nothing.
    #[must_use]
    pub(crate) fn of_wrong_token(self) -> Self {
        Self { is_of_wrong_token: true, ..self }
    }

    /// Whether the reason is a token that opens nothing.
    pub(crate) fn is_of_wrong_token(&self) -> bool {
        self.is_of_wrong_token
    }

    /// The refusal of a client that has failed like this too often.
    #[must_use]
    pub(crate) fn too_often(self, limited: Limited) -> Self {
        Self { closes: self.closes, ..limited.into() }
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// Why load is the reason, where it is.
    pub(crate) fn shed(&self) -> Option<Shed> {
        self.shed
    }

    /// What went wrong inside, where something did.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.cause.as_deref()
    }

    /// As [`Self::cause`], for the log.
    pub(crate) fn take_cause(&mut self) -> Option<Box<Cause>> {
        self.cause.take()
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = reply::with_status(self.status(), self.json());
        let headers = response.headers_mut();
        if self.code.retry_after() {
            headers.insert(RETRY_AFTER, retry_after());
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, BEARER);
        }
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.closes {
            response.headers_mut().insert(CONNECTION, CLOSE);
        }
        response
    }

    fn json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(64 + self.message().len());
        json.extend_from_slice(br#"{"error":{"code":""#);
        json.extend_from_slice(self.code.as_str().as_bytes());
        json.extend_from_slice(br#"","message":"#);
        json::write_string(&mut json, self.message());
        if let Some(details) = &self.details {
            json.extend_from_slice(br#","details":"#);
            serde_json::to_writer(&mut json, details).expect("details have string keys only");
        }
        json.extend_from_slice(b"}}");
        json
    }

    fn status(&self) -> StatusCode {
        let status = self.status.or_else(|| StatusCode::from_u16(self.code.status()).ok());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Seconds after which a refused request may be tried again: any of these, so that not all clients come back at once.
pub(super) fn retry_after() -> HeaderValue {
    HeaderValue::from_static(["1", "2", "3"][rand::random_range(0..3)])
}

const INTERNAL: &str = "the server failed; its log tells why";

impl From<Exhausted> for Failure {
    fn from(_: Exhausted) -> Self {
        let message = "the memory for what waits is used up, or your connection's or namespace's share of it; \
                       nothing was done: try again, with less at a time";
        Self { shed: Some(Shed::Memory), ..Self::new(ErrorCode::Overloaded, message).closing() }
    }
}

impl From<Occupied> for Failure {
    fn from(occupied: Occupied) -> Self {
        Self { shed: Some(Shed::Places), ..Self::new(ErrorCode::Overloaded, occupied.to_string()) }
    }
}

impl From<Limited> for Failure {
    fn from(limited: Limited) -> Self {
        Self { shed: Some(Shed::Rate), ..Self::new(ErrorCode::RateLimited, limited.into_message()) }
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        let failure = match broken {
            Broken::TooLarge(most) => {
                Self::new(ErrorCode::PayloadTooLarge, format!("the body must be at most {most} bytes"))
            }
            Broken::TooSlow(limit) => {
                let message = format!("the body did not arrive within {} s", limit.as_secs_f64());
                Self { status: Some(StatusCode::REQUEST_TIMEOUT), ..Self::invalid(message) }
            }
            Broken::Off => Self::invalid("the body broke off"),
            Broken::Exhausted => Exhausted.into(),
        };
        failure.closing()
    }
}

impl From<eventodb_protocol::Error> for Failure {
    fn from(error: eventodb_protocol::Error) -> Self {
        Self::new(error.code, error.message)
    }
}

impl From<eventodb_store::Error> for Failure {
    fn from(error: eventodb_store::Error) -> Self {
        use eventodb_store::Error;
        match error {
            error @ (Error::VersionConflict(_) | Error::ConditionFailed(_)) => Self::of_append(error, Conflicts::All),
            Error::IdConflict(id) => {
                let message = format!("the id {id} was written before with something else");
                Self::new(ErrorCode::MessageIdConflict, message)
            }
            Error::Full(stream) => Self::new(ErrorCode::BackendUnavailable, describe_full(stream.as_deref())),
            Error::OverQuota(of) => {
                let message = format!("the namespace would exceed its quota of {of}; nothing was written");
                Self::new(ErrorCode::QuotaExceeded, message)
            }
            Error::NamespaceNotFound => Self::new(ErrorCode::NamespaceNotFound, "there is no such namespace"),
            Error::NamespaceExists => Self::new(ErrorCode::NamespaceExists, "there already is such a namespace"),
            Error::Protected => Self::invalid(PROTECTED),
            Error::TokenNotFound => Self::new(ErrorCode::TokenNotFound, "there is no such token"),
            Error::TokenExists => Self::invalid(TOKEN_EXISTS),
            Error::TooManyTokens => Self::new(ErrorCode::Overloaded, TOO_MANY_TOKENS),
            Error::LastAdministrator => Self::invalid(LAST_ADMINISTRATOR),
            Error::GroupNotFound => Self::new(ErrorCode::GroupNotFound, "there is no such group"),
            Error::Group(refusal) => Self::of_group(refusal),
            Error::Overloaded => {
                let message = "earlier writes wait for too long; nothing was written";
                Self { shed: Some(Shed::Queue), ..Self::new(ErrorCode::Overloaded, message) }
            }
            Error::NoRoom => Exhausted.into(),
            Error::Closed => Self::new(
                ErrorCode::BackendUnavailable,
                "the namespace was deleted, replaced or closed meanwhile; nothing was written",
            ),
            Error::Replacing => Self::new(
                ErrorCode::BackendUnavailable,
                "an import with force replaces what the namespace holds; nothing was written",
            ),
            Error::GroupsUndecided => Self::invalid(GROUPS_UNDECIDED),
            Error::Overtaken => Self::new(ErrorCode::BackendUnavailable, OVERTAKEN),
            Error::Unavailable(cause) => {
                let cause = Box::new(Cause::warning("the store is unavailable", &*cause));
                let message = "the store does not answer, or takes no writes at present: GET /health/ready says why; nothing was written";
                Self { cause: Some(cause), ..Self::new(ErrorCode::BackendUnavailable, message) }
            }
            Error::Unknown(cause) => {
                let cause = Box::new(Cause::warning("the outcome of a write is unknown", &*cause));
                Self { cause: Some(cause), ..Self::new(ErrorCode::Timeout, UNKNOWN) }
            }
            // The store has told it in the log.
            Error::Damaged(position) => {
                let message = format!("the message at global position {position} is damaged; nothing was written");
                let details = Details::Damaged { global_position: position };
                Self { details: Some(Box::new(details)), ..Self::new(ErrorCode::DataDamaged, message) }
            }
            Error::Failed(cause) => {
                let cause = Box::new(Cause::error("the store failed", &*cause));
                Self { cause: Some(cause), ..Self::new(ErrorCode::BackendError, INTERNAL) }
            }
            error @ Error::PositionExists(_) => {
                let cause = Box::new(Cause::error("the store gave an answer that only an import can get", &error));
                Self { cause: Some(cause), ..Self::new(ErrorCode::BackendError, INTERNAL) }
            }
        }
    }
}

const OVERTAKEN: &str = "the namespace was deleted or replaced meanwhile; nothing was replaced";
const GROUPS_UNDECIDED: &str = "the namespace has groups: groups must be keep or drop; nothing was replaced";
const PROTECTED: &str = "the namespace is protected: ns.update with \"protected\":false ends that";
const TOKEN_EXISTS: &str =
    "token exists with other rights, categories or expiry, or it has ended: give another one, or none";
const TOO_MANY_TOKENS: &str = "the namespace has as many living tokens as it may have: revoke one";
const LAST_ADMINISTRATOR: &str = "this is the last token of default that has the right admin and does not expire: \
    create another one first, or rotate it with a grace";

/// The message to a writer whose write may have happened.
pub(crate) const UNKNOWN: &str = "the write may or may not have happened: send it again with the same id";

fn describe(conflict: &Conflict, report: Conflicts) -> String {
    let (stream, expected, actual) = match conflict {
        Conflict::Version { stream, expected, actual, .. } => (stream, expected, actual),
        Conflict::Condition { check, found: Some(found), .. } => {
            return format!("checks[{check}]: there is a message that matches, at global position {found}");
        }
        Conflict::Condition { check, found: None, head, .. } => {
            return format!("checks[{check}].after lies above the head of the log, which is {head}");
        }
    };
    let sentence = match expected {
        Expected::Exists => "Expected the stream to exist, it does not".to_owned(),
        Expected::Version(expected) => format!("Expected version {expected}, stream is at version {actual}"),
        Expected::NoStream | Expected::Any => format!("Expected version -1, stream is at version {actual}"),
    };
    match report {
        Conflicts::One => sentence,
        Conflicts::All => format!("{stream}: {sentence}"),
    }
}

fn describe_full(stream: Option<&str>) -> String {
    let full = stream.map_or_else(|| "the namespace".to_owned(), |stream| format!("stream {stream}"));
    format!("{full} has no position left, the highest is {POSITION_MAX}; nothing was written")
}

impl From<&Conflict> for Failed {
    fn from(conflict: &Conflict) -> Self {
        match conflict {
            Conflict::Version { check, stream, expected, actual } => Self::Version(StreamMismatch {
                check: *check,
                stream: stream.to_string(),
                mismatch: Mismatch { expected: *expected, actual: *actual },
            }),
            Conflict::Condition { check, condition, found, head } => {
                let matching = condition.matching.clone();
                let (matching, absent) = match condition.after {
                    Some(_) => (Some(matching), None),
                    None => (None, Some(matching)),
                };
                let head = found.is_none().then_some(*head);
                Self::Condition(FailedCondition {
                    check: *check,
                    matching,
                    absent,
                    after: condition.after,
                    found: *found,
                    head,
                })
            }
        }
    }
}

/// Writes what was expected as a number, or as a word if the expectation has no number.
fn expectation<S: Serializer>(expected: &Expected, serializer: S) -> Result<S::Ok, S::Error> {
    match *expected {
        Expected::Version(version) => serializer.serialize_i64(version),
        Expected::NoStream => serializer.serialize_i64(-1),
        Expected::Exists => serializer.serialize_str("exists"),
        Expected::Any => serializer.serialize_str("any"),
    }
}

#[cfg(test)]
mod tests {
    use eventodb_protocol::Condition;
    use eventodb_protocol::group::Fence;
    use http_body_util::BodyExt as _;

    use super::*;

    async fn body(failure: Failure) -> String {
        let bytes = failure.into_response().into_body().collect().await.expect("whole").to_bytes();
        String::from_utf8(bytes.into()).expect("UTF-8")
    }

    fn conflict(stream: &str, expected: Expected, actual: i64) -> Conflict {
        Conflict::Version { check: None, stream: stream.into(), expected, actual }
    }

    #[tokio::test]
    async fn one_conflict_is_told_as_the_protocol_says() {
        let error = eventodb_store::Error::VersionConflict(vec![conflict("a-1", Expected::Version(5), 1)]);
        assert_eq!(
            body(Failure::of_append(error, Conflicts::One)).await,
            r#"{"error":{"code":"STREAM_VERSION_CONFLICT","message":"Expected version 5, stream is at version 1","details":{"expected":5,"actual":1}}}"#
        );
    }

    #[tokio::test]
    async fn all_conflicts_are_listed() {
        let conflicts = vec![conflict("a-1", Expected::NoStream, 0), conflict("a-2", Expected::Exists, -1)];
        let failure = Failure::of_append(eventodb_store::Error::VersionConflict(conflicts), Conflicts::All);
        assert!(body(failure).await.ends_with(
            r#""details":{"conflicts":[{"stream":"a-1","expected":-1,"actual":0},{"stream":"a-2","expected":"exists","actual":-1}]}}}"#
        ));
    }

    #[tokio::test]
    async fn conditions_are_told_as_they_were_sent() {
        let matching = Matching::categories(["seat"]).types(["Taken"]);
        let condition = |check, after, found| {
            let condition = Condition { matching: matching.clone(), after };
            Conflict::Condition { check, condition, found, head: 9 }
        };
        let conflicts = vec![condition(0, Some(3), Some(7)), condition(2, None, Some(5)), condition(3, Some(12), None)];
        let failure = Failure::from(eventodb_store::Error::ConditionFailed(conflicts));
        assert_eq!(failure.status(), StatusCode::CONFLICT);
        let body = body(failure).await;
        assert!(body.starts_with(r#"{"error":{"code":"CONDITION_FAILED","message":"checks[0]: there is"#), "{body}");
        assert!(
            body.ends_with(concat!(
                r#""details":{"conflicts":[{"check":0,"match":{"categories":["seat"],"types":["Taken"]},"after":3,"found":7},"#,
                r#"{"check":2,"absent":{"categories":["seat"],"types":["Taken"]},"found":5},"#,
                r#"{"check":3,"match":{"categories":["seat"],"types":["Taken"]},"after":12,"found":null,"head":9}]}}}"#
            )),
            "{body}"
        );
    }

    #[tokio::test]
    async fn what_failed_inside_stays_inside() {
        let failure = Failure::from(eventodb_store::Error::failed("disk /dev/sda1 is on fire"));
        assert_eq!(failure.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!body(failure).await.contains("fire"));
    }

    #[tokio::test]
    async fn a_damaged_message_is_told_with_its_position() {
        let failure = Failure::from(eventodb_store::Error::Damaged(7));
        assert_eq!(failure.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(body(failure).await.ends_with(r#""details":{"globalPosition":7}}}"#));
    }

    #[tokio::test]
    async fn what_a_group_refuses_is_told_with_what_a_member_needs() {
        let fenced = Refusal::Fenced { reason: Fence::Epoch, partition: Some(3) };
        let text = body(eventodb_store::Error::Group(fenced).into()).await;
        assert!(text.contains(r#""code":"FENCED""#), "{text}");
        assert!(text.contains(r#""details":{"reason":"epoch","partition":3}"#), "{text}");
        let exists = Refusal::Exists { categories: Some(vec!["a".to_owned()]), types: None };
        let text = body(eventodb_store::Error::Group(exists).into()).await;
        assert!(text.contains(r#""details":{"categories":["a"]}"#), "{text}");
        let text = body(eventodb_store::Error::Group(Refusal::Resizing).into()).await;
        assert!(text.contains(r#""code":"GROUP_BUSY""#) && !text.contains("details"), "{text}");
    }

    #[test]
    fn statuses_are_those_of_the_table() {
        for &code in ErrorCode::ALL.iter().filter(|code| code.status() != 0) {
            let response = Failure::new(code, "").into_response();
            assert_eq!(response.status().as_u16(), code.status());
            assert_eq!(response.headers().contains_key(RETRY_AFTER), code.retry_after());
        }
    }
}
