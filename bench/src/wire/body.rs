//! The fields of a reply's head, and the chunks of a body without a known length.

use anyhow::Context as _;

pub(super) fn status(head: &[u8]) -> anyhow::Result<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)).context("no reply of HTTP/1.1")?;
    Ok(std::str::from_utf8(digits)?.parse()?)
}

pub(super) fn length(head: &[u8]) -> Option<usize> {
    header(head, "content-length")?.parse().ok()
}

pub(super) fn is_chunked(head: &[u8]) -> bool {
    header(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
}

/// The value of a header, by its name in lower case.
pub(super) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = head.split(|&byte| byte == b'\n').skip(1);
    lines.find_map(|line| {
        let (key, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        key.eq_ignore_ascii_case(name.as_bytes()).then_some(())?;
        std::str::from_utf8(value.trim_ascii()).ok()
    })
}

/// Takes the chunks' framing away, wherever the pieces of the body were cut.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// In the line with a chunk's size, of which this much is known.
    #[default]
    Start,
    Size(usize),
    /// This many bytes of the chunk are to come.
    Data(usize),
    /// In the line end behind a chunk.
    End,
    /// In the empty line behind the last chunk: there are no trailers.
    Last,
    Done,
}

impl Chunks {
    /// Appends to `out` the part of the body that `piece` has; returns whether the body goes on.
    pub(super) fn take(&mut self, mut piece: &[u8], out: &mut Vec<u8>) -> anyhow::Result<bool> {
        while let Some((&byte, rest)) = piece.split_first() {
            match self.state {
                State::Data(left) => {
                    let (data, rest) = piece.split_at(left.min(piece.len()));
                    out.extend_from_slice(data);
                    self.state = if left == data.len() { State::End } else { State::Data(left - data.len()) };
                    piece = rest;
                    continue;
                }
                State::End if byte == b'\n' => self.state = State::Start,
                State::End => {}
                State::Start => self.state = State::Size(digit(byte)?),
                State::Size(0) if byte == b'\n' => self.state = State::Last,
                State::Last if byte == b'\n' => self.state = State::Done,
                State::Last => {}
                State::Size(size) if byte == b'\n' => self.state = State::Data(size),
                State::Size(_) if byte == b'\r' => {}
                State::Size(size) => {
                    let larger = size.checked_mul(16).context("a chunk that is too long")?;
                    self.state = State::Size(larger + digit(byte)?);
                }
                State::Done => break,
            }
            piece = rest;
        }
        Ok(!matches!(self.state, State::Done))
    }
}

fn digit(byte: u8) -> anyhow::Result<usize> {
    let digit = char::from(byte).to_digit(16).context("a chunk's size is no number")?;
    Ok(digit as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 409 Conflict\r\nContent-Length: 12\r\nx-eventodb-head: 7\r\n\r\n";

    #[test]
    fn a_head_is_read() {
        assert_eq!(status(HEAD).unwrap(), 409);
        assert_eq!(length(HEAD), Some(12));
        assert_eq!(header(HEAD, "x-eventodb-head"), Some("7"));
        assert_eq!(header(HEAD, "x-eventodb"), None);
        assert!(!is_chunked(HEAD));
    }

    #[test]
    fn chunks_are_joined_wherever_they_are_cut() {
        let body = b"5\r\nabcde\r\n12\r\n0123456789abcdef01\r\n0\r\n\r\n";
        for cut in 0..body.len() {
            let (mut chunks, mut out) = (Chunks::default(), Vec::new());
            let goes_on = chunks.take(&body[..cut], &mut out).unwrap();
            assert!(goes_on, "{cut}");
            assert!(!chunks.take(&body[cut..], &mut out).unwrap());
            assert_eq!(out, b"abcde0123456789abcdef01", "{cut}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        assert!(Chunks::default().take(b"zz\r\n", &mut Vec::new()).is_err());
    }
}
