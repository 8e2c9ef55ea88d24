//! Results of the `group.*` methods, as replies have them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Epoch;
use crate::time::Timestamp;

/// A group without its lists: the result of `group.create`, `group.update`, `group.pause`, `group.resume` and
/// `group.resize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupSummary {
    /// Its name.
    pub group: String,
    /// Free text; empty if none was given.
    pub description: String,
    /// The categories that it reads, by name; empty if it reads all.
    pub categories: Vec<String>,
    /// The types that it reads, by name; empty if it reads all.
    pub types: Vec<String>,
    /// How many partitions it has.
    pub partition_count: u32,
    /// How long a lease lasts after a call of its member, in milliseconds.
    pub session_ms: i64,
    /// How many streams may be parked at once.
    pub max_parked: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether it hands out nothing.
    pub paused: bool,
    /// Whether its partitions are asked back for another partition count.
    pub resizing: bool,
    /// That count.
    pub resizing_to: Option<u32>,
    /// Position of the namespace's last message.
    pub head: i64,
}

/// Result of `group.delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupDeleted {
    /// Its name.
    pub group: String,
    /// When.
    pub deleted_at: Timestamp,
}

/// One entry of `group.list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupListed {
    /// Its name.
    pub group: String,
    /// Free text; empty if none was given.
    pub description: String,
    /// The categories that it reads, by name; empty if it reads all.
    pub categories: Vec<String>,
    /// How many partitions it has.
    pub partition_count: u32,
    /// How many members it has.
    pub members: usize,
    /// Whether it hands out nothing.
    pub paused: bool,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A partition that a member owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Which.
    pub partition: u32,
    /// The number of this assignment.
    pub epoch: Epoch,
    /// Where the member begins.
    pub checkpoint: i64,
}

/// A partition that a member has to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revoking {
    /// Which.
    pub partition: u32,
    /// The number of the assignment that ends.
    pub epoch: Epoch,
    /// How long the member may still act for it, in milliseconds.
    pub deadline_ms: i64,
}

/// Result of `group.join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// The member's id.
    pub member: String,
    /// Counts every change of an assignment in the group. A lower one is an older reply.
    pub generation: i64,
    /// How long its lease lasts after a call, in milliseconds.
    pub session_ms: i64,
    /// How often it should call, in milliseconds.
    pub heartbeat_ms: i64,
    /// How many partitions the group has.
    pub partition_count: u32,
    /// What it owns.
    pub assigned: Vec<Assigned>,
    /// What it has to give back.
    pub revoking: Vec<Revoking>,
}

/// Result of `group.heartbeat`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The membership.
    #[serde(flatten)]
    pub membership: Membership,
    /// Partitions that the call named with an epoch that is not the current one.
    pub fenced: Vec<u32>,
}

/// A parked stream of which nothing is left to retry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Its partition.
    pub partition: u32,
    /// Which.
    pub stream: String,
    /// Up to where its messages are handled.
    pub position: i64,
    /// The number that `group.handled` presents.
    pub rev: i64,
}

/// Result of `group.read`. `M` is a message: a JSON array as in `category.get`, followed by the partition, and in
/// `retries` also by the attempt and the stream's number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupRead<M> {
    /// Counts every change of an assignment in the group. A lower one is an older reply.
    pub generation: i64,
    /// How long its lease lasts after a call, in milliseconds.
    pub session_ms: i64,
    /// Messages of the partitions, in order within each.
    pub messages: Vec<M>,
    /// Messages of parked streams that are due.
    pub retries: Vec<M>,
    /// Parked streams of which nothing is left.
    pub drained: Vec<Drained>,
    /// By partition, the position up to which the reply is complete.
    pub up_to: BTreeMap<u32, i64>,
    /// What the member owns.
    pub assigned: Vec<Assigned>,
    /// What it has to give back.
    pub revoking: Vec<Revoking>,
    /// Partitions that the call named with an epoch that is not the current one.
    pub fenced: Vec<u32>,
}

impl<M> GroupRead<M> {
    /// The reply without its messages and retries, and these.
    pub(crate) fn without_rows(self) -> (GroupRead<()>, Vec<M>, Vec<M>) {
        let Self { generation, session_ms, messages, retries, drained, up_to, assigned, revoking, fenced } = self;
        let frame = GroupRead {
            generation,
            session_ms,
            messages: Vec::new(),
            retries: Vec::new(),
            drained,
            up_to,
            assigned,
            revoking,
            fenced,
        };
        (frame, messages, retries)
    }
}

/// Result of `group.park`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkAttempts {
    /// How often the message was tried.
    pub attempts: i64,
}

/// Result of `group.handled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flowing {
    /// Whether the stream is parked no more.
    pub flowing: bool,
    /// Its number from here on; none if it was not parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<i64>,
}

/// One entry of `group.parked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParkedListed {
    /// Which stream.
    pub stream: String,
    /// Its partition.
    pub partition: u32,
    /// One above the last position that is handled.
    pub position: i64,
    /// How often the message that failed was tried; 0 once it is handled or skipped.
    pub attempts: i64,
    /// What the member said about the failure.
    pub reason: String,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// When it is due; none if an operator has to say so.
    pub retry_at: Option<Timestamp>,
}

/// Result of `group.retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// How many parked streams are due.
    pub streams: usize,
}

/// Result of `group.skip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// How many messages count as handled.
    pub messages: usize,
}

/// Result of `group.reset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// One entry for each partition that was named.
    pub partitions: Vec<PartitionReset>,
}

/// What a reset does to one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionReset {
    /// Which.
    pub partition: u32,
    /// Its checkpoint before.
    pub from: i64,
    /// Its checkpoint after.
    pub to: i64,
    /// How many messages are handled again or skipped, counted up to 10,000.
    pub messages: usize,
}

