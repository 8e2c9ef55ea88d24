//! Reading and acting (3.3): pages, parked streams, what is handled.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::checks::{
    Answer, Refused, SAFE, fenced, fenced_in, invalid, need, number, number_or, options, positions, text,
};
use super::state::{Group, Parked, partition_of};
use super::{Model, time};

const READ: &[&str] = &["batchSize", "waitMs", "partitions", "after", "checkpoints", "released"];

impl Model {
    pub(super) fn read(&mut self, g: &mut Group, member: &str, opts: Option<&Value>) -> Answer {
        let opts = options(opts, READ)?;
        number_or(&opts, "waitMs", 0, 600_000, 0)?;
        number_or(&opts, "batchSize", -1, 10_000, 100)?;
        let after = positions(&opts, "after")?;
        self.member(g, member)?;
        for (n, (epoch, position)) in &after {
            if self.is_current(g, *n, *epoch) {
                self.position(*position, "after")?;
            }
        }
        let stale = self.store(g, member, &opts)?;
        self.look(g, member, &opts, stale)
    }

    /// What a read gives, without its first half: a waiting read repeats this.
    fn look(&self, g: &mut Group, member: &str, opts: &Map<String, Value>, mut stale: BTreeSet<usize>) -> Answer {
        if g.member(member).is_none() {
            return Err(fenced(g.gone.get(member).map_or("unknown", |(reason, _)| reason)));
        }
        let batch = match number_or(opts, "batchSize", -1, 10_000, 100)? {
            -1 => 10_000,
            batch => batch as usize,
        };
        let after = positions(opts, "after")?;
        stale.extend(after.iter().filter(|(n, (epoch, _))| !self.is_current(g, **n, *epoch)).map(|(n, _)| *n));
        let own: Vec<usize> = g.parts.iter().filter(|p| p.owner.as_deref() == Some(member)).map(|p| p.number).collect();
        let begins = |n: usize| match after.get(&n) {
            Some((_, position)) if !stale.contains(&n) => g.parts[n].checkpoint.max(*position),
            _ => g.parts[n].checkpoint,
        };
        let start: BTreeMap<usize, i64> = own.iter().map(|n| (*n, begins(*n))).collect();
        let asked = opts.get("partitions").and_then(Value::as_array);
        let is_open = |n: &usize| {
            g.parts[*n].deadline.is_none() && !g.paused && asked.is_none_or(|asked| asked.contains(&json!(*n)))
        };
        let open: Vec<usize> = own.into_iter().filter(is_open).collect();
        let (retries, drained) = self.parked_work(g, &open, &start, batch);
        let pages: BTreeMap<usize, Vec<i64>> = open.iter().map(|n| (*n, self.page(g, *n, start[n], batch))).collect();
        let wanted = pages.iter().map(|(n, page)| (*n, page.len())).collect();
        let taken = shares(&wanted, batch - retries.len());
        let (mut messages, mut upto) = (Vec::new(), start.clone());
        for (n, page) in &pages {
            messages.extend(page.iter().take(taken[n]).map(|at| self.at(*at).row(&[*n as i64])));
            let complete = if batch > 0 { self.head() } else { start[n] };
            upto.insert(*n, page.get(taken[n]).map_or(complete, |at| at - 1));
            if self.fault("upto_past_unread") && !page.is_empty() {
                upto.insert(*n, self.head());
            }
        }
        let reply = self.membership(g, member);
        Ok(json!({
            "messages": messages, "retries": retries, "drained": drained, "upTo": upto, "sessionMs": reply["sessionMs"],
            "generation": reply["generation"], "assigned": reply["assigned"], "revoking": reply["revoking"],
            "fenced": stale,
        }))
    }

    /// The next messages of a partition, one more than asked for, so that the caller sees whether the page was cut.
    fn page(&self, g: &Group, n: usize, start: i64, batch: usize) -> Vec<i64> {
        (start + 1..=self.head()).filter(|at| self.is_wanted(g, &g.parts[n], self.at(*at))).take(batch + 1).collect()
    }

