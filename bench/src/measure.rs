//! The measurements of a load: a histogram of latencies, counts, and figures of each second.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The measurements of one lane, or of several together.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Latencies in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Messages written, read or poked.
    pub(crate) messages: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// The measured time in seconds.
    pub(crate) seconds: Vec<Second>,
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Requests that were answered in it.
    pub requests: u64,
    /// The slowest of them, in milliseconds.
    pub max_ms: f64,
}

/// Latencies of one size: those above the bucket before up to this one's bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The longest latency that belongs here, in milliseconds.
    pub up_to_ms: f64,
    /// Requests with such a latency.
    pub requests: u64,
}

/// The state that the lanes of a run share with its progress line.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Requests answered so far.
    pub(crate) requests: AtomicU64,
    /// Set once nothing more shall be sent.
    pub(crate) stop: AtomicBool,
}

impl Default for Measured {
    fn default() -> Self {
        // Bounds that are always the same, so that histograms can be added. Longer latencies are counted at the bound.
        let latencies = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are those that it can have");
        Self { latencies, messages: 0, errors: 0, first_error: None, seconds: Vec::new() }
    }
}

impl Measured {
    /// Counts an answer that came `latency` after its request should have been sent, and `since` the start.
    pub(crate) fn answer(&mut self, latency: Duration, since: Duration, messages: u64) {
        self.latencies.saturating_record(nanoseconds(latency));
        self.messages += messages;
        let second = self.second(since);
        second.requests += 1;
        second.max_ms = second.max_ms.max(latency.as_secs_f64() * 1e3);
    }

    /// Counts the latency of a request that ended `since` the start in the earlier seconds that it lasted through, too.
    pub(crate) fn lasted(&mut self, latency: Duration, since: Duration) {
        for second in since.saturating_sub(latency).as_secs()..since.as_secs() {
            let second = self.second(Duration::from_secs(second));
            second.max_ms = second.max_ms.max(latency.as_secs_f64() * 1e3);
        }
    }

    fn second(&mut self, since: Duration) -> &mut Second {
        let second = usize::try_from(since.as_secs()).unwrap_or(usize::MAX).min(MOST_SECONDS);
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, Second::default());
        }
        &mut self.seconds[second]
    }

    pub(crate) fn error(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| format!("{error:#}"));
    }

    /// Counts the failures of a load that ran beside.
    pub(crate) fn fail(&mut self, beside: Self) {
        self.errors += beside.errors;
        self.first_error = self.first_error.take().or(beside.first_error);
    }

    /// The latencies by size, without the sizes that did not occur.
    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        let mut buckets: Vec<Bucket> = Vec::new();
        for recorded in self.latencies.iter_recorded() {
            let (up_to_ms, requests) = (bucket_bound_ms(recorded.value_iterated_to()), recorded.count_at_value());
            match buckets.last_mut().filter(|last| last.up_to_ms >= up_to_ms) {
                Some(last) => last.requests += requests,
                None => buckets.push(Bucket { up_to_ms, requests }),
            }
        }
        buckets
    }

    /// Adds the measurements of another lane in the same time.
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
        self.messages += other.messages;
        self.seconds.resize(self.seconds.len().max(other.seconds.len()), Second::default());
        for (mine, theirs) in self.seconds.iter_mut().zip(&other.seconds) {
            mine.requests += theirs.requests;
            mine.max_ms = mine.max_ms.max(theirs.max_ms);
        }
        self.fail(other);
    }
}

impl Gauge {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Goes on, unless the run is broken off.
    pub(crate) fn go_on(&self, what: impl FnOnce() -> String) -> anyhow::Result<()> {
        anyhow::ensure!(!self.is_stopped(), "broken off while {}", what());
        Ok(())
    }
}

/// The longest latency that is told from longer ones: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Seconds that a run is followed one by one.
const MOST_SECONDS: usize = 24 * 60 * 60;

/// Buckets for each tenfold latency, so that neighbours differ by 6 %.
const BUCKETS_A_DECADE: f64 = 40.0;

/// The bound of the bucket that a latency belongs to; the same latency has the same in every run.
fn bucket_bound_ms(ns: u64) -> f64 {
    let step = (ns.max(1) as f64 / 1e6).log10() * BUCKETS_A_DECADE;
    let bound = 10f64.powf(step.ceil() / BUCKETS_A_DECADE);
    // More digits would only make files longer.
    (bound * 1e6).round() / 1e6
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_added() {
        let mut one = Measured::default();
        one.answer(Duration::from_millis(2), Duration::from_millis(100), 1);
        let mut other = Measured::default();
        other.answer(Duration::from_millis(5), Duration::from_millis(1100), 10);
        other.error(&anyhow::anyhow!("refused"));
        one.add(other);
        assert_eq!((one.latencies.len(), one.messages, one.errors), (2, 11, 1));
        assert_eq!(one.first_error.as_deref(), Some("refused"));
        assert_eq!(one.seconds, [Second { requests: 1, max_ms: 2.0 }, Second { requests: 1, max_ms: 5.0 }]);
    }

    #[test]
    fn what_lasts_beyond_a_second_is_seen_in_both() {
        let mut measured = Measured::default();
        let (latency, since) = (Duration::from_millis(90), Duration::from_millis(2040));
        measured.answer(latency, since, 1);
        measured.lasted(latency, since);
        let [none, shown] = [Second::default(), Second { requests: 0, max_ms: 90.0 }];
        assert_eq!(measured.seconds, [none, shown, Second { requests: 1, max_ms: 90.0 }]);
    }

    #[test]
    fn a_percentile_is_within_a_thousandth() {
        let mut measured = Measured::default();
        (1..=1000).for_each(|ms| measured.answer(Duration::from_millis(ms), Duration::ZERO, 1));
        let p99 = measured.latencies.value_at_quantile(0.99) as f64 / 1e6;
        assert!((p99 - 990.0).abs() < 1.5, "{p99}");
    }

    #[test]
    fn buckets_have_every_request_below_their_bounds() {
        let mut measured = Measured::default();
        (1..=1000).for_each(|ms| measured.answer(Duration::from_millis(ms), Duration::ZERO, 1));
        let buckets = measured.buckets();
        assert_eq!(buckets.iter().map(|bucket| bucket.requests).sum::<u64>(), 1000);
        assert!(buckets.is_sorted_by(|a, b| a.up_to_ms < b.up_to_ms), "{buckets:?}");
        let last = buckets.last().unwrap().up_to_ms;
        assert!((1000.0..1061.0).contains(&last), "{last}");
        assert!(buckets.len() < 130, "{}", buckets.len());
    }
}
