//! A process that consumes the group as the protocol asks a client to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::oracle::checks::Refused;
use crate::world::{Stop, World};

/// A message that a member has in hand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InHand {
    pub(crate) at: i64,
    pub(crate) stream: String,
}

/// A retry that a member has in hand.
#[derive(Clone, Debug)]
pub(crate) struct RetryInHand {
    pub(crate) at: i64,
    attempt: i64,
    rev: i64,
    /// The reply that brought it.
    reply: u64,
}

/// What a member has of one partition under one epoch.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) number: usize,
    pub(crate) epoch: i64,
    stored: i64,
    read_to: i64,
    pub(crate) queue: Vec<InHand>,
    pub(crate) retries: BTreeMap<String, Vec<RetryInHand>>,
    drained: Vec<Value>,
    stop: Option<i64>,
    released: bool,
    /// Until when a handler runs that takes longer than a session.
    busy: i64,
}

impl Hold {
    fn new(number: usize, epoch: i64, checkpoint: i64) -> Self {
        Self {
            number,
            epoch,
            stored: checkpoint,
            read_to: checkpoint,
            queue: Vec::new(),
            retries: BTreeMap::new(),
            drained: Vec::new(),
            stop: None,
            released: false,
            busy: 0,
        }
    }

    /// The next checkpoint: all before the first message in hand, else all that was read.
    fn done(&self) -> i64 {
        self.queue.first().map_or(self.read_to, |first| first.at - 1)
    }
}

/// A reply to a read or a heartbeat that the member has not taken yet.
#[derive(Clone, Debug)]
struct Reply {
    number: u64,
    ready: i64,
    start: i64,
    is_read: bool,
    reply: Value,
    /// How many streams the member had parked when it sent the call.
    mark: usize,
    /// Partitions of which the reply is dropped.
    dropped: BTreeSet<usize>,
    opts: Value,
}

/// What a member does next in place of something new. A hold is named by its place in `Client::all`.
#[derive(Clone, Debug)]
enum Pending {
    /// An act that a stall cut in two.
    Message(usize, InHand),
    Retry(usize, String, RetryInHand),
    /// A call that had no reply.
    Repeat(Act),
}

#[derive(Clone, Debug)]
enum Act {
    Settle { hold: usize, stream: String, position: i64, rev: i64 },
    Park { hold: usize, message: InHand, opts: Value },
    Commit { hold: usize, done: Done, message: Value, options: Value },
}

/// What an atomic append finishes.
#[derive(Clone, Debug)]
enum Done {
    Message(InHand),
    Retry(String),
}

pub(crate) struct Client {
    pub(crate) label: String,
    pub(crate) name: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) is_dead: bool,
    pub(crate) stalled: i64,
    instance: String,
    /// Its own monotonic clock.
    offset: i64,
    /// By partition.
    pub(crate) holds: BTreeMap<usize, usize>,
    /// Everything that it ever held: an act may outlive its hold.
    pub(crate) all: Vec<Hold>,
    session: i64,
    last_ok: i64,
    generation: i64,
    batch: Option<i64>,
    replies: Vec<Reply>,
    replies_made: u64,
    pending: Option<Pending>,
    /// Epochs that it has released.
    over: BTreeSet<i64>,
    /// Streams that it parked, from where and under which epoch.
    parks: Vec<(String, i64, i64)>,
    dropping: BTreeSet<String>,
}

impl Client {
    pub(crate) fn new(world: &mut World, label: String, name: Option<String>) -> Self {
        Self {
            label,
            name,
            id: None,
            is_dead: false,
            stalled: 0,
            instance: world.dice.uuid(),
            offset: world.dice.range(0, 10_000),
            holds: BTreeMap::new(),
            all: Vec::new(),
            session: 1000,
            last_ok: 0,
            generation: -1,
            batch: world.dice.choose(&[None, None, Some(1), Some(2), Some(100)]),
            replies: Vec::new(),
            replies_made: 0,
            pending: None,
            over: BTreeSet::new(),
            parks: Vec::new(),
            dropping: BTreeSet::new(),
        }
    }

    fn clock(&self, world: &World) -> i64 {
        world.now + self.offset
    }

    /// Whether it may act for what it holds, by its own clock.
    pub(crate) fn may_act(&self, world: &World, hold: &Hold) -> bool {
        let clock = self.clock(world);
        clock < self.last_ok + self.session && hold.stop.is_none_or(|stop| clock < stop) && !hold.released
    }

