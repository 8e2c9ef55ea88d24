//! The model of consumer groups kept by the server, as the oracle of the differential test.
//!
//! The model is pure and single-threaded. It holds one namespace: a log (a list of messages) and its groups. The caller
//! gives the time in milliseconds with every call, and the time never goes back. A call that waits does its work once and
//! looks once; the caller decides how long it repeats that.
//!
//! It is written for comparison, not for speed: every question walks the log. It shares no code with the rules of the
//! store, and no type but that of a time. `literal` brings back other readings of the protocol, `faults` plants mistakes.
//! Both are for tests of tests and change nothing where they are empty.

mod acting;
pub(crate) mod checks;
mod log;
mod managing;
mod members;
pub(crate) mod state;
mod status;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use eventodb_protocol::Timestamp;
use serde_json::{Value, json};

use checks::{Answer, HOUR, Refused, invalid, number, text};
use state::{Carried, Group, Message, Partition, assign, category_of, partition_of};

/// Milliseconds as replies have times.
pub(crate) fn time(ms: i64) -> Value {
    json!(Timestamp::from_micros(ms * 1000))
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    literal: BTreeSet<&'static str>,
    faults: BTreeSet<&'static str>,
    pub(crate) log: Vec<Message>,
    /// Positions of the messages of each stream.
    pub(crate) streams: BTreeMap<String, Vec<i64>>,
    ids: HashMap<String, i64>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) last_epoch: i64,
    /// Counts members and entries of audits.
    count: i64,
    pub(crate) now: i64,
}

impl Model {
    pub(crate) fn new(literal: &[&'static str], faults: &[&'static str]) -> Self {
        Self { literal: literal.iter().copied().collect(), faults: faults.iter().copied().collect(), ..Self::default() }
    }

    pub(crate) fn literal(&self, name: &'static str) -> bool {
        self.literal.contains(name)
    }

    fn fault(&self, name: &'static str) -> bool {
        self.faults.contains(name)
    }

    pub(crate) fn head(&self) -> i64 {
        self.log.len() as i64
    }

    /// The message at a position.
    pub(crate) fn at(&self, at: i64) -> &Message {
        &self.log[at as usize - 1]
    }

    /// One request, as it arrives at `now`.
    pub(crate) fn call(&mut self, now: i64, method: &str, args: &[Value]) -> Answer {
        self.tick(now);
        let arg =
            |at: usize| args.get(at).filter(|value| !value.is_null()).ok_or_else(|| invalid("an argument is missing"));
        let opts = |at: usize| args.get(at);
        match method {
            "stream.write" => return self.write(arg(0)?, arg(1)?, opts(2)),
            "stream.append" => return self.append(arg(0)?, arg(1)?, opts(2)),
            "group.list" => return Ok(self.list()),
            _ => {}
        }
        let name = text(arg(0)?, "g", 1, 255)?.to_owned();
        if method == "group.create" {
            return self.create(&name, opts(1));
        }
        let is_of_member =
            ["group.heartbeat", "group.leave", "group.read", "group.park", "group.handled"].contains(&method);
        let member = if is_of_member { text(arg(1)?, "member", 1, 255)?.to_owned() } else { String::new() };
        let mut g = self.take_group(&name)?;
        let result = match method {
            "group.update" => self.update(&mut g, opts(1)),
            "group.delete" => return Ok(json!({ "group": name, "deletedAt": time(self.now) })),
            "group.pause" => Ok(self.set_paused(&mut g, true)),
            "group.resume" => Ok(self.set_paused(&mut g, false)),
            "group.status" => Ok(self.status(&g)),
            "group.resize" => self.resize(&mut g, opts(1)),
            "group.reset" => self.reset(&mut g, opts(1)),
            "group.join" => self.join(&mut g, opts(1)),
            "group.heartbeat" => self.heartbeat(&mut g, &member, opts(2)),
            "group.leave" => self.leave(&mut g, &member, opts(2)),
            "group.read" => self.read(&mut g, &member, opts(2)),
            "group.park" => self.park(&mut g, &member, opts(2)),
            "group.handled" => self.handled(&mut g, &member, opts(2)),
            "group.parked" => self.parked(&g, opts(1)),
            "group.retry" => self.retry(&mut g, opts(1)),
            "group.skip" => self.skip(&mut g, opts(1)),
            "group.audit" => self.read_audit(&g, opts(1)),
            "group.wait" => self.wait(&g, opts(1)),
            _ => Err(Refused::new("METHOD_NOT_FOUND", format!("no method {method:?}"), Value::Null)),
        };
        self.groups.insert(name, g);
        result
    }

