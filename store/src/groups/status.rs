//! `group.status` and `group.wait`: how far a group is, and why a checkpoint does not move.

use std::collections::BTreeMap;
use std::sync::Arc;

use eventodb_protocol::group::reply::{
    GroupStatus, Lag, MemberStatus, Owner, ParkedStatus, PartitionStatus, Waited, Why,
};
use eventodb_protocol::limits::COUNTED;
use eventodb_protocol::request::group::Wait;

use super::group::{Group, Moment, time};
use super::partitions::Partition;
use super::span::Span;

/// What waits in each partition: an accumulator that is offered the messages of the log.
#[derive(Clone, Debug)]
pub struct Waiting<'a> {
    group: &'a Group,
    partitions: BTreeMap<u32, Waits>,
    /// Positions of damaged messages, in order. Any of them may be in any partition.
    damaged: Vec<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    /// One more than is counted shows that there are more.
    messages: usize,
    /// Position of the oldest.
    first: i64,
    /// Its time, in milliseconds since 1970.
    oldest: i64,
    /// Position of the first damaged message above the checkpoint.
    damaged: Option<i64>,
}

impl Waits {
    /// The damaged message that comes next.
    fn stuck_at(self) -> Option<i64> {
        self.damaged.filter(|at| self.messages == 0 || *at < self.first)
    }
}

impl Waiting<'_> {
    /// The position above which messages may wait.
    pub fn begins_above(&self) -> i64 {
        self.group.partitions.checkpoints().into_iter().min().unwrap_or_default()
    }

    /// Counts a message if it waits.
    pub fn offer(&mut self, position: i64, stream: &str, kind: &str) {
        let Some(partition) = self.group.waiting(stream, kind, position) else { return };
        let waits = self.partitions.entry(partition).or_default();
        if waits.messages == 0 {
            waits.first = position;
        }
        waits.messages = (waits.messages + 1).min(COUNTED + 1);
    }

    /// A message that cannot be read, and that may wait.
    pub fn met_damaged(&mut self, position: i64) {
        self.damaged.push(position);
    }

    /// Whether counting on would change nothing.
    pub fn is_counted(&self) -> bool {
        let counted = self.partitions.values().filter(|waits| waits.messages > COUNTED).count();
        u32::try_from(counted) == Ok(self.group.partitions.count())
    }

    /// The positions of the oldest messages that wait, one of each partition.
    pub fn oldest(&self) -> Vec<i64> {
        self.partitions.values().map(|waits| waits.first).collect()
    }

    /// The message at this position, one of [`Self::oldest`], was written at `time` (milliseconds since 1970).
    pub fn was_written(&mut self, position: i64, time: i64) {
        self.partitions.values_mut().filter(|waits| waits.first == position).for_each(|waits| waits.oldest = time);
    }

    /// The reply to `group.status`, once everything up to the head was offered, damaged or counted, and the times of the
    /// oldest are told.
    pub fn status(&self, at: &Moment) -> GroupStatus {
        let group = self.group;
        let waits = |number: u32, partition: &Partition| {
            let above = self.damaged.partition_point(|at| *at <= partition.checkpoint);
            let waits = self.partitions.get(&number).copied().unwrap_or_default();
            Waits { damaged: self.damaged.get(above).copied(), ..waits }
        };
        let mut parked = group.parked_by_partition(at);
        let mut parked_of = |number| parked.remove(&number).unwrap_or_default();
        let partitions = group.partitions.iter().map(|(number, partition)| {
            group.status_of(number, partition, waits(number, partition), parked_of(number), at)
        });
        let members = group.leases.in_order().into_iter().map(|(id, member)| MemberStatus {
            member: (**id).to_owned(),
            name: member.name.clone(),
            partitions: group.partitions.of(id),
            lease_ms: member.lease_end - at.now,
            joined_at: time(member.joined_at),
        });
        GroupStatus { summary: group.summary(at), partitions: partitions.collect(), members: members.collect() }
    }
}

