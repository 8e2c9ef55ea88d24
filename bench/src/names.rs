//! The stream that a message goes to: a set of names over a number of categories, chosen evenly or by Zipf's law.
//!
//! All names of one set have the same length, so that a request is built once and only its name is overwritten.

use std::sync::Arc;

use clap::ValueEnum;
use rand::RngExt as _;
use rand::distr::Distribution as _;
use rand::distr::weighted::WeightedIndex;

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
    /// The frequencies, for Zipf's law.
    zipf: Option<Arc<WeightedIndex<f64>>>,
}

/// A set with more streams than this has UUIDs as ids.
const NUMBERED: u64 = 100_000;

impl Names {
    pub(crate) fn new(streams: u64, categories: u64, distribution: Distribution) -> Self {
        let frequencies = || WeightedIndex::new((1..=streams).map(|k| 1.0 / k as f64)).expect("all are above 0");
        let zipf = (distribution == Distribution::Zipf).then(|| Arc::new(frequencies()));
        Self { streams, categories, uuids: streams > NUMBERED, prefix: "bench", zipf }
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
        Self { streams: streams.min(self.streams), zipf: None, ..self.clone() }
    }

    /// The number of a stream, chosen by the distribution.
    pub(crate) fn choose(&self, random: &mut Random) -> u64 {
        match &self.zipf {
            Some(frequencies) => frequencies.sample(random) as u64,
            None => random.random_range(0..self.streams),
        }
    }

    /// The stream of the `n`th message where all streams take turns, in an order that looks random.
    pub(crate) fn shuffled(&self, n: u64) -> u64 {
        /// A prime above every number of streams: multiples of it, modulo that number, visit each stream once.
        const PRIME: u128 = 2_654_435_761;
        (u128::from(n) * PRIME % u128::from(self.streams)) as u64
    }

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
