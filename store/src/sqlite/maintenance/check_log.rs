//! Checking the content of a log.

use std::path::Path;

use eventodb_protocol::group::Epoch;
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::super::checksum::{Checker, Verdict, column};
use super::super::failure::is_damage;
use super::super::whole_row::{Import, WholeRow};
use super::{Progress, Step, TELL_EVERY, files};
use crate::error::Chain;
use crate::groups::State;

/// Number of problems of one file that are reported; more are only counted.
const TELL_MOST: usize = 20;

/// The problems of a file, in words.
#[derive(Debug, Default)]
pub(super) struct Problems {
    told: Vec<String>,
    untold: usize,
}

impl Problems {
    pub(super) fn add(&mut self, problem: impl Into<String>) {
        if self.told.len() < TELL_MOST {
            self.told.push(problem.into());
        } else {
            self.untold += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    pub(super) fn into_lines(mut self) -> Vec<String> {
        if self.untold > 0 {
            self.told.push(format!("and {} more", self.untold));
        }
        self.told
    }
}

/// The findings about a log.
#[derive(Debug, Default)]
pub(super) struct LogCheck {
    pub(super) messages: u64,
    pub(super) head: i64,
    /// Number of global positions that an import or a repair left out.
    pub(super) gaps: u64,
    /// Messages of an earlier version that have no checksum yet.
    pub(super) unchecked: u64,
    /// Global positions of messages that are not as they were written; empty if not all of the log could be read.
    pub(super) damaged: Vec<i64>,
    pub(super) problems: Problems,
}

/// Checks everything in a log.
pub(super) fn check(log: &Connection, file: &Path, progress: &mut Progress<'_>) -> LogCheck {
    let mut check = LogCheck::default();
    pages(log, &mut check.problems);
    let import = Import::read(log).unwrap_or_else(|error| {
        check.problems.add(format!("its note about imports cannot be read: {error}"));
        None
    });
    // Messages above the last imported one were written, so their global positions have no gap.
    let dense_after = import.map_or(0, |import| import.last_position);
    if let Err(error) = rows(log, file, dense_after, &mut check, progress) {
        check.problems.add(format!("after global position {} nothing can be read: {error}", check.head));
        check.damaged.clear();
        return check;
    }
    if let Err(error) = groups(log, &mut check) {
        check.problems.add(format!("its consumer groups cannot be read: {error}"));
    }
    if !check.damaged.is_empty() {
        // The columns of a damaged message cannot be relied on.
        return check;
    }
    for part in [streams, ids] {
        if let Err(error) = part(log, dense_after, &mut check.problems) {
            check.problems.add(format!("it cannot be sorted: {error}"));
        }
    }
    check
}

/// Owners, epochs and positions of the groups.
fn groups(log: &Connection, check: &mut LogCheck) -> rusqlite::Result<()> {
    if !log.table_exists(None, "groups")? {
        return Ok(());
    }
    let last_epoch = log.query_row("SELECT coalesce(max(last), 0) FROM group_epoch", [], |row| row.get(0))?;
    let mut select = log.prepare("SELECT name, state FROM groups ORDER BY name")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (name, state): (String, String) = (row.get(0)?, row.get(1)?);
        let faults = match State::read(&state) {
            Ok(state) => state.faults(check.head, Epoch::from_number(last_epoch)),
            Err(error) => vec![Chain(&error).to_string()],
        };
        faults.iter().for_each(|fault| check.problems.add(format!("group {name}: {fault}")));
    }
    let mut select = log.prepare("SELECT group_name, stream FROM group_parked WHERE handled > ?1")?;
    let mut rows = select.query([check.head])?;
    while let Some(row) = rows.next()? {
        let (name, stream): (String, String) = (row.get(0)?, row.get(1)?);
        check.problems.add(format!("group {name}: stream {stream} is parked above the head"));
    }
    Ok(())
}

/// SQLite's own check of the pages.
pub(super) fn pages(database: &Connection, problems: &mut Problems) {
    let found = database.prepare("PRAGMA integrity_check(20)").and_then(|mut check| {
        check.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
    });
    match found {
        Ok(lines) => lines.iter().filter(|line| *line != "ok").for_each(|line| problems.add(line)),
        Err(error) => problems.add(format!("SQLite cannot read it: {error}")),
    }
}

fn rows(
    log: &Connection,
    file: &Path,
    dense_after: i64,
    check: &mut LogCheck,
    progress: &mut Progress<'_>,
) -> rusqlite::Result<()> {
    let name = files::name_of(file);
    let of: i64 = log.query_row("SELECT coalesce(max(global_position), 0) FROM messages", [], |row| row.get(0))?;
    let snapshot = log.unchecked_transaction()?;
    let checker = Checker::of_log(&snapshot)?;
    let mut select = snapshot.prepare(files::whole_rows(&snapshot)?)?;
    let mut rows = select.query(params![0, i64::MAX])?;
    while let Some(row) = rows.next()? {
        let at: i64 = row.get(column::GLOBAL_POSITION)?;
        if at != check.head + 1 {
            check.gaps += (at - check.head - 1).unsigned_abs();
            if at > dense_after {
                check.problems.add(format!("global positions {} to {} are missing", check.head + 1, at - 1));
            }
        }
        look_at(row, at, &checker, check)?;
        check.head = at;
        check.messages += 1;
        if check.messages.is_multiple_of(TELL_EVERY) {
            progress(Step { what: &name, done: at.unsigned_abs(), of: of.unsigned_abs() });
        }
    }
    Ok(())
}

/// Checks one message, without comparing it with others.
fn look_at(row: &Row<'_>, at: i64, checker: &Checker<'_>, check: &mut LogCheck) -> rusqlite::Result<()> {
    let verdict = checker.check(row)?;
    check.unchecked += u64::from(verdict == Verdict::Unchecked);
    let fault = match (verdict, WholeRow::read(row)) {
        (Verdict::Damaged, _) => Some("it is not as it was written"),
        (_, Ok(whole)) => whole.fault(),
        (_, Err(error)) if is_damage(&error) => Some("one of its columns has a value of a wrong type"),
        (_, Err(error)) => return Err(error),
    };
    if let Some(fault) = fault {
        check.problems.add(format!("the message at global position {at} is damaged: {fault}"));
        check.damaged.push(at);
    }
    Ok(())
}

fn streams(log: &Connection, dense_after: i64, problems: &mut Problems) -> rusqlite::Result<()> {
    let mut select = log.prepare(
        "SELECT stream, position, global_position, starts_stream FROM messages ORDER BY stream, global_position",
    )?;
    let mut rows = select.query([])?;
    let (mut stream, mut last, mut last_at) = (String::new(), None, 0);
    let given_up = given_up_elsewhere(log)?;
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_str()?;
        if name != stream {
            name.clone_into(&mut stream);
            (last, last_at) = (None, 0);
        }
        let (position, at, starts): (i64, i64, bool) = (row.get(1)?, row.get(2)?, row.get(3)?);
        if starts != last.is_none() {
            let not = if starts { "not " } else { "" };
            problems
                .add(format!("the message at global position {at} is marked wrongly: it is {not}its stream's first"));
        }
        match last {
            Some(last) if position == last => problems
                .add(format!("stream {stream} has position {position} twice, the second time at global position {at}")),
            Some(last) if position < last => problems
                .add(format!("stream {stream} goes back from position {last} to {position} at global position {at}")),
            _ if given_up.iter().any(|given_up| (last_at..at).contains(given_up)) => {}
            _ if at > dense_after && position != last.map_or(0, |last: i64| last + 1) => {
                problems.add(format!("stream {stream} leaves out positions before {position} at global position {at}"))
            }
            _ => {}
        }
        last = Some(last.map_or(position, |last| last.max(position)));
        last_at = at;
    }
    Ok(())
}

/// Global positions of messages that a repair gave up without knowing their streams. Each leaves a gap in the
/// positions of one stream.
fn given_up_elsewhere(log: &Connection) -> rusqlite::Result<Vec<i64>> {
    if files::version(log)? == 1 {
        return Ok(Vec::new());
    }
    let mut select = log.prepare(include_str!("../sql/given_up_elsewhere.sql"))?;
    select.query_map([], |row| row.get(0))?.collect()
}

fn ids(log: &Connection, _: i64, problems: &mut Problems) -> rusqlite::Result<()> {
    let mut select = log.prepare("SELECT id, global_position FROM messages ORDER BY id, global_position")?;
    let mut rows = select.query([])?;
    let mut last: Option<(Uuid, i64)> = None;
    while let Some(row) = rows.next()? {
        let (id, at) = (Uuid::from_bytes(row.get(0)?), row.get(1)?);
        match last {
            Some((known, first)) if known == id => {
                problems.add(format!("id {id} is there twice, at global positions {first} and {at}"));
            }
            _ => last = Some((id, at)),
        }
    }
    Ok(())
}
