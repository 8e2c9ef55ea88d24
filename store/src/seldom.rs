//! Lines of the server's log that an outage would repeat with every request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often lines of one kind are logged, at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Lines that an outage of the database would repeat.
static OUTAGE: Seldom = Seldom::new();

/// Whether the log has told that the database is lost.
static IS_LOST: AtomicBool = AtomicBool::new(false);

/// Says whether the log of this process has told that the database is lost. What follows from it is not told meanwhile.
pub fn database_is_lost(is_lost: bool) {
    IS_LOST.store(is_lost, Relaxed);
}

/// Whether the log has told that the database is lost.
pub(crate) fn is_database_lost() -> bool {
    IS_LOST.load(Relaxed)
}

/// Whether a line of this kind, which an outage of the database would repeat, is to be logged now.
pub(crate) fn outage(kind: &'static str) -> Option<Due> {
    if is_database_lost() { None } else { OUTAGE.due(kind) }
}

/// Lets one line of each kind into the log in ten seconds, and counts those that it holds back.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<BTreeMap<&'static str, Told>>);

/// A line is to be logged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// How many of its kind were not, since the last one, if any.
    pub(crate) held_back: Option<u64>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    held_back: u64,
}

impl Seldom {
    /// Nothing was logged yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether a line of this kind is to be logged now.
    pub(crate) fn due(&self, kind: &'static str) -> Option<Due> {
        self.due_at(kind, Instant::now())
    }

    fn due_at(&self, kind: &'static str, now: Instant) -> Option<Due> {
        let mut kinds = self.0.lock();
        let Some(told) = kinds.get_mut(kind) else {
            kinds.insert(kind, Told { at: now, held_back: 0 });
            return Some(Due { held_back: None });
        };
        if now.saturating_duration_since(told.at) < TELL_EVERY {
            told.held_back += 1;
            return None;
        }
        told.at = now;
        let held_back = std::mem::take(&mut told.held_back);
        Some(Due { held_back: (held_back > 0).then_some(held_back) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_each_kind_in_ten_seconds_tells_how_many_were_held_back() {
        let (seldom, begin) = (Seldom::new(), Instant::now());
        let at = |kind, seconds| seldom.due_at(kind, begin + Duration::from_secs(seconds));
        let due = |held_back| Some(Due { held_back });
        assert_eq!(at("a", 0), due(None));
        assert_eq!([at("a", 1), at("a", 9)], [None, None]);
        assert_eq!(at("b", 9), due(None));
        assert_eq!([at("a", 10), at("a", 19), at("a", 20), at("a", 30)], [due(Some(2)), None, due(Some(1)), due(None)]);
    }
}
