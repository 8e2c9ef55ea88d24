//! The searches of the storage for conditions that memory does not answer, and the surveys that spare them.
//!
//! A search costs the more, the more messages a condition is about. One at a time is made for each log, so that they leave
//! the storage to others. Once the searches have looked at more than a survey would, a survey is made: all messages of the
//! stretch are read once, and their categories and types noted.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::{Direction, Filter, Scope};

use super::super::base::Base;
use super::super::kinds::Kinds;
use super::super::survey::{Answer, MOST_PAIRS};
use crate::error::{Error, Result};
use crate::model::{Axis, Columns, Select};

/// The rows of one read of a survey, of which each is small, in those of another read.
const ROWS: usize = 16;
/// How long a condition waits for the searches of others.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let ranges = match base.survey.answer(&base.window, filter, above, head) {
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
    let ranges = match base.survey.answer(&base.window, filter, above, head) {
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

/// A search for a condition above `above` has looked at this many positions: has a survey made, if that is worth it by now.
fn survey_if_worth_it(base: &Arc<Base>, above: i64, searched: i64) {
    let Some(due) = base.survey.note_search(above, searched, base.window.head()) else { return };
    let base = Arc::clone(base);
    tokio::spawn(async move {
        match read(&base, due.ranges).await {
            Ok(Some(kinds)) => base.survey.add(&due, &kinds),
            Ok(None) => base.survey.give_up(),
            Err(error) => {
                tracing::debug!(namespace = %base.namespace, %error, "a survey for conditions was broken off");
                base.survey.break_off();
            }
        }
    });
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
