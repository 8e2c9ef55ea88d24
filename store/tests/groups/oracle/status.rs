//! `group.status`.

use serde_json::{Value, json};

use super::state::{Group, Member, Partition, partition_of};
use super::{Model, time};

impl Model {
    pub(super) fn summary(&self, g: &Group) -> Value {
        json!({
            "group": g.name, "description": g.description, "categories": g.categories, "types": g.types,
            "partitionCount": g.parts.len(), "sessionMs": g.session, "maxParked": g.max_parked, "createdAt": time(g.created),
            "paused": g.paused, "resizing": g.resizing.is_some(), "resizingTo": g.resizing, "head": self.head(),
        })
    }

    pub(super) fn status(&self, g: &Group) -> Value {
        let partitions: Vec<Value> = g.parts.iter().map(|p| self.status_of(g, p)).collect();
        let own = |m: &Member| -> Vec<usize> {
            g.parts.iter().filter(|p| p.owner.as_ref() == Some(&m.id)).map(|p| p.number).collect()
        };
        let members: Vec<Value> = g
            .members
            .iter()
            .map(|m| {
                json!({
                    "member": m.id, "name": m.name, "partitions": own(m), "leaseMs": m.lease_end - self.now,
                    "joinedAt": time(m.joined),
                })
            })
            .collect();
        let mut status = self.summary(g);
        status["partitions"] = json!(partitions);
        status["members"] = json!(members);
        status
    }

    fn status_of(&self, g: &Group, p: &Partition) -> Value {
        let waiting = self.waiting(g, p, self.head());
        let owner = p.owner.as_ref().and_then(|owner| g.member(owner));
        let rows: Vec<_> = g.parked.values().filter(|r| partition_of(&r.stream, g.parts.len()) == p.number).collect();
        let age = waiting.first().map_or(0, |at| self.now - self.at(*at).time);
        json!({
            "partition": p.number, "owner": owner.map(|m| json!({ "member": m.id, "name": m.name })), "epoch": p.epoch,
            "leaseMs": owner.map(|m| m.lease_end - self.now), "checkpoint": p.checkpoint, "checkpointAt": time(p.moved),
            "lag": { "messages": waiting.len().min(10_000), "atLeast": waiting.len() > 10_000, "ms": age },
            "parked": {
                "streams": rows.len(), "oldestMs": rows.iter().map(|r| self.now - r.since).max().unwrap_or(0),
            },
            "why": self.why(g, p, owner, &waiting),
        })
    }

    /// The first reason that applies.
    fn why(&self, g: &Group, p: &Partition, owner: Option<&Member>, waiting: &[i64]) -> Value {
        let Some(first) = waiting.first() else { return json!({ "code": "caught_up" }) };
        if g.paused {
            return json!({ "code": "paused" });
        }
        if g.resizing.is_some() {
            let owned: Vec<usize> = g.parts.iter().filter(|q| q.owner.is_some()).map(|q| q.number).collect();
            return json!({ "code": "resizing", "waitsFor": owned });
        }
        let Some(owner) = owner else { return json!({ "code": "no_member" }) };
        if self.now - owner.last_call > 2 * (g.session / 3) {
            return json!({ "code": "silent_member", "leaseMs": owner.lease_end - self.now });
        }
        if let Some(deadline) = p.deadline {
            return json!({ "code": "revoking", "deadlineMs": deadline - self.now });
        }
        if g.parked.len() as i64 >= g.max_parked {
            return json!({ "code": "parked_full" });
        }
        let is_moving = self.now - p.moved.max(self.at(*first).time) <= g.session;
        json!({ "code": if is_moving { "working" } else { "slow_handler" } })
    }
}
