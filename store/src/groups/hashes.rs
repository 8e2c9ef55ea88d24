//! The hashes of streams that were looked at last. A page asks for that of each message's stream, and an MD5 takes longer
//! than all the rest of what is decided about a message.

use std::cell::RefCell;
use std::hash::BuildHasher as _;

use eventodb_protocol::group;
use foldhash::fast::FixedState;

/// Streams that one thread remembers; a power of two. Each takes some 60 bytes.
const STREAMS: usize = 4_096;

/// A stream and its hash, in the one place where it may be.
type Place = Option<(Box<str>, i64)>;

thread_local! {
    static KNOWN: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// As [`group::stream_hash`].
pub(super) fn stream_hash(stream: &str) -> i64 {
    KNOWN.with_borrow_mut(|known| {
        if known.is_empty() {
            known.resize(STREAMS, None);
        }
        let at = usize::try_from(FixedState::default().hash_one(stream) % STREAMS as u64).expect("it is small");
        match &known[at] {
            Some((there, hash)) if **there == *stream => *hash,
            _ => {
                let hash = group::stream_hash(stream);
                known[at] = Some((stream.into(), hash));
                hash
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_take_each_others_places_keep_their_hashes() {
        for round in 0..3 {
            for number in 0..3 * STREAMS {
                let stream = format!("account-{}", number * (round + 1));
                assert_eq!(stream_hash(&stream), group::stream_hash(&stream), "{stream}");
            }
        }
    }
}
