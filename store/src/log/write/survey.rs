//! What is known of the messages of a stretch of the log, for conditions that ask about many.
//!
//! A condition on older messages is a search in the storage, whose cost grows with the messages that it is about. One at
//! a time is made for each log, so that they leave the storage to others. Once the searches have looked at more than a
//! survey would, a survey is made: all messages of the stretch are read once, and their categories and types noted. From
//! then on a condition about this stretch is answered from memory, and the stretch goes on with the tail.
//!
//! **Invariant:** every message that readers see above `Stretch::above` and up to `Stretch::upto` is in its `kinds`.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::{Direction, Filter, Scope};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::super::base::Base;
use super::kinds::Kinds;
use crate::error::{Error, Result};
use crate::model::{Axis, Columns, Select};

/// A survey reads whole messages, a search mostly the index: a survey begins once the searches have looked at this many
/// times what it has to read.
const WORTH: i64 = 4;
/// Pairs of a category and a type that are kept. A log that has more is searched for each condition.
const MOST_PAIRS: usize = 16_384;
/// The rows of one read of a survey, of which each is small, in those of another read.
const ROWS: usize = 16;
/// How long a condition waits for the searches of others.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a log knows of its messages.
#[derive(Debug)]
pub(in crate::log) struct Survey {
    known: Mutex<Known>,
    /// Whoever searches has it.
    turn: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    stretch: Option<Stretch>,
    /// Positions that searches have looked at since the last survey began.
    searched: i64,
    is_under_way: bool,
    /// No survey is made any more: the log has too many types, or a message cannot be read.
    is_given_up: bool,
    /// Counts how often everything was forgotten.
    forgotten: u64,
}

#[derive(Debug)]
struct Stretch {
    above: i64,
    upto: i64,
    kinds: Kinds,
}

/// What memory says about a condition.
enum Answer {
    /// The position of a message that matches.
    Found(i64),
    /// There is no match but in these ranges, from their first position to their last.
    Unknown([(i64, i64); 2]),
}

