//! The EventoDB protocol and its pure rules.
//!
//! Everything that server, store and clients must agree on is defined here once: names and categories, consumer-group
//! membership, tokens, messages, requests and replies, error codes and limits. No I/O, no runtime, no SQL.

pub mod condition;
pub mod error;
pub mod filter;
pub mod group;
pub mod json;
pub mod limits;
pub mod message;
pub mod name;
pub mod performance;
pub mod reply;
pub mod request;
pub mod rights;
pub mod shown;
pub mod spelling;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod token;
pub mod typed;
pub mod wire;

pub use condition::{Condition, Matching};
pub use error::{Error, ErrorCode};
pub use filter::{Direction, Filter, Scope};
pub use group::ConsumerGroup;
pub use limits::Limits;
pub use message::{Expected, Message, NewMessage};
pub use rights::{Grant, Right, Rights};
pub use time::Timestamp;
pub use token::Token;

/// The version of this build, as `GET /version` and `eventodb version` report it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The namespace that always exists and whose token is the administrator's.
pub const DEFAULT_NAMESPACE: &str = "default";
