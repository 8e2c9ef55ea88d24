//! What writes ask for: `stream.write`, `stream.append`, `streams.append`.

use std::collections::HashSet;
use std::sync::Arc;

use uuid::Uuid;

use super::{Call, Options, integer};
use crate::limits::{APPEND_MESSAGES, APPEND_STREAMS};
use crate::message::{Expected, NewMessage};
use crate::{Error, ErrorCode, Limits, json, name};

/// Messages for one stream, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendEntry {
    /// The stream they go to.
    pub stream: Arc<str>,
    /// What the stream must be like before.
    pub expected: Expected,
    /// At least one.
    pub messages: Vec<NewMessage>,
}

/// An expectation about a stream that is not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The stream.
    pub stream: Arc<str>,
    /// What it must be like.
    pub expected: Expected,
}

/// An atomic append: everything in it happens, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// At least one; a stream at most once.
    pub entries: Vec<AppendEntry>,
    /// A stream at most once.
    pub checks: Vec<Check>,
}

impl Append {
    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.entries.iter().map(|entry| entry.messages.len()).sum()
    }

    /// Whether it has none, which no parsed one is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of text in it.
    pub fn size(&self) -> usize {
        let messages = self.entries.iter().flat_map(|entry| &entry.messages);
        messages.map(|message| message.size() + message.kind.len()).sum()
    }
}

/// Reads the arguments of `stream.write`: `stream, message, options`.
///
/// # Errors
/// `INVALID_REQUEST` naming the argument, or `PAYLOAD_TOO_LARGE`.
pub fn single_write(call: &mut Call<'_>, limits: &Limits) -> Result<Append, Error> {
    let stream = stream_name("stream", &call.string("stream")?, limits)?;
    let mut message = message("message", call.required("message")?, limits)?;
    let options = call.options()?;
    message.id = options.string("id")?.map(|id| message_id("id", &id)).transpose()?;
    let expected = expected("expectedVersion", &options)?;
    Ok(Append { entries: vec![AppendEntry { stream, expected, messages: vec![message] }], checks: Vec::new() })
}

/// Reads the arguments of `stream.append`: `stream, messages, options`.
///
/// # Errors
/// `INVALID_REQUEST` naming the argument, or `PAYLOAD_TOO_LARGE`.
pub fn stream_append(call: &mut Call<'_>, limits: &Limits) -> Result<Append, Error> {
    let stream = stream_name("stream", &call.string("stream")?, limits)?;
    let messages = messages("messages", call.required("messages")?, limits)?;
    let expected = expected("expectedVersion", &call.options()?)?;
    within("messages", "messages", messages.len(), APPEND_MESSAGES)?;
    Ok(Append { entries: vec![AppendEntry { stream, expected, messages }], checks: Vec::new() })
}

/// Reads the arguments of `streams.append`: `entries, options`.
///
/// # Errors
/// `INVALID_REQUEST` naming the argument, or `PAYLOAD_TOO_LARGE`.
pub fn streams_append(call: &mut Call<'_>, limits: &Limits) -> Result<Append, Error> {
    let elements = array("entries", call.required("entries")?)?;
    let entries = elements
        .enumerate()
        .map(|(at, element)| entry(&format!("entries[{at}]"), element, limits))
        .collect::<Result<Vec<_>, _>>()?;
    let checks = match call.options()?.raw("checks") {
        None => Vec::new(),
        Some(checks) => array("checks", checks)?
            .enumerate()
            .map(|(at, element)| check(&format!("checks[{at}]"), element, limits))
            .collect::<Result<_, _>>()?,
    };
    if entries.is_empty() {
        return Err(Error::invalid("entries must have at least one entry"));
    }
    within("entries", "streams", entries.len(), APPEND_STREAMS)?;
    within("checks", "checks", checks.len(), APPEND_STREAMS)?;
    unique("entries", entries.iter().map(|entry| &*entry.stream))?;
    unique("checks", checks.iter().map(|check| &*check.stream))?;
    let append = Append { entries, checks };
    within("entries", "messages in all", append.len(), APPEND_MESSAGES)?;
    Ok(append)
}

fn entry(field: &str, text: &str, limits: &Limits) -> Result<AppendEntry, Error> {
    let prefix = format!("{field}.");
    let options = Options::parse(field, &prefix, text)?;
    let stream = required_stream(field, &options, limits)?;
    let messages_field = format!("{field}.messages");
    let text = options.raw("messages").ok_or_else(|| Error::invalid(format!("{messages_field} is required")))?;
    let messages = messages(&messages_field, text, limits)?;
    let expected = expected(&format!("{field}.expectedVersion"), &options)?;
    Ok(AppendEntry { stream, expected, messages })
}

