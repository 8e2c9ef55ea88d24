//! Positions that a resize or an adoption carries over.
//!
//! A resize begins the new partitions at the lowest of the old checkpoints. What the old partitions had handled above it
//! stays handled: a message is handled if it is at or below the old checkpoint of the partition that it belonged to.

use std::collections::{BTreeMap, BTreeSet};

use eventodb_protocol::group::partition_of_hash;
use serde::{Deserialize, Serialize};

use super::rows::{Changed, Rows};

/// Partitions, by partition count.
pub type Void = BTreeMap<u32, BTreeSet<u32>>;

/// The checkpoints of an earlier partition count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// By partition of that count.
    pub checkpoints: Vec<i64>,
    /// By partition count, the partitions that were reset since: nothing is carried over for streams that belong to one
    /// of them. That stays so over later resizes.
    pub void: Void,
}

impl Carried {
    /// The position that is carried over for a stream with this hash; 0 if there is none.
    fn of(&self, hash: i64) -> i64 {
        if self.void.iter().any(|(count, partitions)| partitions.contains(&partition_of_hash(hash, *count))) {
            return 0;
        }
        let count = u32::try_from(self.checkpoints.len()).expect("a partition count");
        self.checkpoints[partition_of_hash(hash, count) as usize]
    }

    fn is_void(&self, count: u32, partition: u32) -> bool {
        self.void.get(&count).is_some_and(|partitions| partitions.contains(&partition))
    }

    /// Nothing applies to these partitions of `count` any more.
    pub(super) fn make_void(&mut self, count: u32, partitions: &BTreeSet<u32>) {
        if !partitions.is_empty() {
            self.void.entry(count).or_default().extend(partitions);
        }
    }

    fn highest(&self) -> i64 {
        self.checkpoints.iter().copied().max().unwrap_or_default()
    }
}

/// Everything that a group carries over, by the order in which it came.
#[derive(Clone, Debug)]
pub(super) struct CarriedOver {
    rows: Rows<i64, Carried>,
}

impl CarriedOver {
    pub(super) fn stored(rows: impl IntoIterator<Item = (i64, Carried)>) -> Self {
        Self { rows: Rows::stored(rows) }
    }

    /// The highest position that is carried over for a stream with this hash; 0 if there is none.
    pub(super) fn of(&self, hash: i64) -> i64 {
        self.rows.iter().map(|(_, carried)| carried.of(hash)).max().unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Carried> {
        self.rows.iter().map(|(_, carried)| carried)
    }

    pub(super) fn add(&mut self, carried: Carried) {
        let last = self.rows.iter().next_back().map_or(0, |(number, _)| *number);
        self.rows.insert(last + 1, carried);
    }

    /// Nothing that was carried over so far applies to these partitions of `count` any more.
    pub(super) fn make_void(&mut self, count: u32, partitions: &BTreeSet<u32>) {
        for number in self.numbers() {
            self.rows.change(&number).expect("it is there").make_void(count, partitions);
        }
    }

    /// Cuts what lies above the head.
    pub(super) fn cut(&mut self, head: i64) {
        for number in self.numbers() {
            if self.rows.get(&number).is_some_and(|carried| carried.highest() > head)
                && let Some(carried) = self.rows.change(&number)
            {
                carried.checkpoints.iter_mut().for_each(|checkpoint| *checkpoint = head.min(*checkpoint));
            }
        }
    }

    /// Forgets what no partition needs any more: each checkpoint is past the highest position, or void.
    pub(super) fn forget_passed(&mut self, checkpoints: &[i64]) {
        let count = u32::try_from(checkpoints.len()).expect("a partition count");
        for number in self.numbers() {
            let carried = self.rows.get(&number).expect("it is there");
            let highest = carried.highest();
            let is_passed = (0u32..)
                .zip(checkpoints)
                .all(|(partition, &checkpoint)| checkpoint >= highest || carried.is_void(count, partition));
            if is_passed {
                self.rows.remove(&number);
            }
        }
    }

    pub(super) fn settle(&mut self) {
        self.rows.settle();
    }

    pub(super) fn changes(&self) -> Changed<i64, Carried> {
        self.rows.changes()
    }

    fn numbers(&self) -> Vec<i64> {
        self.rows.iter().map(|(number, _)| *number).collect()
    }
}

#[cfg(test)]
mod tests {
    use eventodb_protocol::group::{partition_of, stream_hash};

    use super::*;

    #[test]
    fn a_message_stays_handled_by_the_checkpoint_of_its_old_partition() {
        let mut carried = CarriedOver::stored([]);
        assert_eq!(carried.of(stream_hash("a-1")), 0);
        let checkpoints: Vec<i64> = (0..8).map(|partition| 10 * (partition + 1)).collect();
        carried.add(Carried { checkpoints: checkpoints.clone(), void: Void::new() });
        for stream in ["a-1", "a-2", "a"] {
            assert_eq!(carried.of(stream_hash(stream)), checkpoints[partition_of(stream, 8) as usize]);
        }
        carried.make_void(3, &[partition_of("a-1", 3)].into());
        assert_eq!(carried.of(stream_hash("a-1")), 0);
    }

    #[test]
    fn what_every_checkpoint_has_passed_is_forgotten() {
        let mut carried =
            CarriedOver::stored([(1, Carried { checkpoints: vec![5, 9], void: [(3, [2].into())].into() })]);
        carried.forget_passed(&[9, 8, 0]);
        assert_eq!(carried.len(), 1, "8 is below 9");
        carried.forget_passed(&[9, 9, 0]);
        assert_eq!(carried.len(), 0, "partition 2 of 3 is void");
    }
}
