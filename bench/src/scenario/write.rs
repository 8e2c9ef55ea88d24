//! Writes: `stream.write` of one message, and `stream.append` of many.

use rand::RngExt as _;

use crate::load::Lane;
use crate::names::Names;
use crate::random::{Random, random, uuid};
use crate::wire::{Address, NUMBER, Reply, Template};

/// What a lane writes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kind {
    /// Bytes of a message's data.
    pub(crate) size: usize,
    /// Messages of a request, by `stream.append`; without it one, by `stream.write`.
    pub(crate) batch: Option<u64>,
    /// Whether each write names the version that its stream must have.
    pub(crate) expects_version: bool,
    /// Whether the client gives random ids.
    pub(crate) client_ids: bool,
    /// Whether all writes go to one stream.
    pub(crate) one_stream: bool,
}

/// A lane that writes messages of one kind.
#[derive(Debug)]
pub(crate) struct Write {
    template: Template,
    names: Names,
    random: Random,
    kind: Kind,
    /// Streams that only this lane writes to, with their versions.
    own: Vec<(String, i64)>,
    chosen: usize,
}

/// Streams of its own that a lane with expected versions has.
const OWN_STREAMS: u64 = 64;
const ID: &str = "00000000-0000-4000-8000-000000000000";
/// The slots of the template.
const STREAM_SLOT: usize = 0;
const ID_SLOT: usize = 1;
const VERSION_SLOT: usize = 2;

impl Write {
    pub(crate) fn new(address: &Address, names: &Names, kind: Kind, seed: u64, number: u64) -> Self {
        // Streams of its own and ids must differ from those of an earlier run.
        let unlike = uuid::Uuid::new_v4();
        let name = |n| format!("{}-{}-{n:06}", names.category(n), unlike.simple());
        let own = if kind.expects_version { OWN_STREAMS } else { 0 };
        let own: Vec<_> = (0..own).map(|n| (name(n), -1)).collect();
        let stream = own.first().map_or_else(|| names.stream(0), |(name, _)| name.clone());
        let (method, messages) = match kind.batch {
            None => ("stream.write", message(kind.size)),
            Some(count) => ("stream.append", format!("[{}]", vec![message(kind.size); count as usize].join(","))),
        };
        let id = kind.client_ids.then(|| format!(r#""id":"{ID}""#));
        let version = kind.expects_version.then(|| format!(r#""expectedVersion":{NUMBER}"#));
        let options: Vec<String> = id.into_iter().chain(version).collect();
        let options = if options.is_empty() { String::new() } else { format!(",{{{}}}", options.join(",")) };
        let body = format!(r#"["{method}","{stream}",{messages}{options}]"#);
        let seed = if kind.client_ids { unlike.as_u64_pair().0 } else { seed };
        Self {
            template: address.template(&body, &[&stream, ID, NUMBER]),
            names: names.clone(),
            random: random(seed, number),
            kind,
            own,
            chosen: 0,
        }
    }
}

impl Lane for Write {
    fn request(&mut self) -> &[u8] {
        if self.kind.expects_version {
            self.chosen = self.random.random_range(0..self.own.len());
            let (name, version) = &self.own[self.chosen];
            self.template.set(STREAM_SLOT, name);
            self.template.set(VERSION_SLOT, version);
        } else if !self.kind.one_stream {
            self.template.set(STREAM_SLOT, self.names.stream(self.names.choose(&mut self.random)));
        }
        if self.kind.client_ids {
            self.template.set(ID_SLOT, uuid(&mut self.random).hyphenated());
        }
        &self.template.bytes
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        reply.success()?;
        if let Some((_, version)) = self.own.get_mut(self.chosen) {
            *version += 1;
        }
        Ok(self.kind.batch.unwrap_or(1))
    }
}

/// A lane that sends the same requests in turn.
#[derive(Debug)]
pub(crate) struct InTurn {
    requests: Vec<Template>,
    next: usize,
}

impl InTurn {
    pub(crate) fn new(requests: Vec<Template>) -> Self {
        Self { requests, next: 0 }
    }
}

impl Lane for InTurn {
    fn request(&mut self) -> &[u8] {
        let request = &self.requests[self.next % self.requests.len()];
        self.next += 1;
        &request.bytes
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        reply.success().map(|_| 1)
    }
}

/// A message as JSON, with about `size` bytes of data.
pub(crate) fn message(size: usize) -> String {
    format!(r#"{{"type":"Deposited","data":{}}}"#, data(size))
}

/// An object of about `size` bytes.
pub(crate) fn data(size: usize) -> String {
    const SHELL: &str = r#"{"amount":1234,"note":""}"#;
    let note = "x".repeat(size.saturating_sub(SHELL.len()));
    format!(r#"{{"amount":1234,"note":"{note}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{address, body, names};
    use super::*;

    #[test]
    fn every_request_is_valid_json_of_the_same_length() {
        for (expects_version, client_ids) in [(false, false), (true, false), (true, true)] {
            let kind = Kind { size: 64, expects_version, client_ids, ..Kind::default() };
            let mut lane = Write::new(&address(), &names(), kind, 1, 0);
            let length = lane.request().len();
            for _ in 0..10 {
                assert_eq!(lane.request().len(), length);
                let call = body(&mut lane);
                assert_eq!(call[2]["data"].to_string().len(), 64);
                assert_eq!(call[3]["expectedVersion"].is_i64(), expects_version);
                assert_eq!(call[3]["id"].is_string(), client_ids);
            }
        }
    }

    #[test]
    fn an_append_has_the_messages_of_its_batch() {
        let kind = Kind { size: 64, batch: Some(30), ..Kind::default() };
        let call = body(&mut Write::new(&address(), &names(), kind, 1, 0));
        assert_eq!(call[2].as_array().map(Vec::len), Some(30));
    }
}
