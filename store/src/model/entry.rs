//! A committed message in memory. Its bytes on the wire are made when they are first needed, and kept.

use std::sync::OnceLock;
use std::time::Instant;

use bytes::Bytes;
use eventodb_protocol::filter::Traits;
use eventodb_protocol::message::Message;
use eventodb_protocol::wire::{self, Form};

/// A committed message that the tail and the memtable hold.
#[derive(Debug)]
pub struct Entry {
    message: Message,
    starts_stream: bool,
    correlation: Option<Box<str>>,
    fragment: OnceLock<Fragment>,
    poke: OnceLock<Bytes>,
    shown: OnceLock<Instant>,
}

/// The message as `category.get` returns it. Without the name of its stream it is what `stream.get` returns.
#[derive(Debug)]
struct Fragment {
    text: Box<[u8]>,
    /// The range of the stream's name and the comma behind it.
    stream: std::ops::Range<usize>,
}

impl Entry {
    /// An entry for `message`. `starts_stream` says whether it is the first message of its stream.
    pub fn new(message: Message, starts_stream: bool) -> Self {
        let correlation = message.correlation().map(Into::into);
        Self {
            message,
            starts_stream,
            correlation,
            fragment: OnceLock::new(),
            poke: OnceLock::new(),
            shown: OnceLock::new(),
        }
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Whether it is the first message of its stream.
    pub fn starts_stream(&self) -> bool {
        self.starts_stream
    }

    /// The category of its `metadata.correlationStreamName`.
    pub fn correlation(&self) -> Option<&str> {
        self.correlation.as_deref()
    }

    /// What filters look at.
    pub fn traits(&self) -> Traits<'_> {
        Traits { stream: &self.message.stream, kind: &self.message.kind, correlation: self.correlation() }
    }

    /// Readers see it from `now` on.
    pub(crate) fn set_shown_at(&self, now: Instant) {
        // It fails if it was shown before: the first time counts.
        let _ = self.shown.set(now);
    }

    /// Since when readers see it; `None` if they do not yet.
    pub(crate) fn shown_at(&self) -> Option<Instant> {
        self.shown.get().copied()
    }

    /// The bytes that it takes up in a bound: those of its text, and the same number for its form on the wire.
    pub fn size(&self) -> usize {
        2 * self.message.size() + 256
    }

    /// Appends the message to a reply, in this form.
    pub fn write(&self, out: &mut Vec<u8>, form: Form) {
        let Fragment { text, stream } = self.fragment.get_or_init(|| self.make_fragment());
        match form {
            Form::Category => out.extend_from_slice(text),
            Form::Stream => {
                out.extend_from_slice(&text[..stream.start]);
                out.extend_from_slice(&text[stream.end..]);
            }
        }
    }

    /// The frame of its poke.
    pub fn poke(&self) -> &Bytes {
        self.poke.get_or_init(|| {
            let mut frame = Vec::with_capacity(self.message.stream.len() + 96);
            let Message { stream, position, global_position, .. } = &self.message;
            wire::write_poke(&mut frame, stream, *position, *global_position);
            frame.into()
        })
    }

    fn make_fragment(&self) -> Fragment {
        let mut text = Vec::with_capacity(self.message.size() + 128);
        wire::write_message(&mut text, self.message.as_ref(), Form::Category);
        let mut name = Vec::new();
        eventodb_protocol::json::write_string(&mut name, &self.message.stream);
        // `["<36 characters>",` stands before the name, a comma behind it.
        let start = uuid::fmt::Hyphenated::LENGTH + 4;
        Fragment { text: text.into(), stream: start..start + name.len() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_those_of_the_wire() {
        let message = Message {
            id: uuid::Uuid::from_u128(7),
            stream: "a\"b-1".into(),
            kind: "Done".into(),
            position: 0,
            global_position: 9,
            data: "{\"a\":1}".into(),
            metadata: Some("{}".into()),
            time: eventodb_protocol::Timestamp::from_micros(1),
        };
        let entry = Entry::new(message.clone(), true);
        for form in [Form::Stream, Form::Category] {
            let (mut expected, mut written) = (Vec::new(), Vec::new());
            wire::write_message(&mut expected, message.as_ref(), form);
            entry.write(&mut written, form);
            assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&expected));
        }
    }
}
