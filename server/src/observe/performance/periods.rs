//! All requests over the process and over the last minutes, and an hour of seconds and a day of minutes for charts.
//!
//! Periods are made of slots: of five seconds for the last one and five minutes, of a minute for the last hour. The slot in
//! which a period begins is left out, so that a period is up to one slot shorter than its name says.

use std::time::Duration;

use eventodb_protocol::Timestamp;
use eventodb_protocol::performance::{COLUMNS, Periods as Reply, Series, Statistics};

use super::ring::Ring;
use super::tally::{Seen, Tally};

/// Digits to which quantiles are exact.
const DIGITS: u8 = 2;
const SECOND: u64 = 1;
const SLOT: u64 = 5;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What each point of a chart stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A second of the last hour.
    Second,
    /// A minute of the last day.
    Minute,
}

/// All requests. Times are durations since the start of the server.
pub(super) struct Periods {
    since: Duration,
    all: Tally<u64>,
    second: Turns,
    slots: Turns,
    minutes: Turns,
    /// Seconds that are over.
    hour: Ring<Point>,
    /// Minutes that are over.
    day: Ring<Point>,
}

/// What was counted in the last turns of this length.
struct Turns {
    seconds: u64,
    ring: Ring<Box<Tally<u32>>>,
}

/// What a chart shows of a turn.
#[derive(Clone, Copy, Debug)]
struct Point {
    total: u64,
    refused: u64,
    failed: u64,
    slow: u64,
    average_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl Periods {
    pub(super) fn new(since: Duration) -> Self {
        Self {
            since,
            all: Tally::new(DIGITS),
            second: Turns { seconds: SECOND, ring: Ring::new(1) },
            slots: Turns { seconds: SLOT, ring: Ring::new(5 * MINUTE / SLOT) },
            minutes: Turns { seconds: MINUTE, ring: Ring::new(HOUR / MINUTE) },
            hour: Ring::new(HOUR),
            day: Ring::new(DAY / MINUTE),
        }
    }

    /// When counting began.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// Counts a request that ended at this time. One that is late by a turn counts for the latest turn.
    pub(super) fn count(&mut self, ended: Duration, seen: &Seen) {
        self.all.count(seen);
        self.second.count_into(ended, seen, Some(&mut self.hour));
        self.slots.count_into(ended, seen, None);
        self.minutes.count_into(ended, seen, Some(&mut self.day));
    }

    /// The statistics at this time.
    pub(super) fn statistics(&self, now: Duration) -> Reply {
        Reply {
            process: self.all.statistics(now.saturating_sub(self.since).as_secs_f64()),
            last_minute: self.over(&self.slots, MINUTE, now),
            last5_minutes: self.over(&self.slots, 5 * MINUTE, now),
            last60_minutes: self.over(&self.minutes, HOUR, now),
        }
    }

    /// The points at this time, which is `time` by the wall clock.
    pub(super) fn series(&self, step: Step, now: Duration, time: Timestamp) -> Series {
        let (turns, over) = match step {
            Step::Second => (&self.second, &self.hour),
            Step::Minute => (&self.minutes, &self.day),
        };
        let turn = turns.turn(now);
        let began = time.as_micros().div_euclid(1_000_000) - now.as_secs() as i64;
        let current = turns.ring.latest().map(|(turn, tally)| (*turn, Point::of(tally)));
        let points = over.at(turn).copied().chain(current.filter(|(latest, _)| latest + over.span() > turn));
        let points = points.map(|(turn, point)| {
            let Point { total, refused, failed, slow, average_ms, p50_ms, p99_ms, max_ms } = point;
            let time = began + (turn * turns.seconds) as i64;
            (time, total, refused, failed, slow, average_ms, p50_ms, p99_ms, max_ms)
        });
        Series { step_seconds: turns.seconds, columns: COLUMNS.map(str::to_owned).to_vec(), points: points.collect() }
    }

    /// The statistics of the last seconds, as far as slots of this length tell.
    fn over(&self, turns: &Turns, seconds: u64, now: Duration) -> Statistics {
        let first = (turns.turn(now) + 1).saturating_sub(seconds / turns.seconds);
        let mut sum = Tally::new(DIGITS);
        turns.ring.at(turns.turn(now)).filter(|(turn, _)| *turn >= first).for_each(|(_, tally)| sum.add(tally));
        let begin = Duration::from_secs(first * turns.seconds).max(self.since);
        sum.statistics(now.saturating_sub(begin).as_secs_f64())
    }

    /// How much memory it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let turns = [&self.second, &self.slots, &self.minutes]
            .map(|turns| turns.ring.bytes() + turns.ring.at(0).map(|(_, tally)| tally.bytes()).sum::<usize>());
        size_of::<Self>() + self.all.bytes() + turns.iter().sum::<usize>() + self.hour.bytes() + self.day.bytes()
    }
}

