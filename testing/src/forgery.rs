//! Forged errors of PostgreSQL: its report that a statement is done becomes an error, on the way to the client.
//!
//! Some middlemen do that: a node that forwards a statement to another one, and loses the connection after the commit,
//! answers with an error although the statement is done.

/// What is known of the replies of one connection: messages of a type, a length, and a body.
#[derive(Clone, Debug, Default)]
pub(crate) enum Forgery {
    /// Nothing came yet. The first byte may be the answer to a request for TLS.
    #[default]
    Start,
    /// A message begins; these are its first bytes, fewer than [`HEADER`].
    Header(Vec<u8>),
    /// So many bytes of a message are to come.
    Body {
        left: usize,
        /// Whether an error has taken its place.
        is_forged: bool,
    },
    /// The replies are encrypted.
    Opaque,
}

/// Bytes of a message's type and length.
const HEADER: usize = 5;
/// The type of the message that a statement is done (`CommandComplete`).
const DONE: u8 = b'C';

impl Forgery {
    /// The bytes that take the place of these. `forge` is asked for each statement that is done, and gives the SQLSTATE
    /// of the error that is to be reported.
    pub(crate) fn pass(&mut self, mut piece: &[u8], mut forge: impl FnMut() -> Option<&'static str>) -> Vec<u8> {
        let mut passed = Vec::with_capacity(piece.len());
        while let Some(&first) = piece.first() {
            let taken = match self {
                Self::Start => self.begin(first, &mut passed),
                Self::Opaque => {
                    passed.extend_from_slice(piece);
                    piece.len()
                }
                Self::Header(bytes) => {
                    bytes.push(first);
                    self.end_header(&mut passed, &mut forge);
                    1
                }
                Self::Body { left, is_forged } => {
                    let taken = piece.len().min(*left);
                    if !*is_forged {
                        passed.extend_from_slice(&piece[..taken]);
                    }
                    *left -= taken;
                    taken
                }
            };
            piece = &piece[taken..];
            if matches!(self, Self::Body { left: 0, .. }) {
                *self = Self::Header(Vec::with_capacity(HEADER));
            }
        }
        passed
    }

    /// Looks at the first byte, and returns how many bytes are dealt with. An answer to a request for TLS is one byte;
    /// every other first message is about authentication, or an error.
    fn begin(&mut self, first: u8, passed: &mut Vec<u8>) -> usize {
        *self = if first == b'S' { Self::Opaque } else { Self::Header(Vec::with_capacity(HEADER)) };
        if first != b'N' {
            return 0;
        }
        passed.push(first);
        1
    }

    fn end_header(&mut self, passed: &mut Vec<u8>, forge: &mut impl FnMut() -> Option<&'static str>) {
        let Self::Header(bytes) = self else { return };
        let &[kind, a, b, c, d] = &bytes[..] else { return };
        // The length counts itself.
        let left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(HEADER - 1);
        let state = if kind == DONE { forge() } else { None };
        match state {
            Some(state) => passed.extend(error(state)),
            None => passed.extend_from_slice(bytes),
        }
        *self = Self::Body { left, is_forged: state.is_some() };
    }
}

/// The message of an error, as PostgreSQL sends it (`ErrorResponse`).
fn error(state: &str) -> Vec<u8> {
    let fields = format!("SERROR\0VERROR\0C{state}\0Mforged on the way\0\0");
    let length = u32::try_from(fields.len() + HEADER - 1).expect("it is short");
    [&b"E"[..], &length.to_be_bytes(), fields.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &str) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("it is short");
        [&[kind][..], &length.to_be_bytes(), body.as_bytes()].concat()
    }

    #[test]
    fn a_report_becomes_an_error_however_the_bytes_are_cut() {
        let (row, done, ready) = (message(b'D', "a row"), message(DONE, "INSERT 0 1\0"), message(b'Z', "I"));
        let sent = [b"N".to_vec(), row.clone(), done, ready.clone()].concat();
        let wanted = [b"N".to_vec(), row, error("57P01"), ready].concat();
        for size in 1..=sent.len() {
            let mut forgery = Forgery::default();
            let passed = sent.chunks(size).flat_map(|piece| forgery.pass(piece, || Some("57P01"))).collect::<Vec<u8>>();
            assert_eq!(passed, wanted, "in pieces of {size}");
            let mut forgery = Forgery::default();
            let same = sent.chunks(size).flat_map(|piece| forgery.pass(piece, || None)).collect::<Vec<u8>>();
            assert_eq!(same, sent, "in pieces of {size}");
        }
    }

    #[test]
    fn encrypted_replies_pass_as_they_are() {
        let sent = [b"S".to_vec(), message(DONE, "INSERT 0 1\0")].concat();
        assert_eq!(Forgery::default().pass(&sent, || Some("57P01")), sent);
    }
}
