//! How fast an import goes beside appends.
//!
//! The batches of an import are large, and one follows the other closely: at full speed they take the processors and the
//! disk from the writers of every namespace. Therefore an import rests after a batch, in proportion to the appends that
//! come, and has smaller batches while many come. An import alone never rests. Each rest has a bound, so that an import
//! beside busy writers goes on, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::limits::IMPORT_BATCH;

use crate::api::appends::Appends;

/// How long an import rests for each append that comes, while batches take all of its time.
const FOR_EACH: Duration = Duration::from_micros(500);
/// A rest is at most as many times as long as the batch before it took.
const MOST_TIMES: f64 = 3.0;
/// The longest rest.
const LONGEST: Duration = Duration::from_secs(1);
/// Records of a batch while rests are at least as long as batches.
const FEW: usize = 100;

/// The pace of one import.
#[derive(Debug)]
pub(super) struct Pace {
    appends: Arc<Appends>,
    /// How many appends had come when the last batch was stored, and when that was.
    last: (u64, Instant),
    /// The next batch is not stored before.
    next: Instant,
    most: usize,
}

impl Pace {
    /// That of an import which begins now.
    pub(super) fn new(appends: Arc<Appends>) -> Self {
        let now = Instant::now();
        Self { last: (appends.so_far(), now), next: now, most: IMPORT_BATCH, appends }
    }

    /// How many records the next batch has at most.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// When the next batch may be stored.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// A batch was stored, which took this time.
    pub(super) fn stored(&mut self, took: Duration) {
        let (appends, now) = (self.appends.so_far(), Instant::now());
        let times = times(appends - self.last.0, now - self.last.1);
        self.last = (appends, now);
        self.next = now + took.mul_f64(times).min(LONGEST);
        self.most = if times < 1.0 { IMPORT_BATCH } else { FEW };
    }
}

/// How many times as long as the batch before it a rest is, if this number of appends came within that time.
fn times(appends: u64, within: Duration) -> f64 {
    (FOR_EACH.as_secs_f64() * appends as f64 / within.as_secs_f64().max(f64::EPSILON)).min(MOST_TIMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_import_alone_never_rests() {
        let mut pace = Pace::new(Arc::default());
        pace.stored(SECOND);
        assert!(pace.next() <= Instant::now());
        assert_eq!(pace.most(), IMPORT_BATCH);
    }

    #[test]
    fn a_rest_is_in_proportion_to_the_appends_and_bounded() {
        let rests = [0, 200, 2_000, 6_000, 1_000_000].map(|appends| times(appends, SECOND));
        assert_eq!(rests, [0.0, 0.1, 1.0, MOST_TIMES, MOST_TIMES]);
        assert!(times(1, Duration::ZERO) <= MOST_TIMES);
    }

    #[test]
    fn beside_busy_writers_batches_are_small_and_rests_bounded() {
        let appends = Arc::<Appends>::default();
        let mut pace = Pace::new(Arc::clone(&appends));
        (0..1_000_000).for_each(|_| appends.count());
        pace.stored(100 * SECOND);
        assert_eq!(pace.most(), FEW);
        assert!(pace.next() > Instant::now() && pace.next() <= Instant::now() + LONGEST);
        pace.stored(SECOND);
        assert_eq!(pace.most(), IMPORT_BATCH, "none came since");
    }
}
