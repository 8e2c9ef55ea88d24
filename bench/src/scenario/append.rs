//! Many messages in one request: `stream.append`, and what fills a store before it is measured.

use crate::load::Lane;
use crate::names::Names;
use crate::random::Random;
use crate::wire::{Address, Reply, Template};

use super::write::data;

/// A lane that appends batches to one stream each.
#[derive(Debug)]
pub(crate) struct Append {
    template: Template,
    stream_at: usize,
    names: Names,
    random: Random,
    batch: u64,
}

/// A lane that appends to many streams at once, in the order of their names.
#[derive(Debug)]
pub(crate) struct Fill {
    address: Address,
    request: Template,
    names: Names,
    size: usize,
    /// Messages that this lane has yet to write.
    left: u64,
    number: u64,
    step: u64,
    asked: u64,
}

/// Streams in one request of [`Fill`], and messages in each.
const FILL: (u64, u64) = (50, 10);

impl Append {
    /// Lane `number`, whose requests append `batch` messages of `size` bytes.
    pub(crate) fn new(address: &Address, names: &Names, batch: u64, size: usize, seed: u64, number: u64) -> Self {
        let stream = names.stream(0);
        let template = address.call(&format!(r#"["stream.append","{stream}",{}]"#, messages(batch, size)));
        let stream_at = template.find(&stream).expect("the stream's name stands in the body");
        Self { template, stream_at, names: names.clone(), random: Random::new(seed, number), batch }
    }
}

impl Lane for Append {
    fn request(&mut self) -> &[u8] {
        let name = self.names.stream(self.names.choose(&mut self.random));
        self.template.patch(self.stream_at, &name);
        self.template.bytes()
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        reply.success().map(|_| self.batch)
    }
}

impl Fill {
    /// Lane `number` of `step`, which writes `count` messages of `size` bytes.
    pub(crate) fn new(address: &Address, names: &Names, count: u64, size: usize, number: u64, step: u64) -> Self {
        let (address, names, request) = (address.clone(), names.clone(), address.call(""));
        Self { address, request, names, size, left: count, number, step, asked: 0 }
    }
}

impl Lane for Fill {
    fn request(&mut self) -> &[u8] {
        let streams = FILL.0.min(self.names.streams()).min(self.left);
        let each = FILL.1.min((self.left / streams).max(1));
        self.asked = streams * each;
        let messages = messages(each, self.size);
        let entries: Vec<String> = (0..streams)
            .map(|n| {
                let stream = self.names.stream((self.number * streams + n) % self.names.streams());
                format!(r#"{{"stream":"{stream}","messages":{messages}}}"#)
            })
            .collect();
        self.number += self.step;
        self.request = self.address.call(&format!(r#"["streams.append",[{}]]"#, entries.join(",")));
        self.request.bytes()
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        reply.success()?;
        self.left -= self.asked;
        Ok(self.asked)
    }

    fn is_done(&self) -> bool {
        self.left == 0
    }
}

fn messages(count: u64, size: usize) -> String {
    let message = format!(r#"{{"type":"Deposited","data":{}}}"#, data(size));
    format!("[{}]", vec![message; count as usize].join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Distribution;

    #[test]
    fn a_store_is_filled_with_exactly_so_many() {
        let address = Address::new("http://127.0.0.1:1", None).unwrap();
        let names = Names::new(5_000, 20, Distribution::Uniform);
        let mut lane = Fill::new(&address, &names, 1_207, 64, 0, 1);
        let mut written = 0;
        while !lane.is_done() {
            let text = String::from_utf8(lane.request().to_vec()).unwrap();
            let call: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
            let entries = call[1].as_array().unwrap();
            written += entries.iter().map(|entry| entry["messages"].as_array().unwrap().len()).sum::<usize>();
            lane.left -= lane.asked;
        }
        assert_eq!(written, 1_207);
    }
}
