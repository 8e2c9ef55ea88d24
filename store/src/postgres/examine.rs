//! A look at a database for `eventodb doctor`: what its sessions begin with, who else uses it, and whether a pooler is in
//! between. It changes nothing.

use std::time::Duration;

use eventodb_protocol::Timestamp;
use tokio_postgres::Row;

use super::connection::Connection;
use super::error::OpenError;
use super::migrate::MigrateError;
use super::owner;
use super::registry;
use super::settings::Settings;
use super::statement::{BEGINNING, EXPIRING, HEAD, LAST_MESSAGE, SERVER, SESSIONS, schema};
use super::survey::{self, SchemaState, Survey};
use super::time::Time;
use crate::model::Incarnation;

/// Rounds in which two sessions are compared to find a pooler.
const ROUNDS: usize = 5;
/// Logs whose ends are read.
const LOGS: usize = 1000;

/// What was found.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The version of PostgreSQL, as a number and as text.
    pub version: (i32, String),
    /// The encoding of the database.
    pub encoding: String,
    /// Its name.
    pub database: String,
    /// Whether commits reach the disk.
    pub fsync: bool,
    /// Whether a page that was half written can be mended.
    pub full_page_writes: bool,
    /// Whether a page that the disk changed is noticed.
    pub data_checksums: bool,
    /// `synchronous_commit` as a session of this role begins.
    pub synchronous_commit: String,
    /// `search_path` as a session of this role begins.
    pub search_path: String,
    /// Most sessions that the whole server takes from roles that are no superusers.
    pub connections: i32,
    /// Whether this role may create schemas.
    pub may_create: bool,
    /// Whether sessions may only read.
    pub is_read_only: bool,
    /// What another role owns, if anything does.
    pub stranger: Option<String>,
    /// By how many microseconds this machine's clock is ahead of the database's. Differences within the time of the question
    /// count as none.
    pub clock_ahead: i64,
    /// The time of one question and its answer.
    pub round_trip: Duration,
    /// Whether a pooler gives a session another connection for each transaction.
    pub is_pooled: bool,
    /// The names that other sessions with this database have.
    pub sessions: Vec<String>,
    /// The registry and the logs.
    pub schemas: Vec<SchemaState>,
    /// The latest time of a log that was read, and the log's schema.
    pub last_time: Option<(Timestamp, String)>,
    /// Logs that end elsewhere than their last messages, because messages were deleted or not restored: the log's schema, where
    /// it ends, and the position of the last message, 0 if there is none.
    pub missing: Vec<(String, i64, i64)>,
    /// Tokens that end before the time that was named: id, namespace, end.
    pub expiring: Vec<(String, String, Timestamp)>,
}

/// Looks at the database. Tokens that end between these two times are listed.
///
/// # Errors
/// There is no session with it, or a question fails.
pub(super) async fn examine(settings: &Settings, from: Timestamp, to: Timestamp) -> Result<Examined, OpenError> {
    // A prepared statement would fail behind a pooler, which is to be found.
    let settings = Settings { prepare: false, ..settings.clone() };
    let mut connection = Connection::open(&settings).await?;
    let about = connection.query_one(SERVER.on_registry(), &[]).await.map_err(MigrateError::from)?;
    let asked = Timestamp::now();
    let begins = connection.query_one(BEGINNING.on_registry(), &[]).await.map_err(MigrateError::from)?;
    let answered = Timestamp::now();
    let (Some(about), Some(begins)) = (about, begins) else {
        return Err(OpenError::other("it told nothing about itself"));
    };
    let Survey { schemas, round_trip } = survey::survey(&mut connection).await.map_err(MigrateError::from)?;
    let is_current = schemas.iter().all(|state| !state.needs_migration());
    let sessions = connection.query(SESSIONS.on_registry(), &[]).await.map_err(MigrateError::from)?;
    let expiring = match is_current {
        true => expiring(&mut connection, from, to).await?,
        false => Vec::new(),
    };
    let is_read_only: bool = about.get(7);
    let Ends { last_time, missing } = ends(&mut connection, schemas.len() > 1).await?;
    Ok(Examined {
        version: (about.get(0), about.get(1)),
        encoding: about.get(2),
        fsync: about.get(3),
        full_page_writes: about.get(4),
        may_create: about.get(5),
        database: about.get(6),
        is_read_only,
        data_checksums: about.get(8),
        synchronous_commit: begins.get(0),
        search_path: begins.get(1),
        connections: begins.get(3),
        clock_ahead: clock_ahead(asked, answered, begins.get::<_, Time>(2).0),
        round_trip,
        stranger: stranger(&mut connection, &schemas).await?,
        last_time,
        missing,
        is_pooled: is_pooled(&settings, &mut connection).await?,
        sessions: sessions.iter().map(|row| row.get(0)).collect(),
        schemas,
        expiring,
    })
}

