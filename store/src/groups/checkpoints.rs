//! Checkpoints, and giving partitions back: what a heartbeat, a read and a leave do first.

use std::collections::{BTreeMap, BTreeSet};

use eventodb_protocol::group::{Epoch, Fence};
use eventodb_protocol::request::group::Presented;

use super::group::{Group, Moment};
use super::partitions::Partition;
use super::refusal::Refusal;

impl Group {
    /// The partition, if its current epoch is presented.
    ///
    /// # Errors
    /// `Fenced` because of the epoch.
    pub(super) fn presented(&self, partition: u32, epoch: Epoch) -> Result<&Partition, Refusal> {
        self.partitions.current(partition, epoch).ok_or_else(|| Refusal::fenced_in(Fence::Epoch, partition))
    }

    /// Checks that no presented position is above the head. Those of another epoch than the current one are ignored,
    /// because they change nothing.
    ///
    /// # Errors
    /// `Invalid`.
    pub(super) fn check_positions(
        &self,
        what: &str,
        presented: &BTreeMap<u32, Presented>,
        at: &Moment,
    ) -> Result<(), Refusal> {
        for (&partition, presented) in presented {
            if presented.position > at.head && self.partitions.current(partition, presented.epoch).is_some() {
                let what = format!("{what}.{partition}.position");
                return Err(Refusal::above_head(&what, presented.position, at.head));
            }
        }
        Ok(())
    }

    /// Stores checkpoints, then gives partitions back. Returns the partitions that were named with another epoch than
    /// the current one, for which nothing happened.
    ///
    /// # Errors
    /// `Invalid` if a checkpoint is above the head. Nothing is stored then.
    pub(super) fn store(
        &mut self,
        member: &str,
        checkpoints: &BTreeMap<u32, Presented>,
        released: &BTreeMap<u32, Epoch>,
        at: &mut Moment,
    ) -> Result<BTreeSet<u32>, Refusal> {
        self.check_positions("checkpoints", checkpoints, at)?;
        let epochs = checkpoints.iter().map(|(partition, presented)| (*partition, presented.epoch));
        let stale = self.stale(epochs.chain(released.iter().map(|(partition, epoch)| (*partition, *epoch))));
        let current =
            checkpoints.iter().filter(|(n, presented)| self.partitions.current(**n, presented.epoch).is_some());
        let current: Vec<(u32, i64)> = current.map(|(partition, presented)| (*partition, presented.position)).collect();
        self.move_checkpoints(&current, at);
        let mut is_freed = false;
        for (&partition, &epoch) in released {
            let current = self.partitions.current(partition, epoch);
            if current.is_some_and(|current| current.is_of(member) && current.give_back_by().is_some()) {
                self.partitions.free(partition);
                is_freed = true;
            }
        }
        if is_freed {
            self.rebalance(at);
        }
        Ok(stale)
    }

    /// The partitions of those that have another epoch.
    pub(super) fn stale(&self, presented: impl Iterator<Item = (u32, Epoch)>) -> BTreeSet<u32> {
        let is_stale = |(partition, epoch): &(u32, Epoch)| self.partitions.current(*partition, *epoch).is_none();
        presented.filter(is_stale).map(|(partition, _)| partition).collect()
    }

    /// Moves checkpoints forward; a lower one is ignored.
    pub(super) fn move_checkpoints(&mut self, checkpoints: &[(u32, i64)], at: &Moment) {
        for &(partition, position) in checkpoints {
            if position > self.partitions.at(partition).checkpoint {
                self.partitions.set_checkpoint(partition, position, at.now);
            }
        }
        self.forget_carried();
    }
}
