//! `stream.get` and `category.get` of 100 messages.

use std::sync::Arc;

use memchr::memmem;

use crate::load::Lane;
use crate::names::Names;
use crate::random::Random;
use crate::wire::{Address, Reply, Template};

/// Where to read.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Anywhere in a stream that has so many messages; of none, at the beginning of one that was written to.
    Stream(u64),
    /// At the end of one of the first streams, whose last positions these are.
    StreamTail(Arc<[u64]>),
    /// In a category, near the head.
    Tail,
    /// In a category, anywhere.
    Anywhere,
    /// In a category, anywhere, for one member of a group of so many.
    Member(u64),
}

/// The messages that are read: those from `first` to `last`, in which every stream has its share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    /// The first global position.
    pub(crate) first: u64,
    /// The last.
    pub(crate) last: u64,
}

/// A lane that reads pages.
#[derive(Debug)]
pub(crate) struct Read {
    template: Template,
    name_at: usize,
    position_at: usize,
    member_at: Option<usize>,
    place: Place,
    filled: Filled,
    names: Names,
    random: Random,
}

/// Messages in a page.
pub(crate) const PAGE: u64 = 100;
/// As wide as a position; the blanks before a number mean nothing in JSON.
const POSITION: &str = "                   0";
const MEMBER: &str = "                   1";

/// Messages before the head, of so many categories, in which pages near the head begin.
pub(crate) fn tail(categories: u64) -> u64 {
    4 * PAGE * categories
}

impl Read {
    /// Lane `number`, on a log that is `filled`.
    pub(crate) fn new(address: &Address, names: &Names, place: Place, filled: Filled, seed: u64, number: u64) -> Self {
        let (method, name) = match place {
            Place::Stream(_) | Place::StreamTail(_) => ("stream.get", names.stream(0)),
            Place::Tail | Place::Anywhere | Place::Member(_) => ("category.get", names.category(0)),
        };
        let group = match place {
            Place::Member(size) => format!(r#","consumerGroup":{{"member":{MEMBER},"size":{size}}}"#),
            _ => String::new(),
        };
        let body = format!(r#"["{method}","{name}",{{"position":{POSITION},"batchSize":{PAGE}{group}}}]"#);
        let template = address.call(&body);
        let name_at = template.find(&name).expect("the name stands in the body");
        let position_at = template.find(POSITION).expect("the position stands in the body");
        let member_at = template.find(MEMBER);
        let (names, random) = (names.clone(), Random::new(seed, number));
        Self { template, name_at, position_at, member_at, place, filled, names, random }
    }

    /// A position from which on a whole page is there, where the log has one.
    fn position(&mut self, each: u64) -> u64 {
        let Filled { first, last } = self.filled;
        // As long as a page reaches on average, and half as long again.
        let span = PAGE * each * 3 / 2;
        let from = match self.place {
            Place::Tail => last.saturating_sub(tail(self.names.categories())).max(first),
            _ => first,
        };
        from + self.random.below(last.saturating_sub(span + from).max(1))
    }
}

impl Lane for Read {
    fn request(&mut self) -> &[u8] {
        let category = self.random.below(self.names.categories());
        let (name, position) = match &self.place {
            Place::Stream(length) => {
                let position = self.random.below(length.saturating_sub(PAGE).max(1));
                let written = self.filled.last + 1 - self.filled.first;
                let number = match length {
                    0 => self.names.shuffled(self.random.below(written.max(1))),
                    _ => self.names.choose(&mut self.random),
                };
                (self.names.stream(number), position)
            }
            Place::StreamTail(last) => {
                let number = self.random.below(last.len() as u64);
                let position = last[number as usize].saturating_sub(PAGE - 1);
                (self.names.stream(number), position)
            }
            Place::Tail | Place::Anywhere => (self.names.category(category), self.position(self.names.categories())),
            Place::Member(size) => {
                let each = self.names.categories() * size;
                (self.names.category(category), self.position(each))
            }
        };
        self.template.patch(self.name_at, &name);
        self.template.patch(self.position_at, &format!("{position:>20}"));
        if let (Some(at), &Place::Member(size)) = (self.member_at, &self.place) {
            self.template.patch(at, &format!("{:>20}", self.random.below(size)));
        }
        self.template.bytes()
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        let page = reply.success()?;
        let messages = count(page);
        anyhow::ensure!(messages > 0, "an empty page where there are messages: {}", String::from_utf8_lossy(page));
        anyhow::ensure!(messages <= PAGE, "{messages} messages in a page of {PAGE}");
        Ok(messages)
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
    fn every_place_makes_valid_requests_for_pages_that_are_there() {
        let address = Address::new("http://127.0.0.1:1", None).unwrap();
        let names = Names::new(5_000, 20, Distribution::Uniform);
        let filled = Filled { first: 11, last: 1_000_010 };
        let end = [199; 64].into();
        for place in [Place::Stream(200), Place::StreamTail(end), Place::Tail, Place::Anywhere, Place::Member(8)] {
            let mut lane = Read::new(&address, &names, place.clone(), filled, 1, 0);
            for _ in 0..100 {
                let text = String::from_utf8(lane.request().to_vec()).unwrap();
                let call: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
                assert_eq!(call[2]["batchSize"], PAGE, "{place:?}");
                let position = call[2]["position"].as_u64().unwrap();
                let there = match place {
                    Place::Stream(_) | Place::StreamTail(_) => 0..=100,
                    Place::Tail => 1_000_010 - 8_000..=1_000_010 - 2_000,
                    Place::Anywhere => 11..=1_000_010 - 2_000,
                    Place::Member(_) => 11..=1_000_010 - 16_000,
                };
                assert!(there.contains(&position), "{place:?}: {position}");
            }
        }
    }
}
