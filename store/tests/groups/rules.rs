//! The rules of the store under test: over tables in memory, as a backend keeps them, and with the requests and replies
//! of the wire.
//!
//! Nothing of a group outlives a call but its rows: each call loads them, decides, and stores what the rules say was
//! changed. A change that the rules forget to name is lost, and the replies differ from then on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use eventodb_protocol::group::Epoch;
use eventodb_protocol::request::group::{self as request, GroupForm};
use eventodb_protocol::request::{Call, Options};
use eventodb_protocol::{Error, Limits, Timestamp};
use eventodb_store::groups::{
    Asked, AuditEntry, Carried, Changed, Definition, Failed, Filled, Gone, Group, Known, Member, MemberId, Moment,
    Parked, Partition, Reading, Refusal, ResetPoint, Settings, SkippedMessages, Span, Stored,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::pair::{Failure, Subject};

const APPEND_OPTIONS: &[&str] = &["expectedVersion", "checkpoint", "handled", "fence"];

/// A namespace in memory.
#[derive(Default)]
pub(crate) struct Rules {
    log: Log,
    groups: BTreeMap<String, Tables>,
    last_epoch: Epoch,
    members_made: u64,
}

#[derive(Default)]
struct Log {
    messages: Vec<Message>,
    streams: HashMap<String, Vec<i64>>,
    ids: HashMap<String, i64>,
}

#[derive(Clone)]
struct Message {
    id: String,
    stream: String,
    kind: String,
    position: usize,
    at: i64,
    data: Value,
    metadata: Value,
    time: i64,
}

/// The rows of one group.
struct Tables {
    definition: Arc<Definition>,
    settings: Settings,
    partitions: BTreeMap<u32, Partition>,
    members: BTreeMap<MemberId, Member>,
    gone: BTreeMap<Arc<str>, Gone>,
    parked: BTreeMap<Arc<str>, Parked>,
    carried: BTreeMap<i64, Carried>,
    audit: Vec<AuditEntry>,
}

type Reply = Result<Value, Failure>;

impl Subject for Rules {
    fn tick(&mut self, now: i64) {
        let is_due = |tables: &Tables| tables.next_end().is_some_and(|end| end <= now);
        let due = self.groups.iter().filter(|(_, tables)| is_due(tables)).map(|(name, _)| name.clone());
        for name in due.collect::<Vec<_>>() {
            let expired = self.decide(now, &name, |group, at, _| {
                assert!(group.next_end().is_some_and(|end| end <= now), "the rows say so");
                group.expire(at);
                Ok(())
            });
            expired.expect("the group exists");
        }
    }

    fn call(&mut self, now: i64, method: &str, args: &[Value]) -> Reply {
        let body = Value::from([vec![json!(method)], args.to_vec()].concat()).to_string();
        let mut call = Call::parse(&body).expect("a call is an array with a method");
        self.answer(now, method, &mut call)
    }
}

impl Rules {
    fn answer(&mut self, now: i64, method: &str, call: &mut Call<'_>) -> Reply {
        match method {
            "stream.write" => {
                let written = self.append(now, call, true)?;
                return Ok(
                    json!({ "position": written["lastPosition"], "globalPosition": written["lastGlobalPosition"] }),
                );
            }
            "stream.append" => return self.append(now, call, false),
            "group.list" => {
                let listed = self.groups.values().map(|tables| Group::load(tables.stored()).listed());
                return Ok(json!(listed.collect::<Vec<_>>()));
            }
            _ => {}
        }
        let name = request::group_name(call, &Limits::default())?;
        if method == "group.create" {
            return self.create(now, &name, call);
        }
        if !self.groups.contains_key(&name) {
            return Err(failure("GROUP_NOT_FOUND", "there is no such group", Value::Null));
        }
        match method {
            "group.join" | "group.heartbeat" | "group.leave" => self.answer_member(now, method, &name, call),
            "group.read" => self.read(now, &name, call),
            "group.park" | "group.handled" | "group.parked" | "group.retry" | "group.skip" => {
                self.answer_parked(now, method, &name, call)
            }
            "group.reset" => self.reset(now, &name, call),
            _ => self.answer_operator(now, method, &name, call),
        }
    }

    /// Loads a group's rows, decides, and stores what changed, also if the call is refused.
    fn decide<T>(
        &mut self,
        now: i64,
        name: &str,
        decision: impl FnOnce(&mut Group, &mut Moment, &Log) -> Result<T, Refusal>,
    ) -> Result<T, Failure> {
        let mut at = self.moment(now);
        let tables = self.groups.get_mut(name).expect("the caller looked");
        let mut group = Group::load(tables.stored());
        let result = decision(&mut group, &mut at, &self.log);
        tables.store(group);
        self.last_epoch = at.last_epoch;
        result.map_err(Failure::from)
    }

    fn moment(&self, now: i64) -> Moment {
        Moment { now, head: self.log.head(), random: 0, last_epoch: self.last_epoch, home: None, token: None }
    }

    fn create(&mut self, now: i64, name: &str, call: &mut Call<'_>) -> Reply {
        let new = request::CreateGroup::parse(call, &Limits::default())?;
        let mut at = self.moment(now);
        if let Some(known) = self.groups.get(name) {
            return to_reply(Group::load(known.stored()).create_again(&new, &at)?);
        }
        let group = Group::create(name, &new, self.groups.len(), &mut at)?;
        let reply = to_reply(group.summary(&at));
        self.groups.insert(name.to_owned(), Tables::created(group));
        self.last_epoch = at.last_epoch;
        reply
    }

    fn answer_operator(&mut self, now: i64, method: &str, name: &str, call: &mut Call<'_>) -> Reply {
        match method {
            "group.update" => {
                let update = request::UpdateGroup::parse(call)?;
                to_reply(self.decide(now, name, |group, at, _| Ok(group.update(&update, at)))?)
            }
            "group.pause" | "group.resume" => {
                let is_paused = method == "group.pause";
                to_reply(self.decide(now, name, |group, at, _| Ok(group.set_paused(is_paused, at)))?)
            }
            "group.resize" => {
                let resize = request::ResizeGroup::parse(call)?;
                to_reply(self.decide(now, name, |group, at, _| group.resize(resize, at))?)
            }
            "group.delete" => {
                let deleted = self.decide(now, name, |group, at, _| Ok(group.deleted(at)))?;
                self.groups.remove(name);
                to_reply(deleted)
            }
            "group.status" => to_reply(self.decide(now, name, |group, at, log| {
                let mut waiting = group.waits();
                for m in log.above(waiting.begins_above()) {
                    waiting.offer(m.at, &m.stream, &m.kind);
                }
                for position in waiting.oldest() {
                    waiting.was_written(position, log.at(position).time);
                }
                Ok(waiting.status(at))
            })?),
            "group.audit" => self.audit(name, call),
            "group.wait" => {
                let wait = request::Wait::parse(call, &Limits::default())?;
                to_reply(self.decide(now, name, |group, at, log| {
                    let mut messages = log.messages.iter();
                    let is_waiting = messages.any(|m| group.keeps_waiting(&wait, m.at, &m.stream, &m.kind));
                    let left = log.left_of(group, &group.wait_spans(&wait));
                    Ok(group.waited(&wait, is_waiting, &left, at))
                })?)
            }
            _ => Err(failure("METHOD_NOT_FOUND", method, Value::Null)),
        }
    }

    fn audit(&self, name: &str, call: &mut Call<'_>) -> Reply {
        let page = request::AuditPage::parse(call)?;
        let newest_first = self.groups[name].audit.iter().rev();
        let row = |entry: &AuditEntry| {
            json!({
                "id": entry.id, "at": time(entry.at), "tokenId": entry.token, "act": entry.act, "details": entry.details,
            })
        };
        let rows = newest_first.filter(|entry| entry.id < page.below).take(page.limit);
        Ok(rows.map(row).collect())
    }

    fn answer_member(&mut self, now: i64, method: &str, name: &str, call: &mut Call<'_>) -> Reply {
        if method == "group.join" {
            let join = request::Join::parse(call, &Limits::default())?;
            self.members_made += 1;
            let id: MemberId = format!("member-{}", self.members_made).into();
            return to_reply(self.decide(now, name, |group, at, _| group.join(&join, id, at))?);
        }
        let member = call.string("member")?.into_owned();
        if method == "group.leave" {
            let leave = request::Leave::parse(call)?;
            self.decide(now, name, |group, at, _| group.leave(&member, &leave, at))?;
            return Ok(json!({}));
        }
        let heartbeat = request::MemberCall::parse(call)?;
        to_reply(self.decide(now, name, |group, at, _| {
            let reply = group.heartbeat(&member, &heartbeat, at)?;
            let waited = group.look_again(&member, reply.fenced.clone(), at)?;
            assert_eq!(waited, reply, "nothing has changed while it waited");
            Ok(reply)
        })?)
    }

    fn read(&mut self, now: i64, name: &str, call: &mut Call<'_>) -> Reply {
        let member = call.string("member")?.into_owned();
        let read = request::ReadGroup::parse(call)?;
        let fenced = self.decide(now, name, |group, at, _| group.begin_read(&member, &read, at))?;
        to_reply(self.decide(now, name, |group, at, log| {
            let reading = group.look(&member, &read, &fenced, at)?;
            let left = log.left_of(group, &group.retry_spans(&reading, at));
            let handed_out = group.hand_out(&reading, &left, at);
            let Filled { messages, up_to, .. } = log.page(group, &reading, &handed_out);
            let messages = messages.into_iter().map(|(partition, m): (u32, &Message)| m.row(&[partition.into()]));
            let retries = handed_out.retries.iter();
            let retries = retries.map(|r| log.at(r.position).row(&[r.partition.into(), r.attempt, r.rev])).collect();
            Ok(group.read_reply(&reading, messages.collect(), retries, handed_out.drained, &up_to, at))
        })?)
    }

    fn answer_parked(&mut self, now: i64, method: &str, name: &str, call: &mut Call<'_>) -> Reply {
        let limits = Limits::default();
        match method {
            "group.park" => {
                let member = call.string("member")?.into_owned();
                let park = request::Park::parse(call)?;
                to_reply(self.decide(now, name, |group, at, log| {
                    let failed = log.failed(group.definition(), park.position);
                    group.park(&member, &park, failed.as_ref(), at)
                })?)
            }
            "group.handled" => {
                let member = call.string("member")?.into_owned();
                let handled = request::Handled::parse(call, &limits)?;
                to_reply(self.decide(now, name, |group, at, log| {
                    let span = group.handled_span(&handled);
                    let is_left = span.is_some_and(|span| !log.left(group.definition(), &span).is_empty());
                    group.handled(&member, &handled, is_left, at)
                })?)
            }
            "group.parked" => {
                let page = request::ParkedPage::parse(call, &limits)?;
                to_reply(self.decide(now, name, |group, _, _| Ok(group.parked(&page)))?)
            }
            "group.retry" => {
                let retry = request::Retry::parse(call, &limits)?;
                to_reply(self.decide(now, name, |group, at, _| Ok(group.retry(&retry, at)))?)
            }
            _ => {
                let skip = request::Skip::parse(call, &limits)?;
                to_reply(self.decide(now, name, |group, at, log| {
                    let span = group.skip_span(&skip, at)?;
                    let first = span.map_or_else(Vec::new, |span| log.left(group.definition(), &span));
                    Ok(group.skip(&skip, SkippedMessages { count: first.len(), first }, at))
                })?)
            }
        }
    }

    fn reset(&mut self, now: i64, name: &str, call: &mut Call<'_>) -> Reply {
        let reset = request::ResetGroup::parse(call, &Limits::default())?;
        let source = match &reset.to {
            request::ResetTo::Group(other) => match self.groups.get(other) {
                Some(tables) => Some(Group::load(tables.stored())),
                None => return Err(failure("GROUP_NOT_FOUND", "there is no such group", Value::Null)),
            },
            _ => None,
        };
        to_reply(self.decide(now, name, |group, at, log| {
            let to = match (&reset.to, &source) {
                (_, Some(source)) => ResetPoint::Group(source),
                (request::ResetTo::Position(position), _) => ResetPoint::Position(*position),
                (request::ResetTo::Time(time), _) => ResetPoint::Position(log.before(*time)),
                _ => ResetPoint::Position(at.head),
            };
            let mut plan = group.plan_reset(reset.partitions.as_deref(), to, at)?;
            for m in log.above(0) {
                plan.offer(m.at, &m.stream, &m.kind);
            }
            let reply = plan.reply();
            if !reset.dry_run {
                group.carry_out(plan, at);
            }
            Ok(reply)
        })?)
    }

    fn append(&mut self, now: i64, call: &mut Call<'_>, is_single: bool) -> Reply {
        let stream = call.string("stream")?.into_owned();
        let given: Value = serde_json::from_str(call.required("message")?).expect("JSON");
        let messages = if is_single { vec![given] } else { given.as_array().expect("a list").clone() };
        let options = call.options(APPEND_OPTIONS)?;
        if let Some(written) = self.log.repeated(&stream, &messages)? {
            return Ok(written);
        }
        let form = GroupForm::parse(&options, &Limits::default())?;
        check_version(&options, self.log.streams.get(&stream).map_or(0, Vec::len))?;
        if let Some(form) = form {
            self.commit(now, &form)?;
        }
        Ok(self.log.append(&stream, &messages, now))
    }

    fn commit(&mut self, now: i64, form: &GroupForm) -> Result<(), Failure> {
        if !self.groups.contains_key(&form.group) {
            return Err(failure("GROUP_NOT_FOUND", "there is no such group", Value::Null));
        }
        self.decide(now, &form.group, |group, at, log| {
            let known = match group.commit_asks(&form.form) {
                Asked::Nothing => Known::Nothing,
                Asked::Message(position) => log
                    .find(position)
                    .map_or(Known::Nothing, |message| Known::Message { stream: &message.stream, kind: &message.kind }),
                Asked::Span(span) => Known::IsLeft(!log.left(group.definition(), &span).is_empty()),
            };
            group.commit(&form.form, known, at)
        })
    }
}

impl Tables {
    fn created(group: Group) -> Self {
        let definition = group.definition().clone();
        let changes = group.changes();
        let mut tables = Self {
            definition,
            settings: changes.settings.clone().expect("a new group's row is to be stored"),
            partitions: BTreeMap::new(),
            members: BTreeMap::new(),
            gone: BTreeMap::new(),
            parked: BTreeMap::new(),
            carried: BTreeMap::new(),
            audit: Vec::new(),
        };
        apply(&mut tables.partitions, changes.partitions);
        apply(&mut tables.carried, changes.carried);
        tables
    }

    /// What a backend finds by an index: the next end of a lease or a deadline.
    fn next_end(&self) -> Option<i64> {
        let deadlines = self.partitions.values().filter_map(|partition| partition.owner.as_ref()?.give_back_by);
        deadlines.chain(self.members.values().map(|member| member.lease_end)).min()
    }

    fn stored(&self) -> Stored {
        let (definition, settings) = (self.definition.clone(), self.settings.clone());
        Stored {
            definition,
            settings,
            partitions: rows(&self.partitions),
            members: rows(&self.members),
            gone: rows(&self.gone),
            parked: rows(&self.parked),
            carried: rows(&self.carried),
        }
    }

    fn store(&mut self, group: Group) {
        let changes = group.changes();
        if let Some(settings) = changes.settings {
            self.settings = settings;
        }
        apply(&mut self.partitions, changes.partitions);
        apply(&mut self.members, changes.members);
        apply(&mut self.gone, changes.gone);
        apply(&mut self.parked, changes.parked);
        apply(&mut self.carried, changes.carried);
        self.audit.extend(changes.audit);
    }
}

fn rows<K: Clone, V: Clone>(table: &BTreeMap<K, V>) -> Vec<(K, V)> {
    table.iter().map(|(key, row)| (key.clone(), row.clone())).collect()
}

fn apply<K: Ord, V>(table: &mut BTreeMap<K, V>, changed: Changed<K, V>) {
    table.extend(changed.save);
    for key in changed.forget {
        table.remove(&key);
    }
}

impl Log {
    fn head(&self) -> i64 {
        self.messages.len() as i64
    }

    fn at(&self, position: i64) -> &Message {
        &self.messages[position as usize - 1]
    }

    fn find(&self, position: i64) -> Option<&Message> {
        (1..=self.head()).contains(&position).then(|| self.at(position))
    }

    fn above(&self, position: i64) -> &[Message] {
        &self.messages[position as usize..]
    }

    /// The position before the first message at or after a time.
    fn before(&self, time: Timestamp) -> i64 {
        let first = self.messages.iter().find(|message| message.time * 1000 >= time.as_micros());
        first.map_or(self.head(), |message| message.at - 1)
    }

    fn left(&self, definition: &Definition, span: &Span) -> Vec<i64> {
        let all = self.streams.get(&*span.stream).into_iter().flatten().copied();
        let wanted = all.filter(|at| span.above < *at && *at <= span.upto);
        let ours = wanted.filter(|at| definition.reads(&span.stream, &self.at(*at).kind));
        ours.take(span.limit).collect()
    }

    fn left_of(&self, group: &Group, spans: &[Span]) -> Vec<Vec<i64>> {
        spans.iter().map(|span| self.left(group.definition(), span)).collect()
    }

    fn failed(&self, definition: &Definition, position: i64) -> Option<Failed> {
        let message = self.find(position)?;
        let stream: Arc<str> = message.stream.as_str().into();
        let span = Span { stream: stream.clone(), above: 0, upto: position - 1, limit: usize::MAX };
        let previous = self.left(definition, &span).last().copied().unwrap_or(0);
        Some(Failed { stream, kind: message.kind.as_str().into(), previous })
    }

    fn page<'a>(
        &'a self,
        group: &Group,
        reading: &Reading,
        handed_out: &eventodb_store::groups::HandedOut,
    ) -> Filled<&'a Message> {
        let mut page = group.page(reading, handed_out);
        let mut covered = 0;
        while let Some(above) = page.wanted_above(covered).filter(|above| *above < self.head()) {
            covered = self.head();
            if let Some(message) = self.above(above).first() {
                page.offer(message.at, &message.stream, &message.kind, 1, || message);
                covered = message.at;
            }
        }
        page.finish(covered)
    }

    /// The original result of an append that was written before.
    fn repeated(&self, stream: &str, messages: &[Value]) -> Result<Option<Value>, Failure> {
        let known = |message: &Value| self.ids.get(message.get("id")?.as_str()?).copied();
        let known: Vec<i64> = messages.iter().filter_map(known).collect();
        if known.is_empty() {
            return Ok(None);
        }
        let is_same = |(at, message): (&i64, &Value)| {
            let written = self.at(*at);
            written.stream == stream && written.kind == message["type"] && written.data == message["data"]
        };
        let is_run = known.windows(2).all(|pair| pair[1] == pair[0] + 1);
        if known.len() != messages.len() || !is_run || !known.iter().zip(messages).all(is_same) {
            return Err(failure("MESSAGE_ID_CONFLICT", "the id is taken", Value::Null));
        }
        Ok(Some(self.written(known[0], known[known.len() - 1])))
    }

    fn append(&mut self, stream: &str, messages: &[Value], now: i64) -> Value {
        let first = self.head() + 1;
        for message in messages {
            let at = self.head() + 1;
            let positions = self.streams.entry(stream.to_owned()).or_default();
            let id = message.get("id").and_then(Value::as_str).map_or_else(|| format!("made-{at}"), str::to_owned);
            self.messages.push(Message {
                id: id.clone(),
                stream: stream.to_owned(),
                kind: message["type"].as_str().expect("a type").to_owned(),
                position: positions.len(),
                at,
                data: message["data"].clone(),
                metadata: message.get("metadata").cloned().unwrap_or(Value::Null),
                time: now,
            });
            positions.push(at);
            self.ids.insert(id, at);
        }
        self.written(first, self.head())
    }

    fn written(&self, first: i64, last: i64) -> Value {
        json!({
            "firstPosition": self.at(first).position, "lastPosition": self.at(last).position,
            "firstGlobalPosition": first, "lastGlobalPosition": last,
        })
    }
}

