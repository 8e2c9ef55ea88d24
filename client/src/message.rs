//! Messages that were read, and pages of them.
//!
//! A page keeps the text of the reply, and its messages point into it. A page therefore costs one allocation for the
//! text and one for the list, however many messages it has, and data and metadata stay byte for byte as the server sent
//! them. A message that is kept keeps the text of its page in memory.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use eventodb_protocol::group::reply::GroupRead;
use eventodb_protocol::{Timestamp, json, name};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::error::{Error, Result};

/// Stands for data that was not decoded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw;

/// A message at its place in the log.
#[derive(Clone)]
pub struct Message<T = Raw> {
    page: Arc<Text>,
    id: Uuid,
    stream: Name,
    kind: Name,
    position: i64,
    global_position: i64,
    raw: Span,
    metadata: Option<Span>,
    time: Span,
    /// The decoded data; [`Raw`] before it is decoded.
    pub data: T,
}

/// A row of `group.read`: a message, and the numbers that follow it.
pub(crate) type NumberedRow = (Message, Vec<i64>);

/// The answer to a read.
#[derive(Clone, Debug)]
pub struct Page {
    /// The messages, in the order of the request.
    pub messages: Vec<Message>,
    /// The global position up to which the page is complete: the next read may begin after it. None for backward reads,
    /// and from servers that do not send it.
    pub head: Option<i64>,
}

impl<T> Message<T> {
    /// Unique in its namespace.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The stream it is in.
    pub fn stream(&self) -> &str {
        self.name(&self.stream)
    }

    /// The category of its stream.
    pub fn category(&self) -> &str {
        name::category(self.stream())
    }

    /// Its type.
    pub fn kind(&self) -> &str {
        self.name(&self.kind)
    }

    /// Its position in the stream, from 0.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Its position in the namespace, from 1.
    pub fn global_position(&self) -> i64 {
        self.global_position
    }

    /// Its data as JSON text, byte for byte.
    pub fn data_json(&self) -> &str {
        self.page.slice(self.raw)
    }

    /// Its metadata as JSON text, byte for byte.
    pub fn metadata_json(&self) -> Option<&str> {
        self.metadata.map(|span| self.page.slice(span))
    }

    /// Its data as a raw JSON value.
    pub fn raw_data(&self) -> &RawValue {
        serde_json::from_str(self.data_json()).expect("the page was well-formed JSON")
    }

    /// Its metadata as a raw JSON value.
    pub fn raw_metadata(&self) -> Option<&RawValue> {
        self.metadata_json().map(|text| serde_json::from_str(text).expect("the page was well-formed JSON"))
    }

    /// Its metadata, decoded.
    ///
    /// # Errors
    /// `Decode` if it has another shape.
    pub fn metadata<M: DeserializeOwned>(&self) -> Result<Option<M>> {
        self.metadata_json().map(|text| self.decode_text("metadata", text)).transpose()
    }

    /// `correlationStreamName` of its metadata.
    pub fn correlation_stream(&self) -> Option<String> {
        let metadata = json::compact(self.metadata_json()?).ok()?;
        json::string(json::member(&metadata, "correlationStreamName")?).map(Cow::into_owned)
    }

    /// When it was written.
    ///
    /// # Errors
    /// `Protocol` if the server sent no RFC 3339 time.
    pub fn time(&self) -> Result<Timestamp> {
        let text = self.time_text();
        text.parse().map_err(|_| Error::protocol(format!("{text:?} is no RFC 3339 time")))
    }

    /// When it was written, as the server wrote it.
    pub fn time_text(&self) -> &str {
        self.page.slice(self.time)
    }

    /// Its data as a `D`.
    ///
    /// # Errors
    /// `Decode` if the data has another shape.
    pub fn decode<D: DeserializeOwned>(&self) -> Result<D> {
        self.decode_text("data", self.data_json())
    }

    /// The same message with its data decoded.
    ///
    /// # Errors
    /// `Decode` if the data has another shape.
    pub fn typed<D: DeserializeOwned>(self) -> Result<Message<D>> {
        let data = self.decode()?;
        Ok(Message {
            page: self.page,
            id: self.id,
            stream: self.stream,
            kind: self.kind,
            position: self.position,
            global_position: self.global_position,
            raw: self.raw,
            metadata: self.metadata,
            time: self.time,
            data,
        })
    }

    fn decode_text<D: DeserializeOwned>(&self, part: &str, text: &str) -> Result<D> {
        serde_json::from_str(text).map_err(|error| Error::Decode {
            what: format!("{part} of {} {} at {}", self.stream(), self.kind(), self.position),
            message: error.to_string(),
        })
    }

