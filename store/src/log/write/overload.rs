//! When appends are refused because earlier ones wait for too long.
//!
//! The rule is that of CoDel (RFC 8289), applied to the age of the oldest append that waits. An age above the target for
//! a moment is a burst or a pause of the disk, which the queue absorbs. An age that stays above the target for the whole
//! interval is a queue that stands: it only makes everybody wait.

use std::time::Duration;

use tokio::time::Instant;

/// The age of the oldest append that waits, compared with its target.
#[derive(Debug)]
pub(super) struct Overload {
    target: Duration,
    interval: Duration,
    age: Age,
    /// Whether the age has stayed above the target for the interval, and since then never below it for as long.
    lasts: bool,
}

/// On which side of the target the age is, and since when.
#[derive(Clone, Copy, Debug)]
enum Age {
    /// `None`: it was never above.
    Below(Option<Instant>),
    Above(Instant),
}

impl Overload {
    pub(super) fn new(target: Duration, interval: Duration) -> Self {
        Self { target, interval, age: Age::Below(None), lasts: false }
    }

    /// Takes notice of the oldest append that waits. A caller does so at each arrival, and before and after appends
    /// leave the queue: in between the age only grows, so that the moment of crossing the target is known.
    pub(super) fn look(&mut self, oldest: Option<Instant>, now: Instant) {
        let crossed = oldest.map(|oldest| oldest + self.target).filter(|crossed| *crossed <= now);
        match (self.age, crossed) {
            (Age::Below(since), Some(crossed)) => {
                let was_short = since.is_some_and(|since| crossed.saturating_duration_since(since) < self.interval);
                self.lasts &= was_short;
                self.age = Age::Above(crossed);
            }
            (Age::Above(_), None) => self.age = Age::Below(Some(now)),
            (Age::Below(_), None) | (Age::Above(_), Some(_)) => {}
        }
        if let Age::Above(since) = self.age {
            self.lasts |= now.saturating_duration_since(since) >= self.interval;
        }
    }

    /// Whether new appends are refused.
    pub(super) fn refuses(&self) -> bool {
        self.lasts && matches!(self.age, Age::Above(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: u64 = 100;
    const INTERVAL: u64 = 1_000;

    /// Looks at these times, at the oldest append's time of arrival, and tells whether appends are refused after each.
    fn refused<const LOOKS: usize>(looks: [(u64, Option<u64>); LOOKS]) -> [bool; LOOKS] {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut overload = Overload::new(Duration::from_millis(TARGET), Duration::from_millis(INTERVAL));
        looks.map(|(now, oldest)| {
            overload.look(oldest.map(at), at(now));
            overload.refuses()
        })
    }

    #[test]
    fn a_stall_shorter_than_the_interval_refuses_nothing() {
        assert_eq!(refused([(0, None), (50, Some(0)), (600, Some(0)), (1_099, Some(0)), (1_099, None)]), [false; 5]);
    }

    #[test]
    fn an_age_above_the_target_for_the_interval_refuses_until_it_is_below() {
        let looks = [(0, None), (1_100, Some(0)), (1_500, Some(1_399)), (1_500, Some(1_401))];
        assert_eq!(refused(looks), [false, true, true, false]);
    }

    #[test]
    fn a_queue_that_is_emptied_again_and_again_is_none_that_stands() {
        let looks = [(900, Some(0)), (900, None), (1_800, Some(900)), (1_800, None), (2_700, Some(1_800))];
        assert_eq!(refused(looks), [false; 5]);
    }

    #[test]
    fn an_overload_that_comes_back_at_once_is_the_same_one() {
        let looks = [(1_100, Some(0)), (1_100, None), (1_300, Some(1_200))];
        assert_eq!(refused(looks), [true, false, true]);
    }

    #[test]
    fn an_overload_is_over_once_the_age_was_below_for_the_interval() {
        let looks = [(1_100, Some(0)), (1_100, None), (2_300, Some(2_100)), (3_199, Some(2_100)), (3_200, Some(2_100))];
        assert_eq!(refused(looks), [true, false, false, false, true]);
    }

    #[test]
    fn the_moment_of_crossing_counts_and_not_the_moment_of_looking() {
        // Nobody looked between 0 and 5,000.
        assert_eq!(refused([(0, None), (5_000, Some(0))]), [false, true]);
    }
}
