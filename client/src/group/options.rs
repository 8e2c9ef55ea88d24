//! What an operator says about a group.

use eventodb_protocol::Timestamp;
use serde::{Serialize, Serializer};

/// A group to be created. The default reads all messages of the namespace from the beginning.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateGroup {
    /// The categories that it reads; all if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// The types that it reads; all if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// How many partitions it has, 1 to 1,024. Default 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// What counts as handled from the beginning. Not together with `adopt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Take over what a static group handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopt>,
    /// How long a lease lasts after a call of its member, in milliseconds: 1,000 to 600,000. Default 30,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_ms: Option<u64>,
    /// How many streams may be parked at once. Default 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parked: Option<u64>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What counts as handled when a group is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Nothing.
    #[default]
    Beginning,
    /// All that is there.
    End,
    /// This global position and all below.
    After(i64),
}

/// What a static group handled. Its members must have stopped.
#[derive(Clone, Debug, Serialize)]
pub struct Adopt {
    /// How many members it had.
    pub size: usize,
    /// The checkpoint of each member, in their order.
    pub checkpoints: Vec<i64>,
}

/// What is to be changed about a group; what is left out stays as it is.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateGroup {
    /// How long a lease lasts after a call of its member, in milliseconds. No lease ends earlier by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_ms: Option<u64>,
    /// How many streams may be parked at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parked: Option<u64>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Where partitions begin anew.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResetGroup {
    /// The new checkpoint.
    pub to: ResetTo,
    /// Which partitions; all if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<u32>>,
    /// Only tell what it would do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A new checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// Before the first message.
    Beginning,
    /// The head.
    End,
    /// This global position.
    Position(i64),
    /// Before the first message at or after this time.
    Time(Timestamp),
    /// Where this other group is, which reads the same.
    Group(String),
}

/// Messages of a parked stream that are to count as handled.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Skip {
    /// The stream.
    pub stream: String,
    /// The global position of the last one.
    pub position: i64,
    /// Only tell what it would do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Beginning => serializer.serialize_str("beginning"),
            Self::End => serializer.serialize_str("end"),
            Self::After(position) => serializer.serialize_i64(*position),
        }
    }
}

impl Serialize for ResetTo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Group<'a> {
            group: &'a str,
        }
        match self {
            Self::Beginning => serializer.serialize_str("beginning"),
            Self::End => serializer.serialize_str("end"),
            Self::Position(position) => serializer.serialize_i64(*position),
            Self::Time(time) => time.serialize(serializer),
            Self::Group(group) => Group { group }.serialize(serializer),
        }
    }
}