fn check(field: &str, text: &str, limits: &Limits) -> Result<Check, Error> {
    let prefix = format!("{field}.");
    let options = Options::parse(field, &prefix, text)?;
    let stream = required_stream(field, &options, limits)?;
    let version_field = format!("{field}.expectedVersion");
    if options.raw("expectedVersion").is_none() {
        return Err(Error::invalid(format!("{version_field} is required")));
    }
    Ok(Check { stream, expected: expected(&version_field, &options)? })
}

fn required_stream(field: &str, options: &Options<'_>, limits: &Limits) -> Result<Arc<str>, Error> {
    let field = format!("{field}.stream");
    let stream = options.string("stream")?.ok_or_else(|| Error::invalid(format!("{field} is required")))?;
    stream_name(&field, &stream, limits)
}

fn stream_name(field: &str, stream: &str, limits: &Limits) -> Result<Arc<str>, Error> {
    name::check(field, stream, limits)?;
    Ok(stream.into())
}

fn messages(field: &str, text: &str, limits: &Limits) -> Result<Vec<NewMessage>, Error> {
    let messages = array(field, text)?
        .enumerate()
        .map(|(at, element)| {
            let field = format!("{field}[{at}]");
            let mut message = message(&field, element, limits)?;
            let prefix = format!("{field}.");
            let id = Options::parse(&field, &prefix, element)?.string("id")?;
            message.id = id.map(|id| message_id(&format!("{field}.id"), &id)).transpose()?;
            Ok(message)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    if messages.is_empty() {
        return Err(Error::invalid(format!("{field} must have at least one message")));
    }
    Ok(messages)
}

/// Reads a message `{"type","data","metadata"}`; its id stands elsewhere.
fn message(field: &str, text: &str, limits: &Limits) -> Result<NewMessage, Error> {
    let members = json::members(text).ok_or_else(|| Error::invalid(format!("{field} must be an object")))?;
    let (mut kind, mut data, mut metadata) = (None, None, None);
    for (key, value) in members {
        // The usual spellings first: a key with escapes is decoded.
        match json::string(key).as_deref() {
            Some("type") => kind = Some(value),
            Some("data") => data = Some(value),
            Some("metadata") => metadata = Some(value),
            _ => {}
        }
    }
    let required = |name: &str, value: Option<&str>| {
        value
            .filter(|value| *value != "null")
            .map(str::to_owned)
            .ok_or_else(|| Error::invalid(format!("{field}.{name} is required")))
    };
    let kind = required("type", kind)?;
    let kind =
        json::string(&kind).ok_or_else(|| Error::invalid(format!("{field}.type must be a string of valid Unicode")))?;
    name::check(&format!("{field}.type"), &kind, limits)?;
    let data = required("data", data)?;
    let metadata = metadata.filter(|value| *value != "null");
    for (name, value) in [("data", Some(&*data)), ("metadata", metadata)] {
        if let Some(value) = value {
            check_object(&format!("{field}.{name}"), value, limits)?;
        }
    }
    let message = NewMessage { id: None, kind: kind.into(), data: data.into(), metadata: metadata.map(Into::into) };
    if message.size() > limits.message_bytes {
        return Err(Error::new(
            ErrorCode::PayloadTooLarge,
            format!("{field} has {} bytes of data and metadata, the limit is {}", message.size(), limits.message_bytes),
        ));
    }
    Ok(message)
}

/// Checks that a compact value is an object that is not nested too deeply.
///
/// # Errors
/// `INVALID_REQUEST` naming `field`.
pub fn check_object(field: &str, value: &str, limits: &Limits) -> Result<(), Error> {
    if !value.starts_with('{') {
        return Err(Error::invalid(format!("{field} must be an object")));
    }
    if json::depth(value) > limits.json_depth {
        return Err(Error::invalid(format!("{field} must not be nested deeper than {}", limits.json_depth)));
    }
    Ok(())
}

/// Reads a message's id: 8-4-4-4-12 hex digits.
///
/// # Errors
/// `INVALID_REQUEST` naming `field`.
pub fn message_id(field: &str, text: &str) -> Result<Uuid, Error> {
    let invalid = || Error::invalid(format!("{field} must be a UUID of 8-4-4-4-12 hex digits"));
    // `Uuid::parse_str` takes other spellings too; this length leaves only the hyphenated one.
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return Err(invalid());
    }
    Uuid::parse_str(text).map_err(|_| invalid())
}

/// Reads the option `expectedVersion`: an integer of -1 or more, `"any"`, `"noStream"` or `"exists"`.
///
/// # Errors
/// `INVALID_REQUEST` naming `field`.
pub fn expected(field: &str, options: &Options<'_>) -> Result<Expected, Error> {
    let Some(value) = options.raw("expectedVersion") else { return Ok(Expected::Any) };
    match json::string(value).as_deref() {
        Some("any") => return Ok(Expected::Any),
        Some("noStream") => return Ok(Expected::NoStream),
        Some("exists") => return Ok(Expected::Exists),
        Some(_) => {
            return Err(Error::invalid(format!("{field} must be an integer, \"any\", \"noStream\" or \"exists\"")));
        }
        None => {}
    }
    match integer(field, value)? {
        -1 => Ok(Expected::NoStream),
        version if version >= 0 => Ok(Expected::Version(version)),
        _ => Err(Error::invalid(format!("{field} must be -1 or more"))),
    }
}

fn array<'a>(field: &str, text: &'a str) -> Result<json::Elements<'a>, Error> {
    json::elements(text).ok_or_else(|| Error::invalid(format!("{field} must be an array")))
}

