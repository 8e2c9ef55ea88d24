//! Requests by what they ask for and in which namespace. The first namespaces and patterns that come have statistics of
//! their own, until there are as many as may be; all others are counted together.

use std::collections::HashMap;
use std::sync::Arc;

use eventodb_protocol::performance::{Operation, Pattern, Statistics};
use foldhash::fast::RandomState;

use super::tally::{Seen, Tally};
use crate::observe::metrics::{NAMESPACES, OTHER};

/// Patterns of the namespaces that have their own, of all together.
const PATTERNS: usize = 1_000;
/// Digits to which quantiles are exact.
const DIGITS: u8 = 1;

/// All patterns.
pub(super) struct Patterns {
    named: HashMap<Arc<str>, OfNamespace, RandomState>,
    /// Of requests that have no namespace.
    none: OfNamespace,
    other: OfNamespace,
    /// Patterns of `named` that may still be added.
    left: usize,
    methods: usize,
}

/// Whose patterns are asked for.
#[derive(Debug)]
pub(super) enum Key {
    Named(Arc<str>),
    None,
    Other,
}

/// The patterns of a namespace, by the numbers of their methods.
struct OfNamespace(Box<[Option<Box<Tally<u64>>>]>);

impl Patterns {
    /// For this number of methods.
    pub(super) fn new(methods: usize) -> Self {
        Self {
            named: HashMap::default(),
            none: OfNamespace::new(methods),
            other: OfNamespace::new(methods),
            left: PATTERNS,
            methods,
        }
    }

    /// Counts a request for the method of this number.
    pub(super) fn count(&mut self, method: usize, namespace: Option<&Arc<str>>, seen: &Seen) {
        let tally = match namespace {
            None => self.none.tally(method),
            Some(name) => self.tally(method, name),
        };
        tally.count(seen);
    }

    /// All keys, of which [`Self::statistics`] has something.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.named.keys().cloned().map(Key::Named).chain([Key::None, Key::Other]).collect()
    }

    /// The statistics of the patterns of a key, by the numbers of their methods.
    pub(super) fn statistics(&self, key: &Key, seconds: f64) -> Vec<(usize, Statistics)> {
        let of = match key {
            Key::Named(name) => self.named.get(name),
            Key::None => Some(&self.none),
            Key::Other => Some(&self.other),
        };
        let tallies = of.into_iter().flat_map(|of| of.0.iter().enumerate());
        tallies.filter_map(|(number, tally)| Some((number, tally.as_ref()?.statistics(seconds)))).collect()
    }

    fn tally(&mut self, method: usize, name: &Arc<str>) -> &mut Tally<u64> {
        if !self.has_place(method, name) {
            return self.other.tally(method);
        }
        let methods = self.methods;
        let of = self.named.entry(Arc::clone(name)).or_insert_with(|| OfNamespace::new(methods));
        if of.0[method].is_none() {
            self.left -= 1;
        }
        of.tally(method)
    }

    /// Whether the pattern has statistics of its own, or may get them.
    fn has_place(&self, method: usize, name: &Arc<str>) -> bool {
        match self.named.get(name) {
            Some(of) => of.0[method].is_some() || self.left > 0,
            None => self.left > 0 && self.named.len() < NAMESPACES && **name != *OTHER,
        }
    }

    /// How much memory it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let of =
            |of: &OfNamespace| size_of_val(&*of.0) + of.0.iter().flatten().map(|tally| tally.bytes()).sum::<usize>();
        let named = self.named.iter().map(|(name, patterns)| name.len() + of(patterns)).sum::<usize>();
        // A table is at most twice as large as what it holds, and has a byte more for each place.
        let table = self.named.capacity() * 2 * (size_of::<(Arc<str>, OfNamespace)>() + 1);
        size_of::<Self>() + named + table + of(&self.none) + of(&self.other)
    }
}