    /// Retries that are due, and parked streams with nothing left. Either is told once and again after a session.
    fn parked_work(
        &self,
        g: &mut Group,
        parts: &[usize],
        start: &BTreeMap<usize, i64>,
        batch: usize,
    ) -> (Vec<Value>, Vec<Value>) {
        let (mut retries, mut drained) = (Vec::new(), Vec::new());
        let mut room = if batch > 0 { (batch / 2).max(1) } else { 0 };
        if self.literal("half_batch") {
            room = batch / 2;
        }
        let mut rows: Vec<String> = g.parked.keys().cloned().collect();
        rows.sort_by_key(|stream| g.parked[stream].due.unwrap_or(SAFE));
        for stream in rows {
            let row = g.parked[&stream].clone();
            let (n, known) = (partition_of(&stream, g.parts.len()), self.known(g, &stream));
            if !parts.contains(&n) || row.out && row.due.is_some_and(|due| due > self.now) {
                continue;
            }
            let upto = if self.fault("retries_above_checkpoint") { self.head() } else { known };
            let left = self.left(g, &stream, row.handled, upto);
            let is_due = row.due.is_some_and(|due| due <= self.now);
            let is_below = row.handled <= known || self.literal("unpark_bound");
            if !left.is_empty() && is_due && room > 0 {
                for (i, at) in left.iter().take(room).enumerate() {
                    let attempt = if i == 0 { row.attempts + 1 } else { 1 };
                    retries.push(self.at(*at).row(&[n as i64, attempt, row.rev]));
                }
                room -= room.min(left.len());
            } else if left.is_empty()
                && row.attempts == 0
                && is_below
                && self.left(g, &stream, row.handled, known.max(start[&n])).is_empty()
            {
                drained.push(json!({ "partition": n, "stream": stream, "position": row.handled, "rev": row.rev }));
            } else {
                continue;
            }
            let due = self.now + g.session;
            let row = g.parked.get_mut(&stream).expect("it is there");
            (row.due, row.out) = (Some(due), true);
        }
        (retries, drained)
    }

    /// The partition that a call names, if its epoch is the current one.
    pub(super) fn right(&self, g: &Group, opts: &Map<String, Value>) -> Result<usize, Refused> {
        let n = number(need(opts, "partition")?, "partition", 0, 1023)? as usize;
        let epoch = number(need(opts, "epoch")?, "epoch", 0, SAFE)?;
        if !self.is_current(g, n, epoch) {
            return Err(fenced_in("epoch", n));
        }
        Ok(n)
    }

