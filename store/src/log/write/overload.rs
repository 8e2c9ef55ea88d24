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
    /// Whether appends were left when a batch was taken. Otherwise they wait for no more than one commit, however long
    /// it takes.
    has_backlog: bool,
    refuses: bool,
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
        let age = Age::Below(None);
        Self { target, interval, age, lasts: false, has_backlog: false, refuses: false }
    }

    /// Takes notice of the oldest append that waits. A caller does so at each arrival, and before a batch is taken: in
    /// between the age only grows, so that the moment of crossing the target is known.
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
        self.refuses = match self.age {
            Age::Below(_) => false,
            Age::Above(since) => {
                let is_long = now.saturating_duration_since(since) >= self.interval;
                self.lasts |= is_long;
                is_long || (self.lasts && self.has_backlog)
            }
        };
    }

    /// A batch was taken, and this is the oldest append that is left.
    pub(super) fn taken(&mut self, oldest: Option<Instant>, now: Instant) {
        self.has_backlog = oldest.is_some();
        self.look(oldest, now);
    }

    /// Whether new appends are refused.
    pub(super) fn refuses(&self) -> bool {
        self.refuses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: u64 = 100;
    const INTERVAL: u64 = 1_000;

    /// At this time the oldest append is one that has arrived at that time, if there is one.
    #[derive(Clone, Copy)]
    enum Look {
        Seen(u64, u64),
        Taken(u64, Option<u64>),
    }

    use Look::{Seen, Taken};

    /// Whether appends are refused after each look.
    fn refused<const LOOKS: usize>(looks: [Look; LOOKS]) -> [bool; LOOKS] {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut overload = Overload::new(Duration::from_millis(TARGET), Duration::from_millis(INTERVAL));
        looks.map(|look| {
            match look {
                Seen(now, oldest) => overload.look(Some(at(oldest)), at(now)),
                Taken(now, oldest) => overload.taken(oldest.map(at), at(now)),
            }
            overload.refuses()
        })
    }

    #[test]
    fn a_stall_shorter_than_the_interval_refuses_nothing() {
        assert_eq!(refused([Seen(50, 0), Seen(600, 0), Seen(1_099, 0), Taken(1_099, None)]), [false; 4]);
    }

    #[test]
    fn an_age_above_the_target_for_the_interval_refuses_until_it_is_below() {
        let looks = [Seen(1_100, 0), Taken(1_500, Some(1_399)), Taken(1_500, Some(1_401))];
        assert_eq!(refused(looks), [true, true, false]);
    }

    #[test]
    fn a_queue_that_is_emptied_again_and_again_is_none_that_stands() {
        let looks = [Seen(900, 0), Taken(900, None), Seen(1_800, 900), Taken(1_800, None), Seen(2_700, 1_800)];
        assert_eq!(refused(looks), [false; 5]);
    }

    #[test]
    fn an_overload_that_comes_back_at_once_is_the_same_one() {
        let looks = [Seen(1_100, 0), Taken(1_100, None), Taken(1_250, Some(1_200)), Seen(1_300, 1_200)];
        assert_eq!(refused(looks), [true, false, false, true]);
    }

    #[test]
    fn after_a_stall_commits_that_take_long_and_leave_nothing_refuse_nothing() {
        let looks = [Seen(1_100, 0), Taken(1_100, None), Seen(1_300, 1_150), Taken(1_300, None), Seen(1_500, 1_350)];
        assert_eq!(refused(looks), [true, false, false, false, false]);
    }

    #[test]
    fn an_overload_is_over_once_the_age_was_below_for_the_interval() {
        let looks = [
            Seen(1_100, 0),
            Taken(1_100, None),
            Taken(2_150, Some(2_100)),
            Seen(2_300, 2_100),
            Seen(3_199, 2_100),
            Seen(3_200, 2_100),
        ];
        assert_eq!(refused(looks), [true, false, false, false, false, true]);
    }

    #[test]
    fn the_moment_of_crossing_counts_and_not_the_moment_of_looking() {
        // Nobody looked between 0 and 5,000.
        assert_eq!(refused([Seen(0, 0), Seen(5_000, 0)]), [false, true]);
    }
}
