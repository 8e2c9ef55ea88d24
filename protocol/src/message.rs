//! Messages, before and after they are written.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::time::Timestamp;
use crate::{json, name};

/// A message that a client wants written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// The client's id. If none, the server generates one (version 7).
    pub id: Option<Uuid>,
    /// Its type: a non-empty name.
    pub kind: Arc<str>,
    /// A compact JSON object.
    pub data: Arc<str>,
    /// A compact JSON object, or none.
    pub metadata: Option<Arc<str>>,
}

impl NewMessage {
    /// The size that limits count: the bytes of `data` and `metadata` as stored.
    pub fn size(&self) -> usize {
        self.data.len() + self.metadata.as_ref().map_or(0, |metadata| metadata.len())
    }
}

/// A written message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Unique in its namespace.
    pub id: Uuid,
    /// The stream it is in.
    pub stream: Arc<str>,
    /// Its type.
    pub kind: Arc<str>,
    /// Its position in the stream, from 0.
    pub position: i64,
    /// Its position in the namespace, from 1.
    pub global_position: i64,
    /// A compact JSON object.
    pub data: Arc<str>,
    /// A compact JSON object, or none.
    pub metadata: Option<Arc<str>>,
    /// When it was written.
    pub time: Timestamp,
}

/// A written message that borrows its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRef<'a> {
    /// See [`Message::id`].
    pub id: Uuid,
    /// See [`Message::stream`].
    pub stream: &'a str,
    /// See [`Message::kind`].
    pub kind: &'a str,
    /// See [`Message::position`].
    pub position: i64,
    /// See [`Message::global_position`].
    pub global_position: i64,
    /// See [`Message::data`].
    pub data: &'a str,
    /// See [`Message::metadata`].
    pub metadata: Option<&'a str>,
    /// See [`Message::time`].
    pub time: Timestamp,
}

impl MessageRef<'_> {
    /// The same message with its own text.
    pub fn to_message(self) -> Message {
        Message {
            id: self.id,
            stream: self.stream.into(),
            kind: self.kind.into(),
            position: self.position,
            global_position: self.global_position,
            data: self.data.into(),
            metadata: self.metadata.map(Into::into),
            time: self.time,
        }
    }
}

impl Message {
    /// A view of it.
    pub fn as_ref(&self) -> MessageRef<'_> {
        MessageRef {
            id: self.id,
            stream: &self.stream,
            kind: &self.kind,
            position: self.position,
            global_position: self.global_position,
            data: &self.data,
            metadata: self.metadata.as_deref(),
            time: self.time,
        }
    }

    /// The category of its stream.
    pub fn category(&self) -> &str {
        name::category(&self.stream)
    }

    /// Bytes of text in it, which bounds on memory count.
    pub fn size(&self) -> usize {
        self.stream.len() + self.kind.len() + self.data.len() + self.metadata.as_ref().map_or(0, |m| m.len())
    }

    /// The category of `metadata.correlationStreamName`, if that is a string.
    pub fn correlation(&self) -> Option<String> {
        correlation(self.metadata.as_deref()?)
    }
}

/// The category of `correlationStreamName` in compact `metadata`, if that is a string. A category with U+0000 counts as
/// none: no stream has such a name, and PostgreSQL cannot store it.
pub fn correlation(metadata: &str) -> Option<String> {
    const KEY: &str = "correlationStreamName";
    // A key that is written with escapes does not contain this text, so that metadata with escapes is searched member
    // by member.
    if !metadata.contains(KEY) && !metadata.contains('\\') {
        return None;
    }
    let stream = json::string(json::member(metadata, KEY)?)?;
    Some(name::category(&stream)).filter(|category| !category.contains('\0')).map(str::to_owned)
}

/// The version that a write expects of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Any version, also none.
    #[default]
    Any,
    /// The stream has no message.
    NoStream,
    /// The stream has at least one message.
    Exists,
    /// The last message of the stream is at this position.
    Version(i64),
}

impl Serialize for Expected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::NoStream => serializer.serialize_i64(-1),
            Self::Exists => serializer.serialize_str("exists"),
            Self::Version(version) => serializer.serialize_i64(*version),
        }
    }
}

impl Expected {
    /// Whether a stream whose last position is `version` (-1 if it has none) is as expected.
    pub fn admits(self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => version == -1,
            Self::Exists => version >= 0,
            Self::Version(expected) => version == expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_is_the_category_of_the_last_such_member() {
        for (metadata, expected) in [
            (r#"{"correlationStreamName":"order-3"}"#, Some("order")),
            (r#"{"\u0063orrelationStreamName":"a+b-1"}"#, Some("a+b")),
            (r#"{"correlationStreamName":"a-1","correlationStreamName":"b"}"#, Some("b")),
            (r#"{"correlationStreamName":3}"#, None),
            (r#"{"correlationStreamName":"\ud800"}"#, None),
            (r#"{"correlationStreamName":"a\u0000b-1"}"#, None),
            (r#"{"correlationStreamName":"a-\u0000"}"#, Some("a")),
            (r#"{"x":{"correlationStreamName":"a-1"}}"#, None),
            (r#"{"x":"correlationStreamName"}"#, None),
            ("{}", None),
        ] {
            assert_eq!(correlation(metadata).as_deref(), expected, "{metadata}");
        }
    }
}
