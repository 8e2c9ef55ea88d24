//! `stream.get` and `category.get` of 100 messages.

use memchr::memmem;

use crate::load::Lane;
use crate::names::Names;
use crate::random::Random;
use crate::wire::{Address, Reply, Template};

/// Where to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The beginning of a stream.
    Stream,
    /// A category, so many global positions below the head.
    Tail(u64),
    /// A category, anywhere.
    Anywhere,
    /// A category, anywhere, for one member of a group of so many.
    Member(u64),
}

/// A lane that reads pages.
#[derive(Debug)]
pub(crate) struct Read {
    template: Template,
    name_at: usize,
    position_at: Option<usize>,
    member_at: Option<usize>,
    place: Place,
    head: u64,
    names: Names,
    random: Random,
}

/// Messages in a page.
const PAGE: u64 = 100;
/// As wide as a position; the blanks before a number mean nothing in JSON.
const POSITION: &str = "                   0";
const MEMBER: &str = "                   1";

impl Read {
    /// Lane `number`, on a log that reaches up to `head`.
    pub(crate) fn new(address: &Address, names: &Names, place: Place, head: u64, seed: u64, number: u64) -> Self {
        let name = match place {
            Place::Stream => names.stream(0),
            _ => names.category(0),
        };
        let body = match place {
            Place::Stream => format!(r#"["stream.get","{name}",{{"batchSize":{PAGE}}}]"#),
            Place::Tail(_) | Place::Anywhere => {
                format!(r#"["category.get","{name}",{{"position":{POSITION},"batchSize":{PAGE}}}]"#)
            }
            Place::Member(size) => format!(
                r#"["category.get","{name}",{{"position":{POSITION},"batchSize":{PAGE},"consumerGroup":{{"member":{MEMBER},"size":{size}}}}}]"#
            ),
        };
        let template = address.call(&body);
        let name_at = template.find(&name).expect("the name stands in the body");
        let (position_at, member_at) = (template.find(POSITION), template.find(MEMBER));
        let random = Random::new(seed, number);
        Self { template, name_at, position_at, member_at, place, head, names: names.clone(), random }
    }
}

impl Lane for Read {
    fn request(&mut self) -> &[u8] {
        let name = match self.place {
            Place::Stream => self.names.stream(self.names.choose(&mut self.random)),
            _ => self.names.category(self.random.below(self.names.categories())),
        };
        self.template.patch(self.name_at, &name);
        if let Some(at) = self.position_at {
            let position = match self.place {
                Place::Tail(back) => self.head.saturating_sub(back),
                _ => self.random.below(self.head.max(1)),
            };
            self.template.patch(at, &format!("{position:>20}"));
        }
        if let (Some(at), Place::Member(size)) = (self.member_at, self.place) {
            self.template.patch(at, &format!("{:>20}", self.random.below(size)));
        }
        self.template.bytes()
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        reply.success().map(count)
    }
}

/// How many messages a page has: in messages that the bench wrote nothing else has the form of their beginning.
pub(crate) fn count(page: &[u8]) -> u64 {
    memmem::find_iter(page, b"[\"").count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Distribution;

    #[test]
    fn the_messages_of_a_page_are_counted() {
        assert_eq!(count(b"[]"), 0);
        assert_eq!(count(br#"[["id","a-1","T",0,1,{"n":1},null,"t"],["id","a-1","T",1,2,{"n":1},null,"t"]]"#), 2);
    }

    #[test]
    fn every_place_makes_valid_requests() {
        let address = Address::new("http://127.0.0.1:1", None).unwrap();
        let names = Names::new(5_000, 20, Distribution::Uniform);
        for place in [Place::Stream, Place::Tail(1_000), Place::Anywhere, Place::Member(8)] {
            let mut lane = Read::new(&address, &names, place, 1_000_000, 1, 0);
            let text = String::from_utf8(lane.request().to_vec()).unwrap();
            let call: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
            assert_eq!(call[2]["batchSize"], PAGE, "{place:?}");
        }
    }
}
