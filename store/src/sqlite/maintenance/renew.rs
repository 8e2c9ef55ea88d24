//! A copy of a log around the pages that SQLite cannot read, put in its place.
//!
//! Messages that can be read are copied, damaged ones as they are. The others are missing in the copy and count as
//! damaged there. Each of them can then be given up at its position.

use std::path::Path;

use eventodb_protocol::Timestamp;
use eventodb_schema::SQLITE_LOG;
use rusqlite::{Connection, params};

use super::super::checksum::{Checker, Seed};
use super::super::evidence;
use super::super::failure::is_damage;
use super::super::groups;
use super::super::whole_row::{self, Import};
use super::copied::Copied;
use super::files::{self, Namespace};
use super::rewrite::{Unfinished, put_in_place};
use super::{Error, Progress, Step, TELL_EVERY, database};

/// The result of renewing a log.
#[derive(Debug)]
pub(super) struct Renewed {
    /// The file with the damaged log.
    pub(super) damaged: String,
    /// The first and the last position of each stretch that could not be read.
    pub(super) unreadable: Vec<(i64, i64)>,
}

/// Copies a log that reaches `head`, and puts the copy in its place. The damaged one is kept beside it.
///
/// # Errors
/// [`Error`]; the log is as it was then, but for the renaming at the end.
pub(super) fn renew(
    path: &Path,
    namespace: &Namespace,
    head: i64,
    progress: &mut Progress<'_>,
) -> Result<Renewed, Error> {
    let source = files::open_live(path, SQLITE_LOG)?;
    let new = Unfinished::beside(path)?;
    let log = files::create_log(new.path())?;
    let written = database(new.path());
    whole_row::keep_identity(&source, &log).map_err(&written)?;
    if let Some(import) = Import::read(&source).map_err(database(path))? {
        import.insert(&log).map_err(&written)?;
    }
    whole_row::keep_given_up(&source, &log, i64::MAX).map_err(&written)?;
    groups::keep(&source, &log).map_err(&written)?;
    let seed = Seed::of(&evidence::identity(&log).map_err(&written)?);
    log.execute_batch("BEGIN").map_err(&written)?;
    let copying = Copying { source: &source, log: &log, seed, what: &namespace.name };
    let unreadable = copying.around(head, progress).map_err(database(path))?;
    log.execute_batch("COMMIT").map_err(&written)?;
    drop((source, log));
    let damaged = put_in_place(&new, path, Timestamp::now().as_micros())?;
    Ok(Renewed { damaged, unreadable })
}

/// A copy under way.
struct Copying<'a> {
    source: &'a Connection,
    log: &'a Connection,
    seed: Seed,
    what: &'a str,
}

impl Copying<'_> {
    /// Copies the messages that can be read, up to the head. Returns the stretches of positions that cannot be read.
    fn around(&self, head: i64, progress: &mut Progress<'_>) -> rusqlite::Result<Vec<(i64, i64)>> {
        let mut unreadable = Vec::new();
        let mut after = 0;
        while after < head {
            after = self.copy(after, head, progress)?;
            if after == head {
                break;
            }
            let next = next_readable(self.source, after, head)?;
            if next > after + 1 {
                unreadable.push((after + 1, next - 1));
            }
            if next <= head {
                // Found by its position alone, because messages may be out of order.
                self.copy(next - 1, next, progress)?;
            }
            after = next;
        }
        Ok(unreadable)
    }

    /// Copies the messages behind a position up to another. Returns how far it came: to the end, or to a message that
    /// cannot be read.
    fn copy(&self, after: i64, to: i64, progress: &mut Progress<'_>) -> rusqlite::Result<i64> {
        let checker = Checker::of_log(self.source)?;
        let mut select = self.source.prepare(files::whole_rows(self.source)?)?;
        let mut insert = self.log.prepare_cached(include_str!("../sql/append.sql"))?;
        let mut rows = select.query(params![after, to])?;
        let mut last = after;
        loop {
            let copied = match rows.next().and_then(|row| row.map(|row| Copied::read(row, &checker)).transpose()) {
                Ok(Some(copied)) if copied.global_position() > last => copied,
                // Out of order: the next message is found by its position.
                Ok(Some(_)) => return Ok(last),
                Ok(None) => return Ok(to),
                Err(error) if is_damage(&error) => return Ok(last),
                Err(error) => return Err(error),
            };
            copied.insert(&mut insert, self.seed)?;
            last = copied.global_position();
            if last.unsigned_abs().is_multiple_of(TELL_EVERY) {
                progress(Step { what: self.what, done: last.unsigned_abs(), of: to.unsigned_abs() });
            }
        }
    }
}

/// The first position above `after` whose message can be read, or the one behind the head.
fn next_readable(source: &Connection, after: i64, head: i64) -> rusqlite::Result<i64> {
    let mut select = source.prepare(files::whole_rows(source)?)?;
    for at in after + 1..=head {
        let mut rows = select.query(params![at - 1, at])?;
        match rows.next() {
            Ok(Some(_)) => return Ok(at),
            Ok(None) => {}
            Err(error) if is_damage(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(head + 1)
}
