//! Which stream a message goes to: so many names over so many categories, evenly or by Zipf's law.
//!
//! All names of one set have the same length, so that a request is built once and only patched.

use std::sync::Arc;

use clap::ValueEnum;

use crate::random::Random;

/// How often each stream is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// Each as often as the others.
    #[default]
    Uniform,
    /// The k-th with a frequency of 1/k.
    Zipf,
}

/// A set of stream names.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    streams: u64,
    categories: u64,
    uuids: bool,
    /// What the names of all categories begin with.
    prefix: &'static str,
    /// The sums of the frequencies, for Zipf's law.
    sums: Option<Arc<[f64]>>,
}

/// Up to so many streams have plain numbers as ids; beyond, UUIDs.
const NUMBERED: u64 = 100_000;

impl Names {
    /// `streams` names in `categories` categories.
    pub(crate) fn new(streams: u64, categories: u64, distribution: Distribution) -> Self {
        let sums = (distribution == Distribution::Zipf).then(|| {
            let mut sum = 0.0;
            let add = |k| {
                sum += 1.0 / k as f64;
                sum
            };
            (1..=streams).map(add).collect()
        });
        Self { streams, categories, uuids: streams > NUMBERED, prefix: "bench", sums }
    }

    /// The same with UUIDs as ids, however few there are.
    pub(crate) fn with_uuids(self) -> Self {
        Self { uuids: true, ..self }
    }

    /// The same in categories of another name.
    pub(crate) fn with_prefix(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    /// The first so many of them, each chosen as often as the others.
    pub(crate) fn first(&self, streams: u64) -> Self {
        Self { streams, sums: None, ..self.clone() }
    }

    /// How many streams there are.
    pub(crate) fn streams(&self) -> u64 {
        self.streams
    }

    /// How many categories there are.
    pub(crate) fn categories(&self) -> u64 {
        self.categories
    }

    /// The number of a stream, chosen by the distribution.
    pub(crate) fn choose(&self, random: &mut Random) -> u64 {
        let Some(sums) = &self.sums else { return random.below(self.streams) };
        let wanted = random.fraction() * sums.last().copied().unwrap_or_default();
        (sums.partition_point(|&sum| sum <= wanted) as u64).min(self.streams - 1)
    }

    /// The stream of the `n`th message where each gets one after the other: all in turn, in an order without order.
    pub(crate) fn shuffled(&self, n: u64) -> u64 {
        /// A prime beyond all numbers of streams: multiplied by it they come in another order, none twice.
        const PRIME: u128 = 2_654_435_761;
        (u128::from(n) * PRIME % u128::from(self.streams)) as u64
    }

    /// The name of stream `number`.
    pub(crate) fn stream(&self, number: u64) -> String {
        let category = self.category(number % self.categories);
        if self.uuids {
            format!("{category}-{}", Random::new(number, 1).uuid())
        } else {
            format!("{category}-{number:08}")
        }
    }

    /// The name of category `number`.
    pub(crate) fn category(&self, number: u64) -> String {
        format!("{}{number:04}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_of_a_set_are_equally_long() {
        for streams in [1, 5_000, 1_000_000] {
            let names = Names::new(streams, 20, Distribution::Uniform);
            assert_eq!(names.stream(0).len(), names.stream(streams - 1).len());
        }
    }

    #[test]
    fn zipf_prefers_the_first() {
        let names = Names::new(1_000, 20, Distribution::Zipf);
        let mut random = Random::new(1, 0);
        let mut counts = vec![0; 1_000];
        (0..10_000).for_each(|_| counts[names.choose(&mut random) as usize] += 1);
        assert!(counts[0] > 5 * counts[9], "{} {}", counts[0], counts[9]);
    }
}
