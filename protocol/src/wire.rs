//! Writes messages and pokes as bytes of the protocol, without an intermediate value.

use std::fmt;

use crate::group::reply::GroupRead;
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

/// A message that is JSON text already. Nobody parses, checks or copies it again before it is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Row(Vec<u8>);

impl Row {
    /// A message with the numbers that `group.read` adds to it. `message` is what [`write_message`] has written.
    ///
    /// # Panics
    /// If `message` is not the text of an array.
    pub fn new(mut message: Vec<u8>, more: &[i64]) -> Self {
        assert_eq!(message.pop(), Some(b']'), "a message is an array");
        for number in more {
            message.push(b',');
            write_integer(&mut message, *number);
        }
        message.push(b']');
        Self(message)
    }

    /// The text, in UTF-8.
    pub fn get(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// The reply of `group.read` as JSON text.
///
/// # Panics
/// Never, as long as the two lists of messages are neighbours in [`GroupRead`].
pub fn group_read(reply: GroupRead<Row>) -> Vec<u8> {
    const NO_ROWS: &[u8] = b"\"messages\":[],\"retries\":[]";
    let (frame, messages, retries) = reply.without_rows();
    let frame = serde_json::to_vec(&frame).expect("replies have string keys only");
    // Only numbers and names of fields come before them.
    let at = frame.windows(NO_ROWS.len()).position(|window| window == NO_ROWS).expect("they are neighbours");
    let bytes: usize = messages.iter().chain(&retries).map(|row| row.get().len() + 1).sum();
    let mut out = Vec::with_capacity(frame.len() + bytes);
    out.extend_from_slice(&frame[..at]);
    out.extend_from_slice(b"\"messages\":");
    write_rows(&mut out, &messages);
    out.extend_from_slice(b",\"retries\":");
    write_rows(&mut out, &retries);
    out.extend_from_slice(&frame[at + NO_ROWS.len()..]);
    out
}

fn write_rows(out: &mut Vec<u8>, rows: &[Row]) {
    out.push(b'[');
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(row.get());
    }
    out.push(b']');
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
    use serde_json::{Value, json};

    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn a_page_of_a_group_is_what_a_serializer_would_write() {
        let text = json!({
            "generation": 1, "sessionMs": 1000, "messages": [["a", 1], ["b", 2]], "retries": [[1, 2, 3]],
            "drained": [{"partition": 1, "stream": "\"messages\":[],\"retries\":[]", "position": 4, "rev": 5}],
            "upTo": {"3": 9}, "assigned": [], "revoking": [], "fenced": [],
        });
        let mut reply: GroupRead<Value> = serde_json::from_value(text.clone()).expect("a page");
        let row = |(message, more): (&str, &[i64])| Row::new(message.as_bytes().to_vec(), more);
        let GroupRead { generation, session_ms, drained, up_to, assigned, revoking, fenced, .. } = reply.clone();
        let messages = [("[\"a\"]", &[1][..]), ("[\"b\"]", &[2])].map(row).into();
        let retries = [("[1]", &[2, 3][..])].map(row).into();
        let page = GroupRead { generation, session_ms, messages, retries, drained, up_to, assigned, revoking, fenced };
        let mut no_rows = page.clone();
        assert_eq!(serde_json::from_slice::<Value>(&group_read(page)).expect("JSON"), text);
        (no_rows.messages, no_rows.retries) = (vec![], vec![]);
        (reply.messages, reply.retries) = (vec![], vec![]);
        assert_eq!(group_read(no_rows), serde_json::to_vec(&reply).expect("it serializes"));
    }

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