    fn name<'a>(&'a self, name: &'a Name) -> &'a str {
        match name {
            Name::Span(span) => self.page.slice(*span),
            Name::Decoded(text) => text,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("stream", &self.stream())
            .field("kind", &self.kind())
            .field("position", &self.position)
            .field("global_position", &self.global_position)
            .field("data", &self.data_json())
            .field("metadata", &self.metadata_json())
            .field("time", &self.time_text())
            .finish_non_exhaustive()
    }
}

impl Page {
    /// Whether nothing follows. A page that is shorter than was asked for may have ended before a damaged message: a
    /// forward read has reached the end only if the page says that it is complete beyond its last message. If it does
    /// not say so, which no backward read does, an empty page is the end.
    pub fn is_last(&self) -> bool {
        let last = self.messages.last().map(Message::global_position);
        last.is_none() || self.head > last
    }

    /// The global position at which a forward read continues.
    pub fn next(&self) -> Option<i64> {
        let last = self.messages.last().map(Message::global_position);
        last.max(self.head).map(|position| position + 1)
    }

    /// Reads the reply to `category.get`.
    pub(crate) fn of_category(text: String, head: Option<i64>) -> Result<Self> {
        let page = Arc::new(Text(text));
        let rows: Vec<CategoryRow<'_>> = page.parse()?;
        let messages = rows.into_iter().map(|row| row.message(&page)).collect::<Result<_>>()?;
        Ok(Self { messages, head })
    }

    /// Reads the reply to `stream.get` of `stream`.
    pub(crate) fn of_stream(stream: &str, text: String, head: Option<i64>) -> Result<Self> {
        let (page, stream) = (Arc::new(Text(text)), Arc::from(stream));
        let rows: Vec<StreamRow<'_>> = page.parse()?;
        let messages = rows.into_iter().map(|row| row.message(&page, &stream)).collect::<Result<_>>()?;
        Ok(Self { messages, head })
    }
}

impl Message {
    /// Reads the reply to `message.get`.
    pub(crate) fn found(text: String) -> Result<Option<Self>> {
        let page = Arc::new(Text(text));
        let row: Option<CategoryRow<'_>> = page.parse()?;
        row.map(|row| row.message(&page)).transpose()
    }

    /// Reads the reply to `group.read`.
    pub(crate) fn of_group(text: String) -> Result<GroupRead<NumberedRow>> {
        let page = Arc::new(Text(text));
        let read: GroupRead<Vec<&RawValue>> = page.parse()?;
        let rows = |rows: Vec<Vec<&RawValue>>| rows.iter().map(|row| numbered(&page, row)).collect::<Result<_>>();
        Ok(GroupRead {
            generation: read.generation,
            session_ms: read.session_ms,
            messages: rows(read.messages)?,
            retries: rows(read.retries)?,
            drained: read.drained,
            up_to: read.up_to,
            assigned: read.assigned,
            revoking: read.revoking,
            fenced: read.fenced,
        })
    }

    /// Reads the reply to `stream.last` of `stream`.
    pub(crate) fn last_of_stream(stream: &str, text: String) -> Result<Option<Self>> {
        let page = Arc::new(Text(text));
        let row: Option<StreamRow<'_>> = page.parse()?;
        row.map(|row| row.message(&page, &Arc::from(stream))).transpose()
    }
}

/// `[id,type,position,globalPosition,data,metadata,time]`
#[derive(Deserialize)]
struct StreamRow<'a>(
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow)] &'a RawValue,
    i64,
    i64,
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow)] &'a RawValue,
);

/// `[id,stream,type,position,globalPosition,data,metadata,time]`
#[derive(Deserialize)]
struct CategoryRow<'a>(
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow)] &'a RawValue,
    i64,
    i64,
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow)] &'a RawValue,
);

impl<'a> CategoryRow<'a> {
    fn message(self, page: &Arc<Text>) -> Result<Message> {
        let Self(id, stream, kind, position, global_position, data, metadata, time) = self;
        let stream = page.name(stream)?;
        StreamRow(id, kind, position, global_position, data, metadata, time).placed(page, stream)
    }
}

/// A row with a message's fields and further numbers.
fn numbered(page: &Arc<Text>, row: &[&RawValue]) -> Result<NumberedRow> {
    let [id, stream, kind, position, global_position, data, metadata, time, numbers @ ..] = row else {
        return Err(Error::protocol("a row has too few fields"));
    };
    let number =
        |text: &RawValue| text.get().parse::<i64>().map_err(|_| Error::protocol(format!("{text} is no number")));
    let row = CategoryRow(id, stream, kind, number(position)?, number(global_position)?, data, metadata, time)
        .message(page)?;
    Ok((row, numbers.iter().map(|text| number(text)).collect::<Result<_>>()?))
}

impl<'a> StreamRow<'a> {
    fn message(self, page: &Arc<Text>, stream: &Arc<str>) -> Result<Message> {
        self.placed(page, Name::Decoded(stream.clone()))
    }