    /// Takes a group out, so that it can be changed beside the rest. The caller puts it back.
    fn take_group(&mut self, name: &str) -> Result<Group, Refused> {
        self.groups
            .remove(name)
            .ok_or_else(|| Refused::new("GROUP_NOT_FOUND", format!("no group {name:?}"), Value::Null))
    }

    // ---- time: leases and deadlines that end, resizes that wait for them

    /// The server has started again and does not know when leases end, other than that none has ended that it knew of.
    pub(crate) fn begin_sessions(&mut self, now: i64) {
        for g in self.groups.values_mut() {
            let end = |known: i64| known.max(now + g.session).min(now + 600_000);
            for m in &mut g.members {
                (m.lease_end, m.last_call) = (end(m.lease_end), now);
            }
            for deadline in g.parts.iter_mut().filter_map(|p| p.deadline.as_mut()) {
                *deadline = end(*deadline);
            }
        }
    }

    pub(crate) fn tick(&mut self, now: i64) {
        self.now = now;
        let mut groups = std::mem::take(&mut self.groups);
        for g in groups.values_mut() {
            let mut changed = false;
            if !self.fault("lease_never_ends") {
                let ended: Vec<String> =
                    g.members.iter().filter(|m| m.lease_end <= now).map(|m| m.id.clone()).collect();
                for m in ended {
                    self.remove(g, &m, "lease");
                    changed = true;
                }
            }
            for p in &mut g.parts {
                if p.deadline.is_some_and(|deadline| deadline <= now) {
                    (p.owner, p.deadline) = (None, None);
                    changed = true;
                }
            }
            if changed {
                self.rebalance(g);
            }
        }
        self.groups = groups;
    }

    /// The member is no more; its partitions have no owner. Their epochs stand until somebody else gets them.
    fn remove(&mut self, g: &mut Group, member: &str, reason: &'static str) {
        let at = g.members.iter().position(|m| m.id == member).expect("it is a member");
        let member = g.members.remove(at);
        if let Some(instance) = member.instance {
            g.gone.insert(instance, (reason, self.now + HOUR));
        }
        for p in &mut g.parts {
            if p.owner.as_ref() == Some(&member.id) {
                (p.owner, p.deadline) = (None, None);
            }
        }
        g.gone.insert(member.id, (reason, self.now + HOUR));
    }

    fn rebalance(&mut self, g: &mut Group) {
        g.generation += 1;
        let owners: Vec<Option<String>> = g.parts.iter().map(|p| p.owner.clone()).collect();
        let members: Vec<String> = g.members.iter().map(|m| m.id.clone()).collect();
        let revoking: BTreeSet<usize> = g.parts.iter().filter(|p| p.deadline.is_some()).map(|p| p.number).collect();
        let (mut give, mut ask) = if g.resizing.is_some() {
            let held = g.parts.iter().filter(|p| p.owner.is_some() && p.deadline.is_none());
            (BTreeMap::new(), held.map(|p| p.number).collect())
        } else {
            assign(&owners, &revoking, &members)
        };
        if g.resizing.is_none() && self.literal("revoke_cancel") {
            // The older reading: a revocation whose reason has gone is taken back, the epoch stays.
            let (give2, ask2) = assign(&owners, &BTreeSet::new(), &members);
            for number in revoking.iter().filter(|number| !ask2.contains(number)) {
                g.parts[*number].deadline = None;
            }
            ask = ask2.into_iter().filter(|number| g.parts[*number].deadline.is_none()).collect();
            give = give2;
        }
        for number in ask {
            // Not before the owner's lease ends: an owner that is not told acts until then.
            let owner = g.parts[number].owner.clone().expect("it is held");
            let lease_end = g.member(&owner).expect("it is a member").lease_end;
            let least = if self.literal("session_shrinks") { 0 } else { lease_end };
            g.parts[number].deadline = Some((self.now + g.session).max(least));
        }
        if g.resizing.is_some() && g.parts.iter().all(|p| p.owner.is_none()) {
            self.finish_resize(g);
            return self.rebalance(g);
        }
        for (number, member) in give {
            (g.parts[number].owner, g.parts[number].deadline) = (Some(member), None);
            self.new_epoch(g, number);
        }
    }

