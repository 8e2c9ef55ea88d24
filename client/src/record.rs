//! The export format: one message per line, as `export` writes and `import` reads it.
//!
//! `{"id","stream","type","pos","gpos","data","meta","time"}`, in this order, with data and metadata byte for byte.

use eventodb_protocol::json;
use eventodb_protocol::wire::write_integer;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::message::Message;

/// Appends `message` as one line, its LF included.
pub fn write_record<T>(out: &mut Vec<u8>, message: &Message<T>) {
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(message.id().hyphenated().encode_lower(&mut id).as_bytes());
    out.extend_from_slice(b"\",\"stream\":");
    json::write_string(out, message.stream());
    out.extend_from_slice(b",\"type\":");
    json::write_string(out, message.kind());
    out.extend_from_slice(b",\"pos\":");
    write_integer(out, message.position());
    out.extend_from_slice(b",\"gpos\":");
    write_integer(out, message.global_position());
    out.extend_from_slice(b",\"data\":");
    write_line(out, message.data_json());
    out.extend_from_slice(b",\"meta\":");
    write_line(out, message.metadata_json().unwrap_or("null"));
    out.extend_from_slice(b",\"time\":");
    json::write_string(out, message.time_text());
    out.extend_from_slice(b"}\n");
}

/// The id and the global position of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// The message's id.
    pub id: Uuid,
    /// Its global position.
    pub global_position: i64,
}

/// Reads the id and the global position of a record. The server checks everything else.
///
/// # Errors
/// `Decode` if the line is not a record.
pub fn record_place(line: &str) -> Result<RecordPlace> {
    #[derive(Deserialize)]
    struct Place<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
        gpos: i64,
    }
    let wrong = |message: String| Error::Decode { what: "record".to_owned(), message };
    let place: Place<'_> = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
    let id = json::string(place.id.get())
        .and_then(|id| Uuid::parse_str(&id).ok())
        .ok_or_else(|| wrong(format!("{} is no id", place.id)))?;
    Ok(RecordPlace { id, global_position: place.gpos })
}

/// Appends JSON text without the line breaks between its tokens.
fn write_line(out: &mut Vec<u8>, text: &str) {
    if text.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        let compact = json::compact(text).expect("a message's text is well-formed JSON");
        out.extend_from_slice(compact.as_bytes());
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Page;

    #[test]
    fn a_record_is_a_line_with_its_fields_in_order() {
        let text = r#"[["00000000-0000-0000-0000-000000000001","zählung-\"6","T",0,2,{"n":1.10,
            "s":"\u0041"},null,"2026-11-21T02:56:08Z"]]"#;
        let page = Page::of_category(text.to_owned(), None).expect("a page");
        let mut out = Vec::new();
        write_record(&mut out, &page.messages[0]);
        let line = String::from_utf8(out).expect("UTF-8");
        assert_eq!(
            line,
            concat!(
                r#"{"id":"00000000-0000-0000-0000-000000000001","stream":"zählung-\"6","type":"T","pos":0,"gpos":2,"#,
                r#""data":{"n":1.10,"s":"\u0041"},"meta":null,"time":"2026-11-21T02:56:08Z"}"#,
                "\n"
            )
        );
        let place = record_place(&line).expect("a record");
        assert_eq!(place, RecordPlace { id: Uuid::from_u128(1), global_position: 2 });
        assert!(record_place("{}").is_err());
    }
}
