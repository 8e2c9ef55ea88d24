//! The groups of one incarnation, in the schema of its log.
//!
//! A group is read by one statement and changed by one call of a function, which compares versions. No lock is held
//! between the two.

use std::sync::Arc;

use async_trait::async_trait;
use eventodb_protocol::group::{Epoch, Fence};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::connection::Parameters;
use super::error::Failure;
use super::pool::retrying;
use super::seal::Verdict;
use super::statement::{
    CHANGE_GROUP, CHANGE_GROUP_HERE, COMPARE_GROUPS, GROUP, GROUP_AUDIT, GROUPS, RENEW_GROUPS, Statement,
};
use super::storage::{PostgresStorage, at_node};
use crate::error::{Error, Result};
use crate::groups::{AuditEntry, Carried, Changes, Definition, Gone, Parked, State, Stored};
use crate::storage::groups::{AUDIT_KEPT, Change, Compared, Found, GroupStorage, GroupTag, Looked, Question, Version};

/// A parked stream as the statement returns it.
type ParkedRow = (String, i64, i64, String, i64, Option<i64>, i64, bool);

#[async_trait]
impl GroupStorage for PostgresStorage {
    async fn look(&self, question: Question) -> Result<Looked> {
        let Question { group, known, gone, now } = &question;
        let (statement, group) = (GROUP.on(self.log), &**group);
        let (number, stamp) = parts(*known);
        let gone: Vec<&str> = gone.iter().map(|key| &**key).collect();
        let mut is_unsealed = false;
        loop {
            let row = at_node!(self, groups, connection =>
                connection.query_one(statement, &[&group, &number, &gone, now, &stamp]));
            let row = row.map_err(Failure::of_read)?.ok_or_else(|| Error::failed("a row was expected"))?;
            if let Some(head) = row.get(1) {
                return looked(&row, *known, head);
            }
            match self.look_at_seal().await.map_err(Failure::of_read)? {
                Verdict::Open if !is_unsealed => is_unsealed = true,
                Verdict::Held => return Err(Error::Replacing),
                Verdict::Open | Verdict::Gone => return Err(Error::Closed),
            }
        }
    }

    async fn change(&self, change: Change) -> Result<Option<Version>> {
        let (known, known_stamp) = parts(change.known);
        let (before, after) = change.epochs;
        let rows = rows_of(&change.changes).map(|rows| rows.to_string());
        let is_stored = self
            .change_group(
                &[
                    &&*change.group,
                    &known,
                    &known_stamp,
                    &change.next.number,
                    &change.next.stamp,
                    &change.definition,
                    &before.number(),
                    &after.number(),
                    &Some(&*change.state),
                    &rows,
                    &change.now,
                    &AUDIT_KEPT,
                ],
                change.home.as_deref(),
            )
            .await?;
        if is_stored && !change.changes.only_renew() {
            self.shared.notifier.group(self.log, GroupTag::of(&change.group));
        }
        Ok(is_stored.then_some(change.next))
    }

    fn renews_together(&self) -> bool {
        // Citus takes a statement with a FROM to pieces where the log is on another node.
        !self.shared.places.are_several()
    }

    async fn renew(&self, changes: Vec<Change>) -> Result<Vec<Option<Version>>> {
        // In another order, calls of two servers could wait for each other's rows for ever.
        debug_assert!(changes.is_sorted_by(|one, other| one.group < other.group), "they are in order, each once");
        let names: Vec<&str> = changes.iter().map(|change| &*change.group).collect();
        let known = changes.iter().filter_map(|change| change.known).map(|known| (known.number, known.stamp));
        let (known, known_stamps): (Vec<i64>, Vec<i64>) = known.unzip();
        let next = changes.iter().map(|change| (change.next.number, change.next.stamp));
        let (next, next_stamps): (Vec<i64>, Vec<i64>) = next.unzip();
        let states: Vec<&str> = changes.iter().map(|change| &*change.state).collect();
        let parameters: Parameters<'_> = &[&names, &known, &known_stamps, &next, &next_stamps, &states, &AUDIT_KEPT];
        let is_lost = |failure: &Failure| failure.is_lost_race() || failure.is_lock_lost();
        let rows = self.change_groups(RENEW_GROUPS.on(self.log), parameters, is_lost).await?;
        // There are none if somebody else changes one of them.
        let is_stored = |place: usize| rows.get(place).is_some_and(|row| row.get(0));
        Ok(changes.iter().enumerate().map(|(place, change)| is_stored(place).then_some(change.next)).collect())
    }

