//! Results of the methods, as replies have them.

use serde::{Deserialize, Serialize};

use crate::rights::Rights;
use crate::time::Timestamp;

/// Result of `stream.write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// Position in the stream, from 0.
    pub position: i64,
    /// Position in the namespace, from 1.
    pub global_position: i64,
}

/// Result of `stream.append`, and of each entry of `streams.append`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Appended {
    /// Position of the first message in the stream.
    pub first_position: i64,
    /// Position of the last message in the stream.
    pub last_position: i64,
    /// Global position of the first message.
    pub first_global_position: i64,
    /// Global position of the last message.
    pub last_global_position: i64,
}

/// Result of `GET /health/ready`: the store answers reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// `ok`.
    pub status: String,
    /// Why writes are refused, or soon will be; empty if they are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<DegradedReason>,
}

/// One reason in [`Readiness`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DegradedReason {
    /// Tells the kind of reason; stable.
    pub code: String,
    /// The same for people.
    pub message: String,
}

/// Result of `ns.create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceCreated {
    /// Its name.
    pub namespace: String,
    /// Its token. No other reply has it.
    pub token: String,
    /// When.
    pub created_at: Timestamp,
}

/// Result of `ns.delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceDeleted {
    /// Its name.
    pub namespace: String,
    /// When.
    pub deleted_at: Timestamp,
    /// How many messages were deleted with it.
    pub messages_deleted: u64,
}

/// One entry of `ns.list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceListed {
    /// Its name.
    pub namespace: String,
    /// Free text; empty if none was given.
    pub description: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// How many messages it holds.
    pub message_count: u64,
}

/// Result of `ns.info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceInfo {
    /// Its name.
    pub namespace: String,
    /// Free text; empty if none was given.
    pub description: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// How many messages it holds.
    pub message_count: u64,
    /// How many streams it holds.
    pub stream_count: u64,
    /// Time of its last message; none while it is empty.
    pub last_activity: Option<Timestamp>,
    /// Whether `ns.delete` and an import that replaces everything are refused.
    #[serde(default)]
    pub protected: bool,
    /// How much it may hold.
    #[serde(default)]
    pub quota: Quota,
}

/// How much a namespace may hold; what is not given has no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Messages.
    pub messages: Option<i64>,
    /// Bytes that it takes in the database, with indexes.
    pub bytes: Option<i64>,
}

/// Result of `token.create` and `token.rotate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenCreated {
    /// The token itself. No other reply has it.
    pub token: String,
    /// All else about it.
    #[serde(flatten)]
    pub about: TokenAbout,
}

/// One entry of `token.list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenListed {
    /// All that does not change while it is used.
    #[serde(flatten)]
    pub about: TokenAbout,
    /// The hour in which it was last used; none if it was not used yet.
    pub last_used_at: Option<Timestamp>,
}

/// What is told about a token: everything but the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenAbout {
    /// Its public name: a UUID, which opens nothing.
    pub id: String,
    /// The namespace that it opens.
    pub namespace: String,
    /// Free text; empty if none was given.
    pub description: String,
    /// What it allows.
    pub rights: Rights,
    /// The categories, and prefixes with a `*`, that the rights are limited to; none if they hold in all.
    pub categories: Option<Vec<String>>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ends by itself, because it expires or was rotated; none if it does not.
    pub expires_at: Option<Timestamp>,
}

/// Result of `token.revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRevoked {
    /// Its public name.
    pub id: String,
    /// When it ended.
    pub revoked_at: Timestamp,
}

/// One entry of `ns.streams`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamListed {
    /// Its name.
    pub stream: String,
    /// Position of its last message.
    pub version: i64,
    /// Time of its last message.
    pub last_activity: Timestamp,
}

/// One entry of `ns.categories`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CategoryListed {
    /// Its name.
    pub category: String,
    /// How many streams it has.
    pub stream_count: u64,
    /// How many messages they hold.
    pub message_count: u64,
}

/// Result of `sys.config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Changes with each value that is in force.
    pub hash: String,
    /// Every setting, in the order of the help.
    pub settings: Vec<Setting>,
}

/// A setting of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// The name of its flag.
    pub name: String,
    /// The value that is in force, as it is typed behind the flag; none if there is none. A secret is hidden.
    pub value: Option<String>,
    /// Where it comes from: `default`, a file and line, a variable, `flag`, or `sys.config`.
    pub from: String,
    /// Whether it may be changed while the server runs.
    pub changeable: bool,
    /// If it comes from `sys.config`: what is in force without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beneath: Option<Layer>,
    /// What the file has now, where that needs a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_restart: Option<Layer>,
}

/// A value of a setting, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// As in [`Setting`].
    pub value: Option<String>,
    /// As in [`Setting`].
    pub from: String,
}

/// Result of `sys.health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// `sqlite` or `postgres`.
    pub backend: String,
    /// Connections of the server.
    pub connections: u64,
}
