//! `stream.write`, one message a request.

use crate::load::Lane;
use crate::names::Names;
use crate::random::Random;
use crate::wire::{Address, Reply, Template};

/// What is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kind {
    /// Bytes of a message's data.
    pub(crate) size: usize,
    /// Whether each write names the version that its stream must have.
    pub(crate) expects_version: bool,
    /// Whether the client chooses random ids.
    pub(crate) client_ids: bool,
    /// Whether all goes to one stream.
    pub(crate) one_stream: bool,
}

/// A lane that writes.
#[derive(Debug)]
pub(crate) struct Write {
    template: Template,
    stream_at: usize,
    id_at: Option<usize>,
    version_at: Option<usize>,
    names: Names,
    random: Random,
    kind: Kind,
    /// Streams that nobody else writes to, and the versions that they have.
    own: Vec<(String, i64)>,
    chosen: usize,
}

/// Streams of its own that a lane with expected versions has.
const OWN_STREAMS: u64 = 64;
const ID: &str = "00000000-0000-4000-8000-000000000000";
/// As wide as a position; the blanks before a number mean nothing in JSON.
const VERSION: &str = "                  -1";

impl Write {
    /// Lane `number`.
    pub(crate) fn new(address: &Address, names: &Names, kind: Kind, seed: u64, number: u64) -> Self {
        // Streams of its own and ids must not be those of an earlier run.
        let unlike = uuid::Uuid::new_v4();
        let name = |n| format!("{}-{}-{n:06}", names.category(n % names.categories()), unlike.simple());
        let own: Vec<_> = match kind.expects_version {
            true => (0..OWN_STREAMS).map(|n| (name(n), -1)).collect(),
            false => Vec::new(),
        };
        let stream = own.first().map_or_else(|| names.stream(0), |(name, _)| name.clone());
        let data = data(kind.size);
        let mut options = Vec::new();
        if kind.client_ids {
            options.push(format!(r#""id":"{ID}""#));
        }
        if kind.expects_version {
            options.push(format!(r#""expectedVersion":{VERSION}"#));
        }
        let options = if options.is_empty() { String::new() } else { format!(",{{{}}}", options.join(",")) };
        let body = format!(r#"["stream.write","{stream}",{{"type":"Deposited","data":{data}}}{options}]"#);
        let template = address.call(&body);
        let stream_at = template.find(&stream).expect("the stream's name stands in the body");
        let id_at = kind.client_ids.then(|| template.find(ID).expect("the id stands in the body"));
        let version_at = kind.expects_version.then(|| template.find(VERSION).expect("the version stands in the body"));
        let seed = if kind.client_ids { unlike.as_u64_pair().0 } else { seed };
        let random = Random::new(seed, number);
        Self { template, stream_at, id_at, version_at, names: names.clone(), random, kind, own, chosen: 0 }
    }
}

impl Lane for Write {
    fn request(&mut self) -> &[u8] {
        if let Some(at) = self.version_at {
            self.chosen = self.random.below(OWN_STREAMS) as usize;
            let (name, version) = &self.own[self.chosen];
            self.template.patch(self.stream_at, name);
            self.template.patch(at, &format!("{version:>20}"));
        } else if !self.kind.one_stream {
            let name = self.names.stream(self.names.choose(&mut self.random));
            self.template.patch(self.stream_at, &name);
        }
        if let Some(at) = self.id_at {
            self.template.patch(at, &self.random.uuid().to_string());
        }
        self.template.bytes()
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        reply.success()?;
        if let Some((_, version)) = self.own.get_mut(self.chosen) {
            *version += 1;
        }
        Ok(1)
    }
}

/// An object of about `size` bytes.
pub(crate) fn data(size: usize) -> String {
    const SHELL: &str = r#"{"amount":1234,"note":""}"#;
    let note = "x".repeat(size.saturating_sub(SHELL.len()));
    format!(r#"{{"amount":1234,"note":"{note}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Distribution;

    #[test]
    fn every_request_is_valid_json_of_the_same_length() {
        let address = Address::new("http://127.0.0.1:1", None).unwrap();
        let names = Names::new(5_000, 20, Distribution::Uniform);
        for (expects_version, client_ids) in [(false, false), (true, false), (true, true)] {
            let kind = Kind { size: 64, expects_version, client_ids, one_stream: false };
            let mut lane = Write::new(&address, &names, kind, 1, 0);
            let length = lane.request().len();
            for _ in 0..10 {
                let request = lane.request();
                assert_eq!(request.len(), length);
                let text = std::str::from_utf8(request).unwrap();
                let body = text.split_once("\r\n\r\n").unwrap().1;
                let call: serde_json::Value = serde_json::from_str(body).unwrap();
                assert_eq!(call[2]["data"].to_string().len(), 64);
                assert_eq!(call[3]["expectedVersion"].is_i64(), expects_version);
            }
        }
    }
}
