//! Groups (3.1): creating, changing, resizing and resetting them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::checks::{Answer, Refused, SAFE, invalid, names, need, number, number_or, options, text};
use super::state::{Carried, Group, Parked, Partition, partition_of};
use super::{Model, time};

/// `sessionMs`, `maxParked`, `description`.
struct Bounds {
    session: Option<i64>,
    max_parked: Option<i64>,
    description: Option<String>,
}

impl Model {
    pub(super) fn create(&mut self, name: &str, opts: Option<&Value>) -> Answer {
        const KNOWN: &[&str] =
            &["categories", "types", "partitions", "start", "sessionMs", "maxParked", "description", "adopt"];
        let opts = options(opts, KNOWN)?;
        let (categories, types) = (names(&opts, "categories")?, names(&opts, "types")?);
        let count = number_or(&opts, "partitions", 1, 1024, 16)? as usize;
        let limits = bounds(&opts)?;
        if let Some(known) = self.groups.get(name) {
            let mut differing = Map::new();
            for (k, v, w) in [("categories", &known.categories, &categories), ("types", &known.types, &types)] {
                if v != w {
                    differing.insert(k.to_owned(), json!(v));
                }
            }
            if !differing.is_empty() {
                return Err(Refused::new("GROUP_EXISTS", "the group reads something else", Value::Object(differing)));
            }
            return Ok(self.summary(known));
        }
        let (start, carried) = self.start(&opts)?;
        if self.groups.len() >= 1_000 {
            return Err(Refused::new("OVERLOADED", "at most 1,000 groups", Value::Null));
        }
        let mut new = empty(name, categories, types, self.now);
        new.description = limits.description.unwrap_or_default();
        new.session = limits.session.unwrap_or(30_000);
        new.max_parked = limits.max_parked.unwrap_or(1_000);
        new.carried = carried;
        new.parts = (0..count).map(|n| Partition::new(n, start, self.now)).collect();
        for n in 0..count {
            self.new_epoch(&mut new, n);
        }
        self.forget_carried(&mut new);
        let summary = self.summary(&new);
        self.groups.insert(name.to_owned(), new);
        Ok(summary)
    }

    fn start(&self, opts: &Map<String, Value>) -> Result<(i64, Vec<Carried>), Refused> {
        if opts.contains_key("adopt") && opts.contains_key("start") {
            return Err(invalid("start and adopt exclude each other"));
        }
        if let Some(adopt) = opts.get("adopt") {
            let adopt = options(Some(adopt), &["size", "checkpoints"])?;
            let size = number(need(&adopt, "size")?, "size", 1, 1024)? as usize;
            let list = need(&adopt, "checkpoints")?.as_array().filter(|list| list.len() == size);
            let list = list.ok_or_else(|| invalid("adopt takes one checkpoint for each member"))?;
            let old = list.iter().map(|c| self.position(number(c, "checkpoint", 0, SAFE)?, "checkpoint"));
            let old: Vec<i64> = old.collect::<Result<_, _>>()?;
            let start = *old.iter().min().expect("one at least");
            return Ok((start, vec![Carried { size, checkpoints: old, void: BTreeSet::new() }]));
        }
        let start = match opts.get("start") {
            None => 0,
            Some(Value::String(word)) if word == "beginning" => 0,
            Some(Value::String(word)) if word == "end" => self.head(),
            Some(value) => number(value, "start", 0, SAFE)?,
        };
        Ok((self.position(start, "start")?, Vec::new()))
    }

    /// A shorter session shortens no lease and no deadline that runs. A longer one lengthens them: a reply that is under
    /// way may tell it to a member whose call came before.
    pub(super) fn update(&mut self, g: &mut Group, opts: Option<&Value>) -> Answer {
        let limits = bounds(&options(opts, &["sessionMs", "maxParked", "description"])?)?;
        g.session = limits.session.unwrap_or(g.session);
        for m in &mut g.members {
            m.lease_end = m.lease_end.max(m.last_call + g.session);
        }
        g.max_parked = limits.max_parked.unwrap_or(g.max_parked);
        g.description = limits.description.unwrap_or(std::mem::take(&mut g.description));
        Ok(self.summary(g))
    }

    pub(super) fn set_paused(&mut self, g: &mut Group, paused: bool) -> Value {
        if g.paused != paused {
            g.paused = paused;
            self.record(g, if paused { "pause" } else { "resume" }, &json!({}));
        }
        self.summary(g)
    }

    pub(super) fn list(&self) -> Value {
        let entry = |g: &Group| {
            json!({
                "group": g.name, "description": g.description, "categories": g.categories,
                "partitionCount": g.parts.len(), "members": g.members.len(), "paused": g.paused,
                "createdAt": time(g.created),
            })
        };
        self.groups.values().map(entry).collect()
    }