    async fn compare(&self, known: &[(Arc<str>, Version)], now: Option<i64>) -> Result<Compared> {
        let names: Vec<&str> = known.iter().map(|(name, _)| &**name).collect();
        let (numbers, stamps): (Vec<i64>, Vec<i64>) =
            known.iter().map(|(_, Version { number, stamp })| (*number, *stamp)).unzip();
        let statement = COMPARE_GROUPS.on(self.log);
        let row = at_node!(self, groups, connection =>
            connection.query_one(statement, &[&names, &numbers, &stamps, &now]));
        let row = row.map_err(Failure::of_read)?.ok_or_else(|| Error::failed("a row was expected"))?;
        let changed: Vec<&str> = row.get(3);
        Ok(Compared {
            now: row.get(0),
            head: row.get(1),
            last_epoch: Epoch::from_number(row.get(2)),
            changed: changed.into_iter().map(Arc::from).collect(),
            home: row.get::<_, Option<&str>>(4).map(Arc::from),
        })
    }

    fn want(&self, group: &str) {
        self.shared.notifier.wanted(self.log, GroupTag::of(group));
    }

    async fn delete(&self, group: &str, version: Version) -> Result<bool> {
        let none: Option<&str> = None;
        let (Version { number, stamp }, next, no) = (version, version.following(0), 0i64);
        let known: [&(dyn ToSql + Sync); 5] = [&group, &number, &stamp, &next.number, &next.stamp];
        let rest: [&(dyn ToSql + Sync); 7] = [&"", &no, &no, &none, &none, &no, &AUDIT_KEPT];
        let deleted = self.change_group(&[&known[..], &rest[..]].concat(), None).await?;
        if deleted {
            self.shared.notifier.group(self.log, GroupTag::of(group));
        }
        Ok(deleted)
    }

    async fn last(&self, group: &str) -> Result<Option<(Stored, Epoch)>> {
        let (statement, none, gone) = (GROUP.on(self.log), None::<i64>, Vec::<&str>::new());
        let row = at_node!(self, groups, connection =>
            connection.query_one(statement, &[&group, &none, &gone, &none, &none]));
        let row = row.map_err(Failure::of_read)?.ok_or_else(|| Error::failed("a row was expected"))?;
        let is_there = row.get::<_, Option<i64>>(3).is_some();
        is_there.then(|| Ok((stored(&row)?, Epoch::from_number(row.get(2))))).transpose()
    }

    async fn names(&self) -> Result<Vec<Arc<str>>> {
        let rows = at_node!(self, groups, connection => connection.query(GROUPS.on(self.log), &[]));
        Ok(rows.map_err(Failure::of_read)?.iter().map(|row| row.get::<_, &str>(0).into()).collect())
    }

