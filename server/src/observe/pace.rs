//! Which requests have a line of the access log, and which slow ones have a line.
//!
//! Both are bounded in time and in memory, whatever clients do: logging must not cost more than the requests.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

/// Lets a number of requests a second pass, spread over the second. Of more requests every second, third, … passes.
#[derive(Debug)]
pub(super) struct Pace {
    begin: Instant,
    second: Mutex<Second>,
}

#[derive(Debug, Default)]
struct Second {
    number: u64,
    seen: u64,
    /// Of this number of requests one passes, as the second before says.
    stride: u64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { begin: Instant::now(), second: Mutex::default() }
    }

    /// If the request passes: of how many it is one.
    pub(super) fn one_in(&self, per_second: NonZeroU32) -> Option<u64> {
        self.second.lock().one_in(self.begin.elapsed().as_secs(), per_second.get().into())
    }
}

impl Second {
    fn one_in(&mut self, now: u64, most: u64) -> Option<u64> {
        if now != self.number {
            let is_next = now == self.number + 1;
            let stride = if is_next { self.seen.div_ceil(most).max(1) } else { 1 };
            *self = Self { number: now, seen: 0, stride };
        }
        // More than in the second before: the longer it lasts, the fewer pass.
        let stride = self.stride.max(1 + self.seen / most);
        let passes = self.seen.is_multiple_of(stride);
        self.seen += 1;
        passes.then_some(stride)
    }
}

/// Patterns that are told apart. Of those that share a place, one has a line in a second.
const PATTERNS: usize = 1024;

/// Lets one slow request of each pattern pass in a second. A pattern is a method and a namespace.
#[derive(Debug)]
pub(super) struct SlowOnes {
    begin: Instant,
    /// Decides where a pattern has its place, so that no client can choose the one of another.
    secret: RandomState,
    /// The second, from 1, in which the last one of each place passed.
    passed: Box<[AtomicU64]>,
}

impl SlowOnes {
    pub(super) fn new() -> Self {
        let passed = (0..PATTERNS).map(|_| AtomicU64::new(0)).collect();
        Self { begin: Instant::now(), secret: RandomState::new(), passed }
    }

    /// Whether a slow request of this pattern has a line now.
    pub(super) fn passes(&self, method: &str, namespace: Option<&str>) -> bool {
        self.passes_at(self.begin.elapsed().as_secs() + 1, method, namespace)
    }

    fn passes_at(&self, second: u64, method: &str, namespace: Option<&str>) -> bool {
        let place = usize::try_from(self.secret.hash_one((method, namespace)) % PATTERNS as u64).unwrap_or_default();
        self.passed[place].swap(second, Relaxed) != second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_requests_have_a_line_each_and_of_many_about_as_many_as_may() {
        let mut second = Second::default();
        assert!((0..100).all(|_| second.one_in(1, 100) == Some(1)));
        let passed =
            |second: &mut Second, now| -> Vec<u64> { (0..10_000).filter_map(|_| second.one_in(now, 100)).collect() };
        let burst = passed(&mut second, 2);
        assert!(burst.len() < 600, "a second that nobody foresaw: {}", burst.len());
        let steady = passed(&mut second, 3);
        assert_eq!((steady.len(), steady[0]), (100, 100));
        assert_eq!(steady.iter().sum::<u64>(), 10_000, "the lines stand for all requests");
        assert_eq!(second.one_in(9, 100), Some(1), "after a pause");
    }

    #[test]
    fn a_slow_pattern_has_one_line_in_a_second() {
        let slow = SlowOnes::new();
        let passed = |second, namespace| (0..10).filter(|_| slow.passes_at(second, "stream.get", namespace)).count();
        assert_eq!([passed(1, Some("shop")), passed(2, Some("shop"))], [1, 1]);
        let patterns =
            (0..100_000).filter(|number| slow.passes_at(3, "stream.get", Some(&format!("n{number}")))).count();
        assert!(patterns <= PATTERNS, "{patterns}");
    }
}
