//! Messages to be written.

use eventodb_protocol::json;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::message::Message;

/// A message to be written. It has an id of its own, so that it is in the log once however often it is written again
/// after a failure.
///
/// `T` serialises to a JSON object; [`RawValue`] keeps the text as it is.
#[derive(Clone, Debug)]
pub struct NewMessage<T = Box<RawValue>> {
    /// Its id. [`NewMessage::new`] generates a UUID of version 7.
    pub id: Uuid,
    /// Its type.
    pub kind: String,
    /// Its data.
    pub data: T,
    /// A JSON object, or none.
    metadata: Option<Box<RawValue>>,
}

impl<T> NewMessage<T> {
    /// A message of type `kind` with a new id.
    pub fn new(kind: impl Into<String>, data: T) -> Self {
        Self { id: Uuid::now_v7(), kind: kind.into(), data, metadata: None }
    }

    /// The same message under this id, such as one derived from the id of a command.
    #[must_use]
    pub fn with_id(mut self, id: Uuid) -> Self {
        self.id = id;
        self
    }

    /// Its metadata, if any.
    pub fn metadata(&self) -> Option<&RawValue> {
        self.metadata.as_deref()
    }

    /// The same message with this metadata, in place of any before.
    ///
    /// # Errors
    /// `Encode` if `metadata` is not a JSON object.
    pub fn with_metadata(mut self, metadata: &impl Serialize) -> Result<Self> {
        let raw = serde_json::value::to_raw_value(metadata).map_err(Error::encode)?;
        self.metadata = match raw.get() {
            "null" => None,
            text if text.starts_with('{') => Some(raw),
            _ => return Err(Error::encode("metadata must be an object")),
        };
        Ok(self)
    }

    /// Sets one member of the metadata to a string.
    pub(crate) fn with_text(self, member: &str, text: &str) -> Self {
        self.with_members(&[(member, text.into())])
    }

    /// Marks this message as belonging to the process of `stream`: sets `correlationStreamName`.
    #[must_use]
    pub fn correlated_with(self, stream: &str) -> Self {
        self.with_text("correlationStreamName", stream)
    }

    /// Marks this message as written because of `cause`: sets `causationMessageStreamName`, `causationMessagePosition`
    /// and `causationMessageGlobalPosition`, and copies the `correlationStreamName` of `cause`.
    ///
    /// The names are Eventide's.
    #[must_use]
    pub fn caused_by<U>(self, cause: &Message<U>) -> Self {
        let mut members: Vec<(&str, Value)> = vec![
            ("causationMessageStreamName", cause.stream().into()),
            ("causationMessagePosition", cause.position().into()),
            ("causationMessageGlobalPosition", cause.global_position().into()),
        ];
        if let Some(stream) = cause.correlation_stream() {
            members.push(("correlationStreamName", stream.into()));
        }
        self.with_members(&members)
    }

    /// Sets members of the metadata. All other members stay byte for byte.
    fn with_members(mut self, set: &[(&str, Value)]) -> Self {
        let before = self.metadata.as_ref().map_or("{}", |metadata| metadata.get());
        let before = json::compact(before).expect("a RawValue is well-formed");
        let mut kept = String::new();
        for (key, value) in json::members(&before).expect("metadata is an object") {
            if !set.iter().any(|(name, _)| json::string(key).as_deref() == Some(name)) {
                kept += &format!("{key}:{value},");
            }
        }
        let added: Vec<String> = set.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
        let text = format!("{{{kept}{}}}", added.join(","));
        self.metadata = Some(RawValue::from_string(text).expect("members of JSON make a JSON object"));
        self
    }
}

impl NewMessage<Box<RawValue>> {
    /// A message whose data and metadata are JSON text, which is sent byte for byte.
    ///
    /// # Errors
    /// `Encode` if one of them is not a JSON object.
    pub fn from_json(kind: impl Into<String>, data: &str, metadata: Option<&str>) -> Result<Self> {
        let mut message = Self::new(kind, object("data", data)?);
        message.metadata = metadata.filter(|text| *text != "null").map(|text| object("metadata", text)).transpose()?;
        Ok(message)
    }
}

impl<T: Serialize> NewMessage<T> {
    /// The same message with its data as JSON text.
    ///
    /// # Errors
    /// `Encode` if the data is not a JSON object.
    pub fn to_raw(&self) -> Result<NewMessage> {
        Ok(NewMessage {
            id: self.id,
            kind: self.kind.clone(),
            data: data(&self.data)?,
            metadata: self.metadata.clone(),
        })
    }

    /// The message as calls send it, with its id if the method takes it there.
    ///
    /// # Errors
    /// `Encode` if the data is not a JSON object.
    pub(crate) fn as_sent(&self, with_id: bool) -> Result<Sent<'_>> {
        let id = with_id.then_some(self.id);
        Ok(Sent { kind: &self.kind, data: data(&self.data)?, metadata: self.metadata.as_deref(), id })
    }
}

/// A message as calls send it.
#[derive(Debug, Serialize)]
pub(crate) struct Sent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    data: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
}

fn data(value: &impl Serialize) -> Result<Box<RawValue>> {
    let raw = serde_json::value::to_raw_value(value).map_err(Error::encode)?;
    if raw.get().starts_with('{') { Ok(raw) } else { Err(Error::encode("data must be an object")) }
}

fn object(what: &str, text: &str) -> Result<Box<RawValue>> {
    let raw =
        RawValue::from_string(text.trim().to_owned()).map_err(|error| Error::encode(format!("{what}: {error}")))?;
    if !raw.get().starts_with('{') {
        return Err(Error::encode(format!("{what} must be an object")));
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_stays_as_it_is() {
        let message = NewMessage::from_json("T", r#"{"n":1.10,"n":-0,"s":"\u0041\/"}"#, Some(r#"{"m":1e400}"#))
            .expect("objects")
            .with_id(Uuid::from_u128(1));
        let sent = serde_json::to_string(&message.as_sent(true).expect("an object")).expect("JSON");
        assert_eq!(
            sent,
            r#"{"type":"T","data":{"n":1.10,"n":-0,"s":"\u0041\/"},"metadata":{"m":1e400},"id":"00000000-0000-0000-0000-000000000001"}"#
        );
    }

    #[test]
    fn only_objects_are_written() {
        assert!(NewMessage::new("T", json!([1])).as_sent(true).is_err());
        assert!(NewMessage::new("T", 1).to_raw().is_err());
        assert!(NewMessage::from_json("T", "[]", None).is_err());
        assert!(NewMessage::new("T", json!({})).with_metadata(&1).is_err());
    }

    #[test]
    fn correlation_leaves_other_members_alone() {
        let message = NewMessage::from_json("T", "{}", Some(r#"{ "a": 1.0, "correlationStreamName": "x-1", "a": 2 }"#))
            .expect("objects")
            .correlated_with("transfer-\"1");
        let metadata = message.metadata().map(RawValue::get);
        assert_eq!(metadata, Some(r#"{"a":1.0,"a":2,"correlationStreamName":"transfer-\"1"}"#));
    }

    #[test]
    fn a_cause_is_named() {
        let cause = crate::message::tests::message("account-1", 3, 17, r#"{"correlationStreamName":"transfer-9"}"#);
        let metadata = NewMessage::new("T", json!({})).caused_by(&cause).metadata().map(|raw| raw.get().to_owned());
        assert_eq!(
            metadata.as_deref(),
            Some(
                r#"{"causationMessageStreamName":"account-1","causationMessagePosition":3,"causationMessageGlobalPosition":17,"correlationStreamName":"transfer-9"}"#
            )
        );
    }
}