    /// A request about this member. Errors that end the membership, or its hold of a partition, are dealt with here.
    fn call(&mut self, world: &mut World, method: &str, opts: Value) -> Result<Value, Stop> {
        let start = self.clock(world);
        let member = self.id.clone();
        let args = std::iter::once(json!("g")).chain(member.map(Value::from)).chain([opts]).collect();
        match world.call(method, args) {
            Err(Stop::Refused(refused)) => {
                self.refused(world, &refused)?;
                Err(Stop::Refused(refused))
            }
            Ok(reply) => {
                if world.literal("renew_any") && ["group.park", "group.handled"].contains(&method) {
                    self.last_ok = self.last_ok.max(start);
                }
                Ok(reply)
            }
            stop => stop,
        }
    }

    fn refused(&mut self, world: &mut World, refused: &Refused) -> Result<(), Stop> {
        world.say(|| format!("{} gets {}: {}", self.label, refused.code, refused.message));
        if refused.code == "INVALID_REQUEST" {
            return Err(Stop::Broken(format!("a client that behaves is refused: {refused:?}")));
        }
        match refused.reason() {
            Some("lease" | "unknown") => self.forget(world),
            Some("replaced") => self.is_dead = true,
            Some("epoch") => {
                let number = refused.details["partition"].as_u64().expect("a partition") as usize;
                self.holds.remove(&number);
            }
            _ => {}
        }
        Ok(())
    }

    fn forget(&mut self, world: &mut World) {
        self.id = None;
        self.holds.clear();
        self.replies.clear();
        self.pending = None;
        self.generation = -1;
        self.over.clear();
        self.dropping.clear();
        self.instance = world.dice.uuid(); // one for each membership
    }

    pub(crate) fn leave(&mut self, world: &mut World) -> Result<(), Stop> {
        if self.id.is_some() {
            let checkpoints = self.checkpoints(world);
            // Whatever the answer is: it leaves.
            if let Err(Stop::Broken(broken)) = self.call(world, "group.leave", json!({ "checkpoints": checkpoints })) {
                return Err(Stop::Broken(broken));
            }
        }
        self.is_dead = true;
        Ok(())
    }

    // ---- one step

    pub(crate) fn step(&mut self, world: &mut World) -> Result<(), Stop> {
        if world.now < self.stalled && !world.is_calm {
            return Ok(());
        }
        match self.act(world) {
            Err(Stop::Timeout | Stop::Refused(_)) => Ok(()),
            result => result,
        }
    }

    fn act(&mut self, world: &mut World) -> Result<(), Stop> {
        match self.pending.clone() {
            Some(Pending::Message(hold, message)) => return self.go_message(world, hold, &message),
            Some(Pending::Retry(hold, stream, retry)) => return self.go_retry(world, hold, &stream, &retry),
            Some(Pending::Repeat(act)) => return self.once(world, &act),
            None => {}
        }
        if self.id.is_none() {
            return self.join(world);
        }
        let ready: Vec<u64> =
            self.replies.iter().filter(|reply| reply.ready <= world.now || world.is_calm).map(|r| r.number).collect();
        if !ready.is_empty() && world.dice.chance(0.5) {
            let number = world.dice.choose(&ready);
            let at = self.replies.iter().position(|reply| reply.number == number).expect("it is ready");
            let reply = self.replies.remove(at);
            self.take(world, &reply);
            return Ok(());
        }
        let what = world.dice.fraction();
        if what < 0.25 && !self.reads() {
            return self.ask(world, true);
        }
        if what < 0.32 {
            return self.ask(world, false);
        }
        self.work(world)
    }

    /// Whether the reply to a read is under way.
    fn reads(&self) -> bool {
        self.replies.iter().any(|reply| reply.is_read)
    }

    fn join(&mut self, world: &mut World) -> Result<(), Stop> {
        let mut options = json!({ "instance": self.instance });
        if let Some(name) = &self.name {
            options["name"] = json!(name);
        }
        let start = self.clock(world);
        let reply = self.call(world, "group.join", options)?;
        self.lists(world, start, &reply);
        world.joined_once.insert(self.instance.clone());
        Ok(())
    }

    fn checkpoints(&self, world: &mut World) -> Map<String, Value> {
        let mut checkpoints = Map::new();
        for (number, hold) in &self.holds {
            let hold = &self.all[*hold];
            if hold.done() > hold.stored && world.dice.chance(0.8) {
                checkpoints.insert(number.to_string(), json!({ "epoch": hold.epoch, "position": hold.done() }));
            }
        }
        checkpoints
    }