impl Message {
    fn row(&self, behind: &[i64]) -> Value {
        let mut row = vec![
            json!(self.id),
            json!(self.stream),
            json!(self.kind),
            json!(self.position),
            json!(self.at),
            self.data.clone(),
            self.metadata.clone(),
            json!(time(self.time)),
        ];
        row.extend(behind.iter().map(|number| json!(number)));
        Value::Array(row)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        failure(error.code.as_str(), error.message, Value::Null)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let (code, details) = match refusal {
            Refusal::Invalid(_) => ("INVALID_REQUEST", Value::Null),
            Refusal::Exists { categories, types } => {
                let mut differing = json!({});
                for (name, names) in [("categories", categories), ("types", types)] {
                    if let Some(names) = names {
                        differing[name] = json!(names);
                    }
                }
                ("GROUP_EXISTS", differing)
            }
            Refusal::Resizing | Refusal::Carrying => ("GROUP_BUSY", Value::Null),
            Refusal::Fenced { reason, partition } => {
                ("FENCED", json!(eventodb_protocol::group::Fenced { reason, partition }))
            }
            Refusal::ParkFull(_) => ("PARK_FULL", Value::Null),
            Refusal::TooMany { .. } => ("OVERLOADED", Value::Null),
        };
        failure(code, message, details)
    }
}

fn failure(code: &str, message: impl Into<String>, details: Value) -> Failure {
    Failure { code: code.to_owned(), message: message.into(), details }
}

fn to_reply(reply: impl Serialize) -> Reply {
    Ok(serde_json::to_value(reply).expect("replies are JSON"))
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_micros(ms * 1000)
}

fn check_version(options: &Options<'_>, count: usize) -> Result<(), Failure> {
    let actual = count as i64 - 1;
    match options.integer("expectedVersion")? {
        Some(expected) if expected != actual => Err(failure(
            "STREAM_VERSION_CONFLICT",
            "another version",
            json!({ "expected": expected, "actual": actual }),
        )),
        _ => Ok(()),
    }
}
