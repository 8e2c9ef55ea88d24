//! Lets the first few of each kind pass, and counts the rest. It is for lines of the log that clients without a token
//! can cause, too.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

/// How many of a kind pass in each turn.
const FIRST: u64 = 5;

/// How many of each kind there were in the present turn. Kinds are kept until its end: there must be few, and none that a
/// client makes up, because they are hashed fast rather than well.
#[derive(Debug)]
pub(crate) struct Sampler<K> {
    seen: Mutex<HashMap<K, u64, RandomState>>,
}

impl<K> Default for Sampler<K> {
    fn default() -> Self {
        Self { seen: Mutex::default() }
    }
}

impl<K: Eq + Hash> Sampler<K> {
    /// Whether one of this kind passes.
    pub(crate) fn passes(&self, kind: K) -> bool {
        let mut seen = self.seen.lock();
        let count = seen.entry(kind).or_default();
        *count += 1;
        *count <= FIRST
    }

    /// Begins the next turn; how many of each kind did not pass in the last one.
    pub(crate) fn turn(&self) -> Vec<(K, u64)> {
        let seen = std::mem::take(&mut *self.seen.lock());
        seen.into_iter().filter(|(_, count)| *count > FIRST).map(|(kind, count)| (kind, count - FIRST)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_pass_and_the_rest_is_counted() {
        let sampler = Sampler::default();
        assert_eq!((0..10_000).filter(|_| sampler.passes("a")).count() as u64, FIRST);
        assert!(sampler.passes("b"));
        assert_eq!(sampler.turn(), [("a", 10_000 - FIRST)]);
        assert!(sampler.turn().is_empty());
        assert!(sampler.passes("a"));
    }
}