    /// A read or a heartbeat; its reply may take its time, while the member goes on.
    fn ask(&mut self, world: &mut World, is_read: bool) -> Result<(), Stop> {
        let start = self.clock(world);
        self.release(world);
        let held = || self.holds.values().map(|hold| &self.all[*hold]);
        let released: Map<String, Value> =
            held().filter(|hold| hold.released).map(|hold| (hold.number.to_string(), json!(hold.epoch))).collect();
        let mut opts = json!({ "checkpoints": self.checkpoints(world), "released": released });
        if is_read {
            let batch = self.batch.unwrap_or_else(|| world.dice.choose(&[1, 2, 3, 5, 10, 100]));
            let ahead = held().filter(|hold| hold.read_to > hold.stored);
            let presented = |hold: &Hold| json!({ "epoch": hold.epoch, "position": hold.read_to });
            let after: Map<String, Value> = ahead.map(|hold| (hold.number.to_string(), presented(hold))).collect();
            (opts["batchSize"], opts["after"]) = (json!(batch), json!(after));
            if world.dice.chance(0.1) {
                let some: Vec<usize> = self.holds.keys().copied().filter(|_| world.dice.chance(0.5)).collect();
                opts["partitions"] = json!(some);
            }
        }
        let mark = self.parks.len();
        let reply = self.call(world, if is_read { "group.read" } else { "group.heartbeat" }, opts.clone())?;
        for list in ["messages", "retries"] {
            for row in reply[list].as_array().into_iter().flatten() {
                world.handed_out(&self.label, row[4].as_i64().expect("a position"))?;
            }
        }
        let wait = if world.is_calm || world.dice.chance(0.6) { 0 } else { world.dice.range(10, 800) };
        self.replies_made += 1;
        let (number, ready) = (self.replies_made, world.now + wait);
        let reply = Reply { number, ready, start, is_read, reply, mark, dropped: BTreeSet::new(), opts };
        if wait > 0 {
            self.replies.push(reply);
        } else {
            self.take(world, &reply);
        }
        Ok(())
    }

    /// What is asked back: finishes it, or drops the rest.
    fn release(&mut self, world: &mut World) {
        let reads = self.reads();
        for hold in self.holds.values() {
            let hold = &mut self.all[*hold];
            if hold.stop.is_some() && !hold.released && (hold.queue.is_empty() || world.dice.chance(0.1)) && !reads {
                hold.released = true;
                self.over.insert(hold.epoch);
            }
        }
    }

    /// The membership in a reply. A reply that is older than one that was read already changes nothing.
    fn lists(&mut self, world: &World, start: i64, reply: &Value) {
        if let Some(member) = reply.get("member").and_then(Value::as_str) {
            self.id = Some(member.to_owned());
        }
        self.session = reply["sessionMs"].as_i64().expect("a session");
        self.last_ok = self.last_ok.max(start);
        let generation = reply["generation"].as_i64().expect("a generation");
        if generation < self.generation && !world.literal("late_lists") {
            return;
        }
        self.generation = generation;
        let mut seen = BTreeMap::new();
        for entry in ["assigned", "revoking"].into_iter().flat_map(|list| reply[list].as_array().expect("a list")) {
            let number = entry["partition"].as_u64().expect("a partition") as usize;
            let epoch = entry["epoch"].as_i64().expect("an epoch");
            seen.insert(number, epoch);
            if self.over.contains(&epoch) && !world.literal("revoke_cancel") && !world.literal("late_lists") {
                continue;
            }
            let deadline = entry.get("deadlineMs").and_then(Value::as_i64);
            let known = self.holds.get(&number).copied().filter(|hold| {
                let hold = &self.all[*hold];
                hold.epoch == epoch && !(hold.released && deadline.is_none())
            });
            let hold = known.unwrap_or_else(|| {
                let checkpoint = entry.get("checkpoint").and_then(Value::as_i64).unwrap_or(0);
                self.all.push(Hold::new(number, epoch, checkpoint));
                self.all.len() - 1
            });
            self.holds.insert(number, hold);
            // Without a deadline: only where revocations can be taken back.
            let hold = &mut self.all[hold];
            hold.stop = deadline.map(|deadline| hold.stop.unwrap_or(0).max(start + deadline));
        }
        let all = &self.all;
        self.holds.retain(|number, hold| seen.get(number) == Some(&all[*hold].epoch));
    }

