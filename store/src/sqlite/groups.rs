//! The groups of one incarnation, in the file of its log.
//!
//! Leases are not stored, so that a renewal writes nothing: the caller keeps them in memory. After a restart each stored
//! member has one fresh session.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, LazyLock};
use std::time::{Instant, UNIX_EPOCH};

use async_trait::async_trait;
use eventodb_protocol::Timestamp;
use eventodb_protocol::group::{Epoch, Fence};
use rand::RngExt as _;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params, params_from_iter};
use tokio::sync::oneshot;

use super::Location;
use super::failure::ReadError;
use super::paths::log_path;
use super::storage::{Handle, SqliteStorage};
use crate::error::{Error, Result};
use crate::groups::{AuditEntry, Carried, Changed, Changes, Definition, Gone, Group, Moment, Parked, State, Stored};
use crate::storage::groups::{AUDIT_KEPT, Change, Found, GroupStorage, Looked, Question, Version};

/// The time at which this process first asked for it, by both clocks.
static BEGAN: LazyLock<(Instant, i64)> = LazyLock::new(|| (Instant::now(), Timestamp::now().as_micros() / 1000));

/// Milliseconds since 1970 by the monotonic clock of the process.
fn now() -> i64 {
    let (began, at) = &*BEGAN;
    at.saturating_add(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX))
}

#[async_trait]
impl GroupStorage for Handle {
    async fn look(&self, question: Question) -> Result<Looked> {
        let storage = Arc::clone(&self.0);
        let look =
            move |connection: &mut Connection| Ok(Looked { home: file_of(&storage), ..look(connection, &question)? });
        self.0.clone().reading(move |connection, _, _| look(connection)).await
    }

    fn lease_clock(&self) -> Option<i64> {
        Some(now())
    }

    async fn change(&self, change: Change) -> Result<Option<Version>> {
        self.writing(move |transaction| store(transaction, &change)).await
    }

    async fn delete(&self, group: &str, version: Version) -> Result<bool> {
        let group = group.to_owned();
        self.writing(move |transaction| {
            let deleted = transaction
                .execute("DELETE FROM log.groups WHERE name = ?1 AND version = ?2", params![group, version.number])?;
            if deleted == 0 {
                // The group was changed meanwhile, and stays as it is.
                return Ok(false);
            }
            for table in ["parked", "gone", "carried", "audit"] {
                let delete = format!("DELETE FROM log.group_{table} WHERE group_name = ?1");
                transaction.prepare_cached(&delete)?.execute([&group])?;
            }
            Ok(true)
        })
        .await
    }

    async fn last(&self, group: &str) -> Result<Option<(Stored, Epoch)>> {
        let group: Arc<str> = group.into();
        self.0
            .clone()
            .reading(move |connection, _, _| {
                let snapshot = connection.unchecked_transaction()?;
                let Some(stored) = stored(&snapshot, &group, now()).optional()? else { return Ok(None) };
                Ok(Some((stored, last_epoch(&snapshot)?)))
            })
            .await
    }

    async fn names(&self) -> Result<Vec<Arc<str>>> {
        self.0.clone().reading(|connection, _, _| Ok(names(connection)?)).await
    }

    async fn audit(&self, group: &str, below: i64, limit: usize) -> Result<Vec<AuditEntry>> {
        let (group, limit) = (group.to_owned(), i64::try_from(limit).unwrap_or(i64::MAX));
        self.0
            .clone()
            .reading(move |connection, _, _| {
                let mut select = connection.prepare_cached(include_str!("sql/group_audit.sql"))?;
                let rows = select.query_map(params![group, below, limit], audit_entry)?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }
}

impl Handle {
    /// Runs a transaction that is durable when this returns, on a thread that it may block.
    async fn writing<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (storage, (answer, answered)) = (self.0.clone(), oneshot::channel());
        self.0.shared.threads.write(Box::pin(async move {
            let outcome = storage.files().and_then(|files| {
                let change = || {
                    files.change(&storage.shared, storage.incarnation, |connection| {
                        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                        let outcome = work(&transaction)?;
                        transaction.commit()?;
                        Ok(outcome)
                    })
                };
                let outcome = storage.while_living(Error::Closed, change);
                storage.start_checkpoint(&files);
                outcome
            });
            // Nobody waits any more if the store is closing.
            let _ = answer.send(outcome);
        }));
        answered.await.map_err(|_| Error::Closed)?
    }
}

/// Which file the log is in. A copy has another number, or was made at another time.
fn file_of(storage: &SqliteStorage) -> Option<Arc<str>> {
    if storage.shared.location == Location::Memory {
        return None;
    }
    let file = fs::metadata(log_path(&storage.shared, storage.incarnation)).ok()?;
    let made = file.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Some(format!("{} {}", file.ino(), made.as_nanos()).into())
}

/// The names of all groups, in byte order.
pub(super) fn names(connection: &Connection) -> rusqlite::Result<Vec<Arc<str>>> {
    let mut select = connection.prepare_cached("SELECT name FROM log.groups ORDER BY name")?;
    select.query_map([], |row| row.get(0))?.collect()
}

/// The tables of groups.
const TABLES: &[&str] = &["groups", "group_parked", "group_gone", "group_carried", "group_audit", "group_epoch"];

/// Copies the groups of a log as they are into a new log that is made from it. So that all of them are of one moment, the
/// source is read in a transaction, or by its only user.
///
/// # Errors
/// SQLite's.
pub(super) fn keep(source: &Connection, target: &Connection) -> rusqlite::Result<()> {
    if !source.table_exists(None, "groups")? {
        return Ok(());
    }
    for table in TABLES {
        target.execute(&format!("DELETE FROM log.{table}"), [])?;
        let mut select = source.prepare(&format!("SELECT * FROM {table}"))?;
        let columns = select.column_count();
        let places = vec!["?"; columns].join(", ");
        let mut insert = target.prepare(&format!("INSERT INTO log.{table} VALUES ({places})"))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|at| row.get(at)).collect::<rusqlite::Result<Vec<Value>>>()?;
            insert.execute(params_from_iter(values))?;
        }
    }
    Ok(())
}

