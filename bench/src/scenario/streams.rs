//! `ns.streams`: pages of names, each from another place on.

use crate::load::Lane;
use crate::names::Names;
use crate::random::Random;
use crate::wire::{Address, Reply, Template};

/// A lane that reads pages of names.
#[derive(Debug)]
pub(crate) struct Streams {
    template: Template,
    cursor_at: usize,
    names: Names,
    random: Random,
}

/// Names in a page.
const PAGE: u64 = 100;

impl Streams {
    /// Pages behind random ones of `names`.
    pub(crate) fn new(address: &Address, names: &Names, seed: u64) -> Self {
        let cursor = names.stream(0);
        let template = address.call(&format!(r#"["ns.streams",{{"limit":{PAGE},"cursor":"{cursor}"}}]"#));
        let cursor_at = template.find(&cursor).expect("the cursor stands in the body");
        Self { template, cursor_at, names: names.clone(), random: Random::new(seed, 0) }
    }
}

impl Lane for Streams {
    fn request(&mut self) -> &[u8] {
        let cursor = self.names.stream(self.random.below(self.names.streams()));
        self.template.patch(self.cursor_at, &cursor);
        self.template.bytes()
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        let page = reply.success()?;
        let found = memchr::memmem::find_iter(page, br#"{"stream":"#).count() as u64;
        anyhow::ensure!(found <= PAGE, "{found} names in a page of {PAGE}");
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Distribution;

    #[test]
    fn each_page_begins_elsewhere() {
        let address = Address::new("http://127.0.0.1:1", None).unwrap();
        let names = Names::new(1_000, 20, Distribution::Uniform).with_uuids();
        let mut lane = Streams::new(&address, &names, 1);
        let mut cursor = || {
            let text = String::from_utf8(lane.request().to_vec()).unwrap();
            let call: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
            assert_eq!(call[1]["limit"], PAGE);
            call[1]["cursor"].as_str().unwrap().to_owned()
        };
        assert_ne!(cursor(), cursor());
    }
}