    /// A reply to a read or a heartbeat.
    fn take(&mut self, world: &World, taken: &Reply) {
        let reply = &taken.reply;
        self.lists(world, taken.start, reply);
        for (number, stored) in taken.opts["checkpoints"].as_object().into_iter().flatten() {
            let number: usize = number.parse().expect("a partition");
            if let Some(hold) = self.holds.get(&number).map(|hold| &mut self.all[*hold])
                && stored["epoch"] == json!(hold.epoch)
            {
                hold.stored = hold.stored.max(stored["position"].as_i64().expect("a position"));
            }
        }
        if !taken.is_read {
            return;
        }
        let lists = ["assigned", "revoking"].into_iter().flat_map(|list| reply[list].as_array().expect("a list"));
        let epochs: BTreeMap<usize, i64> = lists
            .map(|entry| (entry["partition"].as_u64().expect("one") as usize, entry["epoch"].as_i64().expect("one")))
            .collect();
        for (number, upto) in reply["upTo"].as_object().expect("an object") {
            let number: usize = number.parse().expect("a partition");
            let Some(hold) = self.holds.get(&number).copied() else { continue };
            let (epoch, is_released) = (self.all[hold].epoch, self.all[hold].released);
            if epochs.get(&number) == Some(&epoch) && !is_released && !taken.dropped.contains(&number) {
                self.take_page(world, taken, hold, upto.as_i64().expect("a position"));
            }
        }
    }

    /// What a read brings of one partition.
    fn take_page(&mut self, world: &World, taken: &Reply, hold: usize, upto: i64) {
        let (parked_since, dropping) = (&self.parks[taken.mark.min(self.parks.len())..], &self.dropping);
        let hold = &mut self.all[hold];
        let of_hold = |list: &str| {
            let rows = taken.reply[list].as_array().expect("a list").iter();
            rows.filter(|row| row[8] == json!(hold.number)).cloned().collect::<Vec<Value>>()
        };
        let (messages, retries) = (of_hold("messages"), of_hold("retries"));
        let after = taken.opts["after"].get(hold.number.to_string());
        let before = after.map_or(hold.stored, |after| after["position"].as_i64().expect("a position"));
        if upto > hold.read_to {
            if before > hold.read_to {
                return;
            }
            let in_hand = |row: &Value| InHand {
                at: row[4].as_i64().expect("a position"),
                stream: row[1].as_str().expect("a stream").to_owned(),
            };
            let mut page: Vec<InHand> = messages.iter().map(in_hand).filter(|m| m.at > hold.read_to).collect();
            hold.read_to = upto;
            // What was parked after this read was sent comes again as a retry.
            let is_parked = |m: &InHand| {
                parked_since.iter().any(|(stream, at, epoch)| *stream == m.stream && m.at > *at && *epoch == hold.epoch)
            };
            page.retain(|m| world.literal("keep_parked") || !is_parked(m));
            page.retain(|m| !world.literal("drop_until_flowing") || !dropping.contains(&m.stream));
            hold.queue.extend(page);
        }
        for row in &retries {
            let stream = row[1].as_str().expect("a stream").to_owned();
            let number = |at: usize| row[at].as_i64().expect("a number");
            let rows = hold.retries.entry(stream).or_default();
            if rows.iter().all(|row| row.reply == taken.number) || world.literal("retry_again") {
                rows.push(RetryInHand { at: number(4), attempt: number(9), rev: number(10), reply: taken.number });
            }
        }
        let drained = taken.reply["drained"].as_array().expect("a list").iter();
        let is_in_hand = |d: &Value| {
            let stream = d["stream"].as_str().expect("a stream");
            hold.retries.get(stream).is_some_and(|rows| !rows.is_empty())
        };
        hold.drained = drained.filter(|d| d["partition"] == json!(hold.number) && !is_in_hand(d)).cloned().collect();
    }

    // ---- handling

