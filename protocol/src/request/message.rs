//! The messages of a write: `{"type","data","metadata","id"}`.
//!
//! A message may have members of other names, which are dropped, because clients write back messages that they have
//! read. A name that looks mistyped is refused, because its value would be lost without notice.

use uuid::Uuid;

use super::string;
use super::write::{array, within};
use crate::limits::APPEND_MESSAGES;
use crate::message::NewMessage;
use crate::spelling::{Shown, is_respelled, is_within};
use crate::{Error, ErrorCode, Limits, json, name};

const MEMBERS: &[&str] = &["type", "data", "metadata", "id"];
/// Names that belong beside a message, in the options or in an entry, and have no effect inside it.
const BESIDE: &[&str] = &["expectedVersion", "checks"];

/// Reads the messages of one stream.
///
/// # Errors
/// `INVALID_REQUEST` naming the field, or `PAYLOAD_TOO_LARGE`.
pub(super) fn messages(field: &str, text: &str, limits: &Limits) -> Result<Vec<NewMessage>, Error> {
    let mut messages = Vec::new();
    let mut elements = array(field, text)?;
    while let Some(element) = elements.next() {
        if messages.len() == APPEND_MESSAGES {
            within(field, "messages", APPEND_MESSAGES + 1 + elements.count(), APPEND_MESSAGES)?;
            break;
        }
        messages.push(message(&format!("{field}[{}]", messages.len()), element, limits)?);
    }
    if messages.is_empty() {
        return Err(Error::invalid(format!("{field} must have at least one message")));
    }
    Ok(messages)
}

/// Reads one message.
///
/// # Errors
/// `INVALID_REQUEST` naming the field, or `PAYLOAD_TOO_LARGE`.
pub(super) fn message(field: &str, text: &str, limits: &Limits) -> Result<NewMessage, Error> {
    let [kind, data, metadata, id] = members(field, text)?;
    let kind = kind.ok_or_else(|| missing(field, "type"))?;
    let kind =
        json::string(kind).ok_or_else(|| Error::invalid(format!("{field}.type must be a string of valid Unicode")))?;
    name::check(&format!("{field}.type"), &kind, limits)?;
    let data = data.ok_or_else(|| missing(field, "data"))?;
    check_object(&format!("{field}.data"), data, limits)?;
    if let Some(metadata) = metadata {
        check_object(&format!("{field}.metadata"), metadata, limits)?;
    }
    let id = id.map(|id| member_id(&format!("{field}.id"), id)).transpose()?;
    let message = NewMessage { id, kind: kind.into(), data: data.into(), metadata: metadata.map(Into::into) };
    if message.size() > limits.message_bytes {
        return Err(Error::new(
            ErrorCode::PayloadTooLarge,
            format!("{field} has {} bytes of data and metadata, the limit is {}", message.size(), limits.message_bytes),
        ));
    }
    Ok(message)
}

fn missing(field: &str, member: &str) -> Error {
    Error::invalid(format!("{field}.{member} is required"))
}

fn member_id(field: &str, text: &str) -> Result<Uuid, Error> {
    message_id(field, &string(field, text)?)
}

/// The members of a message in the order of [`MEMBERS`]. `null` counts as absent, and the last of repeated members
/// counts.
fn members<'a>(field: &str, text: &'a str) -> Result<[Option<&'a str>; MEMBERS.len()], Error> {
    let members = json::members(text).ok_or_else(|| Error::invalid(format!("{field} must be an object")))?;
    let mut found = [None; MEMBERS.len()];
    for (key, value) in members {
        // A key with escapes is decoded. A key that is not valid Unicode is not a known one.
        let Some(key) = json::string(key) else { continue };
        let value = Some(value).filter(|value| *value != "null");
        match MEMBERS.iter().position(|known| *known == key) {
            Some(at) => found[at] = value,
            None if value.is_some() => check_unknown(field, &key)?,
            None => {}
        }
    }
    Ok(found)
}

/// Refuses a member whose name is mistyped or belongs elsewhere.
#[cold]
fn check_unknown(field: &str, name: &str) -> Result<(), Error> {
    if let Some(option) = BESIDE.iter().find(|option| name == **option || is_respelled(name, option)) {
        return Err(Error::invalid(format!(
            "{field} must not have {}: {option} stands beside the message, not in it",
            Shown(name)
        )));
    }
    let meant = MEMBERS.iter().find(|known| is_respelled(name, known)).copied();
    let meant = meant.or_else(|| (name == "meta" || is_within(name, "metadata", 2)).then_some("metadata"));
    meant.map_or(Ok(()), |meant| {
        Err(Error::invalid(format!("{field} must not have {}; did you mean {field}.{meant}?", Shown(name))))
    })
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
    // `Uuid::parse_str` accepts other spellings too. Only the hyphenated one has this length.
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return Err(invalid());
    }
    Uuid::parse_str(text).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(members: &str) -> Result<NewMessage, Error> {
        message("message", &format!(r#"{{"type":"T","data":{{}}{members}}}"#), &Limits::default())
    }

    #[test]
    fn members_of_other_names_are_dropped() {
        for good in [
            "",
            r#","time":"x","stream":"a","position":1"#,
            r#","kind":1,"date":2,"expected":3,"mutated":4,"metaphor":5"#,
            r#","\ud800":1"#,
            r#","Type":null,"meta":null,"expectedVersion":null"#,
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_mistyped_member_is_refused_with_the_one_that_was_meant() {
        for (name, meant) in [
            ("Type", "message.type"),
            ("DATA", "message.data"),
            ("ID", "message.id"),
            ("_id", "message.id"),
            ("meta", "message.metadata"),
            ("metaData", "message.metadata"),
            ("meta-data", "message.metadata"),
            ("meta_data", "message.metadata"),
            ("metdata", "message.metadata"),
            ("metatada", "message.metadata"),
            ("\\u006dedata", "message.metadata"),
            ("expectedVersion", "beside"),
            ("expected_version", "beside"),
            ("checks", "beside"),
        ] {
            let error = parse(&format!(r#","{name}":{{}}"#)).expect_err(name);
            assert_eq!(error.code, ErrorCode::InvalidRequest, "{name}");
            assert!(error.message.contains(meant), "{name}: {}", error.message);
        }
    }

    #[test]
    fn a_repeated_member_counts_once() {
        let parsed = parse(r#","metadata":{"a":1},"metadata":null,"\u0074ype":"U""#).expect("a message");
        assert_eq!((&*parsed.kind, parsed.metadata), ("U", None));
    }
}