fn within(field: &str, what: &str, count: usize, most: usize) -> Result<(), Error> {
    if count > most {
        return Err(Error::invalid(format!("{field} must have at most {most} {what}, got {count}")));
    }
    Ok(())
}

fn unique<'a>(field: &str, streams: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for stream in streams {
        if !seen.insert(stream) {
            return Err(Error::invalid(format!("{field} must name a stream at most once, {stream:?} is repeated")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Append, Error> {
        let limits = Limits::default();
        let mut call = Call::parse(body).expect("a call");
        match call.method() {
            "stream.write" => single_write(&mut call, &limits),
            "stream.append" => stream_append(&mut call, &limits),
            _ => streams_append(&mut call, &limits),
        }
    }

    #[test]
    fn a_write_keeps_data_as_text() {
        let append = parse(
            r#"["stream.write","account-1",{"type":"T","data":{"n":1.10,"n":-0},"metadata":{}},{"id":"A0000000-0000-0000-0000-00000000000F","expectedVersion":-1}]"#,
        )
        .expect("a write");
        let [entry] = &append.entries[..] else { panic!("one entry") };
        assert_eq!(entry.expected, Expected::NoStream);
        let [message] = &entry.messages[..] else { panic!("one message") };
        assert_eq!(&*message.data, r#"{"n":1.10,"n":-0}"#);
        assert_eq!(message.metadata.as_deref(), Some("{}"));
        assert_eq!(message.id.expect("an id").to_string(), "a0000000-0000-0000-0000-00000000000f");
    }

    #[test]
    fn errors_name_the_field() {
        for (body, field) in [
            (r#"["stream.write"]"#, "stream is required"),
            (r#"["stream.write",""]"#, "stream must be a non-empty string"),
            (r#"["stream.write","a"]"#, "message is required"),
            (r#"["stream.write","a",[]]"#, "message must be an object"),
            (r#"["stream.write","a",{"type":"T"}]"#, "message.data is required"),
            (r#"["stream.write","a",{"type":"T","data":[]}]"#, "message.data must be an object"),
            (r#"["stream.write","a",{"type":"T","data":{},"metadata":1}]"#, "message.metadata must be"),
            (r#"["stream.write","a",{"type":"\ud800","data":{}}]"#, "message.type must be"),
            (r#"["stream.write","a",{"type":"T","data":{}},{"id":"x"}]"#, "id must be a UUID"),
            (r#"["stream.write","a",{"type":"T","data":{}},{"expectedVersion":-2}]"#, "expectedVersion must be"),
            (r#"["stream.append","a",[]]"#, "messages must have at least one"),
            (r#"["stream.append","a",[{"type":"T","data":{},"id":7}]]"#, "messages[0].id must be a string"),
            (r#"["streams.append",[]]"#, "entries must have at least one"),
            (r#"["streams.append",[{"stream":"a"}]]"#, "entries[0].messages is required"),
            (
                r#"["streams.append",[{"stream":"a","messages":[{"type":"T","data":{}}]}],{"checks":[{"stream":"b"}]}]"#,
                "checks[0].expectedVersion is required",
            ),
        ] {
            let error = parse(body).expect_err(body);
            assert!(error.message.starts_with(field), "{body}: {}", error.message);
        }
    }
}
