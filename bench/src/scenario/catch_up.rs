//! The preloaded log, read once: by pages, and by a subscription.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Context as _;

use super::read::count;
use crate::load::{Lane, Loaded};
use crate::measure::{Gauge, Measured};
use crate::wire::{Address, Events, Reply, Template, pokes};

/// A lane that reads message after message, a page of 1,000 after the other.
#[derive(Debug)]
pub(crate) struct Pages {
    template: Template,
    position_at: usize,
    position: u64,
    until: u64,
    is_done: bool,
}

const POSITION: &str = "                   1";

impl Pages {
    /// From the first message to that at `until`, or the end where that comes before.
    pub(crate) fn new(address: &Address, until: u64) -> Self {
        let template = address.call(&format!(r#"["category.get","",{{"position":{POSITION},"batchSize":1000}}]"#));
        let position_at = template.find(POSITION).expect("the position stands in the body");
        Self { template, position_at, position: 1, until, is_done: false }
    }
}

impl Lane for Pages {
    fn request(&mut self) -> &[u8] {
        self.template.patch(self.position_at, &format!("{:>20}", self.position));
        self.template.bytes()
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        let messages = count(reply.success()?);
        let last = match reply.header("x-eventodb-head") {
            Some(head) => head.parse()?,
            None => last_position(reply.body).unwrap_or_default(),
        };
        self.is_done = messages == 0 || last < self.position || last >= self.until;
        self.position = last + 1;
        Ok(messages)
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}

/// The global position of a page's last message, where the server says it nowhere else.
pub(crate) fn last_position(page: &[u8]) -> Option<u64> {
    let at = memchr::memmem::rfind(page, b"[\"")?;
    let message: serde_json::Value = serde_json::from_slice(page.get(at..page.len() - 1)?).ok()?;
    message.get(4)?.as_u64()
}

/// Reads pokes from the first up to that of `head`.
pub(crate) async fn subscribe(address: &Address, head: u64, gauge: Arc<Gauge>) -> anyhow::Result<Loaded> {
    let head = i64::try_from(head).context("a head beyond all positions")?;
    let mut measured = Measured::default();
    let begin = Instant::now();
    let mut events = Events::open(address, "all=true&position=1").await?;
    let mut last = 0;
    while last < head && !gauge.is_stopped() {
        let (asked, mut found, mut in_order) = (Instant::now(), 0, true);
        events
            .next(|frames| {
                for position in pokes(frames) {
                    in_order &= position > last;
                    (last, found) = (position, found + 1);
                }
            })
            .await?;
        anyhow::ensure!(in_order, "pokes out of order near {last}");
        gauge.requests.fetch_add(found, Ordering::Relaxed);
        measured.answer(asked.elapsed(), begin.elapsed(), found);
    }
    Ok(Loaded { measured, elapsed: begin.elapsed(), ..Loaded::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pages_last_position_is_read_from_its_last_message() {
        let page = br#"[["id","a-1","T",0,1,{"n":1},null,"t"],["id","a-1","T",1,27,{"n":1},null,"t"]]"#;
        assert_eq!(last_position(page), Some(27));
        assert_eq!(last_position(b"[]"), None);
    }
}
