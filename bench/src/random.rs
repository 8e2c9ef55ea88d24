//! Random numbers that a seed repeats, and cost next to nothing: SplitMix64.
//!
//! Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).

/// A sequence of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of a seed; `lane` tells the sequences of one seed apart.
    pub(crate) fn new(seed: u64, lane: u64) -> Self {
        let mut random = Self(seed ^ lane.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The upper half of the product: as even as 64 bits allow, and without a division.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 to 1, exclusive.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A random UUID, version 4.
    pub(crate) fn uuid(&mut self) -> uuid::Uuid {
        uuid::Builder::from_u128((u128::from(self.next()) << 64) | u128::from(self.next()))
            .with_version(uuid::Version::Random)
            .into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_lanes_differ() {
        let take = |seed, lane| {
            let mut random = Random::new(seed, lane);
            [random.next(), random.next()]
        };
        assert_eq!(take(1, 0), take(1, 0));
        assert_ne!(take(1, 0), take(1, 1));
        assert_ne!(take(1, 0), take(2, 0));
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut random = Random::new(7, 0);
        for bound in [1, 2, 20, 5_000] {
            assert!((0..1_000).all(|_| random.below(bound) < bound), "{bound}");
        }
        assert!((0..1_000).map(|_| random.fraction()).all(|f| (0.0..1.0).contains(&f)));
    }
}
