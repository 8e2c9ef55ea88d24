//! A page of messages of several partitions.
//!
//! Each partition that has something gets its share, so that one that is far behind does not hold up the others.

use std::collections::{BTreeMap, BTreeSet};

use super::group::Group;
use super::marker::{MARKER, Marker};

/// Text of one partition's messages after which a page takes no more of it.
const PARTITION_BYTES: usize = 1024 * 1024;

/// A page that is being filled. `M` is what the caller keeps of a message.
#[derive(Clone, Debug)]
pub struct Page<'a, M> {
    group: &'a Group,
    room: usize,
    partitions: BTreeMap<u32, Found<M>>,
    markers: Vec<Marker>,
    /// How many messages were taken.
    taken: usize,
}

/// What was found of one partition.
#[derive(Clone, Debug)]
struct Found<M> {
    start: i64,
    /// One more than there is room for shows that the page was cut.
    messages: Vec<(i64, M)>,
    bytes: usize,
    /// Up to where messages of it were looked for, if the search ended early.
    stopped: Option<i64>,
    /// Whether it ended before a message that cannot be handed out.
    is_held: bool,
}

/// A page that is filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled<M> {
    /// The messages with their partitions: in order within a partition.
    pub messages: Vec<(u32, M)>,
    /// By partition, the position up to which the page is complete.
    pub up_to: BTreeMap<u32, i64>,
    /// The partitions whose pages end before a message that cannot be handed out.
    pub held: BTreeSet<u32>,
    /// The markers before which pages end, one of a partition at most.
    pub markers: Vec<Marker>,
}

impl<M> Found<M> {
    fn new(start: i64) -> Self {
        Self { start, messages: Vec::new(), bytes: 0, stopped: None, is_held: false }
    }

    /// Whether it has more than this number of messages, or as much text as it may have.
    fn has_more_than(&self, room: usize) -> bool {
        self.messages.len() > room || self.is_heavy()
    }

    fn is_heavy(&self) -> bool {
        self.bytes > PARTITION_BYTES && self.messages.len() > 1
    }

    /// The position up to which its first `share` messages are all that there are, if everything up to `covered` was offered.
    fn up_to(&self, share: usize, covered: i64) -> i64 {
        let cut = self.messages.get(share).map(|(position, _)| position - 1);
        cut.or(self.stopped).unwrap_or(covered).max(self.start)
    }

    /// How many messages it may give: the last one of many bytes only shows that more follow.
    fn available(&self) -> usize {
        self.messages.len() - usize::from(self.is_heavy())
    }
}

impl<'a, M> Page<'a, M> {
    pub(super) fn new(group: &'a Group, starts: impl Iterator<Item = (u32, i64)>, room: usize) -> Self {
        let partitions = starts.map(|(number, start)| (number, Found::new(start))).collect();
        Self { group, room, partitions, markers: Vec::new(), taken: 0 }
    }

    /// The part of the room that each partition is given at least, if it has as much.
    fn share(&self) -> usize {
        self.room.div_ceil(self.partitions.len().max(1))
    }

    /// Whether each partition has its share, as far as it was searched.
    fn is_shared(&self) -> bool {
        let share = self.share();
        self.partitions.values().all(|found| found.stopped.is_some() || found.has_more_than(share))
    }

    /// Whether as many messages were taken as the page has room for, of whatever partitions.
    pub fn is_filled(&self) -> bool {
        self.taken >= self.room
    }

    /// The position above which further messages are wanted, of a log that was offered up to `covered`. `None` if none
    /// are: each partition has its share of the room at least.
    pub fn wanted_above(&self, covered: i64) -> Option<i64> {
        if self.is_shared() {
            return None;
        }
        let open = self.partitions.values().filter(|found| found.stopped.is_none() && !found.has_more_than(self.room));
        open.map(|found| found.start.max(covered)).min()
    }