impl Group {
    /// An accumulator of what waits.
    pub fn waits(&self) -> Waiting<'_> {
        Waiting { group: self, partitions: BTreeMap::new(), damaged: Vec::new() }
    }

    /// Whether a message keeps `group.wait` waiting.
    pub fn keeps_waiting(&self, call: &Wait, position: i64, stream: &str, kind: &str) -> bool {
        position <= call.position
            && call.stream.as_deref().is_none_or(|wanted| *wanted == *stream)
            && self.waiting(stream, kind, position).is_some()
    }

    /// What [`Self::waited`] has to know of parked streams.
    pub fn wait_spans(&self, call: &Wait) -> Vec<Span> {
        let is_meant = |stream: &Arc<str>| call.stream.as_deref().is_none_or(|wanted| *wanted == **stream);
        let parked = self.park.iter().filter(|(stream, _)| is_meant(stream));
        let span =
            |(stream, above): (&Arc<str>, i64)| Span { stream: stream.clone(), above, upto: call.position, limit: 1 };
        parked.map(|(stream, parked)| span((stream, parked.handled))).collect()
    }

    /// The reply to `group.wait`, as things are. `is_waiting`: a message of the log keeps it waiting, as
    /// [`Self::keeps_waiting`] says. `left` are the answers to [`Self::wait_spans`].
    pub fn waited(&self, call: &Wait, is_waiting: bool, left: &[Vec<i64>], at: &Moment) -> Waited {
        let parked = left.iter().filter(|positions| !positions.is_empty()).count();
        Waited { reached: at.head >= call.position && !is_waiting, parked }
    }

    fn parked_by_partition(&self, at: &Moment) -> BTreeMap<u32, ParkedStatus> {
        let mut partitions: BTreeMap<u32, ParkedStatus> = BTreeMap::new();
        for (stream, parked) in self.park.iter() {
            let status = partitions.entry(self.partition_of(stream)).or_default();
            status.streams += 1;
            status.oldest_ms = status.oldest_ms.max(at.now - parked.since);
        }
        partitions
    }

    fn status_of(
        &self,
        number: u32,
        partition: &Partition,
        waits: Waits,
        parked: ParkedStatus,
        at: &Moment,
    ) -> PartitionStatus {
        let owner = partition.owner.as_ref().and_then(|owner| Some((owner, self.leases.get(&owner.member)?)));
        PartitionStatus {
            partition: number,
            owner: owner.map(|(owner, member)| Owner { member: (*owner.member).to_owned(), name: member.name.clone() }),
            epoch: partition.epoch,
            lease_ms: owner.map(|(_, member)| member.lease_end - at.now),
            checkpoint: partition.checkpoint,
            checkpoint_at: time(partition.moved_at),
            lag: Lag {
                messages: waits.messages.min(COUNTED),
                at_least: waits.messages > COUNTED || waits.damaged.is_some(),
                ms: if waits.messages > 0 { at.now - waits.oldest } else { 0 },
            },
            parked,
            why: self.why(partition, waits, at),
        }
    }

    /// Why the checkpoint does not move: the first reason that applies.
    fn why(&self, partition: &Partition, waits: Waits, at: &Moment) -> Why {
        let session = self.settings.session_ms;
        let stuck_at = waits.stuck_at();
        if waits.messages == 0 && stuck_at.is_none() {
            return Why::CaughtUp;
        }
        if self.settings.is_paused {
            return Why::Paused;
        }
        if self.settings.resizing_to.is_some() {
            return Why::Resizing { waits_for: self.partitions.owned() };
        }
        let owner = partition.owner.as_ref();
        let Some((owner, member)) = owner.and_then(|owner| Some((owner, self.leases.get(&owner.member)?))) else {
            return Why::NoMember;
        };
        if at.now - member.last_call > 2 * (session / 3) {
            return Why::SilentMember { lease_ms: member.lease_end - at.now };
        }
        if let Some(deadline) = owner.give_back_by {
            return Why::Revoking { deadline_ms: deadline - at.now };
        }
        if let Some(position) = stuck_at {
            return Why::Damaged { position };
        }
        if self.is_park_full() {
            return Why::ParkedFull;
        }
        let since = partition.moved_at.max(waits.oldest);
        if at.now - since <= session { Why::Working } else { Why::SlowHandler }
    }
}
