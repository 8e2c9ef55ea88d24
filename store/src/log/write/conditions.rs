//! The conditions of appends: is there a message that matches?
//!
//! A condition may be about every message of the log. It is looked up before the append waits, by reads that hold up no
//! other append, up to the head h of that moment. With the batch only the messages above h are looked at ([`Recent`]):
//! those that the tail has, and those of batches that stand before the append and are not shown yet.
//!
//! If the tail does not reach back to h any more, the append goes round once more: it is looked up again, only above h, and
//! waits again. If that happens [`ROUNDS`] times, the sequencer reads what is missing, so that an append is decided however
//! fast others write.

use std::sync::Arc;

use eventodb_protocol::Filter;
use eventodb_protocol::condition::Condition;
use eventodb_protocol::message::Message;
use eventodb_protocol::request::Append;

use super::super::base::Base;
use super::super::kinds::Kinds;
use super::{follow, searches};
use crate::error::Result;

/// How often an append is looked up. After the last time the sequencer reads what the tail does not have.
const ROUNDS: u32 = 2;

/// What is known of the conditions of one append.
#[derive(Debug)]
pub(super) struct Sight {
    /// Every message up to this global position was looked at.
    upto: i64,
    rounds: u32,
    /// In the order of the checks.
    conditions: Vec<Sighted>,
}

/// What is known of one condition.
#[derive(Debug)]
struct Sighted {
    filter: Arc<Filter>,
    /// Only messages above this global position count.
    after: i64,
    /// The position of a message that matches.
    found: Option<i64>,
}

impl Sight {
    /// Of an append; `None` if it has no condition.
    pub(super) fn of(append: &Append) -> Option<Self> {
        let conditions: Vec<Sighted> = append.conditions().map(Sighted::of).collect();
        (!conditions.is_empty()).then_some(Self { upto: 0, rounds: 0, conditions })
    }

    /// Looks for matches among the messages that readers see by now and that were not looked at before.
    ///
    /// # Errors
    /// Those of a read; [`crate::Error::Damaged`] if a damaged message may match.
    pub(super) async fn look(&mut self, base: &Arc<Base>) -> Result<()> {
        base.window.open_or_closed()?;
        let head = base.window.head();
        for sighted in self.conditions.iter_mut().filter(|sighted| sighted.found.is_none()) {
            let above = sighted.after.max(self.upto);
            sighted.found = searches::find(base, &sighted.filter, above, head).await?;
        }
        self.upto = self.upto.max(head);
        self.rounds += 1;
        Ok(())
    }

    /// Whether it is to be looked up once more, because the messages that were not looked at are not all in `recent`.
    pub(super) fn is_outrun(&self, recent: &Recent) -> bool {
        self.upto < recent.since
    }

    /// For each condition, in the order of the checks, the position of a message that matches, if there is one.
    pub(super) fn found(&self, recent: &Recent) -> impl Iterator<Item = Option<i64>> {
        self.conditions
            .iter()
            .map(|sighted| sighted.found.or_else(|| recent.kinds.last(&sighted.filter, sighted.after.max(self.upto))))
    }
}

impl Sighted {
    fn of(condition: &Condition) -> Self {
        let filter = Arc::new(condition.matching.filter());
        Self { filter, after: condition.after.unwrap_or(0), found: None }
    }
}

/// The messages at the log's end, by what conditions ask for.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Every message above this global position is noted.
    since: i64,
    kinds: Kinds,
}

impl Recent {
    /// The messages that readers see and these appends were not looked up for: those that the tail has, and those before
    /// it that an append needs that was looked up often enough.
    ///
    /// # Errors
    /// The storage's.
    pub(super) async fn above(base: &Base, sights: impl Iterator<Item = &Sight> + Clone) -> Result<Self> {
        let Some(lowest) = sights.clone().map(|sight| sight.upto).min() else { return Ok(Self::default()) };
        let (since, entries) = base.window.after(lowest);
        let mut recent = Self { since, ..Self::default() };
        let last_round = sights.filter(|sight| sight.rounds >= ROUNDS).map(|sight| sight.upto).min();
        if let Some(upto) = last_round.filter(|upto| *upto < since) {
            let missing = follow::entries_between(base, upto, since).await?;
            missing.iter().for_each(|entry| recent.note(entry.message()));
            recent.since = upto;
        }
        entries.iter().for_each(|entry| recent.note(entry.message()));
        Ok(recent)
    }

    /// Notes a message that stands behind all that were noted.
    pub(super) fn note(&mut self, message: &Message) {
        self.kinds.note(message.as_ref());
    }
}
