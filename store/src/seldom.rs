//! Lines of the server's log that an outage would repeat with every request.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often lines of one kind are logged, at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Lets one line of each kind into the log in ten seconds, and counts those that it holds back.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<BTreeMap<&'static str, Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    held_back: u64,
}

/// For lines that an outage of the database would repeat.
pub(crate) static OUTAGE: Seldom = Seldom::new();

impl Seldom {
    /// Nothing was logged yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether a line of this kind is to be logged now: if so, how many were held back since the last one.
    pub(crate) fn due(&self, kind: &'static str) -> Option<u64> {
        self.due_at(kind, Instant::now())
    }

    fn due_at(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock();
        let Some(told) = kinds.get_mut(kind) else {
            kinds.insert(kind, Told { at: now, held_back: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(told.at) < TELL_EVERY {
            told.held_back += 1;
            return None;
        }
        told.at = now;
        Some(std::mem::take(&mut told.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_each_kind_in_ten_seconds_tells_how_many_were_held_back() {
        let (seldom, begin) = (Seldom::new(), Instant::now());
        let at = |kind, seconds| seldom.due_at(kind, begin + Duration::from_secs(seconds));
        assert_eq!(at("a", 0), Some(0));
        assert_eq!([at("a", 1), at("a", 9)], [None, None]);
        assert_eq!(at("b", 9), Some(0));
        assert_eq!([at("a", 10), at("a", 19), at("a", 20)], [Some(2), None, Some(1)]);
    }
}