/// Lets the groups of a copied log begin anew at what they have handled up to its head: all memberships end and all epochs
/// change. A member that goes on where the copy does not know of it is told so by its next call.
///
/// # Errors
/// SQLite's.
pub(super) fn begin_anew(log: &Connection, head: i64) -> rusqlite::Result<()> {
    let random = rand::rng().random();
    for name in names(log)? {
        let number = log.query_row("SELECT version FROM log.groups WHERE name = ?1", [&name], |row| row.get(0))?;
        let before = last_epoch(log)?;
        let mut at = Moment { now: now(), head, random, last_epoch: before, home: None, token: None };
        let group = Group::keep(stored(log, &name, at.now)?, &mut at);
        log.execute("DELETE FROM log.group_parked WHERE group_name = ?1", [&name])?;
        log.execute("DELETE FROM log.group_carried WHERE group_name = ?1", [&name])?;
        store(log, &Change::new(&name, Some(Version { number, stamp: 0 }), 0, &group, before, &at))?;
    }
    Ok(())
}

fn look(connection: &Connection, question: &Question) -> Result<Looked, ReadError> {
    let snapshot = connection.unchecked_transaction()?;
    let now = question.now.unwrap_or_else(now);
    let head = snapshot
        .prepare_cached("SELECT coalesce(max(global_position), 0) FROM log.messages")?
        .query_row([], |row| row.get(0))?;
    let mut found = snapshot.prepare_cached("SELECT version FROM log.groups WHERE name = ?1")?;
    let version: Option<i64> = found.query_row([&question.group], |row| row.get(0)).optional()?;
    let group = match version {
        None => Found::Missing,
        Some(number) if question.known.is_some_and(|known| known.number == number) => Found::Same,
        Some(number) => {
            Found::Changed(Version { number, stamp: 0 }, Box::new(stored(&snapshot, &question.group, now)?))
        }
    };
    let gone = gone(&snapshot, question)?;
    Ok(Looked { now, head, last_epoch: last_epoch(&snapshot)?, group, gone, home: None })
}

/// All rows of a group that is there, with a fresh session for each member.
pub(super) fn stored(snapshot: &Connection, group: &Arc<str>, now: i64) -> rusqlite::Result<Stored> {
    let mut select = snapshot.prepare_cached("SELECT definition, state FROM log.groups WHERE name = ?1")?;
    let (definition, state): (String, String) = select.query_row([group], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let definition: Definition = read_json(0, &definition)?;
    let mut state = State::read(&state).map_err(|error| unreadable(1, error))?;
    state.begin_sessions(now);
    let State { settings, partitions, members } = state;
    let (parked, carried) = (parked(snapshot, group)?, carried(snapshot, group)?);
    Ok(Stored { definition: Arc::new(definition), settings, partitions, members, gone: vec![], parked, carried })
}

fn parked(snapshot: &Connection, group: &str) -> rusqlite::Result<Vec<(Arc<str>, Parked)>> {
    let mut select = snapshot.prepare_cached(include_str!("sql/group_parked.sql"))?;
    let parked = |row: &Row<'_>| {
        let parked = Parked {
            handled: row.get(1)?,
            attempts: row.get(2)?,
            reason: row.get(3)?,
            since: row.get(4)?,
            due: row.get(5)?,
            rev: row.get(6)?,
            is_out: row.get(7)?,
        };
        Ok((row.get(0)?, parked))
    };
    select.query_map([group], parked)?.collect()
}

