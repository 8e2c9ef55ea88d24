//! Who owns which partition: what happens when members come and go, and when the partition count changes.
//!
//! A partition moves in two steps. It is asked back from its owner; once the owner gave it back, or its time for that is
//! over, the assignor deals it out under a new epoch. Between the two nobody else acts for it.

use eventodb_protocol::group::{Fence, assign};

use super::carried::{Carried, Void};
use super::group::{Group, Moment};
use super::leases::MemberId;

impl Group {
    /// Ends the leases and the deadlines that are over. Every call begins with it, and a timer calls it at
    /// [`Self::next_end`], so that a partition does not wait for a call.
    pub fn expire(&mut self, at: &mut Moment) {
        let ended = self.leases.ended(at.now);
        for member in &ended {
            self.end(member, Fence::Lease, at.now);
        }
        let is_freed = self.partitions.free_overdue(at.now);
        if is_freed || !ended.is_empty() {
            self.rebalance(at);
        }
    }

    /// The first moment at which [`Self::expire`] has something to do, in milliseconds since 1970.
    pub fn next_end(&self) -> Option<i64> {
        let deadlines = self.partitions.iter().filter_map(|(_, partition)| partition.give_back_by());
        deadlines.chain(self.leases.next_end()).min()
    }

    /// The member is no more, and its partitions have no owner. Their epochs stand until somebody else gets them.
    pub(super) fn end(&mut self, member: &str, reason: Fence, now: i64) {
        self.leases.remove(member, reason, now);
        self.partitions.free_all_of(member);
    }

    /// Asks back what is held beyond the shares, or everything for a resize, and deals out what is free.
    pub(super) fn rebalance(&mut self, at: &mut Moment) {
        self.settings.generation += 1;
        if let Some(count) = self.settings.resizing_to {
            self.ask_back(&self.partitions.held(), at);
            if !self.partitions.owned().is_empty() {
                return;
            }
            self.finish_resize(count, at);
            self.settings.generation += 1;
        }
        let members: Vec<MemberId> = self.leases.in_order().into_iter().map(|(id, _)| id.clone()).collect();
        let moves = assign(&self.partitions.holders(&members), members.len());
        let asked: Vec<u32> = moves.ask_back.iter().copied().map(number).collect();
        self.ask_back(&asked, at);
        let mut given = Vec::new();
        for (partition, member) in moves.give {
            self.partitions.give(number(partition), members[member].clone());
            given.push(number(partition));
        }
        self.begin_epochs(&given, at);
    }

    /// Partitions begin new epochs. What was handed out of them and not answered is due at once.
    pub(super) fn begin_epochs(&mut self, partitions: &[u32], at: &mut Moment) {
        for &partition in partitions {
            self.partitions.set_epoch(partition, at.next_epoch());
        }
        self.park.take_back(partitions, self.partitions.count(), at.now);
    }

    /// Forgets what every checkpoint has passed.
    pub(super) fn forget_carried(&mut self) {
        self.carried.forget_passed(&self.partitions.checkpoints());
    }

    /// Asks partitions back from their owners. An owner that does not hear of it acts until its lease ends, so that the
    /// deadline is never earlier.
    fn ask_back(&mut self, partitions: &[u32], at: &Moment) {
        for &partition in partitions {
            let Some(owner) = &self.partitions.at(partition).owner else { continue };
            let lease_end = self.leases.get(&owner.member).map_or(at.now, |member| member.lease_end);
            self.partitions.ask_back(partition, lease_end.max(at.now + self.settings.session_ms));
        }
    }

    /// All partitions are given back. The new ones begin at the lowest checkpoint, and what the old ones handled above
    /// it is carried over.
    fn finish_resize(&mut self, count: u32, at: &mut Moment) {
        self.settings.resizing_to = None;
        if count != self.partitions.count() {
            let checkpoints = self.partitions.checkpoints();
            let lowest = checkpoints.iter().copied().min().unwrap_or_default();
            self.carried.add(Carried { checkpoints, void: Void::new() });
            self.partitions.begin(count, lowest, at.now);
        }
        self.begin_epochs(&Vec::from_iter(0..count), at);
        self.forget_carried();
    }
}

/// A partition's number as the assignor has it.
fn number(partition: usize) -> u32 {
    u32::try_from(partition).expect("a group has few partitions")
}
