//! Random numbers that a seed repeats.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

/// A sequence of random numbers: fast, and the same for the same seed.
pub(crate) type Random = SmallRng;

/// The sequence of a seed; each lane of one seed has a sequence of its own.
pub(crate) fn random(seed: u64, lane: u64) -> Random {
    SmallRng::seed_from_u64(seed ^ (lane << 40))
}

/// The next UUID (version 4) of a sequence.
pub(crate) fn uuid(random: &mut Random) -> Uuid {
    uuid::Builder::from_random_bytes(random.random()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_lanes_differ() {
        let first = |seed, lane| uuid(&mut random(seed, lane));
        assert_eq!(first(1, 0), first(1, 0));
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(1, 0), first(2, 0));
    }
}
