//! Reads: pages of a stream or a category at chosen places, a category page after page, and pages of stream names.

use std::sync::Arc;

use memchr::memmem;
use rand::RngExt as _;

use crate::load::Lane;
use crate::names::Names;
use crate::random::{Random, random};
use crate::wire::{Address, NUMBER, Reply, Template};

/// Where a lane reads.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Anywhere in a stream of this length; with a length of 0, at the beginning of a stream that was written to.
    Stream(u64),
    /// At the end of one of the first streams, which have these last positions.
    StreamTail(Arc<[u64]>),
    /// In a category, near the head.
    Tail,
    /// In a category, anywhere.
    Anywhere,
    /// In a category, anywhere, for one member of a consumer group of this size.
    Member(u64),
}

/// The messages that are read, in which every stream has its share: their first and last global position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// A lane that reads pages at random places.
#[derive(Debug)]
pub(crate) struct Read {
    template: Template,
    place: Place,
    filled: Filled,
    names: Names,
    random: Random,
}

/// Messages in a page.
pub(crate) const PAGE: u64 = 100;
/// The slots of a page's request.
const NAME_SLOT: usize = 0;
const POSITION_SLOT: usize = 1;
const MEMBER_SLOT: usize = 2;

/// Messages before the head, of this many categories, in which pages near the head begin.
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
            Place::Member(size) => format!(r#","consumerGroup":{{"member":{NUMBER},"size":{size}}}"#),
            _ => String::new(),
        };
        let body = format!(r#"["{method}","{name}",{{"position":{NUMBER},"batchSize":{PAGE}{group}}}]"#);
        let template = address.template(&body, &[&name, NUMBER, NUMBER]);
        Self { template, place, filled, names: names.clone(), random: random(seed, number) }
    }

    /// A position from which on the log has a whole page, if it is long enough. `each` is the number of messages in
    /// which one of the page lies.
    fn position(&mut self, each: u64) -> u64 {
        let Filled { first, last } = self.filled;
        // As long as a page reaches on average, and half as long again.
        let span = PAGE * each * 3 / 2;
        let from = match self.place {
            Place::Tail => last.saturating_sub(tail(self.names.categories)).max(first),
            _ => first,
        };
        from + self.below(last.saturating_sub(span + from))
    }

    /// A random number below `bound`, or 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.random.random_range(0..bound.max(1))
    }
}

impl Lane for Read {
    fn request(&mut self) -> &[u8] {
        let place = self.place.clone();
        let category = self.below(self.names.categories);
        let (name, position) = match &place {
            Place::Stream(0) => {
                let written = self.below(self.filled.last + 1 - self.filled.first);
                (self.names.stream(self.names.shuffled(written)), 0)
            }
            Place::Stream(length) => {
                let position = self.below(length.saturating_sub(PAGE));
                (self.names.stream(self.names.choose(&mut self.random)), position)
            }
            Place::StreamTail(last) => {
                let number = self.below(last.len() as u64);
                (self.names.stream(number), last[number as usize].saturating_sub(PAGE - 1))
            }
            Place::Tail | Place::Anywhere => (self.names.category(category), self.position(self.names.categories)),
            Place::Member(size) => (self.names.category(category), self.position(self.names.categories * size)),
        };
        self.template.set(NAME_SLOT, name);
        self.template.set(POSITION_SLOT, position);
        if let Place::Member(size) = place {
            let member = self.below(size);
            self.template.set(MEMBER_SLOT, member);
        }
        &self.template.bytes
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        let page = reply.success()?;
        let messages = count(page);
        anyhow::ensure!(messages > 0, "an empty page where there are messages: {}", String::from_utf8_lossy(page));
        anyhow::ensure!(messages <= PAGE, "{messages} messages in a page of {PAGE}");
        Ok(messages)
    }
}

/// A lane that reads a category from a position on, in pages of 1,000 messages, each behind the one before.
#[derive(Debug)]
pub(crate) struct Pages {
    template: Template,
    position: u64,
    /// The position at which the lane is done; without it the lane waits for more.
    until: Option<u64>,
    is_done: bool,
}

impl Pages {
    /// All categories, from the first message to the one at `until`, or to the end if that comes before.
    pub(crate) fn all(address: &Address, until: u64) -> Self {
        Self::new(address, "", 1, Some(until), "")
    }

