//! Frames of HTTP/2 (RFC 9113), for a client that sends and does not read.

/// Largest frame that a server takes.
const FRAME: usize = 16 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: [u8; 2] = [0, 4];

/// Whether a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    Whole,
    Never,
}

/// The beginning of a connection. Each reply may have `window` bytes until more are allowed.
pub(super) fn opening(window: u32) -> Vec<u8> {
    let setting = [&WINDOW[..], &window.to_be_bytes()].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &setting)].concat()
}

/// Request `number` of a connection, from 0: a call.
pub(super) fn request(number: u32, token: Option<&str>, body: &[u8], ends: Ends) -> Vec<u8> {
    let stream = 2 * number + 1;
    // POST and http are of the static table (RFC 7541, appendix A), and so are the names of path and authority.
    let mut head = vec![0x83, 0x86, 0x04];
    text(&mut head, b"/rpc");
    head.push(0x01);
    text(&mut head, b"localhost");
    if let Some(token) = token {
        field(&mut head, b"authorization", format!("Bearer {token}").as_bytes());
    }
    let end = if ends == Ends::Whole { END_STREAM } else { 0 };
    [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, end, stream, body)].concat()
}

/// The head of a request, without its end.
pub(super) fn unfinished_head(bytes: usize) -> Vec<u8> {
    let mut head = vec![0x83, 0x86];
    field(&mut head, b"x", &vec![b'x'; bytes]);
    // Cut short, so that the field itself is not whole.
    head.truncate(bytes);
    let mut pieces = head.chunks(FRAME);
    let first = frame(HEADERS, 0, 1, pieces.next().unwrap_or_default());
    pieces.fold(first, |sent, piece| [sent, frame(CONTINUATION, 0, 1, piece)].concat())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field that is not kept in the table.
fn field(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.push(0);
    text(head, name);
    text(head, value);
}

/// A string as it is (RFC 7541, section 5.2), with its length (section 5.1).
fn text(head: &mut Vec<u8>, text: &[u8]) {
    const PREFIX: usize = 127;
    if text.len() < PREFIX {
        head.push(text.len() as u8);
    } else {
        head.push(PREFIX as u8);
        let mut rest = text.len() - PREFIX;
        while rest >= 128 {
            head.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        head.push(rest as u8);
    }
    head.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_standard() {
        let mut head = Vec::new();
        text(&mut head, &[b'x'; 1337]);
        // 1337 - 127 = 1210 = 9 × 128 + 58
        assert_eq!(head[..3], [127, 128 | 58, 9]);
    }

    #[test]
    fn a_frame_has_its_length_kind_flags_and_stream() {
        assert_eq!(frame(DATA, END_STREAM, 3, b"ab"), [0, 0, 2, 0, 1, 0, 0, 0, 3, b'a', b'b']);
    }
}
