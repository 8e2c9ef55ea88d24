//! Many messages in one request: `stream.append`.

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

fn messages(count: u64, size: usize) -> String {
    let message = format!(r#"{{"type":"Deposited","data":{}}}"#, data(size));
    format!("[{}]", vec![message; count as usize].join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Distribution;

    #[test]
    fn an_append_has_the_messages_of_its_batch() {
        let address = Address::new("http://127.0.0.1:1", None).unwrap();
        let names = Names::new(5_000, 20, Distribution::Uniform);
        let mut lane = Append::new(&address, &names, 30, 64, 1, 0);
        let text = String::from_utf8(lane.request().to_vec()).unwrap();
        let call: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(call[2].as_array().map(Vec::len), Some(30));
    }
}
