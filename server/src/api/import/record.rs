//! One line of an import: a message with the place it had.

use std::borrow::Cow;
use std::sync::Arc;

use eventodb_protocol::limits::POSITION_MAX;
use eventodb_protocol::message::Message;
use eventodb_protocol::request::message_id;
use eventodb_protocol::{Limits, Timestamp, json, name};

/// The members of a record, as text.
#[derive(Default)]
struct Members<'a> {
    id: Option<&'a str>,
    stream: Option<&'a str>,
    kind: Option<&'a str>,
    pos: Option<&'a str>,
    gpos: Option<&'a str>,
    data: Option<&'a str>,
    meta: Option<&'a str>,
    time: Option<&'a str>,
}

/// Reads a record.
///
/// # Errors
/// What is wrong with it, for a person.
pub(super) fn parse(line: &[u8], limits: &Limits) -> Result<Message, String> {
    let text = std::str::from_utf8(line).map_err(|_| "the line is not valid UTF-8".to_owned())?;
    let compact = json::compact(text).map_err(|error| format!("the line is not well-formed JSON: {error}"))?;
    let members = members(&compact)?;
    let stream = string("stream", members.stream)?;
    let kind = string("type", members.kind)?;
    name::check("stream", &stream, limits).map_err(|error| error.message)?;
    name::check("type", &kind, limits).map_err(|error| error.message)?;
    let id = string("id", members.id)?;
    let message = Message {
        id: message_id("id", &id).map_err(|error| error.message)?,
        stream: stream.into(),
        kind: kind.into(),
        position: integer("pos", members.pos, 0)?,
        global_position: integer("gpos", members.gpos, 1)?,
        data: object("data", required("data", members.data)?, limits)?,
        metadata: match required("meta", members.meta)? {
            "null" => None,
            meta => Some(object("meta", meta, limits)?),
        },
        time: time(&string("time", members.time)?)?,
    };
    let size = message.data.len() + message.metadata.as_ref().map_or(0, |metadata| metadata.len());
    if size > limits.message_bytes {
        return Err(format!("data and meta have {size} bytes, the limit is {}", limits.message_bytes));
    }
    Ok(message)
}

fn members(compact: &str) -> Result<Members<'_>, String> {
    let mut found = Members::default();
    for (key, value) in json::members(compact).ok_or("the line must be an object")? {
        let member = match json::string(key).as_deref() {
            Some("id") => &mut found.id,
            Some("stream") => &mut found.stream,
            Some("type") => &mut found.kind,
            Some("pos") => &mut found.pos,
            Some("gpos") => &mut found.gpos,
            Some("data") => &mut found.data,
            Some("meta") => &mut found.meta,
            Some("time") => &mut found.time,
            _ => continue,
        };
        *member = Some(value);
    }
    Ok(found)
}

fn required<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, String> {
    value.ok_or_else(|| format!("{name} is missing"))
}

fn string<'a>(name: &str, value: Option<&'a str>) -> Result<Cow<'a, str>, String> {
    json::string(required(name, value)?).ok_or_else(|| format!("{name} must be a string of valid Unicode"))
}

fn integer(name: &str, value: Option<&str>, least: i64) -> Result<i64, String> {
    let number = required(name, value)?.parse().ok().filter(|number| (least..=POSITION_MAX).contains(number));
    number.ok_or_else(|| format!("{name} must be an integer from {least} to {POSITION_MAX}"))
}

fn object(name: &str, value: &str, limits: &Limits) -> Result<Arc<str>, String> {
    if !value.starts_with('{') {
        return Err(format!("{name} must be an object"));
    }
    if json::depth(value) > limits.json_depth {
        return Err(format!("{name} must not be nested deeper than {}", limits.json_depth));
    }
    Ok(value.into())
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|error: eventodb_protocol::time::ParseTimeError| format!("time: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"01a1fc08-5531-75a2-ad93-a98729fd37f0","stream":"a-1","type":"T","pos":0,"gpos":7,"data":{"n":1.10},"meta":null,"time":"2026-11-21T02:56:06.1234567Z"}"#;

    #[test]
    fn a_record_keeps_what_it_has() {
        let message = parse(GOOD.as_bytes(), &Limits::default()).expect("a record");
        assert_eq!((message.position, message.global_position), (0, 7));
        assert_eq!((&*message.data, message.metadata), (r#"{"n":1.10}"#, None));
        assert_eq!(message.time.to_string(), "2026-11-21T02:56:06.123456Z");
    }

    #[test]
    fn each_member_is_needed_and_has_its_type() {
        let limits = Limits::default();
        let broken = [
            (r#""id":"01a1fc08-5531-75a2-ad93-a98729fd37f0","#, ""),
            (r#""stream":"a-1","#, ""),
            (r#""type":"T","#, ""),
            (r#""pos":0,"#, ""),
            (r#""gpos":7,"#, ""),
            (r#""data":{"n":1.10},"#, ""),
            (r#""meta":null,"#, ""),
            (r#","time":"2026-11-21T02:56:06.1234567Z""#, ""),
            ("01a1fc08-", "01a1fc08"),
            ("a-1", ""),
            (r#""a-1""#, "1"),
            (r#""pos":0"#, r#""pos":-1"#),
            (r#""pos":0"#, r#""pos":"0""#),
            (r#""gpos":7"#, r#""gpos":0"#),
            (r#""gpos":7"#, r#""gpos":7.0"#),
            (r#""pos":0"#, r#""pos":9007199254740992"#),
            (r#""gpos":7"#, r#""gpos":9007199254740992"#),
            (r#""gpos":7"#, r#""gpos":9223372036854775807"#),
            (r#"{"n":1.10}"#, "[]"),
            (r#""meta":null"#, r#""meta":3"#),
            ("2026-11-21T", "yesterday "),
            (r#""meta":null"#, r#""meta":nul"#),
        ];
        for (part, other) in broken {
            let line = GOOD.replacen(part, other, 1);
            assert_ne!(line, GOOD);
            assert!(parse(line.as_bytes(), &limits).is_err(), "{line}");
        }
        for line in [&b"[]"[..], b"\xff", b"1"] {
            assert!(parse(line, &limits).is_err());
        }
    }

    mod fuzz {
        use eventodb_protocol::testing::mangled;
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn any_line_is_refused_or_a_record(line in mangled(Just(GOOD.to_owned()))) {
                let limits = Limits { name_bytes: 20, message_bytes: 40, json_depth: 3, ..Limits::default() };
                let Ok(message) = parse(&line, &limits) else { return Ok(()) };
                prop_assert!(message.position >= 0 && message.global_position >= 1);
                prop_assert!((1..=20).contains(&message.stream.len()) && (1..=20).contains(&message.kind.len()));
                let is_object = message.data.starts_with('{');
                prop_assert!(is_object && message.data.len() <= 40);
                prop_assert_eq!(json::compact(&message.data).expect("well-formed"), &*message.data);
                prop_assert!(message.time.to_string().parse::<Timestamp>().is_ok());
            }
        }
    }
}
