//! The partitions of a group: their owners, epochs and checkpoints.

use std::collections::HashMap;

use eventodb_protocol::group::{Epoch, Holder};

use super::leases::MemberId;
use super::rows::{Changed, Rows};

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The number of its assignment.
    pub epoch: Epoch,
    /// Up to here every message of it is handled, parked or skipped.
    pub checkpoint: i64,
    /// When the checkpoint moved last, in milliseconds since 1970.
    pub moved_at: i64,
    /// Its owner.
    pub owner: Option<Ownership>,
}

/// Who owns a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The member.
    pub member: MemberId,
    /// Until when the member has to give it back, in milliseconds since 1970; none if it keeps it.
    pub give_back_by: Option<i64>,
}

impl Partition {
    /// Whether the member owns it, asked back or not.
    pub(super) fn is_of(&self, member: &str) -> bool {
        self.owner.as_ref().is_some_and(|owner| *owner.member == *member)
    }

    /// Until when its owner has to give it back.
    pub(super) fn give_back_by(&self) -> Option<i64> {
        self.owner.as_ref()?.give_back_by
    }
}

/// All partitions of a group, by number.
#[derive(Clone, Debug)]
pub(super) struct Partitions {
    rows: Rows<u32, Partition>,
}

impl Partitions {
    pub(super) fn stored(rows: impl IntoIterator<Item = (u32, Partition)>) -> Self {
        Self { rows: Rows::stored(rows) }
    }

    /// Puts `count` partitions without owner and epoch, at this checkpoint, in the place of all.
    pub(super) fn begin(&mut self, count: u32, checkpoint: i64, now: i64) {
        let fresh = Partition { epoch: Epoch::default(), checkpoint, moved_at: now, owner: None };
        self.rows.replace((0..count).map(|number| (number, fresh.clone())));
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.rows.len()).expect("a partition count")
    }

    pub(super) fn get(&self, number: u32) -> Option<&Partition> {
        self.rows.get(&number)
    }

    /// The partition of this number, which is below the count.
    pub(super) fn at(&self, number: u32) -> &Partition {
        self.rows.get(&number).expect("partitions are numbered without gaps")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Partition)> {
        self.rows.iter().map(|(number, partition)| (*number, partition))
    }

    /// The partition, if this is its current epoch.
    pub(super) fn current(&self, number: u32, epoch: Epoch) -> Option<&Partition> {
        self.get(number).filter(|partition| partition.epoch == epoch)
    }

    pub(super) fn checkpoints(&self) -> Vec<i64> {
        self.iter().map(|(_, partition)| partition.checkpoint).collect()
    }

    /// What the assignor has to know, with the members in this order.
    pub(super) fn holders(&self, members: &[MemberId]) -> Vec<Holder> {
        let places: HashMap<&str, usize> = members.iter().map(|member| &**member).zip(0..).collect();
        let holder = |partition: &Partition| match &partition.owner {
            None => Holder::Nobody,
            Some(owner) if owner.give_back_by.is_some() => Holder::AskedBack,
            Some(owner) => places.get(&*owner.member).map_or(Holder::Nobody, |place| Holder::Member(*place)),
        };
        self.iter().map(|(_, partition)| holder(partition)).collect()
    }

    /// The partitions that the member owns and need not give back.
    pub(super) fn kept_by(&self, member: &str) -> Vec<u32> {
        let kept = |(number, partition): (u32, &Partition)| {
            (partition.is_of(member) && partition.give_back_by().is_none()).then_some(number)
        };
        self.iter().filter_map(kept).collect()
    }

    /// The partitions that the member owns.
    pub(super) fn of(&self, member: &str) -> Vec<u32> {
        self.iter().filter(|(_, partition)| partition.is_of(member)).map(|(number, _)| number).collect()
    }

    /// The partitions that have an owner and are not asked back.
    pub(super) fn held(&self) -> Vec<u32> {
        let held = |(number, partition): (u32, &Partition)| {
            let owner = partition.owner.as_ref()?;
            owner.give_back_by.is_none().then_some(number)
        };
        self.iter().filter_map(held).collect()
    }

    /// The partitions that have an owner.
    pub(super) fn owned(&self) -> Vec<u32> {
        self.iter().filter(|(_, partition)| partition.owner.is_some()).map(|(number, _)| number).collect()
    }

    pub(super) fn give(&mut self, number: u32, member: MemberId) {
        self.change(number).owner = Some(Ownership { member, give_back_by: None });
    }

    pub(super) fn ask_back(&mut self, number: u32, deadline: i64) {
        if let Some(owner) = &mut self.change(number).owner {
            owner.give_back_by = Some(deadline);
        }
    }

    pub(super) fn free(&mut self, number: u32) {
        self.change(number).owner = None;
    }

    /// Takes everything from a member.
    pub(super) fn free_all_of(&mut self, member: &str) {
        for number in self.of(member) {
            self.free(number);
        }
    }

    /// Takes what its owners should have given back by now. Returns whether there was something.
    pub(super) fn free_overdue(&mut self, now: i64) -> bool {
        let is_overdue = |partition: &Partition| partition.give_back_by().is_some_and(|deadline| deadline <= now);
        let overdue: Vec<u32> = self.iter().filter(|(_, partition)| is_overdue(partition)).map(|(n, _)| n).collect();
        for number in &overdue {
            self.free(*number);
        }
        !overdue.is_empty()
    }

    pub(super) fn set_epoch(&mut self, number: u32, epoch: Epoch) {
        self.change(number).epoch = epoch;
    }

    /// Sets a checkpoint, forward or back.
    pub(super) fn set_checkpoint(&mut self, number: u32, checkpoint: i64, now: i64) {
        let partition = self.change(number);
        (partition.checkpoint, partition.moved_at) = (checkpoint, now);
    }

    pub(super) fn settle(&mut self) {
        self.rows.settle();
    }

    pub(super) fn changes(&self) -> Changed<u32, Partition> {
        self.rows.changes()
    }

    fn change(&mut self, number: u32) -> &mut Partition {
        self.rows.change(&number).expect("partitions are numbered without gaps")
    }
}