    pub(super) fn resize(&mut self, g: &mut Group, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["partitions"])?;
        let count = number(need(&opts, "partitions")?, "partitions", 1, 1024)? as usize;
        if count == g.resizing.unwrap_or(g.parts.len()) {
            return Ok(self.summary(g)); // said already
        }
        if g.carried.len() >= 8 {
            let message = "eight earlier partition counts are still carried over";
            return Err(Refused::new("GROUP_BUSY", message, Value::Null));
        }
        self.record(g, "resize", &json!({ "partitions": count }));
        g.resizing = Some(count);
        self.rebalance(g);
        Ok(self.summary(g))
    }

    pub(super) fn reset(&mut self, g: &mut Group, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["to", "partitions", "dryRun"])?;
        need(&opts, "to")?;
        if g.resizing.is_some() {
            return Err(Refused::new("GROUP_BUSY", "a resize is under way", Value::Null));
        }
        let size = g.parts.len();
        let chosen = match opts.get("partitions") {
            None => (0..size).collect(),
            Some(list) => chosen_partitions(list, size)?,
        };
        let (to, source) = self.reset_to(g, &opts["to"])?;
        let to = self.position(to, "to")?;
        let after = self.after_reset(g, &chosen, to, source.as_ref());
        let row = |n: usize| {
            json!({
                "partition": n, "from": g.parts[n].checkpoint, "to": to, "messages": self.differing(g, &after, n),
            })
        };
        let result: Vec<Value> = chosen.iter().map(|n| row(*n)).collect();
        if opts.get("dryRun") != Some(&json!(true)) {
            self.record(g, "reset", &json!({ "to": to, "partitions": chosen }));
            (g.parts, g.carried, g.parked) = (after.parts, after.carried, after.parked);
            g.last_rev = after.last_rev;
            for n in chosen {
                self.new_epoch(g, n);
            }
            g.generation += 1;
            g.era += 1;
            self.forget_carried(g);
        }
        Ok(json!({ "partitions": result }))
    }

    /// The position to begin at, and the group that it comes from.
    fn reset_to(&self, g: &Group, to: &Value) -> Result<(i64, Option<Group>), Refused> {
        match to {
            Value::Object(_) => {
                let other = options(Some(to), &["group"])?;
                let name = text(need(&other, "group")?, "group", 1, 255)?;
                let source = if name == g.name { Some(g) } else { self.groups.get(name) };
                let source =
                    source.ok_or_else(|| Refused::new("GROUP_NOT_FOUND", format!("no group {name:?}"), Value::Null))?;
                if (&source.categories, &source.types) != (&g.categories, &g.types) {
                    return Err(invalid("the other group reads something else"));
                }
                let lowest = source.parts.iter().map(|p| p.checkpoint).min().expect("there are partitions");
                Ok((lowest, Some(source.clone())))
            }
            Value::String(word) if word == "beginning" => Ok((0, None)),
            Value::String(word) if word == "end" => Ok((self.head(), None)),
            Value::String(_) => Err(invalid("to: no such place")), // the model knows no calendar time
            _ => Ok((number(to, "to", 0, SAFE)?, None)),
        }
    }

    /// The group as the reset leaves it: nothing carried over applies to the chosen partitions, nor after a later resize.
    fn after_reset(&self, g: &Group, chosen: &BTreeSet<usize>, to: i64, source: Option<&Group>) -> Group {
        let size = g.parts.len();
        let inside = |stream: &str| chosen.contains(&partition_of(stream, size));
        let mut new = g.clone();
        for p in new.parts.iter_mut().filter(|p| chosen.contains(&p.number)) {
            (p.checkpoint, p.moved) = (to, self.now);
        }
        for c in &mut new.carried {
            c.void.extend(chosen.iter().map(|n| (size, *n)));
        }
        new.parked.retain(|s, row| !inside(s) || source.is_none() && row.handled < to);
        let Some(source) = source else { return new };
        let others: BTreeSet<(usize, usize)> = (0..size).filter(|n| !chosen.contains(n)).map(|n| (size, n)).collect();
        let checkpoints = source.parts.iter().map(|p| p.checkpoint).collect();
        let mut layers = source.carried.clone();
        layers.push(Carried { size: source.parts.len(), checkpoints, void: BTreeSet::new() });
        for c in layers {
            new.carried.push(Carried { void: &c.void | &others, ..c });
        }
        for (s, row) in source.parked.iter().filter(|(s, _)| inside(s)) {
            new.last_rev += 1;
            let due = if row.out { Some(self.now) } else { row.due };
            new.parked.insert(s.clone(), Parked { due, rev: new.last_rev, out: false, ..row.clone() });
        }
        new
    }

    /// How many messages of the partition are handled in one state and not in the other, counted up to 10,000.
    fn differing(&self, g: &Group, after: &Group, n: usize) -> usize {
        let ours = self.log.iter().filter(|m| partition_of(&m.stream, g.parts.len()) == n && self.of(g, m));
        ours.filter(|m| self.is_handled(g, m) != self.is_handled(after, m)).count().min(10_000)
    }
}

fn bounds(opts: &Map<String, Value>) -> Result<Bounds, Refused> {
    let description = opts.get("description").map(|value| text(value, "description", 0, 1024)).transpose()?;
    Ok(Bounds {
        session: opts.get("sessionMs").map(|value| number(value, "sessionMs", 1_000, 600_000)).transpose()?,
        max_parked: opts.get("maxParked").map(|value| number(value, "maxParked", 0, SAFE)).transpose()?,
        description: description.map(str::to_owned),
    })
}

fn chosen_partitions(list: &Value, size: usize) -> Result<BTreeSet<usize>, Refused> {
    let wrong = || invalid("partitions must be numbers of partitions");
    let list = list.as_array().ok_or_else(wrong)?;
    let number = |value: &Value| value.as_u64().map(|n| n as usize).filter(|n| *n < size).ok_or_else(wrong);
    list.iter().map(number).collect()
}

fn empty(name: &str, categories: BTreeSet<String>, types: BTreeSet<String>, now: i64) -> Group {
    Group {
        name: name.to_owned(),
        categories,
        types,
        description: String::new(),
        session: 0,
        max_parked: 0,
        created: now,
        parts: Vec::new(),
        members: Vec::new(),
        parked: std::collections::BTreeMap::new(),
        carried: Vec::new(),
        gone: std::collections::HashMap::new(),
        audit: Vec::new(),
        paused: false,
        resizing: None,
        generation: 0,
        last_rev: 0,
        era: 0,
    }
}
