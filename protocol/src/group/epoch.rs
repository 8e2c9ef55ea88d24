//! The number of an assignment of a partition.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Random bits at the low end of an epoch.
const RANDOM_BITS: u32 = 10;

/// The number that one assignment of a partition has. It grows and is never used twice in a namespace: whoever presents
/// an epoch that is not the partition's current one is refused.
///
/// Epochs follow the clock. A database that lost its newest rows in a failover does not know the last epochs that it
/// gave. A later clock gives higher ones all the same, and the random bits keep two databases that both take themselves
/// for the primary from giving the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(i64);

impl Epoch {
    /// The epoch with this number, as a database or a client has it.
    pub const fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> i64 {
        self.0
    }

    /// The epoch after `self`, the last one of the namespace, given at `now_ms` (milliseconds since 1970). The low 10
    /// bits of `random` are used. `None` if there is no higher number.
    pub fn next(self, now_ms: i64, random: u16) -> Option<Self> {
        let low = i64::from(random) & ((1 << RANDOM_BITS) - 1);
        let by_clock = now_ms.checked_mul(1 << RANDOM_BITS)?.checked_add(low)?;
        Some(Self(self.0.checked_add(1)?.max(by_clock)))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::POSITION_MAX;

    #[test]
    fn an_epoch_follows_the_clock_or_the_last_one() {
        assert_eq!(Epoch::default().next(5, 0), Some(Epoch(5 * 1024)));
        assert_eq!(Epoch(5 * 1024).next(5, 0), Some(Epoch(5 * 1024 + 1)));
        assert_eq!(Epoch(9_000).next(5, 7), Some(Epoch(9_001)), "a clock that went back");
        assert_eq!(Epoch::default().next(5, u16::MAX), Some(Epoch(5 * 1024 + 1023)), "10 bits of it");
        assert_eq!(Epoch(i64::MAX).next(5, 0), None);
        assert_eq!(Epoch::default().next(i64::MAX, 0), None);
    }

    #[test]
    fn a_client_can_hold_the_epochs_of_two_centuries() {
        const YEAR_MS: i64 = 365 * 24 * 3_600_000;
        let epoch = Epoch::default().next(270 * YEAR_MS, u16::MAX).expect("an epoch");
        assert!(epoch.number() <= POSITION_MAX);
    }

    proptest! {
        #[test]
        fn epochs_grow(clock in proptest::collection::vec((0i64..1 << 42, any::<u16>()), 1..20)) {
            let mut last = Epoch::default();
            for (now, random) in clock {
                let next = last.next(now, random).expect("there is room");
                prop_assert!(next > last);
                last = next;
            }
        }
    }
}
