//! The error codes of the protocol. One table has the code, the status and the retry rule of each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares [`ErrorCode`] from one table of `Variant "CODE" status retriable`.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident $code:literal $status:literal $retry:literal;)*) => {
        /// A code of the protocol for what went wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code, in the order of the table in `docs/API.md`.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The code as replies have it.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $code,)* }
            }

            /// The HTTP status of the code; 0 for codes that only appear in import events.
            pub const fn status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status,)* }
            }

            /// Whether a reply with this code carries `Retry-After`.
            pub const fn retry_after(self) -> bool {
                match self { $(ErrorCode::$variant => $retry,)* }
            }

            /// The code with this text, if there is one.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($code => Some(ErrorCode::$variant),)* _ => None }
            }
        }
    };
}

error_codes! {
    /// The request is malformed. The message names the argument and what is expected.
    InvalidRequest "INVALID_REQUEST" 400 false;
    /// An import record is malformed.
    InvalidJson "INVALID_JSON" 0 false;
    /// A token is required, and the request has none.
    AuthRequired "AUTH_REQUIRED" 401 false;
    /// The given token does not have the form of a token.
    AuthInvalidToken "AUTH_INVALID_TOKEN" 401 false;
    /// The token does not open this namespace, or does not allow this there. The message names the missing right.
    AuthUnauthorized "AUTH_UNAUTHORIZED" 403 false;
    /// There is no method of that name.
    MethodNotFound "METHOD_NOT_FOUND" 404 false;
    /// There is no such path.
    NotFound "NOT_FOUND" 404 false;
    /// There is no namespace of that name.
    NamespaceNotFound "NAMESPACE_NOT_FOUND" 404 false;
    /// There is no token of that id, or none that this caller may know of.
    TokenNotFound "TOKEN_NOT_FOUND" 404 false;
    /// There is no group of that name.
    GroupNotFound "GROUP_NOT_FOUND" 404 false;
    /// There already is a namespace of that name.
    NamespaceExists "NAMESPACE_EXISTS" 409 false;
    /// The stream is not at the expected version.
    StreamVersionConflict "STREAM_VERSION_CONFLICT" 409 false;
    /// The id was written before with other content.
    MessageIdConflict "MESSAGE_ID_CONFLICT" 409 false;
    /// A message that the condition of an append excludes exists.
    ConditionFailed "CONDITION_FAILED" 409 false;
    /// There already is a group of that name, which reads something else.
    GroupExists "GROUP_EXISTS" 409 false;
    /// The group is being resized, or carries over as many earlier partition counts as it can.
    GroupBusy "GROUP_BUSY" 409 false;
    /// The member, or the epoch that it presents, has no right to this any more. The details say why.
    Fenced "FENCED" 409 false;
    /// As many streams of the group are parked as may be.
    ParkFull "PARK_FULL" 409 false;
    /// An import record's position, global position or id is taken.
    PositionExists "POSITION_EXISTS" 0 false;
    /// An import could not continue.
    ImportFailed "IMPORT_FAILED" 0 false;
    /// A message or a request is larger than the limit.
    PayloadTooLarge "PAYLOAD_TOO_LARGE" 413 false;
    /// Too many requests from this caller.
    RateLimited "RATE_LIMITED" 429 true;
    /// A stored message is damaged and is not served.
    DataDamaged "DATA_DAMAGED" 500 false;
    /// The store failed. The server's log has the details.
    BackendError "BACKEND_ERROR" 500 false;
    /// The server's queues are full. Certainly not written.
    Overloaded "OVERLOADED" 503 true;
    /// The store does not answer. Certainly not written.
    BackendUnavailable "BACKEND_UNAVAILABLE" 503 true;
    /// The outcome is unknown: retry with the same id.
    Timeout "TIMEOUT" 504 false;
    /// The namespace holds as much as it may. Certainly not written.
    QuotaExceeded "QUOTA_EXCEEDED" 507 false;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("unknown error code {text}")))
    }
}

/// An error of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    /// The code.
    pub code: ErrorCode,
    /// One sentence for a person: which field is wrong, what is expected, what to do.
    pub message: String,
}

impl Error {
    /// An error with this message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// `INVALID_REQUEST` with this message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_parses_back() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
        }
    }
}
