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

use eventodb_protocol::condition::Condition;
use eventodb_protocol::message::Message;
use eventodb_protocol::request::Append;
use eventodb_protocol::{Direction, Filter, Scope};
use foldhash::HashMap;

use super::super::base::Base;
use super::follow;
use crate::error::Result;
use crate::model::{Axis, Columns, Select};

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
    pub(super) async fn look(&mut self, base: &Base) -> Result<()> {
        base.window.open_or_closed()?;
        let head = base.window.head();
        for sighted in self.conditions.iter_mut().filter(|sighted| sighted.found.is_none()) {
            sighted.found = sighted.first_between(base, self.upto, head).await?;
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
            .map(|sighted| sighted.found.or_else(|| recent.last(&sighted.filter, sighted.after.max(self.upto))))
    }
}

impl Sighted {
    fn of(condition: &Condition) -> Self {
        let filter = Arc::new(condition.matching.filter());
        Self { filter, after: condition.after.unwrap_or(0), found: None }
    }

    /// The position of the first match above `upto` and up to `head`.
    async fn first_between(&self, base: &Base, upto: i64, head: i64) -> Result<Option<i64>> {
        let mut select = Select {
            filter: Arc::clone(&self.filter),
            axis: Axis::Global,
            from: self.after.max(upto).saturating_add(1),
            to: head,
            head,
            direction: Direction::Forward,
            rows: 1,
            bytes: base.settings.slice_bytes,
            columns: Columns::Positions,
        };
        while select.from <= head && !self.filter.scope.is_nothing() {
            if let Some(found) = base.recent(&select) {
                return Ok(found.entries.first().map(|entry| entry.message().global_position));
            }
            base.pauses.at("before a condition's slice").await;
            let turn = base.call_reads().await?;
            let slice = base.stored(&select).await?;
            drop(turn);
            if let Some(first) = slice.rows.last() {
                return Ok(Some(first.global_position));
            }
            select.from = slice.covered.saturating_add(1);
        }
        Ok(None)
    }
}

/// The messages at the log's end, by what conditions ask for: the last position of each category and of each type in it.
/// A condition costs a look for each pair of its names, however many messages there are.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Every message above this global position is noted.
    since: i64,
    all: Last,
    categories: HashMap<Box<str>, Last>,
}

/// The last message of the log or of a category, and of each type in it.
#[derive(Debug, Default)]
struct Last {
    position: i64,
    types: HashMap<Arc<str>, i64>,
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
        let Message { kind, global_position, .. } = message;
        match self.categories.get_mut(message.category()) {
            Some(last) => last.note(kind, *global_position),
            None => {
                let mut last = Last::default();
                last.note(kind, *global_position);
                self.categories.insert(message.category().into(), last);
            }
        }
        self.all.note(kind, *global_position);
    }

    /// The last position above `after` of a message that matches.
    fn last(&self, filter: &Filter, after: i64) -> Option<i64> {
        let last = match &filter.scope {
            Scope::Categories(names) => {
                let places = names.iter().filter_map(|name| self.categories.get(&**name));
                places.filter_map(|last| last.of(&filter.types)).max()
            }
            // A condition names no stream.
            Scope::All | Scope::Stream(_) => self.all.of(&filter.types),
        };
        last.filter(|last| *last > after)
    }
}

impl Last {
    fn note(&mut self, kind: &Arc<str>, position: i64) {
        self.position = position;
        match self.types.get_mut(kind) {
            Some(last) => *last = position,
            None => {
                self.types.insert(Arc::clone(kind), position);
            }
        }
    }

    /// The last position of a message of one of these types; of any if there are none.
    fn of(&self, types: &[Arc<str>]) -> Option<i64> {
        if types.is_empty() {
            return (self.position > 0).then_some(self.position);
        }
        types.iter().filter_map(|kind| self.types.get(kind)).copied().max()
    }
}