    fn new_epoch(&mut self, g: &mut Group, number: usize) {
        self.last_epoch = (self.last_epoch + 1).max(self.now * 1024);
        g.parts[number].epoch = self.last_epoch;
        for row in g.parked.values_mut() {
            if partition_of(&row.stream, g.parts.len()) == number && row.out {
                (row.due, row.out) = (Some(self.now), false);
            }
        }
    }

    fn finish_resize(&mut self, g: &mut Group) {
        let count = g.resizing.take().expect("it is being resized");
        if count != g.parts.len() {
            let checkpoints: Vec<i64> = g.parts.iter().map(|p| p.checkpoint).collect();
            let start = *checkpoints.iter().min().expect("there are partitions");
            if !self.fault("carried_ignored") {
                g.carried.push(Carried { size: g.parts.len(), checkpoints, void: BTreeSet::new() });
            }
            g.parts = (0..count).map(|n| Partition::new(n, start, self.now)).collect();
            g.era += 1;
        }
        for number in 0..count {
            self.new_epoch(g, number);
        }
        self.forget_carried(g);
    }

    /// Carried-over positions are kept until every checkpoint that they apply to is past the highest of them.
    fn forget_carried(&self, g: &mut Group) {
        let size = g.parts.len();
        let parts = &g.parts;
        g.carried.retain(|c| {
            let highest = *c.checkpoints.iter().max().expect("there are checkpoints");
            !parts.iter().all(|p| p.checkpoint >= highest || c.void.contains(&(size, p.number)))
        });
    }

    // ---- what is handled

    /// Whether the group reads this message.
    pub(crate) fn of(&self, g: &Group, m: &Message) -> bool {
        (g.categories.is_empty() || g.categories.contains(category_of(&m.stream)))
            && (g.types.is_empty() || g.types.contains(&m.kind))
    }

    /// The position up to which the stream's messages were dealt with: the checkpoint, or what is carried over for it.
    fn known(&self, g: &Group, stream: &str) -> i64 {
        let carried = g.carried.iter().map(|c| c.of(stream)).max().unwrap_or(0);
        g.parts[partition_of(stream, g.parts.len())].checkpoint.max(carried)
    }

    /// The positions of the stream's messages for this group in (above, upto].
    pub(crate) fn left(&self, g: &Group, stream: &str, above: i64, upto: i64) -> Vec<i64> {
        let Some(all) = self.streams.get(stream) else { return Vec::new() };
        all.iter().copied().filter(|at| above < *at && *at <= upto && self.of(g, self.at(*at))).collect()
    }

    pub(crate) fn is_handled(&self, g: &Group, m: &Message) -> bool {
        m.at <= g.parked.get(&m.stream).map_or_else(|| self.known(g, &m.stream), |row| row.handled)
    }

    /// The messages of a partition that are neither handled nor in a parked stream.
    fn waiting(&self, g: &Group, p: &Partition, upto: i64) -> Vec<i64> {
        (p.checkpoint + 1..=upto).filter(|at| self.is_wanted(g, p, self.at(*at))).collect()
    }

    /// Whether a message is of the partition, for the group, and neither handled nor in a parked stream.
    fn is_wanted(&self, g: &Group, p: &Partition, m: &Message) -> bool {
        partition_of(&m.stream, g.parts.len()) == p.number
            && self.of(g, m)
            && !g.parked.contains_key(&m.stream)
            && !self.is_handled(g, m)
    }

    /// Checks a position that a caller claims: at most the head.
    fn position(&self, value: i64, name: &str) -> Result<i64, Refused> {
        if value > self.head() {
            return Err(invalid(format!("{name} {value} is above the head {}", self.head())));
        }
        number(&json!(value), name, 0, checks::SAFE)
    }

    fn record(&mut self, g: &mut Group, act: &str, details: &Value) {
        self.count += 1;
        let entry = json!({ "id": self.count, "at": time(self.now), "tokenId": null, "act": act, "details": details });
        g.audit.insert(0, entry);
        g.audit.truncate(10_000);
    }
}
