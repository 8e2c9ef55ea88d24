//! Members (3.2): joining, heartbeats, leaving.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Model;
use super::checks::{Answer, Refused, epochs, fenced, number_or, options, positions, text};
use super::state::{Group, Member};

impl Model {
    pub(super) fn join(&mut self, g: &mut Group, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["name", "instance"])?;
        let name = opts.get("name").map(|value| text(value, "name", 1, 255)).transpose()?.map(str::to_owned);
        let instance = opts.get("instance").map(|value| text(value, "instance", 1, 255)).transpose()?;
        let instance = instance.map(str::to_lowercase);
        let same = g.members.iter().find(|m| instance.is_some() && m.instance == instance).map(|m| m.id.clone());
        if let Some(id) = same {
            self.renew(g, &id);
            return Ok(self.membership(g, &id));
        }
        if let Some(instance) = &instance
            && !self.literal("replaced_rejoins")
            && let Some((reason, until)) = g.gone.get(instance)
            && *until > self.now
        {
            return Err(fenced(reason)); // one membership for one instance: a late copy of a join makes no ghost
        }
        if g.members.len() >= 1_000 {
            return Err(Refused::new("OVERLOADED", "at most 1,000 members", Value::Null));
        }
        self.count += 1;
        let id = format!("m{}", self.count);
        let olds = g.members.iter().filter(|m| name.is_some() && m.name == name).map(|m| m.id.clone());
        for old in olds.collect::<Vec<_>>() {
            let inherited = g.parts.iter().filter(|p| p.owner.as_ref() == Some(&old) && p.deadline.is_none());
            let inherited: Vec<usize> = inherited.map(|p| p.number).collect();
            self.remove(g, &old, "replaced");
            for n in inherited {
                g.parts[n].owner = Some(id.clone());
                self.new_epoch(g, n);
            }
        }
        let lease_end = self.now + g.session;
        g.members.push(Member { id: id.clone(), name, instance, lease_end, joined: self.now, last_call: self.now });
        self.rebalance(g);
        Ok(self.membership(g, &id))
    }

    /// Every call of a member renews its lease when it arrives. A call never makes a lease end earlier.
    fn renew(&self, g: &mut Group, member: &str) {
        let (now, session, shrinks) = (self.now, g.session, self.literal("session_shrinks"));
        let member = g.member_mut(member).expect("it is a member");
        let least = if shrinks { 0 } else { member.lease_end };
        member.lease_end = (now + session).max(least);
        member.last_call = now;
    }

    /// The member calls: its lease is renewed.
    pub(super) fn member(&self, g: &mut Group, member: &str) -> Result<(), Refused> {
        if g.member(member).is_none() {
            let known = g.gone.get(member).filter(|(_, until)| *until > self.now);
            return Err(fenced(known.map_or("unknown", |(reason, _)| reason)));
        }
        self.renew(g, member);
        Ok(())
    }

    pub(super) fn membership(&self, g: &Group, member: &str) -> Value {
        let own = || g.parts.iter().filter(|p| p.owner.as_deref() == Some(member));
        let assigned: Vec<Value> = own()
            .filter(|p| p.deadline.is_none())
            .map(|p| json!({ "partition": p.number, "epoch": p.epoch, "checkpoint": p.checkpoint }))
            .collect();
        let revoking: Vec<Value> = own()
            .filter_map(|p| Some((p, p.deadline?)))
            .map(|(p, end)| json!({ "partition": p.number, "epoch": p.epoch, "deadlineMs": end - self.now }))
            .collect();
        json!({
            "member": member, "sessionMs": g.session, "heartbeatMs": g.session / 3, "partitionCount": g.parts.len(),
            "generation": g.generation, "assigned": assigned, "revoking": revoking,
        })
    }

    /// Whether that is the partition's epoch now.
    pub(super) fn is_current(&self, g: &Group, partition: usize, epoch: i64) -> bool {
        g.parts.get(partition).is_some_and(|p| p.epoch == epoch)
    }

    /// What heartbeat, read and leave do first: store checkpoints, then give partitions back. Returns what was fenced.
    pub(super) fn store(
        &mut self,
        g: &mut Group,
        member: &str,
        opts: &Map<String, Value>,
    ) -> Result<BTreeSet<usize>, Refused> {
        let checkpoints: BTreeMap<usize, (i64, i64)> = positions(opts, "checkpoints")?;
        let released: BTreeMap<usize, i64> = epochs(opts, "released")?;
        let named =
            checkpoints.iter().map(|(n, (epoch, _))| (*n, *epoch)).chain(released.iter().map(|(n, e)| (*n, *e)));
        let stale = named.filter(|(n, epoch)| !self.is_current(g, *n, *epoch)).map(|(n, _)| n).collect();
        for (n, (epoch, position)) in &checkpoints {
            if self.is_current(g, *n, *epoch) {
                self.position(*position, "checkpoint")?; // before anything is stored
            }
        }
        for (n, (epoch, position)) in checkpoints {
            if self.is_current(g, n, epoch) {
                self.move_checkpoint(g, n, position);
            }
        }
        let mut freed = false;
        for (n, epoch) in released {
            if self.is_current(g, n, epoch) {
                let p = &mut g.parts[n];
                if p.owner.as_deref() == Some(member) && p.deadline.is_some() {
                    (p.owner, p.deadline) = (None, None);
                    freed = true;
                }
            }
        }
        if freed {
            self.rebalance(g);
        }
        Ok(stale)
    }

    /// A checkpoint only moves forward.
    pub(super) fn move_checkpoint(&self, g: &mut Group, n: usize, position: i64) {
        if position > g.parts[n].checkpoint || self.fault("lower_checkpoint") {
            (g.parts[n].checkpoint, g.parts[n].moved) = (position, self.now);
            self.forget_carried(g);
        }
    }

    pub(super) fn heartbeat(&mut self, g: &mut Group, member: &str, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["checkpoints", "released", "waitMs"])?;
        number_or(&opts, "waitMs", 0, 600_000, 0)?;
        self.member(g, member)?;
        let stale = self.store(g, member, &opts)?;
        let mut reply = self.membership(g, member);
        reply["fenced"] = json!(stale);
        Ok(reply)
    }

    pub(super) fn leave(&mut self, g: &mut Group, member: &str, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["checkpoints"])?;
        if g.member(member).is_some() {
            self.store(g, member, &opts)?;
            self.remove(g, member, "unknown");
            self.rebalance(g);
        }
        Ok(json!({}))
    }
}