impl Turns {
    fn turn(&self, at: Duration) -> u64 {
        at.as_secs() / self.seconds
    }

    /// Counts a request. If a turn is over by that, its point is added to `over`.
    fn count_into(&mut self, ended: Duration, seen: &Seen, over: Option<&mut Ring<Point>>) {
        let turn = self.turn(ended);
        if self.ring.is_new(turn) {
            if let Some((over, (turn, tally))) = over.zip(self.ring.latest()) {
                over.make_room(*turn);
                over.push(*turn, Point::of(tally));
            }
            let mut tally = self.ring.make_room(turn).unwrap_or_else(|| Box::new(Tally::new(DIGITS)));
            tally.clear();
            self.ring.push(turn, tally);
        }
        self.ring.latest_mut().expect("there is one now").count(seen);
    }
}

impl Point {
    fn of(tally: &Tally<u32>) -> Self {
        let Statistics { total, refused, failed, slow, average_ms, p50_ms, p99_ms, max_ms, .. } = tally.statistics(0.0);
        Self { total, refused, failed, slow, average_ms, p50_ms, p99_ms, max_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(millis: u64) -> Seen {
        Seen { duration: Duration::from_millis(millis), status: 200, is_slow: false }
    }

    #[test]
    fn a_period_has_what_ended_in_it() {
        let mut periods = Periods::new(Duration::ZERO);
        for (ended, millis) in [(1, 1), (200, 2), (3_000, 3), (3_590, 4), (3_600, 5)] {
            periods.count(seconds(ended), &seen(millis));
        }
        let reply = periods.statistics(seconds(3_604));
        let totals = |reply: &Reply| {
            [&reply.process, &reply.last_minute, &reply.last5_minutes, &reply.last60_minutes].map(|of| of.total)
        };
        assert_eq!(totals(&reply), [5, 2, 2, 4], "the first is older than an hour");
        assert_eq!((reply.last_minute.seconds, reply.last_minute.max_ms), (59.0, 5.0));
        assert_eq!((reply.last60_minutes.seconds, reply.last60_minutes.p50_ms), (3_544.0, 3.0));
        assert_eq!(totals(&periods.statistics(seconds(10_000))), [5, 0, 0, 0]);
        periods.count(seconds(10_000), &seen(1));
        assert_eq!(totals(&periods.statistics(seconds(10_000))), [6, 1, 1, 1]);
    }

    #[test]
    fn a_young_server_has_short_periods() {
        let mut periods = Periods::new(seconds(7));
        periods.count(seconds(8), &seen(1));
        let reply = periods.statistics(seconds(9));
        assert_eq!((reply.process.seconds, reply.process.per_second), (2.0, 0.5));
        assert_eq!((reply.last60_minutes.seconds, reply.last_minute.per_second), (2.0, 0.5));
    }

    #[test]
    fn what_is_late_counts_for_the_latest_turn() {
        let mut periods = Periods::new(Duration::ZERO);
        periods.count(seconds(120), &seen(1));
        periods.count(seconds(119), &seen(2));
        let series = periods.series(Step::Second, seconds(120), Timestamp::from_micros(1_000_000_000));
        assert_eq!(series.points.iter().map(|point| (point.0, point.1)).collect::<Vec<_>>(), [(1_000, 2)]);
    }

    #[test]
    fn charts_have_an_hour_of_seconds_and_a_day_of_minutes() {
        let mut periods = Periods::new(Duration::ZERO);
        let last = 2 * DAY;
        let minutes = (0..last - 2 * HOUR).step_by(60);
        minutes.chain(last - 2 * HOUR..=last).for_each(|second| periods.count(seconds(second), &seen(second % 60)));
        let now = Timestamp::from_micros(5_000_000 * 1_000_000);
        let hour = periods.series(Step::Second, seconds(last), now);
        assert_eq!((hour.step_seconds, hour.points.len() as u64), (1, HOUR));
        assert_eq!(hour.points.last().map(|point| (point.0, point.1, point.8)), Some((5_000_000, 1, 0.0)));
        assert!(hour.points.is_sorted_by(|a, b| a.0 + 1 == b.0));
        let day = periods.series(Step::Minute, seconds(last), now);
        assert_eq!((day.step_seconds, day.points.len() as u64), (60, DAY / MINUTE));
        assert_eq!(day.points.first().map(|point| (point.0, point.1)), Some((5_000_000 - 86_400 + 60, 1)));
        assert_eq!(day.points.iter().rev().nth(1).map(|point| (point.1, point.8)), Some((60, 59.0)));
        assert_eq!(periods.series(Step::Second, seconds(2 * last), now).points.len(), 0);
    }
}