impl Default for Survey {
    fn default() -> Self {
        Self { known: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Survey {
    /// The log may have gone back: nothing is known any more.
    pub(super) fn forget(&self) {
        let mut known = self.known.lock();
        known.stretch = None;
        known.forgotten += 1;
    }
}

/// The position of a message that matches, above `above` and up to `head`, which readers see. A match behind `head` may be
/// found as well.
///
/// # Errors
/// Those of a read; [`Error::Damaged`] if a damaged message may match; [`Error::Unavailable`] if other searches take too
/// long.
pub(super) async fn find(base: &Arc<Base>, filter: &Arc<Filter>, above: i64, head: i64) -> Result<Option<i64>> {
    if filter.scope.is_nothing() {
        return Ok(None);
    }
    if let Some(answer) = from_memory(base, filter, above, head) {
        return Ok(answer);
    }
    let Ok(turn) = tokio::time::timeout(PATIENCE, base.survey.turn.acquire()).await else {
        return Err(Error::unavailable("other conditions are being looked up"));
    };
    let _turn = turn.expect("the semaphore is never closed");
    // A survey may have ended meanwhile.
    let ranges = match base.survey.answer(base, filter, above, head) {
        Answer::Found(at) => return Ok(Some(at)),
        Answer::Unknown(ranges) => ranges,
    };
    for (from, to) in ranges.into_iter().filter(|(from, to)| from <= to) {
        let found = search(base, filter, from, to).await?;
        survey_if_worth_it(base, above, found.unwrap_or(to) - from + 1);
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The answer, if memory has it.
fn from_memory(base: &Base, filter: &Arc<Filter>, above: i64, head: i64) -> Option<Option<i64>> {
    let ranges = match base.survey.answer(base, filter, above, head) {
        Answer::Found(at) => return Some(Some(at)),
        Answer::Unknown(ranges) => ranges,
    };
    for (from, to) in ranges.into_iter().filter(|(from, to)| from <= to) {
        let found = base.recent(&select(base, filter, from, to))?;
        if let Some(first) = found.entries.first() {
            return Some(Some(first.message().global_position));
        }
    }
    Some(None)
}

/// The position of the first match from `from` to `to`, both inclusive, by what the storage has.
async fn search(base: &Base, filter: &Arc<Filter>, from: i64, to: i64) -> Result<Option<i64>> {
    let mut select = select(base, filter, from, to);
    while select.from <= to {
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

fn select(base: &Base, filter: &Arc<Filter>, from: i64, to: i64) -> Select {
    Select {
        filter: Arc::clone(filter),
        axis: Axis::Global,
        from,
        to,
        head: to,
        direction: Direction::Forward,
        rows: 1,
        bytes: base.settings.slice_bytes,
        columns: Columns::Positions,
    }
}

impl Survey {
    fn answer(&self, base: &Base, filter: &Filter, above: i64, head: i64) -> Answer {
        let mut known = self.known.lock();
        known.go_on(base);
        let Some(stretch) = &known.stretch else { return Answer::Unknown([(above + 1, head), (1, 0)]) };
        match stretch.kinds.last(filter, above) {
            Some(at) => Answer::Found(at),
            None => Answer::Unknown([(above + 1, stretch.above.min(head)), (stretch.upto.max(above) + 1, head)]),
        }
    }
}

impl Known {
    /// Takes the stretch on to the head, if the tail reaches back to its end.
    fn go_on(&mut self, base: &Base) {
        let Some(stretch) = &mut self.stretch else { return };
        if !base.window.reaches_back_to(stretch.upto) {
            return;
        }
        let (since, entries) = base.window.after(stretch.upto);
        if since != stretch.upto {
            return;
        }
        for entry in &entries {
            stretch.kinds.note(entry.message().as_ref());
            stretch.upto = entry.message().global_position;
        }
        self.bound();
    }

    fn bound(&mut self) {
        if self.stretch.as_ref().is_some_and(|stretch| stretch.kinds.pairs() > MOST_PAIRS) {
            (self.stretch, self.is_given_up) = (None, true);
        }
    }

    /// What a survey has to read so that a condition above `above` is answered from memory: the ranges (above, up to).
    fn missing(&self, above: i64, head: i64) -> [(i64, i64); 2] {
        match &self.stretch {
            None => [(above, head), (0, 0)],
            Some(stretch) => [(above.min(stretch.above), stretch.above), (stretch.upto, head.max(stretch.upto))],
        }
    }
}

/// A search for a condition above `above` has looked at this many positions: has a survey made, if that is worth it by now.
fn survey_if_worth_it(base: &Arc<Base>, above: i64, searched: i64) {
    let mut known = base.survey.known.lock();
    known.searched += searched;
    let ranges = known.missing(above, base.window.head());
    let length: i64 = ranges.iter().map(|(above, upto)| upto - above).sum();
    if known.is_given_up || known.is_under_way || length == 0 || known.searched < length.saturating_mul(WORTH) {
        return;
    }
    (known.is_under_way, known.searched) = (true, 0);
    let forgotten = known.forgotten;
    drop(known);
    let base = Arc::clone(base);
    tokio::spawn(async move {
        let read = read(&base, ranges).await;
        let mut known = base.survey.known.lock();
        known.is_under_way = false;
        match read {
            Ok(Some(kinds)) if known.forgotten == forgotten && !known.is_given_up => known.add(ranges, &kinds),
            Ok(Some(_)) => {}
            Ok(None) => known.is_given_up = true,
            // The next searches have another one made.
            Err(error) => {
                tracing::debug!(namespace = %base.namespace, %error, "a survey for conditions was broken off")
            }
        }
    });
}

impl Known {
    /// Adds what a survey of these ranges has found.
    fn add(&mut self, ranges: [(i64, i64); 2], kinds: &Kinds) {
        let [(above, _), _] = ranges;
        let upto = ranges.iter().map(|(_, upto)| *upto).max().unwrap_or_default();
        let stretch = self.stretch.get_or_insert_with(|| Stretch { above, upto, kinds: Kinds::default() });
        stretch.kinds.take(kinds);
        // The stretch may have gone on with the tail meanwhile.
        (stretch.above, stretch.upto) = (stretch.above.min(above), stretch.upto.max(upto));
        self.bound();
    }
}

/// Notes all messages of these ranges (above, up to). `None` if they are of too many types, or one cannot be read.
async fn read(base: &Base, ranges: [(i64, i64); 2]) -> Result<Option<Kinds>> {
    let mut kinds = Kinds::default();
    let everything = Arc::new(Filter::new(Scope::All));
    for (above, upto) in ranges {
        let rows = base.settings.slice_rows.saturating_mul(ROWS);
        let mut select = Select { rows, ..select(base, &everything, above + 1, upto) };
        while select.from <= upto {
            base.window.open_or_closed()?;
            base.pauses.at("before a survey's slice").await;
            let turn = base.call_reads().await?;
            let slice = match base.stored(&select).await {
                Err(Error::Damaged(_)) => return Ok(None),
                slice => slice?,
            };
            drop(turn);
            slice.rows.iter().for_each(|message| kinds.note(message));
            if kinds.pairs() > MOST_PAIRS {
                return Ok(None);
            }
            select.from = slice.covered.saturating_add(1);
        }
    }
    Ok(Some(kinds))
}

#[cfg(test)]
impl Survey {
    /// Whether no survey is made any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.known.lock().is_given_up
    }
}
