//! The arguments of writes: `stream.write`, `stream.append`, `streams.append`.

use std::collections::HashSet;
use std::sync::Arc;

use super::check::{Check, checks};
use super::group::GroupForm;
use super::message::{message, message_id, messages};
use super::{Call, Options, integer};
use crate::condition::Condition;
use crate::limits::{APPEND_MESSAGES, APPEND_STREAMS};
use crate::message::{Expected, NewMessage};
use crate::{Error, Limits, json, name};

const WRITE_OPTIONS: &[&str] = &["id", "expectedVersion", "checkpoint", "handled", "fence"];
const APPEND_OPTIONS: &[&str] = &["expectedVersion", "checkpoint", "handled", "fence"];
const STREAMS_OPTIONS: &[&str] = &["checks", "checkpoint", "handled", "fence"];
const ENTRY_MEMBERS: &[&str] = &["stream", "messages", "expectedVersion"];

/// Messages for one stream, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendEntry {
    /// The stream to write to.
    pub stream: Arc<str>,
    /// The expected version of the stream.
    pub expected: Expected,
    /// At least one.
    pub messages: Vec<NewMessage>,
}

/// An atomic append: all of it is written, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// At least one. Each stream at most once.
    pub entries: Vec<AppendEntry>,
    /// What must hold besides. Each stream at most once.
    pub checks: Vec<Check>,
    /// What happens to a group in the same commit.
    pub group: Option<GroupForm>,
}

impl Append {
    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.entries.iter().map(|entry| entry.messages.len()).sum()
    }

    /// Whether it has no messages. A parsed append always has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The streams that its checks expect something of.
    pub fn checked_streams(&self) -> impl Iterator<Item = &Arc<str>> {
        self.checks.iter().filter_map(|check| match check {
            Check::Version { stream, .. } => Some(stream),
            Check::Condition(_) => None,
        })
    }

    /// The conditions among its checks, in order.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.checks.iter().filter_map(|check| match check {
            Check::Version { .. } => None,
            Check::Condition(condition) => Some(condition),
        })
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
    let options = call.options(WRITE_OPTIONS)?;
    if let Some(id) = options.string("id")? {
        let id = message_id("id", &id)?;
        if message.id.is_some_and(|other| other != id) {
            return Err(Error::invalid("id must be the same as message.id where both are given"));
        }
        message.id = Some(id);
    }
    let expected = expected("expectedVersion", &options)?;
    let group = GroupForm::parse(&options, limits)?;
    Ok(Append { entries: vec![AppendEntry { stream, expected, messages: vec![message] }], checks: Vec::new(), group })
}

/// Reads the arguments of `stream.append`: `stream, messages, options`.
///
/// # Errors
/// `INVALID_REQUEST` naming the argument, or `PAYLOAD_TOO_LARGE`.
pub fn stream_append(call: &mut Call<'_>, limits: &Limits) -> Result<Append, Error> {
    let stream = stream_name("stream", &call.string("stream")?, limits)?;
    let messages = messages("messages", call.required("messages")?, limits)?;
    let options = call.options(APPEND_OPTIONS)?;
    let expected = expected("expectedVersion", &options)?;
    let group = GroupForm::parse(&options, limits)?;
    within("messages", "messages", messages.len(), APPEND_MESSAGES)?;
    Ok(Append { entries: vec![AppendEntry { stream, expected, messages }], checks: Vec::new(), group })
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
    let options = call.options(STREAMS_OPTIONS)?;
    let checks = match options.raw("checks") {
        None => Vec::new(),
        Some(text) => checks(text, limits)?,
    };
    let group = GroupForm::parse(&options, limits)?;
    if entries.is_empty() {
        return Err(Error::invalid("entries must have at least one entry"));
    }
    within("entries", "streams", entries.len(), APPEND_STREAMS)?;
    unique("entries", entries.iter().map(|entry| &*entry.stream))?;
    let append = Append { entries, checks, group };
    within("entries", "messages in all", append.len(), APPEND_MESSAGES)?;
    Ok(append)
}

fn entry(field: &str, text: &str, limits: &Limits) -> Result<AppendEntry, Error> {
    let prefix = format!("{field}.");
    let options = Options::parse(field, &prefix, text, ENTRY_MEMBERS)?;
    let stream = required_stream(field, &options, limits)?;
    let messages_field = format!("{field}.messages");
    let text = options.raw("messages").ok_or_else(|| Error::invalid(format!("{messages_field} is required")))?;
    let messages = messages(&messages_field, text, limits)?;
    let expected = expected(&format!("{field}.expectedVersion"), &options)?;
    Ok(AppendEntry { stream, expected, messages })
}

fn required_stream(field: &str, options: &Options<'_>, limits: &Limits) -> Result<Arc<str>, Error> {
    let field = format!("{field}.stream");
    let stream = options.string("stream")?.ok_or_else(|| Error::invalid(format!("{field} is required")))?;
    stream_name(&field, &stream, limits)
}

pub(super) fn stream_name(field: &str, stream: &str, limits: &Limits) -> Result<Arc<str>, Error> {
    name::check(field, stream, limits)?;
    Ok(stream.into())
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

pub(super) fn array<'a>(field: &str, text: &'a str) -> Result<json::Elements<'a>, Error> {
    json::elements(text).ok_or_else(|| Error::invalid(format!("{field} must be an array")))
}

pub(super) fn within(field: &str, what: &str, count: usize, most: usize) -> Result<(), Error> {
    if count > most {
        return Err(Error::invalid(format!("{field} must have at most {most} {what}, got {count}")));
    }
    Ok(())
}

/// # Errors
/// `INVALID_REQUEST` if one of these streams stands twice in the list `field`.
pub(super) fn unique<'a>(field: &str, streams: impl Iterator<Item = &'a str>) -> Result<(), Error> {
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
    fn an_id_may_stand_in_the_message_and_in_the_options() {
        const ID: &str = r#""id":"6F9619FF-8b86-d011-b42d-00c04fc964ff""#;
        let lower = ID.to_lowercase();
        for body in [
            format!(r#"["stream.write","a",{{"type":"T","data":{{}},{ID}}}]"#),
            format!(r#"["stream.write","a",{{"type":"T","data":{{}}}},{{{ID}}}]"#),
            format!(r#"["stream.write","a",{{"type":"T","data":{{}},{ID}}},{{{lower}}}]"#),
        ] {
            let append = parse(&body).expect("a write");
            let id = append.entries[0].messages[0].id.expect("an id");
            assert_eq!(id.to_string(), "6f9619ff-8b86-d011-b42d-00c04fc964ff");
        }
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
            (r#"["stream.write","a",{"type":"T","data":{}},{"expectedversion":1}]"#, "options must not have"),
            (r#"["stream.write","a",{"type":"T","data":{},"expectedVersion":1}]"#, "message must not have"),
            (
                r#"["stream.write","a",{"type":"T","data":{},"id":"00000000-0000-0000-0000-000000000001"},{"id":"00000000-0000-0000-0000-000000000002"}]"#,
                "id must be the same as message.id",
            ),
            (r#"["stream.append","a",[{"type":"T","data":{}}],{"id":"x"}]"#, "options must not have"),
            (r#"["stream.append","a",[{"type":"T","data":{}},{"type":"T","Data":{}}]]"#, "messages[1] must not have"),
            (r#"["streams.append",[{"stream":"a","messages":[],"expected":1}]]"#, "entries[0] must not have"),
            (
                r#"["streams.append",[{"stream":"a","messages":[{"type":"T","data":{}}]}],{"checks":[{"stream":"b","version":1}]}]"#,
                "checks[0] must not have",
            ),
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
