//! Evidence about a log from outside its file: its identity, and the head that it has reached.
//!
//! If the end of a write-ahead log is damaged, cut or gone, SQLite reports no error and opens the log as it was some
//! commits earlier. The registry's mark and the index show that it was longer.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::connection::{self, Attach};
use super::paths::set_up;
use super::registry::Noted;
use crate::model::Incarnation;

/// Whether a log's identity is that of its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// It is, or the log has no message and may be given it.
    Same,
    /// The namespace has none yet, because an earlier version made it.
    Unknown,
    /// It is the log of another namespace.
    Foreign,
}

/// Compares the identity of a log, attached as `log`, with its namespace's. A log without messages is given it, because
/// it was made a moment ago, or lost everything.
///
/// # Errors
/// SQLite's.
pub(super) fn identify(log: &Connection, noted: &Noted, head: i64) -> rusqlite::Result<Identity> {
    let (own, found) = (noted.identity.as_deref(), identity(log)?);
    let compared = compare(own, &found, head == 0);
    if compared == Identity::Same && own != Some(&found) {
        log.execute("UPDATE log.identity SET identity = ?1", [own])?;
    }
    Ok(compared)
}

/// Compares the identity that was `found` in a log with its namespace's `own`. That of a log without messages says nothing:
/// a server that was killed when it had made the log leaves a random one.
pub(super) fn compare(own: Option<&[u8]>, found: &[u8], is_empty: bool) -> Identity {
    match own {
        None => Identity::Unknown,
        Some(own) if own == found || is_empty => Identity::Same,
        Some(_) => Identity::Foreign,
    }
}

/// The identity of a log, attached as `log`.
///
/// # Errors
/// SQLite's.
pub(super) fn identity(log: &Connection) -> rusqlite::Result<Vec<u8>> {
    log.query_row("SELECT identity FROM log.identity", [], |row| row.get(0))
}

/// A head that a log of this identity is known to have had.
pub(super) fn known_head(noted: &Noted, index: &Path, identity: &[u8]) -> i64 {
    // The head was marked when the log was closed, and the count noted. Until then the index may know a later one.
    let seen = if noted.messages.is_none() { seen_by_index(index, identity) } else { None };
    noted.marked_head.max(seen.unwrap_or(0))
}

/// Logs that a log has lost its end.
pub(super) fn tell_of_lost_end(incarnation: Incarnation, head: i64, known: i64) {
    tracing::error!(
        incarnation = incarnation.0,
        head,
        known,
        "the log has lost its end: it takes no writes until its files are restored or the loss is accepted with \
         `eventodb repair --accept-loss`"
    );
}

/// The global position up to which an index has seen the log of this identity. `None` if it is the index of another
/// log, cannot be read, or contradicts itself: a damaged index is no evidence against a log.
pub(super) fn seen_by_index(index: &Path, identity: &[u8]) -> Option<i64> {
    if !index.exists() {
        return None;
    }
    // A step of the schema may empty it. What is asked for is in every version.
    let connection = connection::open(&[Attach::index_as_it_is(index.to_owned())]).ok()?;
    set_up(&connection).ok()?;
    connection.query_row(include_str!("sql/index_seen.sql"), [identity], |row| row.get(0)).optional().ok()?
}