    fn placed(self, page: &Arc<Text>, stream: Name) -> Result<Message> {
        let Self(id, kind, position, global_position, data, metadata, time) = self;
        let id = json::string(id.get())
            .and_then(|id| Uuid::parse_str(&id).ok())
            .ok_or_else(|| Error::protocol(format!("{id} is no message id")))?;
        let time = page.span(time.get());
        Ok(Message {
            id,
            stream,
            kind: page.name(kind)?,
            position,
            global_position,
            raw: page.span(data.get()),
            metadata: (metadata.get() != "null").then(|| page.span(metadata.get())),
            // The quotes are cut off. A time has no escapes.
            time: Span { start: time.start + 1, end: time.end.saturating_sub(1).max(time.start + 1) },
            page: page.clone(),
            data: Raw,
        })
    }
}

/// The text of one reply.
struct Text(String);

/// A piece of a reply's text. Its bounds were checked when it was made.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

/// A name in a reply: a piece of the text, or its decoded form if it has escapes.
#[derive(Clone)]
enum Name {
    Span(Span),
    Decoded(Arc<str>),
}

impl Text {
    fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|error| Error::protocol(error.to_string()))
    }

    fn slice(&self, span: Span) -> &str {
        &self.0[span.start as usize..span.end as usize]
    }

    /// The place of `part`, which is a slice of this text.
    fn span(&self, part: &str) -> Span {
        let start = part.as_ptr() as usize - self.0.as_ptr() as usize;
        let offset = |at: usize| u32::try_from(at).expect("a reply is bounded far below 4 GiB");
        Span { start: offset(start), end: offset(start + part.len()) }
    }

    fn name(&self, value: &RawValue) -> Result<Name> {
        let text = value.get();
        match json::string(text) {
            Some(Cow::Borrowed(name)) => Ok(Name::Span(self.span(name))),
            Some(Cow::Owned(name)) => Ok(Name::Decoded(name.into())),
            None => Err(Error::protocol(format!("{text} is no name"))),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A message at a place in the log, with this metadata.
    pub(crate) fn message(stream: &str, position: i64, global_position: i64, metadata: &str) -> Message {
        let id = Uuid::from_u128(global_position as u128);
        let text = format!(
            r#"[["{id}","{stream}","Happened",{position},{global_position},{{"n":{position}}},{metadata},"2026-01-02T03:04:05.000006Z"]]"#
        );
        Page::of_category(text, None).expect("a page").messages.remove(0)
    }

    #[test]
    fn a_page_keeps_data_to_the_byte() {
        let text = concat!(
            r#"[["00000000-0000-0000-0000-000000000001","a\u0041-1","T\n",5,9,{"n":1.10,"n":-0,"s":"\u0000\ud800"},"#,
            r#"{"x":1e400},"2026-01-02T03:04:05.123456Z"],"#,
            r#" [ "00000000-0000-0000-0000-000000000002" , "b" , "U" , 0 , 10 , { "a" : 1 } , null , "1970-01-01T00:00:00Z" ] ]"#,
        );
        let page = Page::of_category(text.to_owned(), Some(12)).expect("a page");
        let [first, second] = &page.messages[..] else { panic!("two messages") };
        assert_eq!((first.stream(), first.category(), first.kind()), ("aA-1", "aA", "T\n"));
        assert_eq!((first.position(), first.global_position()), (5, 9));
        assert_eq!(first.data_json(), r#"{"n":1.10,"n":-0,"s":"\u0000\ud800"}"#);
        assert_eq!(first.metadata_json(), Some(r#"{"x":1e400}"#));
        assert_eq!(first.time().map(|time| time.to_string()).ok().as_deref(), Some("2026-01-02T03:04:05.123456Z"));
        assert_eq!((second.stream(), second.kind(), second.data_json()), ("b", "U", r#"{ "a" : 1 }"#));
        assert_eq!(second.metadata_json(), None);
        assert_eq!(second.time_text(), "1970-01-01T00:00:00Z");
        assert_eq!(page.next(), Some(13));
    }

    #[test]
    fn one_message_is_found_or_none() {
        let text =
            r#"["00000000-0000-0000-0000-000000000001","a-1","T",5,9,{"n":1.10},null,"2026-01-02T03:04:05.123456Z"]"#;
        let found = Message::found(text.to_owned()).expect("a message").expect("there is one");
        assert_eq!((found.stream(), found.position(), found.data_json()), ("a-1", 5, r#"{"n":1.10}"#));
        assert!(Message::found("null".to_owned()).expect("none").is_none());
    }

    #[test]
    fn data_is_decoded_on_request() {
        #[derive(Debug, Deserialize)]
        struct Happened {
            n: i64,
        }
        let message = message("a-1", 7, 8, "null").typed::<Happened>().expect("of that shape");
        assert_eq!((message.data.n, message.stream()), (7, "a-1"));
        assert!(matches!(message.decode::<Vec<u8>>(), Err(Error::Decode { .. })));
    }

    #[test]
    fn what_is_no_page_is_an_error() {
        for bad in ["", "{}", "[[]]", r#"[["x","a","T",0,1,{},null,"t"]]"#, "[1]"] {
            assert!(matches!(Page::of_category(bad.to_owned(), None), Err(Error::Protocol { .. })), "{bad}");
        }
    }
}
