//! The largest of the values of the last minute. A value that is large between two scrapes is seen by the next one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a slot is written to.
const SLOT: Duration = Duration::from_secs(5);
/// Slots of the last minute, and the one that is being written to.
const SLOTS: usize = 13;
/// Bits of a slot that have its value, in microseconds: enough for 19 hours. The others have the number of its turn.
const VALUE_BITS: u32 = 36;
const MOST: u64 = (1 << VALUE_BITS) - 1;

/// The largest duration of the last 60 to 65 seconds.
#[derive(Debug)]
pub struct RecentMax {
    started: Instant,
    /// Each has the number of its turn in its high bits, so that the larger of two is the later one, and of one turn the one
    /// with the larger value.
    slots: [AtomicU64; SLOTS],
}

impl Default for RecentMax {
    fn default() -> Self {
        Self { started: Instant::now(), slots: Default::default() }
    }
}

impl RecentMax {
    /// Takes notice of a duration that ended at `now`.
    pub fn observe(&self, duration: Duration, now: Instant) {
        let turn = self.turn(now);
        let value = u64::try_from(duration.as_micros()).map_or(MOST, |micros| micros.min(MOST));
        let slot = &self.slots[turn as usize % SLOTS];
        let value = (turn << VALUE_BITS) | value;
        // Most values are no new maximum: a load is cheaper than an exchange.
        if slot.load(Relaxed) < value {
            slot.fetch_max(value, Relaxed);
        }
    }

    /// The largest one of the minute before `now`; zero if there was none.
    pub fn get(&self, now: Instant) -> Duration {
        let turn = self.turn(now);
        let slots = self.slots.iter().map(|slot| slot.load(Relaxed));
        let recent = slots.filter(|slot| (slot >> VALUE_BITS) + (SLOTS as u64) > turn);
        Duration::from_micros(recent.map(|slot| slot & MOST).max().unwrap_or_default())
    }

    fn turn(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / SLOT.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_value_is_seen_for_a_minute_and_then_forgotten() {
        let recent = RecentMax::default();
        let at = |seconds| recent.started + Duration::from_secs(seconds);
        let [large, small] = [70, 3].map(Duration::from_millis);
        assert_eq!(recent.get(at(0)), Duration::ZERO);
        recent.observe(large, at(1));
        recent.observe(small, at(2));
        recent.observe(small, at(40));
        assert_eq!(recent.get(at(61)), large);
        assert_eq!(recent.get(at(66)), small);
        assert_eq!(recent.get(at(1_000)), Duration::ZERO);
        recent.observe(small, at(1_000));
        assert_eq!(recent.get(at(1_000)), small, "an old value in the same slot does not count");
    }
}