    async fn audit(&self, group: &str, below: i64, limit: usize) -> Result<Vec<AuditEntry>> {
        let (statement, limit) = (GROUP_AUDIT.on(self.log), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = at_node!(self, groups, connection =>
            connection.query(statement, &[&group, &below, &limit]));
        let entry = |row: &Row| {
            Ok(AuditEntry {
                id: row.get(0),
                at: row.get(1),
                token: row.get(2),
                act: row.get::<_, String>(3).into(),
                details: serde_json::from_str(row.get(4)).map_err(Error::failed)?,
            })
        };
        rows.map_err(Failure::of_read)?.iter().map(entry).collect()
    }
}

impl PostgresStorage {
    /// Changes a group that was decided about at `home`. Returns whether the change was stored.
    async fn change_group(&self, parameters: &[&(dyn ToSql + Sync)], home: Option<&str>) -> Result<bool> {
        let here = [parameters, &[&home]].concat();
        // Citus takes a statement with a table to pieces where the log is on another node.
        let (statement, parameters) = match self.shared.places.are_several() {
            true => (&CHANGE_GROUP, parameters),
            false => (&CHANGE_GROUP_HERE, &here[..]),
        };
        // Where transactions are isolated more strictly than this store asks for, a race may be lost so.
        let rows = self.change_groups(statement.on(self.log), parameters, Failure::is_lost_race).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Calls the function that changes groups, again only if it was not called. Returns for each call whether the change was
    /// stored; nothing if none was, because the race with another change `is_lost`.
    async fn change_groups(
        &self,
        statement: Statement,
        parameters: Parameters<'_>,
        is_lost: fn(&Failure) -> bool,
    ) -> Result<Vec<Row>> {
        loop {
            let site = self.place.site();
            let pools = site.node.pools().await;
            let mut attempts = pools.groups.attempts();
            let failure = loop {
                let changed = match attempts.connection().await {
                    Ok(mut connection) => connection.query(statement, parameters).await,
                    Err(failure) => Err(failure),
                };
                match changed {
                    Ok(rows) => return Ok(rows),
                    Err(failure) if attempts.go_on_unsent(&failure) => {}
                    Err(failure) if is_lost(&failure) => return Ok(Vec::new()),
                    Err(failure) => break failure,
                }
            };
            // Where the schema is missing, nothing was changed.
            self.follow(&site, failure).await.map_err(Failure::of_change)?;
        }
    }
}

/// A version as parameters.
fn parts(version: Option<Version>) -> (Option<i64>, Option<i64>) {
    version.map(|Version { number, stamp }| (number, stamp)).unzip()
}

fn looked(row: &Row, known: Option<Version>, head: i64) -> Result<Looked> {
    let group = match row.get::<_, Option<i64>>(3).map(|number| Version { number, stamp: row.get(9) }) {
        None => Found::Missing,
        version if version == known => Found::Same,
        Some(version) => Found::Changed(version, Box::new(stored(row)?)),
    };
    let gone: Vec<(String, Fence, i64)> = read_rows(row.get(8))?;
    let gone = gone.into_iter().map(|(key, reason, until)| (key.into(), Gone { reason, until })).collect();
    let home = row.get::<_, Option<&str>>(10).map(Arc::from);
    Ok(Looked { now: row.get(0), head, last_epoch: Epoch::from_number(row.get(2)), group, gone, home })
}

fn stored(row: &Row) -> Result<Stored> {
    let definition = row.get::<_, Option<&str>>(5).ok_or_else(|| Error::failed("a group without its definition"))?;
    let definition: Definition = serde_json::from_str(definition).map_err(Error::failed)?;
    let State { settings, partitions, members } = State::read(row.get(4)).map_err(Error::failed)?;
    let parked = |(stream, handled, attempts, reason, since, due, rev, is_out): ParkedRow| {
        (stream.into(), Parked { handled, attempts, reason: reason.into(), since, due, rev, is_out })
    };
    let parked = read_rows(row.get(6))?.into_iter().map(parked).collect();
    let carried: Vec<(i64, Carried)> = read_rows(row.get(7))?;
    Ok(Stored { definition: Arc::new(definition), settings, partitions, members, gone: vec![], parked, carried })
}

/// The rows of an array in JSON, which is null if there are none.
fn read_rows<T: DeserializeOwned>(text: Option<&str>) -> Result<Vec<T>> {
    text.map_or_else(|| Ok(Vec::new()), |text| serde_json::from_str(text).map_err(Error::failed))
}

/// The rows that a change stores beside the state; `None` if there are none.
pub(super) fn rows_of(changes: &Changes) -> Option<Value> {
    let Changes { parked, gone, carried, audit, .. } = changes;
    if parked.is_empty() && gone.is_empty() && carried.is_empty() && audit.is_empty() {
        return None;
    }
    let parked_row = |(stream, parked): &(Arc<str>, Parked)| {
        json!({
            "stream": &**stream, "handled": parked.handled, "attempts": parked.attempts, "reason": &*parked.reason,
            "since": parked.since, "due": parked.due, "rev": parked.rev, "is_out": parked.is_out,
        })
    };
    let gone_row =
        |(key, gone): &(Arc<str>, Gone)| json!({ "key": &**key, "reason": gone.reason.as_str(), "until": gone.until });
    let carried_row = |(number, carried): &(i64, Carried)| json!({ "number": number, "carried": serde_json::to_string(carried).expect("its keys are numbers") });
    let audit_row = |entry: &AuditEntry| {
        json!({
            "id": entry.id, "at": entry.at, "token": entry.token, "act": entry.act, "details": entry.details.to_string(),
        })
    };
    Some(json!({
        "parked": parked.save.iter().map(parked_row).collect::<Vec<_>>(),
        "unparked": parked.forget.iter().map(|stream| &**stream).collect::<Vec<_>>(),
        "gone": gone.save.iter().map(gone_row).collect::<Vec<_>>(),
        "carried": carried.save.iter().map(carried_row).collect::<Vec<_>>(),
        "uncarried": carried.forget,
        "audit": audit.iter().map(audit_row).collect::<Vec<_>>(),
    }))
}