    /// A category as it grows behind `head`: each answer comes as soon as there is a message.
    pub(crate) fn follow(address: &Address, category: &str, head: u64) -> Self {
        Self::new(address, category, head + 1, None, r#","waitMs":1000"#)
    }

    fn new(address: &Address, category: &str, position: u64, until: Option<u64>, options: &str) -> Self {
        let body = format!(r#"["category.get","{category}",{{"position":{NUMBER},"batchSize":1000{options}}}]"#);
        Self { template: address.template(&body, &[NUMBER]), position, until, is_done: false }
    }
}

impl Lane for Pages {
    fn request(&mut self) -> &[u8] {
        self.template.set(0, self.position);
        &self.template.bytes
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        let messages = count(reply.success()?);
        let last = match reply.header("x-eventodb-head") {
            Some(head) => Some(head.parse()?),
            None => last_position(reply.body),
        };
        let next = last.map_or(self.position, |last: u64| self.position.max(last + 1));
        self.is_done = self.until.is_some_and(|until| messages == 0 || next == self.position || next > until);
        self.position = next;
        Ok(messages)
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}

/// A lane that reads pages of stream names with `ns.streams`, each from a random name on.
#[derive(Debug)]
pub(crate) struct StreamNames {
    template: Template,
    names: Names,
    random: Random,
}

impl StreamNames {
    /// Pages behind random ones of `names`.
    pub(crate) fn new(address: &Address, names: &Names, seed: u64) -> Self {
        let cursor = names.stream(0);
        let body = format!(r#"["ns.streams",{{"limit":{PAGE},"cursor":"{cursor}"}}]"#);
        Self { template: address.template(&body, &[&cursor]), names: names.clone(), random: random(seed, 0) }
    }
}

impl Lane for StreamNames {
    fn request(&mut self) -> &[u8] {
        let number = self.random.random_range(0..self.names.streams);
        self.template.set(0, self.names.stream(number));
        &self.template.bytes
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        let found = memmem::find_iter(reply.success()?, br#"{"stream":"#).count() as u64;
        anyhow::ensure!(found <= PAGE, "{found} names in a page of {PAGE}");
        Ok(found)
    }
}

/// The number of messages of a page. In messages that the bench wrote nothing else looks like their beginning.
fn count(page: &[u8]) -> u64 {
    memmem::find_iter(page, b"[\"").count() as u64
}

/// The global position of a page's last message, for servers without the head in a header.
fn last_position(page: &[u8]) -> Option<u64> {
    let at = memmem::rfind(page, b"[\"")?;
    let message: serde_json::Value = serde_json::from_slice(page.get(at..page.len() - 1)?).ok()?;
    message.get(4)?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{address, body, names};
    use super::*;

    #[test]
    fn the_messages_of_a_page_are_counted_and_its_last_position_is_found() {
        let page = br#"[["id","a-1","T",0,1,{"n":1},null,"t"],["id","a-1","T",1,27,{"n":1},null,"t"]]"#;
        assert_eq!((count(page), last_position(page)), (2, Some(27)));
        assert_eq!((count(b"[]"), last_position(b"[]")), (0, None));
    }

    #[test]
    fn every_place_makes_valid_requests_for_pages_that_are_there() {
        let filled = Filled { first: 11, last: 1_000_010 };
        for (place, there) in [
            (Place::Stream(200), 0..=100),
            (Place::StreamTail([199; 64].into()), 0..=100),
            (Place::Tail, 1_000_010 - 8_000..=1_000_010 - 2_000),
            (Place::Anywhere, 11..=1_000_010 - 2_000),
            (Place::Member(8), 11..=1_000_010 - 16_000),
        ] {
            let mut lane = Read::new(&address(), &names(), place.clone(), filled, 1, 0);
            for _ in 0..100 {
                let call = body(&mut lane);
                assert_eq!(call[2]["batchSize"], PAGE, "{place:?}");
                let position = call[2]["position"].as_u64().unwrap();
                assert!(there.contains(&position), "{place:?}: {position}");
            }
        }
    }

    #[test]
    fn each_page_of_names_begins_elsewhere() {
        let mut lane = StreamNames::new(&address(), &names().with_uuids(), 1);
        let mut cursor = || {
            let call = body(&mut lane);
            assert_eq!(call[1]["limit"], PAGE);
            call[1]["cursor"].to_string()
        };
        assert_ne!(cursor(), cursor());
    }
}
