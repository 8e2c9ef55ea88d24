//! Rows of one table, which remember what was changed.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The rows that a group has in one table, by key. A row can be changed only by a function that notes its key, so that
/// a backend writes exactly what a decision changed.
#[derive(Clone, Debug)]
pub(super) struct Rows<K, V> {
    /// Shared by all copies of a group in which they are the same.
    rows: Arc<BTreeMap<K, V>>,
    changed: BTreeSet<K>,
}

/// What a decision changed in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<K, V> {
    /// Rows to be added, or to be written in place of the row with that key.
    pub save: Vec<(K, V)>,
    /// Rows to be deleted, which may never have been stored.
    pub forget: Vec<K>,
}

impl<K: Ord + Clone, V: Clone> Rows<K, V> {
    /// Rows as they are stored.
    pub(super) fn stored(rows: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { rows: Arc::new(rows.into_iter().collect()), changed: BTreeSet::new() }
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.rows.get(key)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    /// The rows with a key above this one.
    pub(super) fn above<'a, Q: Ord + ?Sized>(&'a self, key: &'a Q) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        K: Borrow<Q>,
    {
        self.rows.range::<Q, _>((std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded))
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The row with this key, to be changed.
    pub(super) fn change<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (key, _) = self.rows.get_key_value(key)?;
        let key = key.clone();
        self.changed.insert(key.clone());
        Arc::make_mut(&mut self.rows).get_mut::<K>(&key)
    }

    pub(super) fn insert(&mut self, key: K, row: V) {
        self.changed.insert(key.clone());
        Arc::make_mut(&mut self.rows).insert(key, row);
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.rows.get(key)?;
        let (key, row) = Arc::make_mut(&mut self.rows).remove_entry(key)?;
        self.changed.insert(key);
        Some(row)
    }

    /// Puts these rows in the place of all that are there.
    pub(super) fn replace(&mut self, rows: impl IntoIterator<Item = (K, V)>) {
        self.changed.extend(self.rows.keys().cloned());
        self.rows = Arc::new(rows.into_iter().collect());
        self.changed.extend(self.rows.keys().cloned());
    }

    /// The rows count as stored.
    pub(super) fn settle(&mut self) {
        self.changed.clear();
    }

    pub(super) fn changes(&self) -> Changed<K, V> {
        let mut changes = Changed { save: Vec::new(), forget: Vec::new() };
        for key in &self.changed {
            match self.rows.get(key) {
                Some(row) => changes.save.push((key.clone(), row.clone())),
                None => changes.forget.push(key.clone()),
            }
        }
        changes
    }
}

impl<K, V> Changed<K, V> {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.save.is_empty() && self.forget.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_changed_is_written() {
        let mut rows = Rows::stored([(1, "a"), (2, "b"), (3, "c")]);
        *rows.change(&2).expect("a row") = "x";
        rows.remove(&3);
        rows.insert(4, "d");
        assert_eq!(rows.change(&9), None);
        assert_eq!(rows.changes(), Changed { save: vec![(2, "x"), (4, "d")], forget: vec![3] });
    }

    #[test]
    fn a_row_that_is_removed_and_added_again_is_written() {
        let mut rows = Rows::stored([(1, "a")]);
        rows.remove(&1);
        rows.insert(1, "b");
        assert_eq!(rows.changes(), Changed { save: vec![(1, "b")], forget: vec![] });
    }

    #[test]
    fn what_is_replaced_is_written_or_deleted() {
        let mut rows = Rows::stored([(1, "a"), (2, "b")]);
        rows.replace([(1, "c")]);
        assert_eq!(rows.changes(), Changed { save: vec![(1, "c")], forget: vec![2] });
    }
}
