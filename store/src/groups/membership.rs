//! The calls of members about their membership: join, heartbeat, leave.

use std::collections::{BTreeMap, BTreeSet};

use eventodb_protocol::group::Fence;
use eventodb_protocol::group::reply::{Assigned, Heartbeat, Membership, Revoking};
use eventodb_protocol::limits::GROUP_MEMBERS;
use eventodb_protocol::request::group::{Join, Leave, MemberCall};

use super::group::{Group, Moment};
use super::leases::{Member, MemberId};
use super::refusal::Refusal;

impl Group {
    /// `group.join`. A new member gets `id`.
    ///
    /// # Errors
    /// `Fenced` if the membership of that instance has ended: a late copy of a join must not become a member that
    /// nobody speaks for. `TooMany`.
    pub fn join(&mut self, join: &Join, id: MemberId, at: &mut Moment) -> Result<Membership, Refusal> {
        if let Some(known) = join.instance.and_then(|instance| self.leases.by_instance(instance)) {
            self.leases.renew(&known, self.settings.session_ms, at.now);
            return Ok(self.membership(&known, at));
        }
        let ended = join.instance.and_then(|instance| self.leases.end_of(&instance.to_string(), at.now));
        if let Some(reason) = ended {
            return Err(Refusal::fenced(reason));
        }
        if self.leases.len() >= GROUP_MEMBERS {
            return Err(Refusal::TooMany { most: GROUP_MEMBERS, what: "members" });
        }
        if let Some(older) = join.name.as_deref().and_then(|name| self.leases.by_name(name)) {
            self.replace(&older, &id, at);
        }
        self.settings.last_member += 1;
        let member = Member {
            name: join.name.clone(),
            instance: join.instance,
            number: self.settings.last_member,
            lease_end: at.now + self.settings.session_ms,
            joined_at: at.now,
            last_call: at.now,
        };
        self.leases.add(id.clone(), member);
        self.rebalance(at);
        Ok(self.membership(&id, at))
    }

    /// `group.heartbeat`, without its wait.
    ///
    /// # Errors
    /// `Fenced` if the membership has ended; `Invalid` if a checkpoint is above the head.
    pub fn heartbeat(&mut self, member: &str, call: &MemberCall, at: &mut Moment) -> Result<Heartbeat, Refusal> {
        self.arrive(member, at)?;
        let fenced = self.store(member, &call.checkpoints, &call.released, at)?;
        Ok(self.heartbeat_again(member, fenced, at))
    }

    /// The reply to a heartbeat that waited, from the membership as it is now.
    ///
    /// # Errors
    /// `Fenced` if the membership has ended meanwhile.
    pub fn look_again(&self, member: &str, fenced: Vec<u32>, at: &Moment) -> Result<Heartbeat, Refusal> {
        self.leases.living(member, at.now)?;
        Ok(self.heartbeat_again(member, fenced.into_iter().collect(), at))
    }

    /// `group.leave`. A member that is unknown, or has ended, leaves without effect.
    ///
    /// # Errors
    /// `Invalid` if a checkpoint is above the head. The member stays then.
    pub fn leave(&mut self, member: &str, leave: &Leave, at: &mut Moment) -> Result<(), Refusal> {
        if self.leases.get(member).is_some() {
            self.store(member, &leave.checkpoints, &BTreeMap::new(), at)?;
            self.end(member, Fence::Unknown, at.now);
            self.rebalance(at);
        }
        Ok(())
    }

    /// A call of the member arrived: its lease is renewed.
    ///
    /// # Errors
    /// `Fenced` if the membership has ended.
    pub(super) fn arrive(&mut self, member: &str, at: &Moment) -> Result<(), Refusal> {
        self.leases.living(member, at.now)?;
        self.leases.renew(member, self.settings.session_ms, at.now);
        Ok(())
    }

    /// What the member has, as replies tell it.
    pub(super) fn membership(&self, member: &str, at: &Moment) -> Membership {
        let (mut assigned, mut revoking) = (Vec::new(), Vec::new());
        for (number, partition) in self.partitions.iter().filter(|(_, partition)| partition.is_of(member)) {
            let epoch = partition.epoch;
            match partition.give_back_by() {
                None => assigned.push(Assigned { partition: number, epoch, checkpoint: partition.checkpoint }),
                Some(deadline) => {
                    revoking.push(Revoking { partition: number, epoch, deadline_ms: deadline - at.now });
                }
            }
        }
        Membership {
            member: member.to_owned(),
            generation: self.settings.generation,
            session_ms: self.settings.session_ms,
            heartbeat_ms: self.settings.session_ms / 3,
            partition_count: self.partitions.count(),
            assigned,
            revoking,
        }
    }

    fn heartbeat_again(&self, member: &str, fenced: BTreeSet<u32>, at: &Moment) -> Heartbeat {
        Heartbeat { membership: self.membership(member, at), fenced: fenced.into_iter().collect() }
    }

    /// A younger member takes the place of one with the same name. It gets its partitions at once, but for those that
    /// were asked back.
    fn replace(&mut self, older: &str, younger: &MemberId, at: &mut Moment) {
        let inherited = self.partitions.kept_by(older);
        self.end(older, Fence::Replaced, at.now);
        for &partition in &inherited {
            self.partitions.give(partition, younger.clone());
        }
        self.begin_epochs(&inherited, at);
    }
}
