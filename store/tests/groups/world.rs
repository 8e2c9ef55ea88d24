//! Seeded random simulation of consumer groups.
//!
//! A virtual clock; members that behave as the protocol asks a client to behave; a network that loses requests and
//! replies, delays replies and delivers copies late; members that stall (also between the check of their clock and the
//! act), die, leave and come back by name; operators; writers; servers that restart. After each step the invariants are
//! checked; at the end the faults stop, the members run until nothing is left, and every message must have been handled in
//! order, or skipped on record.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};

use crate::client::{Client, Hold, InHand};
use crate::dice::Dice;
use crate::oracle::Model;
use crate::oracle::checks::Refused;
use crate::oracle::state::{Group, Message, partition_of};
use crate::pair::{Differs, Pair, Subject};

const STREAMS: [&str; 8] = ["a-0", "a-1", "a-2", "a-3", "a-4", "a-5", "a", "a-0+x"];
/// The dice of what is thrown before the first step, and after the last one.
const SETUP: u64 = u64::MAX;
const FINISH: u64 = u64::MAX - 1;

/// Why a call, or the whole simulation, goes no further.
#[derive(Debug)]
pub(crate) enum Stop {
    /// An invariant does not hold, or replies differ.
    Broken(String),
    /// No reply: the request may have been taken, may come late, or never.
    Timeout,
    Refused(Refused),
}

impl From<Differs> for Stop {
    fn from(differs: Differs) -> Self {
        Self::Broken(format!("the replies differ: {}", differs.0))
    }
}

/// What is simulated, besides the seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    /// Other readings of the protocol that the oracle and the members follow.
    pub(crate) literal: &'static [&'static str],
    /// Mistakes in the oracle.
    pub(crate) faults: &'static [&'static str],
}

/// What happens how often in one world.
pub(crate) struct Habits {
    pub(crate) is_atomic: bool,
    pub(crate) stall: f64,
    pub(crate) slow: f64,
    loss: f64,
    poison: f64,
    writes: f64,
    operations: f64,
    failures: f64,
}

/// Epoch, owner and checkpoint of a partition.
type Seen = (i64, Option<String>, i64);

pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) now: i64,
    pub(crate) is_calm: bool,
    pub(crate) habits: Habits,
    pub(crate) pair: Pair,
    pub(crate) trace: Vec<String>,
    /// Instances whose join was answered.
    pub(crate) joined_once: HashSet<String>,
    /// Messages that fail, and how often.
    pub(crate) bad: BTreeMap<i64, i64>,
    is_traced: bool,
    seed: u64,
    streams: Vec<&'static str>,
    /// Copies of requests that come later.
    late: Vec<(i64, String, Vec<Value>)>,
    members: Vec<Option<Client>>,
    started: usize,
    /// Messages that were handled, by whom under which epoch.
    done: HashMap<i64, i64>,
    /// Messages that the sink which refuses older epochs took.
    accepted: HashSet<i64>,
    skipped: HashSet<i64>,
    /// Messages that a reset made to be handled again: only acts of a later epoch count.
    need: HashMap<i64, i64>,
    fence: HashMap<String, i64>,
    pairs: HashSet<(i64, i64)>,
    /// Streams that may come twice, because a repeat was refused and a late copy taken.
    twice: HashSet<String>,
    epochs: HashMap<i64, (usize, usize, Option<String>)>,
    seen: BTreeMap<usize, Seen>,
    era: u64,
    committed: usize,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, subject: Option<Box<dyn Subject>>, is_traced: bool) -> Result<Self, Stop> {
        let mut dice = Dice::new(seed, SETUP);
        let habits = Habits {
            is_atomic: dice.chance(0.4),
            stall: dice.choose(&[0.002, 0.01, 0.05]),
            loss: dice.choose(&[0.0, 0.05, 0.15, 0.4]),
            poison: dice.choose(&[0.05, 0.12, 0.4]),
            slow: dice.choose(&[0.0, 0.02, 0.1]),
            writes: dice.choose(&[0.05, 0.12, 0.25]),
            operations: dice.choose(&[0.0, 0.01, 0.03, 0.08]),
            failures: dice.choose(&[0.0, 0.01, 0.03]),
        };
        let count = dice.choose(&[1, 2, 4, 8]);
        let streams = dice.sample(&STREAMS, count);
        let mut world = Self {
            dice,
            now: 1_000_000,
            is_calm: false,
            habits,
            pair: Pair::new(Model::new(plan.literal, plan.faults), subject),
            trace: Vec::new(),
            joined_once: HashSet::new(),
            bad: BTreeMap::new(),
            is_traced,
            seed,
            streams,
            late: Vec::new(),
            members: Vec::new(),
            started: 0,
            done: HashMap::new(),
            accepted: HashSet::new(),
            skipped: HashSet::new(),
            need: HashMap::new(),
            fence: HashMap::new(),
            pairs: HashSet::new(),
            twice: HashSet::new(),
            epochs: HashMap::new(),
            seen: BTreeMap::new(),
            era: 0,
            committed: 0,
        };
        world.begin()?;
        Ok(world)
    }

    /// Two groups: `g`, which the members consume, and `h`, from which a reset may take its positions.
    fn begin(&mut self) -> Result<(), Stop> {
        for _ in 0..self.dice.below(12) {
            self.write()?;
        }
        let mut options = json!({
            "categories": ["a"], "partitions": self.dice.choose(&[1, 2, 3, 5]), "sessionMs": 1000,
            "maxParked": self.dice.choose(&[1, 2, 100]),
        });
        if self.dice.chance(0.3) {
            let head = self.model().head();
            let old: Vec<i64> = (0..self.dice.choose(&[2, 3])).map(|_| self.dice.range(0, head + 1)).collect();
            let adopted = self.model().log.iter().filter(|m| m.at <= old[partition_of(&m.stream, old.len())]);
            self.skipped = adopted.map(|m| m.at).collect();
            options["adopt"] = json!({ "size": old.len(), "checkpoints": old });
        }
        self.ask("group.create", vec![json!("g"), options])?;
        let partitions = self.dice.choose(&[1, 2, 3]);
        let options = json!({ "categories": ["a"], "partitions": partitions, "sessionMs": 600_000 });
        self.ask("group.create", vec![json!("h"), options])?;
        for i in 0..self.dice.choose(&[1, 2, 3, 4]) {
            let name = self.dice.chance(0.6).then(|| format!("n{i}"));
            self.start(name);
        }
        Ok(())
    }

    pub(crate) fn model(&self) -> &Model {
        &self.pair.oracle
    }

    pub(crate) fn literal(&self, name: &'static str) -> bool {
        self.model().literal(name)
    }

    fn g(&self) -> &Group {
        &self.model().groups["g"]
    }

    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        if self.is_traced {
            self.trace.push(format!("{} {}", self.now, what()));
        }
    }

    fn start(&mut self, name: Option<String>) {
        self.started += 1;
        let client = Client::new(self, format!("c{}", self.started), name);
        self.members.push(Some(client));
    }

    /// The places of the members that live.
    fn alive(&self) -> Vec<usize> {
        let is_alive = |at: &usize| self.members[*at].as_ref().is_some_and(|client| !client.is_dead);
        (0..self.members.len()).filter(is_alive).collect()
    }

    /// Lets a member do something with the rest of the world.
    fn with_member(
        &mut self,
        at: usize,
        run: impl FnOnce(&mut Client, &mut Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut client = self.members[at].take().expect("nobody else runs");
        let result = run(&mut client, self);
        self.members[at] = Some(client);
        result
    }

    // ---- the log and the sinks

    /// A call that is not lost.
    fn ask(&mut self, method: &str, args: Vec<Value>) -> Result<Value, Stop> {
        self.pair.call(self.now, method, &args)?.map_err(Stop::Refused)
    }

    fn write(&mut self) -> Result<(), Stop> {
        let stream = self.dice.choose(&self.streams);
        let message = json!({ "type": "T", "data": {} });
        let at = self.ask("stream.write", vec![json!(stream), message])?["globalPosition"].as_i64().expect("one");
        if self.dice.chance(self.habits.poison) {
            let times = self.dice.choose(&[1, 1, 2, 99]);
            self.bad.insert(at, times);
        }
        Ok(())
    }

    pub(crate) fn fails(&self, at: i64) -> bool {
        self.bad.get(&at).is_some_and(|times| *times > 0)
    }

    /// An earlier message of the stream that is not dealt with.
    fn earlier(&self, stream: &str, at: i64, is_done: impl Fn(&i64) -> bool) -> Option<i64> {
        let all = self.model().streams[stream].iter().copied();
        all.take_while(|x| *x < at).find(|x| !is_done(x) && !self.skipped.contains(x))
    }

    /// A handler's effect, on the plain sink and on the one that refuses older epochs.
    pub(crate) fn act(&mut self, who: &str, hold: &Hold, m: &InHand) -> Result<(), Stop> {
        self.say(|| format!("{who} acts on {} {} epoch {}", m.at, m.stream, hold.epoch));
        if hold.epoch <= self.need.get(&m.at).copied().unwrap_or(0) {
            return Ok(()); // an act of before a reset: it counts for nothing
        }
        if !self.done.contains_key(&m.at)
            && let Some(x) = self.earlier(&m.stream, m.at, |x| self.done.contains_key(x))
        {
            return broken(format!("order: {} of {} handled before {x}", m.at, m.stream));
        }
        self.done.insert(m.at, hold.epoch);
        let by_partition = self.literal("partition_fence");
        let key = if by_partition { hold.number.to_string() } else { m.stream.clone() };
        if hold.epoch < self.fence.get(&key).copied().unwrap_or(0) {
            return Ok(());
        }
        self.fence.insert(key, hold.epoch);
        if self.pairs.contains(&(m.at, hold.epoch)) && !self.twice.contains(&m.stream) {
            return broken(format!("doubled: {} of {} handed out twice under epoch {}", m.at, m.stream, hold.epoch));
        }
        let newest = self.pairs.iter().filter(|(at, _)| *at == m.at).map(|(_, epoch)| *epoch).max().unwrap_or(0);
        if self.accepted.contains(&m.at) && by_partition && hold.epoch < newest {
            return broken(format!("fence: {} of {} accepted from an older epoch", m.at, m.stream));
        }
        self.pairs.insert((m.at, hold.epoch));
        if !self.accepted.contains(&m.at)
            && let Some(x) = self.earlier(&m.stream, m.at, |x| self.accepted.contains(x))
        {
            return broken(format!("fenced order: {} of {} accepted before {x}", m.at, m.stream));
        }
        self.accepted.insert(m.at);
        Ok(())
    }

    /// The log as the sink of the atomic form: reads the effects that were committed since.
    fn read_committed(&mut self) -> Result<(), Stop> {
        let out = self.model().streams.get("out").cloned().unwrap_or_default();
        for at in &out[self.committed..] {
            let data = &self.model().at(*at).data;
            let (of, epoch) = (data["of"].as_i64().expect("a position"), data["epoch"].as_i64().expect("an epoch"));
            let stream = self.model().at(of).stream.clone();
            if epoch <= self.need.get(&of).copied().unwrap_or(0) {
                return broken("an effect of an older epoch was committed after a reset");
            }
            if self.done.contains_key(&of) {
                return broken(format!("doubled: the effect of {of} of {stream} was committed twice"));
            }
            if let Some(x) = self.earlier(&stream, of, |x| self.done.contains_key(x)) {
                return broken(format!("order: the effect of {of} of {stream} was committed before {x}"));
            }
            self.done.insert(of, epoch);
        }
        self.committed = out.len();
        Ok(())
    }

    // ---- the network

    /// A request: it may be lost, its reply may be lost, or a copy of it may come much later.
    pub(crate) fn call(&mut self, method: &str, args: Vec<Value>) -> Result<Value, Stop> {
        let fate = if self.is_calm { 1.0 } else { self.dice.fraction() };
        if fate < self.habits.loss / 3.0 {
            self.say(|| format!("lost request {method} {}", Value::from(args.clone())));
            if self.dice.chance(0.5) {
                let when = self.now + self.dice.range(50, 1500);
                self.late.push((when, method.to_owned(), args));
            }
            return Err(Stop::Timeout);
        }
        if fate < self.habits.loss * 0.5 {
            let when = self.now + self.dice.range(20, 1500);
            self.late.push((when, method.to_owned(), args.clone()));
        }
        let answer = self.pair.call(self.now, method, &args)?;
        if fate < self.habits.loss && answer.is_ok() {
            self.say(|| format!("lost reply {method} {}", Value::from(args)));
            return Err(Stop::Timeout);
        }
        answer.map_err(Stop::Refused)
    }

    fn deliver_late(&mut self) -> Result<(), Stop> {
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|(when, ..)| *when <= self.now);
        self.late = rest;
        for (_, method, args) in due {
            self.say(|| format!("late copy {method} {}", Value::from(args.clone())));
            let before: Vec<String> =
                self.g().members.iter().filter(|m| m.lease_end > self.now).map(|m| m.id.clone()).collect();
            let parked: BTreeSet<String> = self.g().parked.keys().cloned().collect();
            let _ = self.pair.call(self.now, &method, &args)?;
            // The repeat was PARK_FULL, the member went on: the stream comes twice.
            let again: Vec<String> = self.g().parked.keys().filter(|s| !parked.contains(*s)).cloned().collect();
            self.twice.extend(again);
            let is_answered_join = method == "group.join"
                && args[1]["instance"].as_str().is_some_and(|instance| self.joined_once.contains(instance));
            if is_answered_join && before.iter().any(|id| self.g().member(id).is_none()) {
                return broken("the late copy of a join that had been answered replaced a living member");
            }
        }
        Ok(())
    }

    // ---- operators

    fn operate(&mut self) -> Result<(), Stop> {
        const ACTS: [&str; 13] = [
            "resize",
            "resize",
            "reset",
            "skip",
            "retry",
            "retry",
            "pause",
            "resume",
            "resume",
            "update",
            "park limit",
            "look",
            "look",
        ];
        let act = self.dice.choose(&ACTS);
        let call = match act {
            "resize" => ("group.resize", vec![json!("g"), json!({ "partitions": self.dice.choose(&[1, 2, 3, 5]) })]),
            "reset" => return self.operate_reset(),
            "skip" => match self.skip() {
                Some(options) => ("group.skip", vec![json!("g"), options]),
                None => return Ok(()),
            },
            "retry" => ("group.retry", vec![json!("g"), json!({ "all": true })]),
            "pause" if self.dice.chance(0.5) => return Ok(()),
            "pause" => ("group.pause", vec![json!("g")]),
            "resume" => ("group.resume", vec![json!("g")]),
            "update" => {
                let session = self.dice.choose(&[1000, 1000, 2500, 4000]);
                ("group.update", vec![json!("g"), json!({ "sessionMs": session })])
            }
            "park limit" => ("group.update", vec![json!("g"), json!({ "maxParked": self.dice.choose(&[1, 2, 100]) })]),
            _ => return self.look(),
        };
        self.say(|| format!("operator {} {}", call.0, Value::from(call.1.clone())));
        match self.ask(call.0, call.1) {
            Err(Stop::Refused(refused)) if refused.code == "GROUP_BUSY" => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Asks everything that changes nothing, also what is refused.
    fn look(&mut self) -> Result<(), Stop> {
        let (g, head) = (json!("g"), self.model().head());
        let to = self.dice.choose(&[json!("beginning"), json!("end"), json!(head / 2), json!({ "group": "h" })]);
        let stream = self.dice.choose(&self.streams);
        for (method, args) in [
            ("group.status", vec![json!("h")]),
            ("group.list", vec![]),
            ("group.audit", vec![g.clone()]),
            ("group.parked", vec![g.clone(), json!({ "limit": 1, "cursor": "a-1" })]),
            ("group.reset", vec![g.clone(), json!({ "to": to, "dryRun": true })]),
            ("group.reset", vec![g.clone(), json!({ "to": head + 1 })]),
            ("group.reset", vec![g.clone(), json!({ "to": 0, "partitions": [7] })]),
            ("group.skip", vec![g.clone(), json!({ "stream": stream, "position": head, "dryRun": true })]),
            ("group.skip", vec![g.clone(), json!({ "stream": stream, "position": head + 1 })]),
            ("group.wait", vec![g.clone(), json!({ "globalPosition": head, "stream": stream })]),
            ("group.wait", vec![g.clone(), json!({ "globalPosition": head + 1 })]),
            ("group.create", vec![g.clone(), json!({ "categories": ["a"], "partitions": 7 })]),
            ("group.create", vec![g.clone(), json!({ "types": ["T"] })]),
            ("group.status", vec![json!("nobody")]),
            ("group.heartbeat", vec![g, json!("nobody")]),
        ] {
            match self.ask(method, args) {
                Err(Stop::Refused(_)) => {}
                result => drop(result?),
            }
        }
        Ok(())
    }

    fn operate_reset(&mut self) -> Result<(), Stop> {
        if self.dice.chance(0.6) || self.g().resizing.is_some() {
            return Ok(());
        }
        let (size, at) = (self.g().parts.len(), self.dice.range(0, self.model().head() + 1));
        let to = self.dice.choose(&[json!("beginning"), json!("end"), json!(at), json!({ "group": "h" })]);
        let count = self.dice.range(1, size as i64 + 1) as usize;
        let chosen = self.dice.sample(&(0..size).collect::<Vec<_>>(), count);
        self.reset(&to, &chosen)
    }

    /// Skips up to a message of a parked stream.
    fn skip(&mut self) -> Option<Value> {
        let parked: Vec<(String, i64)> = self.g().parked.iter().map(|(s, row)| (s.clone(), row.handled)).collect();
        if parked.is_empty() {
            return None;
        }
        let (stream, handled) = self.dice.choose(&parked);
        let head = self.model().head();
        let mut ends = self.model().left(self.g(), &stream, handled, head);
        let left = ends.clone();
        ends.push(head);
        let to = self.dice.choose(&ends);
        self.skipped.extend(left.iter().filter(|at| **at <= to));
        Some(json!({ "stream": stream, "position": to }))
    }

    /// Which messages that a group reads are handled.
    fn handled(&self, group: &str) -> BTreeMap<i64, bool> {
        let (model, g) = (self.model(), &self.model().groups[group]);
        model.log.iter().filter(|m| model.of(g, m)).map(|m| (m.at, model.is_handled(g, m))).collect()
    }

    /// What the reset made handled is skipped on record; what it did not is to be handled under a later epoch.
    fn reset(&mut self, to: &Value, chosen: &[usize]) -> Result<(), Stop> {
        if to.is_object() {
            self.move_other()?;
        }
        let size = self.g().parts.len();
        let (before, last) = (self.handled("g"), self.model().last_epoch);
        self.say(|| format!("operator reset {to} {chosen:?}"));
        self.ask("group.reset", vec![json!("g"), json!({ "to": to, "partitions": chosen })])?;
        let (after, other) = (self.handled("g"), self.handled("h"));
        for (at, handled) in after {
            let stream = self.model().at(at).stream.clone();
            if !chosen.contains(&partition_of(&stream, size)) {
                if handled != before[&at] {
                    return broken(format!("reset: {at} of {stream} is of no partition that was named"));
                }
                continue;
            }
            if to.is_object() && handled != other[&at] {
                return broken(format!("reset: {at} of {stream} is not as in the other group"));
            }
            let is_parked = self.g().parked.contains_key(&stream);
            if *to == json!("beginning") && handled || *to == json!("end") && !handled && !is_parked {
                return broken(format!("reset: {at} of {stream} is not as after a reset to {to}"));
            }
            if handled && !before[&at] {
                self.skipped.insert(at);
            }
            if !handled {
                self.need.insert(at, last);
                self.done.remove(&at);
                self.accepted.remove(&at);
                self.skipped.remove(&at);
            }
        }
        Ok(())
    }

    /// The other group moves on by a member of its own: resized now and then, some streams parked.
    fn move_other(&mut self) -> Result<(), Stop> {
        let h = json!("h");
        if self.dice.chance(0.5) {
            let count = self.dice.choose(&[1, 2, 3, 5]);
            match self.ask("group.resize", vec![h.clone(), json!({ "partitions": count })]) {
                Err(Stop::Refused(refused)) if refused.code == "GROUP_BUSY" => {}
                result => drop(result?),
            }
        }
        let member = self.ask("group.join", vec![h.clone()])?["member"].clone();
        let page = self.ask("group.read", vec![h.clone(), member.clone()])?;
        for m in page["messages"].as_array().into_iter().flatten() {
            if self.dice.chance(0.1) {
                let number = m[8].as_u64().expect("a partition") as usize;
                let epoch = self.model().groups["h"].parts[number].epoch;
                let options = json!({ "partition": number, "epoch": epoch, "position": m[4] });
                match self.ask("group.park", vec![h.clone(), member.clone(), options]) {
                    Err(Stop::Refused(_)) => {} // its stream was parked just now
                    result => drop(result?),
                }
            }
        }
        let parts: Vec<(usize, i64, i64)> =
            self.model().groups["h"].parts.iter().map(|p| (p.number, p.epoch, p.checkpoint)).collect();
        let mut held = json!({});
        for (number, epoch, checkpoint) in parts {
            let position = self.dice.range(checkpoint, self.model().head() + 1);
            held[number.to_string()] = json!({ "epoch": epoch, "position": position });
        }
        self.ask("group.leave", vec![h, member, json!({ "checkpoints": held })]).map(|_| ())
    }

    // ---- invariants

    fn check(&mut self, is_deep: bool) -> Result<(), Stop> {
        let parts: Vec<_> = self.g().parts.clone();
        if self.era != self.g().era {
            self.era = self.g().era;
            self.seen.clear();
        }
        for p in parts.iter() {
            let now: Seen = (p.epoch, p.owner.clone(), p.checkpoint);
            let known = self.seen.get(&p.number);
            if known == Some(&now) {
                continue;
            }
            let is = (parts.len(), p.number, p.owner.clone());
            let first = self.epochs.entry(p.epoch).or_insert_with(|| is.clone());
            if *first != is && p.owner.is_some() {
                return broken(format!("(1) epoch {} has two owners: {first:?}, {is:?}", p.epoch));
            }
            if known.is_some_and(|known| p.epoch < known.0) {
                return broken("(1) an epoch went back");
            }
            if known.is_some_and(|known| p.checkpoint < known.2) {
                return broken(format!("(2) the checkpoint of {} went back", p.number));
            }
            self.seen.insert(p.number, now);
        }
        if self.habits.is_atomic {
            self.read_committed()?;
        }
        if !is_deep {
            return Ok(());
        }
        for method in ["group.status", "group.parked"] {
            self.ask(method, vec![json!("g")])?;
        }
        let lost = |m: &&Message| {
            !self.done.contains_key(&m.at)
                && !self.skipped.contains(&m.at)
                && self.model().of(self.g(), m)
                && self.model().is_handled(self.g(), m)
        };
        match self.model().log.iter().find(lost) {
            Some(m) => broken(format!("(4) lost: {} of {} counts as handled and nobody handled it", m.at, m.stream)),
            None => Ok(()),
        }
    }

    /// (4) Nothing that is skipped on record, was adopted or is committed comes again. (5) Nobody else has this message or
    /// an earlier one of the stream in hand while its right to the partition lives.
    pub(crate) fn handed_out(&self, to: &str, at: i64) -> Result<(), Stop> {
        let stream = &self.model().at(at).stream;
        if self.skipped.contains(&at) {
            return broken(format!("(4) {at} of {stream} is handed out, and was skipped or adopted as handled"));
        }
        if self.habits.is_atomic && self.done.contains_key(&at) {
            return broken(format!("(4) {at} of {stream} is handed out, and its effect is committed"));
        }
        // The member that reads is not among them: it is the one that runs.
        for c in self.members.iter().flatten().filter(|c| !c.is_dead) {
            let end = c.id.as_ref().and_then(|id| self.g().gone.get(id));
            if end.is_some_and(|(reason, _)| *reason == "replaced") {
                continue;
            }
            for h in c.holds.values().map(|hold| &c.all[*hold]).filter(|h| c.may_act(self, h)) {
                let queued = h.queue.iter().filter(|x| x.stream == *stream).map(|x| x.at);
                let retried = h.retries.get(stream).into_iter().flatten().map(|row| row.at);
                let counts = |x: &i64| *x <= at && h.epoch > self.need.get(x).copied().unwrap_or(0);
                if let Some(x) = queued.chain(retried).find(counts) {
                    let (label, epoch) = (&c.label, h.epoch);
                    let message =
                        format!("(5) {at} of {stream} goes to {to} while {label} has {x} in hand under {epoch}");
                    return broken(message);
                }
            }
        }
        Ok(())
    }

    // ---- the run

    pub(crate) fn run(&mut self, steps: &[u64]) -> Result<(), Stop> {
        for step in steps {
            self.dice = Dice::new(self.seed, *step);
            self.step(*step)?;
        }
        self.dice = Dice::new(self.seed, FINISH);
        self.finish()
    }

    fn step(&mut self, step: u64) -> Result<(), Stop> {
        self.now += match self.dice.fraction() {
            ..0.98 => self.dice.choose(&[1, 5, 20, 60]),
            ..0.9995 => self.dice.range(100, 1400),
            _ => 3_700_000, // longer than an ended membership is known
        };
        self.deliver_late()?;
        let what = self.dice.fraction();
        let (writes, operations) = (self.habits.writes, self.habits.writes + self.habits.operations);
        if what < writes {
            self.write()?;
        } else if what < operations {
            self.operate()?;
        } else if what < operations + self.habits.failures {
            self.fault()?;
        } else {
            let alive = self.alive();
            if !alive.is_empty() {
                let at = self.dice.choose(&alive);
                self.with_member(at, Client::step)?;
            } else if self.dice.chance(0.3) {
                self.start(None);
            }
        }
        self.pair.tick(self.now);
        self.check(step.is_multiple_of(10))
    }

    fn fault(&mut self) -> Result<(), Stop> {
        let alive = self.alive();
        if alive.is_empty() || alive.len() < 5 && self.dice.chance(0.3) {
            self.start(None);
            return Ok(());
        }
        let at = self.dice.choose(&alive);
        let kind = self.dice.choose(&["die", "restart", "leave", "stall", "stall", "server restart"]);
        let label = self.members[at].as_ref().map(|client| client.label.clone()).unwrap_or_default();
        self.say(|| format!("{label} {kind}"));
        let until = self.now + self.dice.range(100, 2500);
        let is_twin = self.dice.chance(0.2);
        let client = self.members[at].as_mut().expect("nobody runs");
        let name = client.name.clone();
        match kind {
            "stall" => client.stalled = until,
            "server restart" => self.pair.restart(self.now),
            "leave" => self.with_member(at, Client::leave)?,
            "die" => client.is_dead = true,
            _ => {
                client.is_dead = name.is_none() || !is_twin; // two processes of one name
                self.start(name);
            }
        }
        Ok(())
    }

    /// All faults stop; members run until nothing is left.
    fn finish(&mut self) -> Result<(), Stop> {
        self.is_calm = true;
        self.say(|| "---- all faults stop".to_owned());
        self.bad.values_mut().for_each(|times| *times = 0);
        self.ask("group.resume", vec![json!("g")])?;
        self.ask("group.update", vec![json!("g"), json!({ "maxParked": 100, "sessionMs": 1000 })])?;
        let mut is_quiet = false;
        for turn in 0..1500 {
            self.now += 25;
            self.deliver_late()?;
            if self.alive().is_empty() {
                self.start(None);
            }
            for at in self.alive() {
                self.with_member(at, Client::step)?;
            }
            self.pair.tick(self.now);
            self.check(false)?;
            if turn % 20 == 10 {
                self.ask("group.retry", vec![json!("g"), json!({ "all": true })])?;
                is_quiet = turn > 100 && self.is_quiet()?;
            }
            if is_quiet {
                break;
            }
        }
        if !is_quiet {
            let parked: Vec<_> = self.g().parked.values().collect();
            return broken(format!("(4) not quiet: parked {parked:?}, {:?}", self.g().parts));
        }
        self.check(true)?;
        self.ask("group.audit", vec![json!("g"), json!({ "limit": 1000 })])?;
        self.check_end()
    }

    fn check_end(&self) -> Result<(), Stop> {
        let (model, g) = (self.model(), self.g());
        let is_left = |m: &&Message| model.of(g, m) && !self.done.contains_key(&m.at) && !self.skipped.contains(&m.at);
        if let Some(m) = model.log.iter().find(is_left) {
            return broken(format!("(4) {} of {} was never handled", m.at, m.stream));
        }
        let share = |id: &String| g.parts.iter().filter(|p| p.owner.as_ref() == Some(id)).count();
        let shares: Vec<usize> = g.members.iter().map(|m| share(&m.id)).collect();
        let spread = shares.iter().max().zip(shares.iter().min()).map_or(0, |(most, least)| most - least);
        if spread > 1 || g.parts.iter().any(|p| p.owner.is_none()) {
            return broken(format!("(6) unequal shares {shares:?}"));
        }
        Ok(())
    }

    fn is_quiet(&mut self) -> Result<bool, Stop> {
        let head = self.model().head();
        let reply = self.ask("group.wait", vec![json!("g"), json!({ "globalPosition": head })])?;
        let g = self.g();
        let is_settled = g.parts.iter().all(|p| p.owner.is_some() && p.deadline.is_none()) && g.resizing.is_none();
        let is_reached = reply == json!({ "reached": true, "parked": 0 });
        Ok(is_reached && g.parked.is_empty() && is_settled && self.late.is_empty())
    }
}

fn broken<T>(message: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Broken(message.into()))
}
