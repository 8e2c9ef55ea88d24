//! Writes messages and pokes as bytes of the protocol, without an intermediate value.

use crate::json::write_string;
use crate::message::MessageRef;

/// The two forms that a message has in replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `[id,type,position,globalPosition,data,metadata,time]`, as `stream.get` answers.
    Stream,
    /// `[id,stream,type,position,globalPosition,data,metadata,time]`, as `category.get` answers.
    Category,
}

/// Appends a message as a JSON array.
pub fn write_message(out: &mut Vec<u8>, message: MessageRef<'_>, form: Form) {
    out.extend_from_slice(b"[\"");
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    out.extend_from_slice(message.id.hyphenated().encode_lower(&mut id).as_bytes());
    out.extend_from_slice(b"\",");
    if form == Form::Category {
        write_string(out, message.stream);
        out.push(b',');
    }
    write_string(out, message.kind);
    out.push(b',');
    write_integer(out, message.position);
    out.push(b',');
    write_integer(out, message.global_position);
    out.push(b',');
    out.extend_from_slice(message.data.as_bytes());
    out.push(b',');
    out.extend_from_slice(message.metadata.unwrap_or("null").as_bytes());
    out.extend_from_slice(b",\"");
    write_display(out, message.time);
    out.extend_from_slice(b"\"]");
}

/// Appends the frame of one poke: three lines and an empty one.
pub fn write_poke(out: &mut Vec<u8>, stream: &str, position: i64, global_position: i64) {
    out.extend_from_slice(b"id: ");
    write_integer(out, global_position);
    out.extend_from_slice(b"\nevent: poke\ndata: {\"stream\":");
    write_string(out, stream);
    out.extend_from_slice(b",\"position\":");
    write_integer(out, position);
    out.extend_from_slice(b",\"globalPosition\":");
    write_integer(out, global_position);
    out.extend_from_slice(b"}\n\n");
}

/// Appends an integer in decimal digits.
pub fn write_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    use std::io::Write as _;
    write!(out, "{value}").expect("writing to a Vec does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn writes_the_documented_shapes() {
        let message = MessageRef {
            id: uuid::Uuid::from_u128(1),
            stream: "a\"b-1",
            kind: "Done",
            position: 5,
            global_position: 1234,
            data: "{}",
            metadata: None,
            time: Timestamp::from_micros(0),
        };
        let mut out = Vec::new();
        write_message(&mut out, message, Form::Category);
        assert_eq!(
            String::from_utf8_lossy(&out),
            r#"["00000000-0000-0000-0000-000000000001","a\"b-1","Done",5,1234,{},null,"1970-01-01T00:00:00.000000Z"]"#
        );
        out.clear();
        write_message(&mut out, message, Form::Stream);
        assert_eq!(
            String::from_utf8_lossy(&out),
            r#"["00000000-0000-0000-0000-000000000001","Done",5,1234,{},null,"1970-01-01T00:00:00.000000Z"]"#
        );
        out.clear();
        write_poke(&mut out, "account-123", 5, 1234);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "id: 1234\nevent: poke\ndata: {\"stream\":\"account-123\",\"position\":5,\"globalPosition\":1234}\n\n"
        );
    }
}