impl OfNamespace {
    fn new(methods: usize) -> Self {
        Self((0..methods).map(|_| None).collect())
    }

    fn tally(&mut self, method: usize) -> &mut Tally<u64> {
        self.0[method].get_or_insert_with(|| Box::new(Tally::new(DIGITS)))
    }
}

/// A pattern with its names.
pub(super) fn named(key: &Key, method: &str, statistics: Statistics) -> Pattern {
    let namespace = match key {
        Key::Named(name) => Some(name.to_string()),
        Key::None => None,
        Key::Other => Some(OTHER.to_owned()),
    };
    Pattern { operation: operation(method), method: method.to_owned(), namespace, statistics }
}

/// What a request for this method or path does to the store.
fn operation(method: &str) -> Operation {
    match method {
        "stream.write" | "stream.append" | "streams.append" | "/import" => Operation::Append,
        "/subscribe" => Operation::Subscribe,
        "ns.streams" | "ns.categories" => Operation::Read,
        _ => match method.split_once('.').map(|(of, _)| of) {
            Some("stream" | "category" | "message") => Operation::Read,
            Some("group") => Operation::Group,
            Some("ns" | "token") => Operation::Administer,
            _ => Operation::None,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const METHODS: usize = 20;

    fn count(patterns: &mut Patterns, method: usize, namespace: Option<&str>) {
        let seen = Seen { duration: Duration::from_millis(1), status: 200, is_slow: false };
        patterns.count(method, namespace.map(Arc::from).as_ref(), &seen);
    }

    /// How many requests the patterns of a key have.
    fn total(patterns: &Patterns, key: &Key) -> u64 {
        patterns.statistics(key, 1.0).iter().map(|(_, statistics)| statistics.total).sum()
    }

    #[test]
    fn each_request_is_counted_once_however_many_namespaces_there_are() {
        let mut patterns = Patterns::new(METHODS);
        for round in 0..2 {
            for namespace in 0..300 {
                (0..METHODS).for_each(|method| count(&mut patterns, method, Some(&format!("n-{namespace}"))));
            }
            count(&mut patterns, 3, None);
            assert_eq!(patterns.left, 0, "round {round}");
        }
        let keys = patterns.keys();
        assert_eq!(keys.iter().map(|key| total(&patterns, key)).sum::<u64>(), 2 * (300 * METHODS as u64 + 1));
        assert_eq!(total(&patterns, &Key::None), 2);
        assert_eq!(total(&patterns, &Key::Named("n-0".into())), 2 * METHODS as u64, "the first ones keep their own");
        assert_eq!(total(&patterns, &Key::Other), 2 * (300 * METHODS - PATTERNS) as u64);
    }

    #[test]
    fn namespaces_have_a_bound_of_their_own() {
        let mut patterns = Patterns::new(METHODS);
        (0..300).for_each(|namespace| count(&mut patterns, 0, Some(&format!("n-{namespace}"))));
        assert_eq!((patterns.named.len(), total(&patterns, &Key::Other)), (NAMESPACES, 200));
        let mut patterns = Patterns::new(METHODS);
        count(&mut patterns, 0, Some(OTHER));
        assert_eq!((patterns.named.len(), total(&patterns, &Key::Other)), (0, 1));
    }

    #[test]
    fn what_a_request_does_follows_from_its_name() {
        for (operation_, methods) in [
            (Operation::Append, &["stream.write", "streams.append", "/import"][..]),
            (Operation::Read, &["stream.get", "category.get", "message.get", "ns.streams"]),
            (Operation::Subscribe, &["/subscribe"]),
            (Operation::Group, &["group.read", "group.wait"]),
            (Operation::Administer, &["ns.info", "token.create"]),
            (Operation::None, &["sys.health", "/metrics", "/health/ready", "unknown call"]),
        ] {
            methods.iter().for_each(|method| assert_eq!(operation(method), operation_, "{method}"));
        }
    }
}
