//! A namespace as the registry has it, and how much its log holds.

use std::sync::Arc;

use eventodb_protocol::Timestamp;
use eventodb_protocol::reply::Quota;
use eventodb_protocol::token::TokenHash;

use crate::error::{Error, QuotaOf, Result};

/// The number of one incarnation of a namespace: each creation and each replacement makes a new one. The names of
/// files and schemas derive from it. It is never used again, so that an old file cannot pass for a new namespace's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub i64);

/// A namespace as the registry has it.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Which incarnation of its name this is.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: Arc<str>,
    /// The incarnation with which it was created. Its tokens belong to that: a replacement keeps it, and a later
    /// namespace of the same name has another.
    pub origin: Incarnation,
    /// Free text.
    pub description: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether it can be neither deleted nor replaced.
    pub protected: bool,
    /// How much it may hold.
    pub quota: Quota,
}

impl Namespace {
    /// The name of the namespace in which servers test themselves. It has a control character, which no request may name,
    /// and the store opens it to nobody.
    pub const OF_SELF_TESTS: &str = "\u{1}self-test";
}

/// A namespace as a caller means it. Between the look at a token and the act of its call the namespace may be deleted and
/// another one of that name be made, to which the token opens nothing.
#[derive(Clone, Copy, Debug)]
pub struct Meant<'a> {
    /// Its name.
    pub name: &'a str,
    /// Which one of that name; `None` means the one that lives, whichever that is.
    pub origin: Option<Incarnation>,
}

impl Meant<'_> {
    /// Whether the namespace of that name with this origin is meant.
    pub fn admits(&self, origin: Incarnation) -> bool {
        self.origin.is_none_or(|meant| meant == origin)
    }
}

impl<'a> From<&'a str> for Meant<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, origin: None }
    }
}

/// A namespace to be created.
#[derive(Clone, Debug)]
pub struct NewNamespace {
    /// Its name.
    pub name: String,
    /// SHA-256 of its first token, which has every right.
    pub token_hash: TokenHash,
    /// Free text; empty where none was given.
    pub description: String,
    /// A compact JSON object.
    pub metadata: String,
}

/// What is to be changed about a namespace; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct NamespaceUpdate {
    /// Free text.
    pub description: Option<String>,
    /// Whether it can be neither deleted nor replaced.
    pub protected: Option<bool>,
    /// How much it may hold, both parts of it.
    pub quota: Option<Quota>,
}

/// How large a log is, as a quota counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Its messages.
    pub messages: u64,
    /// The bytes that it takes in the database.
    pub bytes: u64,
}

impl Size {
    /// Whether a log of this size may take the place of the one that a namespace has, which may be protected.
    ///
    /// # Errors
    /// [`Error::Protected`], [`Error::OverQuota`].
    pub(crate) fn may_replace(self, protected: bool, quota: Quota) -> Result<()> {
        let exceeds = |size: u64, most: Option<i64>| most.is_some_and(|most| i128::from(size) > i128::from(most));
        if protected {
            return Err(Error::Protected);
        }
        if exceeds(self.messages, quota.messages) {
            return Err(Error::OverQuota(QuotaOf::Messages));
        }
        if exceeds(self.bytes, quota.bytes) { Err(Error::OverQuota(QuotaOf::Bytes)) } else { Ok(()) }
    }
}

/// How much a log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages.
    pub messages: u64,
    /// Streams.
    pub streams: u64,
    /// Time of the last message.
    pub last_activity: Option<Timestamp>,
}
