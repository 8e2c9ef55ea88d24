//! How many there are of each of some kind: connections of each address, subscriptions of each namespace.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// A number for each key that has any.
pub(crate) struct Tally<K: Eq + Hash>(Mutex<Counts<K>>);

struct Counts<K> {
    of: HashMap<K, usize>,
    all: usize,
}

/// One of a key, until it is dropped.
pub(crate) struct Counted<K: Eq + Hash> {
    tally: Arc<Tally<K>>,
    key: K,
}

impl<K: Eq + Hash> Default for Tally<K> {
    fn default() -> Self {
        Self(Mutex::new(Counts { of: HashMap::new(), all: 0 }))
    }
}

impl<K: Eq + Hash + Clone> Tally<K> {
    /// Counts one more of a key, unless it has as many as `most` says for the number of all.
    pub(crate) fn add(self: &Arc<Self>, key: K, most: impl FnOnce(usize) -> usize) -> Option<Counted<K>> {
        let counts = &mut *self.0.lock();
        let most = most(counts.all);
        let own = counts.of.get(&key).copied().unwrap_or(0);
        if own >= most {
            return None;
        }
        counts.of.insert(key.clone(), own + 1);
        counts.all += 1;
        Some(Counted { tally: Arc::clone(self), key })
    }
}

impl<K: Eq + Hash> Tally<K> {
    /// How many there are of all keys.
    pub(crate) fn all(&self) -> usize {
        self.0.lock().all
    }
}

impl<K: Eq + Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        let counts = &mut *self.tally.0.lock();
        counts.all -= 1;
        if let Some(own) = counts.of.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                counts.of.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_one_kind_leaves_places_for_others() {
        let tally = Arc::new(Tally::default());
        let [crowd, other] = ["a crowd", "another"];
        let fair = |all| 512 - all;
        let held: Vec<_> = std::iter::from_fn(|| tally.add(crowd, fair)).collect();
        assert_eq!(held.len(), 512 / 2);
        let guest = tally.add(other, fair);
        assert!(guest.is_some());
        drop((held, guest));
        let counts = tally.0.lock();
        assert!(counts.of.is_empty() && counts.all == 0);
    }
}