    /// Takes a message if it is wanted. Returns whether this may change what [`Self::wanted_above`] answers, other than
    /// that the log was offered up to here.
    pub fn offer(
        &mut self,
        position: i64,
        stream: &str,
        kind: &str,
        bytes: usize,
        message: impl FnOnce() -> M,
    ) -> bool {
        let Some(partition) = self.group.waiting(stream, kind, position) else { return false };
        let share = self.share();
        let Some(found) = self.partitions.get_mut(&partition) else { return false };
        if position <= found.start || found.stopped.is_some() || found.has_more_than(self.room) {
            return false;
        }
        if kind == MARKER {
            (found.stopped, found.is_held) = (Some(position - 1), true);
            self.markers.push(Marker { stream: stream.into(), position });
            return true;
        }
        let had_share = found.has_more_than(share);
        found.messages.push((position, message()));
        found.bytes += bytes;
        self.taken += 1;
        let has_now_share = !had_share && found.has_more_than(share);
        found.has_more_than(self.room) || has_now_share && self.is_shared()
    }

    /// Ends the search for messages of the partitions that begin below `next`. Everything below `next` was offered.
    pub fn stop_before(&mut self, next: i64) {
        let open = self.partitions.values_mut().filter(|found| found.start < next && found.stopped.is_none());
        open.for_each(|found| found.stopped = Some(next - 1));
    }

    /// The same because the message at `next` cannot be handed out.
    pub fn hold_before(&mut self, next: i64) {
        let open = self.partitions.values_mut().filter(|found| found.start < next && found.stopped.is_none());
        open.for_each(|found| (found.stopped, found.is_held) = (Some(next - 1), true));
    }

    /// Whether the search was ended for a partition that has more to offer.
    pub fn is_stopped(&self) -> bool {
        self.partitions.values().any(|found| found.stopped.is_some() && !found.is_held)
    }

    /// Whether every partition begins before a message that cannot be handed out.
    pub fn is_stuck(&self) -> bool {
        let is_stuck = |found: &Found<M>| found.is_held && found.stopped == Some(found.start);
        !self.partitions.is_empty() && self.partitions.values().all(is_stuck)
    }

    /// The page, of a log of which everything up to `covered` was offered, as far as it was wanted.
    pub fn finish(self, covered: i64) -> Filled<M> {
        let found = self.partitions.iter().map(|(number, found)| (*number, found.available())).collect();
        let shares = shares(&found, self.room);
        let held = self.partitions.iter().filter(|(_, found)| found.is_held).map(|(number, _)| *number).collect();
        let (mut messages, mut up_to) = (Vec::new(), BTreeMap::new());
        for (partition, found) in self.partitions {
            let share = shares[&partition];
            up_to.insert(partition, found.up_to(share, covered));
            messages.extend(found.messages.into_iter().take(share).map(|(_, message)| (partition, message)));
        }
        Filled { messages, up_to, held, markers: self.markers }
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
    use eventodb_protocol::group::Epoch;
    use eventodb_protocol::request::group::{CreateGroup, Start};
    use proptest::prelude::*;

    use super::super::Moment;
    use super::*;

    #[test]
    fn a_search_is_interrupted_only_where_something_else_is_wanted() {
        let new = CreateGroup {
            categories: ["a".to_owned()].into(),
            types: [].into(),
            partitions: 4,
            start: Start::After(0),
            session_ms: 1000,
            max_parked: 2,
            description: String::new(),
        };
        let mut at = Moment { now: 0, head: 0, random: 1, last_epoch: Epoch::default(), home: None, token: None };
        let group = Group::create("g", &new, 0, &mut at).expect("it is good");
        let mut page = Page::new(&group, (0..4).map(|partition| (partition, 0)), 100);
        let interruptions: Vec<i64> = (1..=2000)
            .filter(|position| page.offer(*position, &format!("a-{}", position % 40), "T", 1, || *position))
            .collect();
        // Two pages' worth of messages are there by then, at most: the last partition has its share, and one more.
        assert!(interruptions.len() <= 5, "{interruptions:?}");
        assert!(page.is_filled());
        assert_eq!(page.wanted_above(2000), None);
    }

    #[test]
    fn nothing_is_complete_above_what_was_offered() {
        let messages = vec![(11, ()), (15, ())];
        let found = Found { messages, bytes: 2, ..Found::new(10) };
        // The search ended at 15, because the other partitions had their shares.
        assert_eq!([0, 1, 2].map(|share| found.up_to(share, 15)), [10, 14, 15]);
        assert_eq!(found.up_to(2, 40), 40);
        let stopped = Found { stopped: Some(30), ..found };
        assert_eq!([1, 2].map(|share| stopped.up_to(share, 40)), [14, 30]);
        assert_eq!(Found::<()>::new(50).up_to(0, 40), 50);
    }

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
