//! Statistics of finished requests: over several periods, by pattern, and the slow ones.
//!
//! All memory has a bound, whatever the number of namespaces and methods: together it is less than 8 MiB. The sum is in
//! [0190](../../../../docs/decisions/0190-what-the-statistics-of-requests-cost.md), and a test fills it all.

mod patterns;
mod periods;
mod ring;
mod slow;
mod tally;

use std::time::{Duration, Instant};

use eventodb_protocol::Timestamp;
use eventodb_protocol::performance::{Pattern, Periods as PeriodsReply, Series, SlowRequest};
use parking_lot::Mutex;

use self::patterns::Patterns;
use self::periods::Periods;
use self::slow::SlowRequests;
use self::tally::Seen;
use super::metrics::{Ended, Outcome};
use super::record::Record;

pub(crate) use self::periods::Step;

/// All of it needs less.
#[cfg(test)]
const MOST_BYTES: usize = 8 << 20;

/// Statistics of all finished requests since the start or the last reset.
pub(crate) struct Performance {
    started: Instant,
    /// The names of the methods, by their numbers.
    names: &'static [&'static str],
    // One lock for each, so that a reader of one does not hold up requests at the others.
    periods: Mutex<Periods>,
    patterns: Mutex<Patterns>,
    slow: Mutex<SlowRequests>,
}

impl Performance {
    /// For methods of these names, which [`super::Method`] has the numbers of.
    pub(crate) fn new(names: &'static [&'static str]) -> Self {
        Self {
            started: Instant::now(),
            names,
            periods: Mutex::new(Periods::new(Duration::ZERO)),
            patterns: Mutex::new(Patterns::new(names.len())),
            slow: Mutex::default(),
        }
    }

    /// Counts requests, in the order of their ends.
    pub(super) fn add(&self, ended: &[Ended]) {
        let mut periods = self.periods.lock();
        for ended in ended {
            periods.count(ended.at().saturating_duration_since(self.started), &Seen::of(ended));
        }
        drop(periods);
        let mut patterns = self.patterns.lock();
        for ended in ended {
            patterns.count(ended.method.number, ended.namespace.as_ref(), &Seen::of(ended));
        }
    }

    /// Keeps a slow request, beside counting it.
    pub(super) fn keep_slow(&self, record: &Record, outcome: &Outcome) {
        self.slow.lock().add(record, outcome);
    }

    /// Since the start of the server.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// When counting began: at the start or the last reset.
    pub(crate) fn since(&self) -> Timestamp {
        let age = self.uptime().saturating_sub(self.periods.lock().since());
        Timestamp::from_micros(Timestamp::now().as_micros() - i64::try_from(age.as_micros()).unwrap_or_default())
    }

    /// All requests over several periods.
    pub(crate) fn periods(&self) -> PeriodsReply {
        let now = self.uptime();
        self.periods.lock().statistics(now)
    }

    /// Points for a chart.
    pub(crate) fn series(&self, step: Step) -> Series {
        let (now, time) = (self.uptime(), Timestamp::now());
        self.periods.lock().series(step, now, time)
    }

    /// All requests by pattern. Those come first that took the most time together.
    pub(crate) fn patterns(&self) -> Vec<Pattern> {
        let seconds = self.uptime().saturating_sub(self.periods.lock().since()).as_secs_f64();
        let mut patterns = Vec::new();
        // The lock is let go after each namespace, so that requests wait for a few microseconds at most.
        let keys = self.patterns.lock().keys();
        for key in keys {
            let of_key = self.patterns.lock().statistics(&key, seconds);
            let named =
                of_key.into_iter().map(|(number, statistics)| patterns::named(&key, self.names[number], statistics));
            patterns.extend(named);
        }
        let time = |pattern: &Pattern| pattern.statistics.average_ms * pattern.statistics.total as f64;
        patterns.sort_by(|a, b| time(b).total_cmp(&time(a)));
        patterns
    }

    /// The last slow requests, the latest first, and the slowest ones, the slowest first.
    pub(crate) fn slow(&self) -> (Vec<SlowRequest>, Vec<SlowRequest>) {
        let slow = self.slow.lock();
        (slow.recent(), slow.top())
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        *self.patterns.lock() = Patterns::new(self.names.len());
        *self.slow.lock() = SlowRequests::default();
        let now = self.uptime();
        *self.periods.lock() = Periods::new(now);
    }
}

#[cfg(test)]
mod tests;
