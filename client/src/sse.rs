//! An incremental parser of Server-Sent Events.
//!
//! Source: the HTML standard, section 9.2.6, "Interpreting an event stream". A piece may end anywhere: within a line,
//! between CR and LF, within a character. Comments are kept, because `ready`, `caught-up` and `heartbeat` are comments
//! in this protocol.

use std::collections::VecDeque;

/// The lines between two empty lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The value of its last `id` field. It moves the last event id also if the frame has no data.
    pub(crate) id: Option<String>,
    /// The value of its last `event` field.
    pub(crate) event: Option<String>,
    /// Its `data` fields, joined by LF; none if it has no such field.
    pub(crate) data: Option<String>,
    /// Its comments, without the colon and one space.
    pub(crate) comments: Vec<String>,
    /// The value of its `retry` field, in milliseconds.
    pub(crate) retry: Option<u64>,
}

/// The stream is not one that a server of this protocol sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("a frame is longer than {FRAME_BYTES} bytes")]
    TooLong,
    #[error("a line is not UTF-8")]
    NotUtf8,
}

/// Largest frame. A poke is much smaller: it has a stream's name and two numbers.
const FRAME_BYTES: usize = 1 << 20;

/// Turns pieces of a stream into frames.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    /// Bytes in the complete lines of the current frame.
    size: usize,
    frame: Frame,
    /// Whether the last byte was a CR: a following LF belongs to the same line end.
    after_cr: bool,
    begun: bool,
    ready: VecDeque<Frame>,
}

impl Parser {
    /// Takes the next piece.
    pub(crate) fn feed(&mut self, mut piece: &[u8]) -> Result<(), ParseError> {
        while let Some(&first) = piece.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                piece = &piece[1..];
                continue;
            }
            let Some(end) = piece.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(piece);
                return if self.size + self.line.len() > FRAME_BYTES { Err(ParseError::TooLong) } else { Ok(()) };
            };
            self.after_cr = piece[end] == b'\r';
            if self.line.is_empty() {
                self.take_line(&piece[..end])?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&piece[..end]);
                self.take_line(&line)?;
                line.clear();
                self.line = line;
            }
            piece = &piece[end + 1..];
        }
        Ok(())
    }

    /// The next complete frame.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), ParseError> {
        self.size += line.len();
        if self.size > FRAME_BYTES {
            return Err(ParseError::TooLong);
        }
        let mut line = std::str::from_utf8(line).map_err(|_| ParseError::NotUtf8)?;
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            self.size = 0;
            let frame = std::mem::take(&mut self.frame);
            if frame != Frame::default() {
                self.ready.push_back(frame);
            }
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.frame.comments.push(value.to_owned()),
            "id" if !value.contains('\0') => self.frame.id = Some(value.to_owned()),
            "event" => self.frame.event = Some(value.to_owned()),
            "data" => match &mut self.frame.data {
                None => self.frame.data = Some(value.to_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            },
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.frame.retry = value.parse().ok();
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
        let mut parser = Parser::default();
        for piece in pieces {
            parser.feed(piece).expect("a stream");
        }
        std::iter::from_fn(|| parser.next_frame()).collect()
    }

    const STREAM: &str = concat!(
        "retry: 1000\n\n: ready\nid: 7\n\n",
        "id: 8\nevent: poke\ndata: {\"stream\":\"zählung-6\",\"position\":5,\"globalPosition\":8}\n\n",
        ": heartbeat 9\r\nid: 9\r\n\r\nid:10\revent:poke\rdata:a\rdata:  b\rdata\r\r",
        "data: cut off",
    );

    #[test]
    fn frames_are_taken_apart() {
        let frames = parse([STREAM.as_bytes()]);
        assert_eq!(frames.len(), 5);
        assert_eq!(frames[0].retry, Some(1000));
        assert_eq!((&frames[1].comments[..], frames[1].id.as_deref()), (&["ready".to_owned()][..], Some("7")));
        assert_eq!(frames[2].event.as_deref(), Some("poke"));
        assert_eq!((frames[3].id.as_deref(), &*frames[3].comments[0]), (Some("9"), "heartbeat 9"));
        assert_eq!(frames[4].data.as_deref(), Some("a\n b\n"));
    }

    #[test]
    fn a_split_at_any_byte_changes_nothing() {
        let whole = parse([STREAM.as_bytes()]);
        for at in 0..=STREAM.len() {
            let (before, after) = STREAM.as_bytes().split_at(at);
            assert_eq!(parse([before, after]), whole, "split at {at}");
        }
        assert_eq!(parse(STREAM.as_bytes().chunks(1)), whole);
    }

    #[test]
    fn memory_is_bounded() {
        let piece = vec![b'x'; 1 << 16];
        let mut parser = Parser::default();
        assert_eq!((0..20).try_for_each(|_| parser.feed(&piece)), Err(ParseError::TooLong));
        let mut parser = Parser::default();
        let line = [&b"data: "[..], &piece, b"\n"].concat();
        assert_eq!((0..20).try_for_each(|_| parser.feed(&line)), Err(ParseError::TooLong));
        assert_eq!(Parser::default().feed(b"data: \xff\n"), Err(ParseError::NotUtf8));
    }

    mod fuzz {
        use eventodb_protocol::testing::{mangled, pieces};
        use proptest::sample::Index;

        use super::*;

        /// The frames up to the first error.
        fn all(pieces: Vec<&[u8]>) -> (Vec<Frame>, Option<ParseError>) {
            let mut parser = Parser::default();
            let error = pieces.into_iter().find_map(|piece| parser.feed(piece).err());
            (std::iter::from_fn(|| parser.next_frame()).collect(), error)
        }

        proptest! {
            #[test]
            fn any_cut_of_any_bytes_gives_the_same_frames(
                bytes in mangled("(id|data|event|retry|:|x|é|\r|\n|\r\n|: |1){0,60}"),
                cuts in proptest::collection::vec(any::<Index>(), 0..6),
            ) {
                let found = all(pieces(&bytes, &cuts));
                prop_assert_eq!(&found, &all(vec![&bytes]));
                prop_assert!(found.1.is_some() || std::str::from_utf8(&bytes).is_ok() || !bytes.ends_with(b"\n"));
            }
        }
    }
}