/// Result of `group.wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// Whether everything up to the position is handled or parked.
    pub reached: bool,
    /// How many parked streams have messages up to it.
    pub parked: usize,
}

/// One entry of `group.audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Audited {
    /// Its number; a later one is higher.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// The token that was used, by its public name.
    pub token_id: Option<String>,
    /// `skip`, `reset`, `resize`, `pause` or `resume`.
    pub act: String,
    /// What was done.
    pub details: serde_json::Value,
}

/// Result of `group.status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group.
    #[serde(flatten)]
    pub summary: GroupSummary,
    /// One entry for each partition.
    pub partitions: Vec<PartitionStatus>,
    /// One entry for each member, in the order in which they joined.
    pub members: Vec<MemberStatus>,
}

/// A partition in `group.status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionStatus {
    /// Which.
    pub partition: u32,
    /// Its owner.
    pub owner: Option<Owner>,
    /// The number of its assignment.
    pub epoch: Epoch,
    /// How long the owner's lease lasts without another call, in milliseconds.
    pub lease_ms: Option<i64>,
    /// Its checkpoint.
    pub checkpoint: i64,
    /// When the checkpoint moved last.
    pub checkpoint_at: Timestamp,
    /// What waits.
    pub lag: Lag,
    /// What is parked.
    pub parked: ParkedStatus,
    /// Why the checkpoint does not move.
    pub why: Why,
}

/// The owner of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The member's id.
    pub member: String,
    /// Its label.
    pub name: Option<String>,
}

/// The messages of a partition that are neither handled nor in a parked stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lag {
    /// How many, counted up to 10,000.
    pub messages: usize,
    /// Whether there are more.
    pub at_least: bool,
    /// Age of the oldest, in milliseconds.
    pub ms: i64,
}

/// The parked streams of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParkedStatus {
    /// How many.
    pub streams: usize,
    /// For how long the oldest is parked, in milliseconds.
    pub oldest_ms: i64,
}

/// Why a checkpoint does not move: the first reason that applies, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Why {
    /// Nothing waits.
    CaughtUp,
    /// The group hands out nothing.
    Paused,
    /// The partitions are asked back for another partition count.
    #[serde(rename_all = "camelCase")]
    Resizing {
        /// The partitions that still have an owner.
        waits_for: Vec<u32>,
    },
    /// It has no owner.
    NoMember,
    /// The owner made no call for two heartbeats.
    #[serde(rename_all = "camelCase")]
    SilentMember {
        /// How long its lease still lasts, in milliseconds.
        lease_ms: i64,
    },
    /// The owner has to give it back.
    #[serde(rename_all = "camelCase")]
    Revoking {
        /// How long the owner may still act, in milliseconds.
        deadline_ms: i64,
    },
    /// A stored message is damaged.
    Damaged {
        /// Its global position.
        position: i64,
    },
    /// Messages above the checkpoint were removed.
    Truncated,
    /// As many streams are parked as may be.
    ParkedFull,
    /// The checkpoint has not moved within a session, and something waits for longer.
    SlowHandler,
    /// All is well.
    Working,
}

/// A member in `group.status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its id.
    pub member: String,
    /// Its label.
    pub name: Option<String>,
    /// The partitions that it owns.
    pub partitions: Vec<u32>,
    /// How long its lease lasts without another call, in milliseconds.
    pub lease_ms: i64,
    /// When it joined.
    pub joined_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_heartbeat_is_a_membership_with_what_is_fenced() {
        let text = json!({
            "member": "m", "generation": 3, "sessionMs": 30_000, "heartbeatMs": 10_000, "partitionCount": 16,
            "assigned": [{"partition": 1, "epoch": 5, "checkpoint": 7}],
            "revoking": [{"partition": 2, "epoch": 6, "deadlineMs": 100}],
            "fenced": [4],
        });
        let reply: Heartbeat = serde_json::from_value(text.clone()).expect("a heartbeat");
        assert_eq!(reply.membership.assigned[0].epoch, Epoch::from_number(5));
        assert_eq!(serde_json::to_value(&reply).expect("it serializes"), text);
    }

    #[test]
    fn positions_by_partition_are_named_by_its_number() {
        let text = json!({
            "generation": 1, "sessionMs": 1000, "messages": [], "retries": [[1]], "drained": [], "upTo": {"3": 9},
            "assigned": [], "revoking": [], "fenced": [],
        });
        let reply: GroupRead<serde_json::Value> = serde_json::from_value(text.clone()).expect("a page");
        assert_eq!(reply.up_to[&3], 9);
        assert_eq!(serde_json::to_value(&reply).expect("it serializes"), text);
    }

    #[test]
    fn a_reason_has_a_code_and_what_goes_with_it() {
        for (why, text) in [
            (Why::CaughtUp, json!({"code": "caught_up"})),
            (Why::Resizing { waits_for: vec![1] }, json!({"code": "resizing", "waitsFor": [1]})),
            (Why::SilentMember { lease_ms: 5 }, json!({"code": "silent_member", "leaseMs": 5})),
            (Why::Revoking { deadline_ms: 6 }, json!({"code": "revoking", "deadlineMs": 6})),
        ] {
            assert_eq!(serde_json::to_value(&why).expect("it serializes"), text);
        }
    }

    #[test]
    fn a_stream_that_is_not_parked_has_no_number() {
        let reply = Flowing { flowing: true, rev: None };
        assert_eq!(serde_json::to_string(&reply).expect("it serializes"), r#"{"flowing":true}"#);
    }
}
