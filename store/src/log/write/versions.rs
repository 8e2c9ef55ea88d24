//! The versions of streams that the sequencer remembers.

use std::sync::Arc;

use lru::LruCache;

/// The last position of the streams that were used last, up to a bound.
pub(super) struct Versions {
    /// Without a bound of its own, because it would allocate room for all of it at once, in every log.
    cache: LruCache<Arc<str>, i64>,
    most: usize,
}

impl Versions {
    pub(super) fn new(most: usize) -> Self {
        Self { cache: LruCache::unbounded(), most }
    }

    pub(super) fn get(&mut self, stream: &Arc<str>) -> Option<i64> {
        self.cache.get(stream).copied()
    }

    pub(super) fn put(&mut self, stream: &Arc<str>, version: i64) {
        match self.cache.get_mut(stream) {
            Some(known) => *known = version,
            None => {
                self.cache.push(stream.clone(), version);
                if self.cache.len() > self.most {
                    self.cache.pop_lru();
                }
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.cache = LruCache::unbounded();
    }
}