fn carried(snapshot: &Connection, group: &str) -> rusqlite::Result<Vec<(i64, Carried)>> {
    let mut select = snapshot.prepare_cached("SELECT number, carried FROM log.group_carried WHERE group_name = ?1")?;
    let carried = |row: &Row<'_>| Ok((row.get(0)?, read_json(1, &row.get::<_, String>(1)?)?));
    select.query_map([group], carried)?.collect()
}

fn gone(snapshot: &Connection, question: &Question) -> rusqlite::Result<Vec<(Arc<str>, Gone)>> {
    let mut select =
        snapshot.prepare_cached("SELECT reason, until FROM log.group_gone WHERE group_name = ?1 AND key = ?2")?;
    let mut gone = Vec::new();
    for key in &question.gone {
        let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
        let Some((reason, until)) = select.query_row(params![question.group, key], row).optional()? else { continue };
        let reason = serde_json::from_value::<Fence>(reason.into()).map_err(|error| unreadable(0, error))?;
        gone.push((Arc::clone(key), Gone { reason, until }));
    }
    Ok(gone)
}

fn audit_entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        id: row.get(0)?,
        at: row.get(1)?,
        token: row.get(2)?,
        act: row.get::<_, String>(3)?.into(),
        details: read_json(4, &row.get::<_, String>(4)?)?,
    })
}

fn last_epoch(connection: &Connection) -> rusqlite::Result<Epoch> {
    let mut select = connection.prepare_cached("SELECT coalesce(max(last), 0) FROM log.group_epoch")?;
    select.query_row([], |row| row.get(0)).map(Epoch::from_number)
}

/// Stores a change in a transaction. Returns the group's version, or nothing if another change was first.
pub(super) fn store(transaction: &Connection, change: &Change) -> rusqlite::Result<Option<Version>> {
    let (before, after) = change.epochs;
    let last = last_epoch(transaction)?;
    if change.known.is_none() && last != before {
        // A group of this name may have come and gone meanwhile.
        return Ok(None);
    }
    let (group, version) = (&change.group, change.next);
    let changed = match change.known {
        None => transaction.prepare_cached(include_str!("sql/group_create.sql"))?.execute(params![
            group,
            version.number,
            change.definition,
            change.state
        ])?,
        Some(known) => transaction
            .prepare_cached("UPDATE log.groups SET version = ?3, state = ?4 WHERE name = ?1 AND version = ?2")?
            .execute(params![group, known.number, version.number, change.state])?,
    };
    if changed == 0 {
        return Ok(None);
    }
    if before != after && last < after {
        transaction.prepare_cached("UPDATE log.group_epoch SET last = ?1")?.execute([after.number()])?;
    }
    store_rows(transaction, group, &change.changes)?;
    prune(transaction, change)?;
    Ok(Some(version))
}

/// Stores the rows that are not in the state.
fn store_rows(transaction: &Connection, group: &str, changes: &Changes) -> rusqlite::Result<()> {
    let forget = |table: &str, key: &str| format!("DELETE FROM log.group_{table} WHERE group_name = ?1 AND {key} = ?2");
    let Changed { save, forget: unparked } = &changes.parked;
    for (stream, Parked { handled, attempts, reason, since, due, rev, is_out }) in save {
        transaction
            .prepare_cached(include_str!("sql/group_park.sql"))?
            .execute(params![group, stream, handled, attempts, reason, since, due, rev, is_out])?;
    }
    for stream in unparked {
        transaction.prepare_cached(&forget("parked", "stream"))?.execute(params![group, stream])?;
    }
    for (key, Gone { reason, until }) in &changes.gone.save {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO log.group_gone VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![group, key, reason.as_str(), until])?;
    }
    for (number, carried) in &changes.carried.save {
        let carried = serde_json::to_string(carried).expect("its keys are numbers");
        transaction
            .prepare_cached("INSERT OR REPLACE INTO log.group_carried VALUES (?1, ?2, ?3)")?
            .execute(params![group, number, carried])?;
    }
    for number in &changes.carried.forget {
        transaction.prepare_cached(&forget("carried", "number"))?.execute(params![group, number])?;
    }
    for AuditEntry { id, at, token, act, details } in &changes.audit {
        transaction.prepare_cached("INSERT INTO log.group_audit VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
            group,
            id,
            at,
            token,
            act,
            details.to_string()
        ])?;
    }
    Ok(())
}

/// Deletes what nobody asks for any more: memberships that ended long ago, and old entries of the audit.
fn prune(transaction: &Connection, change: &Change) -> rusqlite::Result<()> {
    if !change.changes.gone.save.is_empty() {
        transaction
            .prepare_cached("DELETE FROM log.group_gone WHERE group_name = ?1 AND until <= ?2")?
            .execute(params![change.group, change.now])?;
    }
    if let Some(last) = change.changes.audit.last() {
        transaction
            .prepare_cached("DELETE FROM log.group_audit WHERE group_name = ?1 AND id <= ?2")?
            .execute(params![change.group, last.id - AUDIT_KEPT])?;
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}
