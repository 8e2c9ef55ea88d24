//! The stream that a message goes to: a set of names over a number of categories, chosen evenly or by Zipf's law.
//!
//! All names of one set have the same length, so that a request is built once and only its name is overwritten.

use std::sync::Arc;

use clap::ValueEnum;
use rand::RngExt as _;

use crate::random::{Random, random, uuid};

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
    pub(crate) streams: u64,
    pub(crate) categories: u64,
    /// Whether the ids of the streams are UUIDs; otherwise they are numbers.
    uuids: bool,
    /// The beginning of every category's name.
    prefix: &'static str,
    /// The sums of the frequencies, for Zipf's law.
    sums: Option<Arc<[f64]>>,
}

/// A set with more streams than this has UUIDs as ids.
const NUMBERED: u64 = 100_000;

impl Names {
    /// `streams` names in `categories` categories.
    pub(crate) fn new(streams: u64, categories: u64, distribution: Distribution) -> Self {
        let sums = (distribution == Distribution::Zipf).then(|| {
            let add = |sum: &mut f64, k: u64| {
                *sum += 1.0 / k as f64;
                Some(*sum)
            };
            (1..=streams).scan(0.0, add).collect()
        });
        Self { streams, categories, uuids: streams > NUMBERED, prefix: "bench", sums }
    }

    /// The same set with UUIDs as ids, even if it is small.
    pub(crate) fn with_uuids(self) -> Self {
        Self { uuids: true, ..self }
    }

    /// The same set in categories of another name.
    pub(crate) fn with_prefix(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    /// The first `streams` names, each chosen as often as the others.
    pub(crate) fn first(&self, streams: u64) -> Self {
        Self { streams: streams.min(self.streams), sums: None, ..self.clone() }
    }

    /// The number of a stream, chosen by the distribution.
    pub(crate) fn choose(&self, random: &mut Random) -> u64 {
        let Some(sums) = &self.sums else { return random.random_range(0..self.streams) };
        let wanted = random.random::<f64>() * sums.last().copied().unwrap_or_default();
        (sums.partition_point(|&sum| sum <= wanted) as u64).min(self.streams - 1)
    }

    /// The stream of the `n`th message where all streams take turns, in an order that looks random.
    pub(crate) fn shuffled(&self, n: u64) -> u64 {
        /// A prime above every number of streams: multiples of it, modulo that number, visit each stream once.
        const PRIME: u128 = 2_654_435_761;
        (u128::from(n) * PRIME % u128::from(self.streams)) as u64
    }

    /// The name of stream `number`.
    pub(crate) fn stream(&self, number: u64) -> String {
        let category = self.category(number);
        match self.uuids {
            true => format!("{category}-{}", uuid(&mut random(number, 1))),
            false => format!("{category}-{number:08}"),
        }
    }

    /// The name of category `number`, counted around.
    pub(crate) fn category(&self, number: u64) -> String {
        format!("{}{:04}", self.prefix, number % self.categories)
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
        let mut random = random(1, 0);
        let mut counts = vec![0; 1_000];
        (0..10_000).for_each(|_| counts[names.choose(&mut random) as usize] += 1);
        assert!(counts[0] > 5 * counts[9], "{} {}", counts[0], counts[9]);
    }
}
