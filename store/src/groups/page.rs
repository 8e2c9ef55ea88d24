//! A page of messages of several partitions.
//!
//! Each partition that has something gets its share, so that one that is far behind does not hold up the others.

use std::collections::BTreeMap;

use super::group::Group;

/// A page that is being filled. `M` is what the caller keeps of a message.
#[derive(Clone, Debug)]
pub struct Page<'a, M> {
    group: &'a Group,
    room: usize,
    partitions: BTreeMap<u32, Found<M>>,
}

/// What was found of one partition.
#[derive(Clone, Debug)]
struct Found<M> {
    start: i64,
    /// One more than there is room for shows that the page was cut.
    messages: Vec<(i64, M)>,
}

/// A page that is filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled<M> {
    /// The messages with their partitions: in order within a partition.
    pub messages: Vec<(u32, M)>,
    /// By partition, the position up to which the page is complete.
    pub up_to: BTreeMap<u32, i64>,
}

impl<'a, M> Page<'a, M> {
    pub(super) fn new(group: &'a Group, starts: impl Iterator<Item = (u32, i64)>, room: usize) -> Self {
        let partitions = starts.map(|(number, start)| (number, Found { start, messages: Vec::new() })).collect();
        Self { group, room, partitions }
    }

    /// The position above which messages are wanted. `None` if none are.
    pub fn begins_above(&self) -> Option<i64> {
        self.partitions.values().map(|found| found.start).min()
    }

    /// Whether no further message is wanted.
    pub fn is_full(&self) -> bool {
        self.partitions.values().all(|found| found.messages.len() > self.room)
    }

    /// Takes a message if it is wanted.
    pub fn offer(&mut self, position: i64, stream: &str, kind: &str, message: impl FnOnce() -> M) {
        let Some(partition) = self.group.waiting(stream, kind, position) else { return };
        let Some(found) = self.partitions.get_mut(&partition) else { return };
        if position > found.start && found.messages.len() <= self.room {
            found.messages.push((position, message()));
        }
    }

    /// The page, of a log that was read up to `head`, or until the page was full.
    pub fn finish(self, head: i64) -> Filled<M> {
        let found = self.partitions.iter().map(|(number, found)| (*number, found.messages.len())).collect();
        let shares = shares(&found, self.room);
        let (mut messages, mut up_to) = (Vec::new(), BTreeMap::new());
        for (partition, found) in self.partitions {
            let share = shares[&partition];
            let cut = found.messages.get(share).map(|(position, _)| position - 1);
            up_to.insert(partition, cut.unwrap_or(head));
            messages.extend(found.messages.into_iter().take(share).map(|(_, message)| (partition, message)));
        }
        Filled { messages, up_to }
    }
}

/// Deals out the room of a page, one message to each partition in turn.
fn shares(found: &BTreeMap<u32, usize>, room: usize) -> BTreeMap<u32, usize> {
    let mut shares: BTreeMap<u32, usize> = found.keys().map(|partition| (*partition, 0)).collect();
    let (mut room, mut is_hungry) = (room, true);
    while room > 0 && is_hungry {
        is_hungry = false;
        for (partition, share) in &mut shares {
            if room > 0 && *share < found[partition] {
                *share += 1;
                room -= 1;
                is_hungry = true;
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_partition_that_is_far_behind_does_not_hold_up_the_others() {
        let shares = shares(&[(0, 1000), (1, 2), (2, 0), (3, 1000)].into(), 10);
        assert_eq!(shares, [(0, 4), (1, 2), (2, 0), (3, 4)].into());
    }

    proptest! {
        #[test]
        fn the_room_is_used_and_not_exceeded(found in prop::collection::vec(0usize..12, 1..6), room in 0usize..40) {
            let found: BTreeMap<u32, usize> = (0..).zip(found).collect();
            let shares = shares(&found, room);
            let sum: usize = shares.values().sum();
            prop_assert_eq!(sum, room.min(found.values().sum()));
            let most = shares.values().max().copied().unwrap_or_default();
            for (partition, share) in &shares {
                prop_assert!(share <= &found[partition]);
                prop_assert!(share + 1 >= most || *share == found[partition], "the others wait");
            }
        }
    }
}
