//! The log of the model: appends, and the group's half of an atomic append in the same commit.

use serde_json::{Map, Value, json};

use super::Model;
use super::checks::{Answer, Refused, SAFE, fenced_in, invalid, need, number, options, text};
use super::state::{Group, Message};

const FORMS: [&str; 3] = ["checkpoint", "handled", "fence"];

impl Model {
    pub(super) fn write(&mut self, stream: &Value, message: &Value, opts: Option<&Value>) -> Answer {
        let result = self.append(stream, &json!([message]), opts)?;
        Ok(json!({ "position": result["lastPosition"], "globalPosition": result["lastGlobalPosition"] }))
    }

    pub(super) fn append(&mut self, stream: &Value, messages: &Value, opts: Option<&Value>) -> Answer {
        let opts = options(opts, &["expectedVersion", "checkpoint", "handled", "fence"])?;
        let stream = text(stream, "stream", 1, 255)?;
        let messages = messages.as_array().ok_or_else(|| invalid("messages must be a list"))?;
        if let Some(answer) = self.repeated(stream, messages)? {
            return Ok(answer);
        }
        let forms: Vec<&str> = FORMS.into_iter().filter(|form| opts.contains_key(*form)).collect();
        if forms.len() > 1 {
            return Err(invalid("one of checkpoint, handled and fence"));
        }
        let version = self.streams.get(stream).map_or(-1, |stream| stream.len() as i64 - 1);
        if let Some(expected) = opts.get("expectedVersion")
            && *expected != json!(version)
        {
            let details = json!({ "expected": expected, "actual": version });
            return Err(Refused::new("STREAM_VERSION_CONFLICT", "another version", details));
        }
        for form in forms {
            self.commit(form, &opts[form])?;
        }
        let mut new = Vec::new();
        for m in messages {
            let (at, number) = (self.head() + 1, self.streams.get(stream).map_or(0, Vec::len));
            let id = m.get("id").and_then(Value::as_str).map_or_else(|| format!("id{at}"), str::to_owned);
            let message = Message {
                id: id.clone(),
                stream: stream.to_owned(),
                kind: m["type"].as_str().unwrap_or_default().to_owned(),
                position: number as i64,
                at,
                data: m["data"].clone(),
                metadata: m.get("metadata").cloned().unwrap_or(Value::Null),
                time: self.now,
            };
            self.log.push(message.clone());
            self.streams.entry(stream.to_owned()).or_default().push(at);
            self.ids.insert(id, at);
            new.push(message);
        }
        Ok(written(&new))
    }

    /// The original result of a write with known ids, whatever the epoch is now.
    fn repeated(&self, stream: &str, messages: &[Value]) -> Result<Option<Value>, Refused> {
        let old =
            messages.iter().map(|m| self.ids.get(m.get("id")?.as_str()?).map(|at| self.log[*at as usize - 1].clone()));
        let old: Vec<Option<Message>> = old.collect();
        if old.iter().all(Option::is_none) {
            return Ok(None);
        }
        let is_same = |(o, m): (&Option<Message>, &Value)| {
            o.as_ref().is_some_and(|o| {
                let metadata = m.get("metadata").cloned().unwrap_or(Value::Null);
                o.stream == stream && o.kind == m["type"] && o.data == m["data"] && o.metadata == metadata
            })
        };
        let is_run = old.iter().flatten().zip(old.iter().flatten().skip(1)).all(|(a, b)| b.position == a.position + 1);
        if !old.iter().zip(messages).all(is_same) || !is_run {
            return Err(Refused::new("MESSAGE_ID_CONFLICT", "the id is taken", Value::Null));
        }
        Ok(Some(written(&old.into_iter().flatten().collect::<Vec<_>>())))
    }

    /// The group's half of an atomic append: done with the append or refused with it. It renews no lease.
    fn commit(&mut self, form: &str, opts: &Value) -> Result<(), Refused> {
        let known: &[&str] = match form {
            "checkpoint" => &["group", "partition", "epoch", "position"],
            "handled" => &["group", "partition", "epoch", "stream", "position", "readTo"],
            _ => &["group", "partition", "epoch"],
        };
        let opts = options(Some(opts), known)?;
        for name in known.iter().filter(|name| **name != "readTo") {
            need(&opts, name)?;
        }
        let name = text(&opts["group"], "group", 1, 255)?.to_owned();
        let mut g = self.take_group(&name)?;
        let result = self.commit_to(&mut g, form, &opts);
        self.groups.insert(name, g);
        result
    }

    fn commit_to(&mut self, g: &mut Group, form: &str, opts: &Map<String, Value>) -> Result<(), Refused> {
        let p = self.right(g, opts)?;
        if form == "checkpoint" {
            let position = number(&opts["position"], "position", 0, SAFE)?;
            self.position(position, "position")?;
            if position <= g.parts[p].checkpoint && !self.fault("atomic_repeats") {
                return Err(fenced_in("handled", p));
            }
            let m = &self.log[position as usize - 1];
            if g.parked.contains_key(&m.stream) && self.of(g, m) && !self.literal("atomic_parked") {
                return Err(fenced_in("parked", p)); // it comes as a retry: a late copy of group.park was taken
            }
            self.move_checkpoint(g, p, position);
        }
        if form == "handled" {
            let stream = self.row_of(g, p, opts)?;
            let row = stream.as_ref().map(|stream| &g.parked[stream]);
            if row.is_none() && self.literal("handled_unparked") {
                return Ok(());
            }
            let position = number(&opts["position"], "position", 0, SAFE)?;
            match stream {
                Some(stream) if position > g.parked[&stream].handled => self.deal(g, p, &stream, opts, true)?,
                _ => return Err(fenced_in("handled", p)),
            };
        }
        Ok(())
    }
}

fn written(messages: &[Message]) -> Value {
    let (first, last) = (&messages[0], &messages[messages.len() - 1]);
    json!({
        "firstPosition": first.position, "lastPosition": last.position,
        "firstGlobalPosition": first.at, "lastGlobalPosition": last.at,
    })
}
