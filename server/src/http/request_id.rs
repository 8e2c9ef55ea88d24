//! The id of a request, which its reply and every line of the log about it have, so that a client and an operator can
//! speak of the same request.
//!
//! It is the client's, if the client sends a usable one in `X-Request-Id`. Otherwise it is a number of this process
//! behind digits that differ from process to process: no request waits for random digits, and one server's ids are in
//! the order of its requests.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes of the longest id that is taken from a client.
const MOST: usize = 128;
/// What tokens begin with, and how many hex digits they end with.
const TOKEN: (&str, usize) = ("ns_", 64);

/// Tells the ids of one process from those of another.
static PROCESS: LazyLock<String> = LazyLock::new(|| format!("{:08x}-", uuid::Uuid::new_v4().as_fields().0));
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The id of a request. [`fmt::Display`] writes it for the log: as it stands in the reply, unless a token stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// The number of the request in this process.
    Own(u64),
    /// The client's, which is 1 to 128 printable bytes of ASCII.
    Clients(Arc<str>),
}

impl RequestId {
    /// The id in the head of a request, or a new one if there is no usable one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
        // `to_str` allows tabs, too.
        let usable = given.filter(|id| (1..=MOST).contains(&id.len()) && !id.contains('\t'));
        usable.map_or_else(Self::new, |id| Self::Clients(id.into()))
    }

    /// A new one.
    pub(super) fn new() -> Self {
        Self::Own(NEXT.fetch_add(1, Relaxed))
    }

    /// Puts it into the head of the reply.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(X_REQUEST_ID, self.value());
    }

    /// The line with it in the head of a reply of HTTP/1.1.
    pub(super) fn line(&self) -> String {
        format!("{X_REQUEST_ID}: {self}\r\n")
    }

    fn value(&self) -> HeaderValue {
        let text = match self {
            Self::Own(number) => {
                let mut digits = itoa::Buffer::new();
                let parts = [PROCESS.as_bytes(), digits.format(*number).as_bytes()];
                // As long as it is: `Bytes` would allocate once more for a vector with room to spare.
                parts.concat().into()
            }
            Self::Clients(id) => Bytes::copy_from_slice(id.as_bytes()),
        };
        HeaderValue::from_maybe_shared(text).expect("an id is printable ASCII")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(number) => write!(f, "{}{number}", *PROCESS),
            Self::Clients(id) => f.write_str(if has_token(id) { "(a token)" } else { id }),
        }
    }
}

fn has_token(id: &str) -> bool {
    let (begin, digits) = TOKEN;
    let behind = id.split_once(begin).map_or("", |(_, behind)| behind);
    behind.split(|byte: char| !byte.is_ascii_hexdigit()).any(|run| run.len() >= digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &[u8]) -> RequestId {
        let value = HeaderValue::from_bytes(value).expect("a header's value");
        RequestId::of(&HeaderMap::from_iter([(X_REQUEST_ID, value)]))
    }

    #[test]
    fn an_id_of_printable_ascii_is_kept() {
        for id in ["7", "a b~!\"\\", &"x".repeat(128)] {
            assert_eq!(of(id.as_bytes()), RequestId::Clients(id.into()));
            let mut headers = HeaderMap::new();
            of(id.as_bytes()).tell(&mut headers);
            assert_eq!(headers[X_REQUEST_ID], id);
        }
    }

    #[test]
    fn a_token_in_an_id_is_not_logged() {
        let token = format!("ns_YQ_{}", "0f".repeat(32));
        for id in [&*token, &format!("Bearer {token}"), &format!("x{token}x")] {
            let given = of(id.as_bytes());
            assert_eq!(given.to_string(), "(a token)");
            assert_eq!(given.value(), id, "the reply has it");
        }
        for id in ["ns_order-17", &"0f".repeat(64), &format!("ns_{}", "0f".repeat(31))] {
            assert_eq!(of(id.as_bytes()).to_string(), *id);
        }
    }

    #[test]
    fn other_ids_are_replaced() {
        for id in ["", "a\tb", "ä", &"x".repeat(129)] {
            assert!(matches!(of(id.as_bytes()), RequestId::Own(_)), "{id}");
        }
    }

    #[test]
    fn no_two_are_alike() {
        let [first, second] = [RequestId::new(), RequestId::of(&HeaderMap::new())];
        assert_ne!(first, second);
        assert_ne!(first.to_string(), second.to_string());
        assert_eq!(first.line(), format!("x-request-id: {first}\r\n"));
    }
}
