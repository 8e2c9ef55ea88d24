//! What is counted of some requests, and the statistics that come of it.

use std::time::Duration;

use eventodb_protocol::performance::Statistics;
use hdrhistogram::{Counter, Histogram};

use crate::observe::metrics::Ended;

/// Durations are counted in microseconds up to this one; a longer one counts as this one in quantiles.
const MOST_MICROS: u64 = 60_000_000;

/// What is counted of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) duration: Duration,
    pub(super) status: u16,
    pub(super) is_slow: bool,
}

impl Seen {
    pub(super) fn of(ended: &Ended) -> Self {
        let outcome = &ended.outcome;
        Self { duration: outcome.own_duration(), status: outcome.status.as_u16(), is_slow: ended.is_slow }
    }
}

/// Requests, and how long they took.
#[derive(Clone, Debug)]
pub(super) struct Tally<C: Counter> {
    /// In microseconds.
    durations: Histogram<C>,
    /// Of all durations, in microseconds.
    sum: u64,
    /// In microseconds.
    longest: u64,
    refused: u64,
    failed: u64,
    slow: u64,
}

impl<C: Counter> Tally<C> {
    /// One whose quantiles are exact to this number of digits: with two, to 1 %; with one, to 4 %.
    pub(super) fn new(digits: u8) -> Self {
        let durations =
            Histogram::new_with_bounds(1, MOST_MICROS, digits).expect("the bounds and the digits are allowed");
        Self { durations, sum: 0, longest: 0, refused: 0, failed: 0, slow: 0 }
    }

    pub(super) fn count(&mut self, seen: &Seen) {
        let micros = u64::try_from(seen.duration.as_micros()).unwrap_or(MOST_MICROS);
        self.durations.saturating_record(micros);
        self.sum = self.sum.saturating_add(micros);
        self.longest = self.longest.max(micros);
        match seen.status {
            500.. => self.failed += 1,
            400.. => self.refused += 1,
            _ => {}
        }
        self.slow += u64::from(seen.is_slow);
    }

    /// Adds what another one of the same digits has counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.durations.add(&other.durations).expect("the bounds are the same");
        self.sum = self.sum.saturating_add(other.sum);
        self.longest = self.longest.max(other.longest);
        self.refused += other.refused;
        self.failed += other.failed;
        self.slow += other.slow;
    }

    /// Forgets all of it, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.durations.reset();
        (self.sum, self.longest, self.refused, self.failed, self.slow) = (0, 0, 0, 0, 0);
    }

    /// The statistics, if the requests were counted in a period of this length.
    pub(super) fn statistics(&self, seconds: f64) -> Statistics {
        let total = self.durations.len();
        if total == 0 {
            return Statistics { seconds, ..Statistics::default() };
        }
        Statistics {
            seconds,
            total,
            per_second: if seconds > 0.0 { rounded(total as f64 / seconds) } else { 0.0 },
            refused: self.refused,
            failed: self.failed,
            slow: self.slow,
            slow_percent: rounded(self.slow as f64 * 100.0 / total as f64),
            average_ms: (self.sum as f64 * 1e3 / total as f64).round() / 1e6,
            p50_ms: self.quantile(0.5),
            p95_ms: self.quantile(0.95),
            p99_ms: self.quantile(0.99),
            p999_ms: self.quantile(0.999),
            max_ms: millis(self.longest),
        }
    }

    /// In milliseconds. The middle of the values that the histogram does not tell apart.
    fn quantile(&self, quantile: f64) -> f64 {
        let micros = self.durations.median_equivalent(self.durations.value_at_quantile(quantile));
        millis(micros.min(self.longest))
    }

    /// How much memory it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.durations.distinct_values() * size_of::<C>()
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// To three decimals.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(micros: u64, status: u16, is_slow: bool) -> Seen {
        Seen { duration: Duration::from_micros(micros), status, is_slow }
    }

    #[test]
    fn statistics_are_those_of_what_was_counted() {
        let mut tally = Tally::<u32>::new(2);
        (1..=1_000).for_each(|micros| tally.count(&seen(micros * 100, 200, micros > 990)));
        tally.count(&seen(5_000_000, 503, true));
        tally.count(&seen(50, 404, false));
        let statistics = tally.statistics(2.0);
        assert_eq!((statistics.total, statistics.refused, statistics.failed, statistics.slow), (1_002, 1, 1, 11));
        assert_eq!((statistics.per_second, statistics.slow_percent, statistics.max_ms), (501.0, 1.098, 5_000.0));
        assert!((statistics.average_ms - 54.94).abs() < 0.01, "{statistics:?}");
        for (found, exact) in [(statistics.p50_ms, 50.0), (statistics.p95_ms, 95.1), (statistics.p99_ms, 99.1)] {
            assert!((found / exact - 1.0).abs() < 0.01, "{found} is not {exact}");
        }
    }

    #[test]
    fn one_digit_is_exact_to_four_percent() {
        for micros in [1, 17, 333, 1_039, 10_000, 123_456, 7_654_321, 59_999_999] {
            let mut tally = Tally::<u64>::new(1);
            tally.count(&seen(micros, 200, false));
            tally.count(&seen(70_000_000, 200, false));
            let found = tally.quantile(0.5) * 1e3;
            assert!((found / micros as f64 - 1.0).abs() < 0.04, "{found} is not {micros}");
        }
    }

    #[test]
    fn an_empty_one_has_zeroes_and_a_cleared_one_too() {
        let mut tally = Tally::<u32>::new(2);
        let empty = tally.statistics(60.0);
        assert_eq!(empty, Statistics { seconds: 60.0, ..Statistics::default() });
        tally.count(&seen(u64::MAX, 500, true));
        tally.clear();
        assert_eq!(tally.statistics(60.0), empty);
    }
}