    fn work(&mut self, world: &mut World) -> Result<(), Stop> {
        let mut holds: Vec<usize> =
            self.holds.values().copied().filter(|hold| self.may_act(world, &self.all[*hold])).collect();
        world.dice.shuffle(&mut holds);
        for hold in holds {
            let held = &mut self.all[hold];
            if !world.is_calm && world.dice.chance(world.habits.slow) {
                held.busy = world.now + world.dice.range(300, 2500); // a handler that takes longer than a session
            }
            if held.busy > world.now && !world.is_calm {
                continue;
            }
            if let Some(drained) = held.drained.pop() {
                let number = |name: &str| drained[name].as_i64().expect("a number");
                let stream = drained["stream"].as_str().expect("a stream").to_owned();
                return self.settle(world, hold, stream, number("position"), number("rev"));
            }
            let retried: Vec<String> =
                held.retries.iter().filter(|(_, rows)| !rows.is_empty()).map(|(stream, _)| stream.clone()).collect();
            if !retried.is_empty() && world.dice.chance(0.5) {
                let stream = world.dice.choose(&retried);
                let retry = held.retries[&stream][0].clone();
                if self.stalls(world, Pending::Retry(hold, stream.clone(), retry.clone())) {
                    return Ok(());
                }
                return self.go_retry(world, hold, &stream, &retry);
            }
            if let Some(first) = held.queue.first() {
                let mut message = first.clone();
                if !world.habits.is_atomic && world.dice.chance(0.5) {
                    // Concurrently by stream.
                    let stream = world.dice.choose(&held.queue).stream;
                    let first = held.queue.iter().find(|m| m.stream == stream);
                    message = first.expect("it is in the queue").clone();
                }
                if self.stalls(world, Pending::Message(hold, message.clone())) {
                    return Ok(());
                }
                return self.go_message(world, hold, &message);
            }
        }
        Ok(())
    }

    /// A stall between the check of the clock and the act.
    fn stalls(&mut self, world: &mut World, then: Pending) -> bool {
        if world.is_calm || !world.dice.chance(world.habits.stall) {
            return false;
        }
        self.stalled = world.now + world.dice.range(200, 3000);
        world.say(|| format!("{} stalls in the act", self.label));
        self.pending = Some(then);
        true
    }

    /// Repeats a call until a reply comes, as long as the member lives.
    fn repeat(&mut self, world: &mut World, act: Act) -> Result<(), Stop> {
        self.pending = Some(Pending::Repeat(act.clone()));
        self.once(world, &act)
    }

    fn once(&mut self, world: &mut World, act: &Act) -> Result<(), Stop> {
        let result = match act {
            Act::Settle { hold, stream, position, rev } => self.go_settle(world, *hold, stream, *position, *rev),
            Act::Park { hold, message, opts } => self.go_park(world, *hold, message, opts),
            Act::Commit { hold, done, message, options } => self.go_commit(world, *hold, done, message, options),
        };
        if !matches!(result, Err(Stop::Timeout)) {
            self.pending = None;
        }
        result
    }

    fn go_message(&mut self, world: &mut World, hold: usize, message: &InHand) -> Result<(), Stop> {
        self.pending = None;
        if world.fails(message.at) {
            return self.park(world, hold, message, 1);
        }
        if world.habits.is_atomic {
            let form = json!({ "position": message.at });
            return self.commit(world, hold, message.at, "checkpoint", form, Done::Message(message.clone()));
        }
        world.act(&self.label, &self.all[hold], message)?;
        self.all[hold].queue.retain(|m| m != message);
        Ok(())
    }

    fn go_retry(&mut self, world: &mut World, hold: usize, stream: &str, retry: &RetryInHand) -> Result<(), Stop> {
        self.pending = None;
        let message = InHand { at: retry.at, stream: stream.to_owned() };
        if world.fails(retry.at) {
            return self.park(world, hold, &message, retry.attempt);
        }
        if world.habits.is_atomic {
            self.drop_reads(self.all[hold].number);
            let form = json!({ "stream": stream, "position": retry.at, "readTo": self.all[hold].read_to });
            return self.commit(world, hold, retry.at, "handled", form, Done::Retry(stream.to_owned()));
        }
        world.act(&self.label, &self.all[hold], &message)?;
        self.settle(world, hold, stream.to_owned(), retry.at, retry.rev)
    }

    /// No read of the partition is under way, or its reply is dropped.
    fn drop_reads(&mut self, number: usize) {
        for reply in &mut self.replies {
            reply.dropped.insert(number);
        }
    }

    fn settle(&mut self, world: &mut World, hold: usize, stream: String, position: i64, rev: i64) -> Result<(), Stop> {
        self.drop_reads(self.all[hold].number);
        self.repeat(world, Act::Settle { hold, stream, position, rev })
    }

