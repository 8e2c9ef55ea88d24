//! The frames of a subscription but for its pokes, which the store makes.
//!
//! Only pokes have a `data:` line, as some clients take every such line for a poke. All else is a
//! comment; where it also has an `id:` line, a client's Last-Event-ID moves without an event.

use std::ops::RangeInclusive;

use bytes::Bytes;

/// How long a client waits before it connects again, in milliseconds.
const RETRY_MS: u32 = 1000;
/// The same where the server stops: any of these, so that not all of its clients come at once.
const RETRY_AFTER_STOP_MS: RangeInclusive<u32> = 500..=2000;

/// What a subscription begins with.
pub(super) fn opening(position: i64) -> Bytes {
    format!("retry: {RETRY_MS}\n\n: ready\nid: {position}\n\n").into()
}

/// All that was there up to `head` was sent.
pub(super) fn caught_up(head: i64) -> Bytes {
    format!(": caught-up {head}\nid: {head}\n\n").into()
}

/// Nothing happened for a while.
pub(super) fn heartbeat(head: i64) -> Bytes {
    format!(": heartbeat {head}\nid: {head}\n\n").into()
}

/// The subscription begins above the log's head.
pub(super) fn ahead_of_head(head: i64) -> Bytes {
    format!(": ahead-of-head {head}\n\n").into()
}

/// The message at `position` is damaged: the stream ends before it.
pub(super) fn damaged(position: i64) -> Bytes {
    format!(": damaged {position}\n\n").into()
}

/// The server stops, and the client goes on elsewhere.
pub(super) fn farewell() -> Bytes {
    format!("retry: {}\n\n", rand::random_range(RETRY_AFTER_STOP_MS)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ends_with_one_empty_line() {
        assert_eq!(opening(7), "retry: 1000\n\n: ready\nid: 7\n\n");
        assert_eq!(caught_up(7), ": caught-up 7\nid: 7\n\n");
        assert_eq!(heartbeat(7), ": heartbeat 7\nid: 7\n\n");
        assert_eq!(ahead_of_head(7), ": ahead-of-head 7\n\n");
        assert_eq!(damaged(7), ": damaged 7\n\n");
    }
}