    pub(super) fn park(&mut self, g: &mut Group, member: &str, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["partition", "epoch", "position", "attempt", "reason", "retryInMs"])?;
        self.member(g, member)?;
        let at = number(need(&opts, "position")?, "position", 0, SAFE)?;
        let unchecked = self.fault("epoch_unchecked_in_park");
        let p = match self.right(g, &opts) {
            Err(_) if unchecked && opts["partition"].as_u64().is_some_and(|n| (n as usize) < g.parts.len()) => {
                opts["partition"].as_u64().unwrap_or_default() as usize
            }
            right => right?,
        };
        let m = (1..=self.head()).contains(&at).then(|| self.at(at).clone());
        let m = m.filter(|m| self.of(g, m) && partition_of(&m.stream, g.parts.len()) == p);
        let m = m.ok_or_else(|| invalid("position is no message of that partition"))?;
        let reason = opts.get("reason").and_then(Value::as_str).unwrap_or_default();
        let reason = reason[..reason.floor_char_boundary(4096)].to_owned();
        let wait = opts.get("retryInMs").map(|value| number(value, "retryInMs", 0, SAFE)).transpose()?;
        let due = wait.map(|wait| self.now + wait);
        let row = g.parked.get(&m.stream).cloned();
        let default = match &row {
            None => 1,
            Some(row) if row.out => row.attempts + 1,
            Some(row) => row.attempts.max(1),
        };
        let attempt = number_or(&opts, "attempt", 1, SAFE, default)?;
        let Some(row) = row else {
            if at <= self.known(g, &m.stream) {
                return Err(fenced_in("handled", p)); // it flows and this one is handled: the member drops it
            }
            if g.parked.len() as i64 >= g.max_parked {
                return Err(Refused::new("PARK_FULL", format!("{} streams are parked", g.max_parked), Value::Null));
            }
            g.last_rev += 1;
            let (rev, since) = (g.last_rev, self.now);
            let stream = m.stream.clone();
            let row = Parked { stream, handled: at - 1, attempts: attempt, reason, since, due, rev, out: false };
            g.parked.insert(m.stream, row);
            return Ok(json!({ "attempts": attempt }));
        };
        if at <= row.handled {
            return Ok(json!({ "attempts": row.attempts })); // a late copy, or skipped meanwhile; it stays parked all the same
        }
        if !self.left(g, &m.stream, row.handled, at - 1).is_empty() {
            return Err(invalid("an earlier message of the parked stream is not handled"));
        }
        if attempt <= row.attempts {
            return Ok(json!({ "attempts": row.attempts })); // a late copy
        }
        let row = g.parked.get_mut(&m.stream).expect("it is there");
        (row.handled, row.attempts, row.reason, row.due, row.out) = (at - 1, attempt, reason, due, false);
        Ok(json!({ "attempts": attempt }))
    }

    pub(super) fn handled(&mut self, g: &mut Group, member: &str, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["partition", "epoch", "stream", "position", "readTo", "rev"])?;
        self.member(g, member)?;
        let p = self.right(g, &opts)?;
        let Some(stream) = self.row_of(g, p, &opts)? else { return Ok(json!({ "flowing": true })) };
        let is_fresh = opts.get("rev") == Some(&json!(g.parked[&stream].rev)) || self.literal("handled_copy");
        let flowing = self.deal(g, p, &stream, &opts, is_fresh)?;
        Ok(json!({ "flowing": flowing, "rev": g.last_rev }))
    }

    /// The parked stream that a call names; none if it is not parked.
    pub(super) fn row_of(&self, g: &Group, p: usize, opts: &Map<String, Value>) -> Result<Option<String>, Refused> {
        let stream = text(need(opts, "stream")?, "stream", 1, 255)?;
        if partition_of(stream, g.parts.len()) != p {
            return Err(invalid("the stream is not of that partition"));
        }
        number(need(opts, "position")?, "position", 0, SAFE)?;
        self.position(number_or(opts, "readTo", 0, SAFE, g.parts[p].checkpoint)?, "readTo")?;
        Ok(g.parked.contains_key(stream).then(|| stream.to_owned()))
    }

    /// The row's messages up to the position are handled. Returns whether the stream flows again: never by a late copy of
    /// a call (not fresh), because its `readTo` may no longer be true.
    pub(super) fn deal(
        &mut self,
        g: &mut Group,
        p: usize,
        stream: &str,
        opts: &Map<String, Value>,
        is_fresh: bool,
    ) -> Result<bool, Refused> {
        let known = self.known(g, stream);
        let position = number(&opts["position"], "position", 0, SAFE)?;
        let read_to = number_or(opts, "readTo", 0, SAFE, g.parts[p].checkpoint)?;
        g.last_rev += 1;
        let rev = g.last_rev;
        let row = g.parked.get_mut(stream).expect("it is parked");
        if position > known.max(row.handled) && !self.literal("unpark_bound") {
            g.last_rev -= 1;
            return Err(invalid("position is above what can have been handed out as a retry"));
        }
        if position > row.handled {
            (row.handled, row.attempts) = (position, 0);
        }
        row.rev = rev;
        let bound = if self.fault("readto_ignored") { known } else { known.max(read_to) };
        let highest = if self.literal("unpark_bound") { bound } else { known };
        let passed = row.attempts == 0 && row.handled <= highest;
        let handled = row.handled;
        if is_fresh && passed && self.left(g, stream, handled, bound).is_empty() {
            g.parked.remove(stream);
            return Ok(true);
        }
        if is_fresh {
            let row = g.parked.get_mut(stream).expect("it is parked");
            (row.due, row.out) = (Some(self.now), false);
        }
        Ok(false)
    }

    pub(super) fn parked(&self, g: &Group, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["limit", "cursor"])?;
        let limit = number_or(&opts, "limit", 1, 1000, 100)? as usize;
        let cursor = opts.get("cursor").and_then(Value::as_str).unwrap_or_default();
        let rows = g.parked.values().filter(|row| row.stream.as_str() > cursor).take(limit);
        let entry = |r: &Parked| {
            json!({
                "stream": r.stream, "partition": partition_of(&r.stream, g.parts.len()), "position": r.handled + 1,
                "attempts": r.attempts, "reason": r.reason, "parkedAt": time(r.since), "retryAt": r.due.map(time),
            })
        };
        Ok(rows.map(entry).collect())
    }

    pub(super) fn retry(&mut self, g: &mut Group, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["stream", "all"])?;
        let all = opts.get("all") == Some(&json!(true));
        if opts.contains_key("stream") == all {
            return Err(invalid("either stream or all"));
        }
        let mut count = 0;
        for row in g.parked.values_mut().filter(|r| all || opts["stream"] == json!(r.stream)) {
            (row.due, row.out) = (Some(self.now), false);
            count += 1;
        }
        Ok(json!({ "streams": count }))
    }

    /// Takes messages as handled. The stream flows again only by its owner, because only the owner knows how far it read.
    pub(super) fn skip(&mut self, g: &mut Group, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["stream", "position", "dryRun"])?;
        let stream = text(need(&opts, "stream")?, "stream", 1, 255)?;
        let to = self.position(number(need(&opts, "position")?, "position", 0, SAFE)?, "position")?;
        let Some(row) = g.parked.get(stream) else { return Ok(json!({ "messages": 0 })) };
        let skipped = self.left(g, stream, row.handled, to);
        if to > row.handled && opts.get("dryRun") != Some(&json!(true)) {
            self.record(g, "skip", &json!({ "stream": stream, "messages": skipped, "count": skipped.len() }));
            let row = g.parked.get_mut(stream).expect("it is parked");
            (row.handled, row.attempts, row.due, row.out) = (to, 0, Some(self.now), false);
            if self.fault("skip_unparks") {
                g.parked.remove(stream);
            }
        }
        Ok(json!({ "messages": skipped.len() }))
    }

    pub(super) fn read_audit(&self, g: &Group, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["limit", "cursor"])?;
        let limit = number_or(&opts, "limit", 1, 1000, 100)? as usize;
        let cursor = number_or(&opts, "cursor", 0, SAFE, SAFE)?;
        let entries = g.audit.iter().filter(|entry| entry["id"].as_i64().is_some_and(|id| id < cursor));
        Ok(entries.take(limit).cloned().collect())
    }

    /// The predicate of `group.wait`; the caller repeats it until it holds or the time is over.
    pub(super) fn wait(&self, g: &Group, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["globalPosition", "stream", "timeoutMs"])?;
        let n = number(need(&opts, "globalPosition")?, "globalPosition", 0, SAFE)?;
        number_or(&opts, "timeoutMs", 0, 30_000, 10_000)?;
        let stream = opts.get("stream").and_then(Value::as_str);
        let of = |s: &str| stream.is_none_or(|wanted| wanted == s);
        let upto = n.min(self.head());
        let mut waiting = g.parts.iter().flat_map(|p| self.waiting(g, p, upto));
        let is_open = waiting.any(|at| of(&self.at(at).stream));
        let parked = g.parked.iter().filter(|(s, row)| of(s) && !self.left(g, s, row.handled, n).is_empty()).count();
        Ok(json!({ "reached": self.head() >= n && !is_open, "parked": parked }))
    }
}

/// Each partition that has something gets its share of the page.
fn shares(wanted: &BTreeMap<usize, usize>, mut room: usize) -> BTreeMap<usize, usize> {
    let mut taken: BTreeMap<usize, usize> = wanted.keys().map(|n| (*n, 0)).collect();
    loop {
        let hungry: Vec<usize> = wanted.iter().filter(|(n, most)| taken[*n] < **most).map(|(n, _)| *n).collect();
        if room == 0 || hungry.is_empty() {
            return taken;
        }
        for n in hungry.iter().take(room) {
            *taken.get_mut(n).expect("it is there") += 1;
        }
        room -= room.min(hungry.len());
    }
}