    /// Whether the member still has a hold.
    fn has(&self, hold: usize) -> bool {
        self.holds.get(&self.all[hold].number) == Some(&hold)
    }

    fn go_settle(&mut self, world: &mut World, hold: usize, stream: &str, position: i64, rev: i64) -> Result<(), Stop> {
        if !self.has(hold) {
            return Ok(());
        }
        let held = &self.all[hold];
        let opts = json!({
            "partition": held.number, "epoch": held.epoch, "stream": stream, "position": position,
            "readTo": held.read_to, "rev": rev,
        });
        let reply = self.call(world, "group.handled", opts)?;
        let held = &mut self.all[hold];
        let rows = held.retries.entry(stream.to_owned()).or_default();
        rows.retain(|row| row.at > position);
        if let Some(rev) = reply.get("rev").and_then(Value::as_i64) {
            rows.iter_mut().for_each(|row| row.rev = rev);
        }
        if reply["flowing"] == json!(true) {
            self.dropping.remove(stream);
            held.retries.remove(stream); // what is left was skipped
        }
        Ok(())
    }

    fn park(&mut self, world: &mut World, hold: usize, message: &InHand, attempt: i64) -> Result<(), Stop> {
        world.say(|| format!("{} fails at {} {}", self.label, message.at, message.stream));
        *world.bad.get_mut(&message.at).expect("it fails") -= 1;
        let held = &self.all[hold];
        let mut opts =
            json!({ "partition": held.number, "epoch": held.epoch, "position": message.at, "attempt": attempt });
        if world.dice.chance(0.7) {
            opts["retryInMs"] = json!(world.dice.choose(&[0, 50, 500]));
        }
        self.repeat(world, Act::Park { hold, message: message.clone(), opts })
    }

    fn go_park(&mut self, world: &mut World, hold: usize, message: &InHand, opts: &Value) -> Result<(), Stop> {
        if !self.has(hold) {
            return Ok(());
        }
        let result = self.call(world, "group.park", opts.clone());
        let held = &mut self.all[hold];
        match result {
            Err(Stop::Refused(refused)) if refused.reason() == Some("handled") => {
                held.queue.retain(|m| m != message); // skipped meanwhile
                if let Some(rows) = held.retries.get_mut(&message.stream) {
                    rows.retain(|row| row.at > message.at);
                }
                return Ok(());
            }
            result => result?,
        };
        held.queue.retain(|m| m.stream != message.stream);
        held.retries.remove(&message.stream);
        self.parks.push((message.stream.clone(), message.at, held.epoch));
        self.dropping.insert(message.stream.clone());
        Ok(())
    }

    /// The effect and the group's half in one commit; with an id of its own or without, repeated until a reply comes.
    fn commit(
        &mut self,
        world: &mut World,
        hold: usize,
        at: i64,
        kind: &str,
        mut form: Value,
        done: Done,
    ) -> Result<(), Stop> {
        let held = &self.all[hold];
        (form["group"], form["partition"], form["epoch"]) = (json!("g"), json!(held.number), json!(held.epoch));
        let options = json!({ kind: form });
        let mut message = json!({ "type": "Done", "data": { "of": at, "epoch": held.epoch } });
        if world.dice.chance(0.5) {
            message["id"] = json!(world.dice.uuid());
        }
        self.repeat(world, Act::Commit { hold, done, message, options })
    }

    fn go_commit(
        &mut self,
        world: &mut World,
        hold: usize,
        done: &Done,
        message: &Value,
        options: &Value,
    ) -> Result<(), Stop> {
        let args = vec![json!("out"), json!([message]), options.clone()];
        if let Err(stop) = world.call("stream.append", args) {
            let Stop::Refused(refused) = &stop else { return Err(stop) };
            self.refused(world, refused)?;
            match (refused.reason(), done) {
                (Some("parked"), Done::Message(message)) => {
                    self.all[hold].queue.retain(|m| m.stream != message.stream);
                    return Ok(());
                }
                (Some("handled"), _) => {}
                _ => return Err(stop),
            }
        }
        let held = &mut self.all[hold];
        match done {
            Done::Message(message) => held.queue.retain(|m| m != message),
            Done::Retry(stream) => {
                if let Some(rows) = held.retries.get_mut(stream).filter(|rows| !rows.is_empty()) {
                    rows.remove(0);
                }
            }
        }
        Ok(())
    }
}
