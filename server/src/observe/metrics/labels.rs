//! Which names that clients chose have series of their own. Without a bound, a tenant for each customer would make a series
//! for each, in every scrape and in Prometheus.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// Namespaces that have series of their own.
pub(crate) const NAMESPACES: usize = 100;
/// What the rest has together. A namespace of this name is part of it.
pub(crate) const OTHER: &str = "other";

/// The names that have series of their own: the first that came, as long as they are there.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    namespaces: Mutex<HashSet<Arc<str>>>,
}

impl Labels {
    /// The values of the namespaces that have series, and the sum of the others if there are some.
    pub(crate) fn of_namespaces(&self, values: &[(Arc<str>, u64)]) -> Vec<(Arc<str>, u64)> {
        let mut kept = self.namespaces.lock();
        let present: HashSet<&Arc<str>> = values.iter().map(|(name, _)| name).collect();
        kept.retain(|name| present.contains(name));
        let (mut labelled, mut rest) = (Vec::new(), None);
        for (name, value) in values {
            let is_other = **name == *OTHER;
            if !is_other && (kept.contains(name) || kept.len() < NAMESPACES) {
                kept.insert(Arc::clone(name));
                labelled.push((Arc::clone(name), *value));
            } else {
                *rest.get_or_insert(0) += value;
            }
        }
        labelled.extend(rest.map(|rest| (OTHER.into(), rest)));
        labelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(numbers: std::ops::Range<usize>) -> Vec<(Arc<str>, u64)> {
        numbers.map(|number| (format!("n-{number}").into(), 1)).collect()
    }

    #[test]
    fn the_first_keep_their_series_and_the_rest_is_one() {
        let labels = Labels::default();
        assert_eq!(labels.of_namespaces(&values(0..3)).len(), 3);
        let mut many = values(0..NAMESPACES + 50);
        many.reverse();
        let labelled = labels.of_namespaces(&many);
        assert_eq!(labelled.len(), NAMESPACES + 1);
        assert_eq!(labelled.last(), Some(&(OTHER.into(), 50)));
        assert!(values(0..3).iter().all(|first| labelled.contains(first)));
        let named_so = labels.of_namespaces(&[(OTHER.into(), 7), ("n-0".into(), 1)]);
        assert_eq!(named_so, [("n-0".into(), 1), (OTHER.into(), 7)]);
        let later = labels.of_namespaces(&values(1..NAMESPACES + 1));
        assert_eq!(later.len(), NAMESPACES, "the place of one that is gone is free");
    }
}