/// The clock of the database was read between two looks at this machine's.
fn clock_ahead(asked: Timestamp, answered: Timestamp, theirs: Timestamp) -> i64 {
    let (from, to, theirs) = (asked.as_micros(), answered.as_micros(), theirs.as_micros());
    match () {
        () if theirs < from => from - theirs,
        () if theirs > to => to - theirs,
        () => 0,
    }
}

async fn expiring(
    connection: &mut Connection,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<(String, String, Timestamp)>, OpenError> {
    let rows = connection.query(EXPIRING.on_registry(), &[&Time(from), &Time(to)]).await.map_err(MigrateError::from)?;
    let token = |row: &Row| (row.get::<_, uuid::Uuid>(0).to_string(), row.get(1), row.get::<_, Time>(2).0);
    Ok(rows.iter().map(token).collect())
}

async fn stranger(connection: &mut Connection, schemas: &[SchemaState]) -> Result<Option<String>, OpenError> {
    for state in schemas {
        if let Some(stranger) = owner::find_stranger(connection, &state.schema).await.map_err(MigrateError::from)? {
            return Ok(Some(stranger.to_string()));
        }
    }
    Ok(None)
}

/// What was found at the ends of logs.
#[derive(Debug, Default)]
struct Ends {
    last_time: Option<(Timestamp, String)>,
    missing: Vec<(String, i64, i64)>,
}

/// Looks at the ends of the first logs.
async fn ends(connection: &mut Connection, has_logs: bool) -> Result<Ends, OpenError> {
    let logs = match has_logs {
        true => registry::logs(connection).await.map_err(MigrateError::from)?,
        false => Vec::new(),
    };
    let made: Vec<Incarnation> = logs.into_iter().filter(|(_, is_made)| *is_made).map(|(log, _)| log).collect();
    let mut ends = Ends::default();
    for log in made.into_iter().take(LOGS) {
        let head = connection.query_one(HEAD.on(log), &[&0_i64]).await.map_err(MigrateError::from)?;
        let time = head.and_then(|row| row.get::<_, Option<Time>>(2)).map(|time| (time.0, schema(log)));
        ends.last_time = ends.last_time.max(time);
        let end = connection.query_one(LAST_MESSAGE.on(log), &[]).await.map_err(MigrateError::from)?;
        let end = end.map(|row| (schema(log), row.get(0), row.get(1)));
        ends.missing.extend(end.filter(|(_, head, found)| head != found));
    }
    Ok(ends)
}

/// Whether two sessions that are open at once have the same process of PostgreSQL behind them, or one session changes its
/// process. Neither happens without a pooler that lends connections for a transaction at a time.
async fn is_pooled(settings: &Settings, one: &mut Connection) -> Result<bool, OpenError> {
    let mut other = Connection::open(settings).await?;
    for _ in 0..ROUNDS {
        let before = process(one).await?;
        other.begin().await.map_err(MigrateError::from)?;
        let held = process(&mut other).await?;
        // If it is the same process, a question of the first session could wait for it for ever.
        let after = if held == before { None } else { Some(process(one).await?) };
        other.rollback().await.map_err(MigrateError::from)?;
        if after != Some(before) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn process(connection: &mut Connection) -> Result<i32, OpenError> {
    let row = connection.query_one(BEGINNING.on_registry(), &[]).await.map_err(MigrateError::from)?;
    Ok(row.ok_or_else(|| OpenError::other("it told nothing about itself"))?.get(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_differs_only_if_it_cannot_have_been_the_same() {
        let at = Timestamp::from_micros;
        assert_eq!(clock_ahead(at(100), at(200), at(150)), 0);
        assert_eq!(clock_ahead(at(100), at(200), at(40)), 60);
        assert_eq!(clock_ahead(at(100), at(200), at(1200)), -1000);
    }
}
