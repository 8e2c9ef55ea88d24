//! The write path: one call of a function in the schema of the log, one round trip, one commit.

use std::sync::Arc;

use eventodb_protocol::message::Message;
use eventodb_protocol::{group, name};
use serde_json::json;
use tokio_postgres::types::ToSql;

use super::connection::Connection;
use super::error::Failure;
use super::groups::rows_of;
use super::line::Ticket;
use super::pool::Pool;
use super::statement::{APPEND, APPEND_ACTING, FENCE, SETTLE};
use super::time::Time;
use super::turns::Turn;
use crate::groups::Change;
use crate::model::Entry;
use crate::model::{Batch, Incarnation};
use crate::storage::Settled;
use crate::storage::groups::AUDIT_KEPT;

/// Commits a batch after the head that it names. `None` if another batch follows that head, if the log has no such
/// head, or if it is another server's turn.
pub(super) async fn append(
    ticket: Ticket<'_>,
    pool: &Pool,
    log: Incarnation,
    batch: &Batch,
    turn: Turn,
) -> Result<Option<Vec<Arc<Entry>>>, Failure> {
    let messages = &batch.messages;
    let last_position = batch.head().position;
    let started = batch.starts_stream.iter().filter(|starts| **starts).count() as i64;
    let correlations: Vec<Option<String>> = messages.iter().map(Message::correlation).collect();
    let has_open = !batch.open.is_empty();
    let position = |message: &Message| match has_open && batch.open.contains(&message.stream) {
        // The function takes positions below 0 for open ones: -1 is the next position of the stream.
        true => -1 - message.position,
        false => message.position,
    };
    let times: Option<Vec<Time>> = batch.keep_times.then(|| each(messages, |m| Time(m.time)));
    let turn_of = (turn == Turn::Free).then_some(log.0);
    let columns = Columns::of(messages, position);
    let Columns { at, streams, positions, categories, hashes, kinds, ids, metadatas, datas } = &columns;
    let acting = (!batch.groups.is_empty()).then(|| acting(&batch.groups));
    let (after, starts) = (&batch.after, &batch.starts_stream);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![
        &after.batch,
        &after.position,
        &after.id,
        &batch.id,
        &last_position,
        &started,
        &turn_of,
        &has_open,
        at,
        streams,
        positions,
        starts,
        categories,
        hashes,
        kinds,
        &correlations,
        ids,
        metadatas,
        datas,
        &times,
    ];
    let statement = match &acting {
        None => APPEND.on(log),
        Some(acting) => {
            parameters.extend([acting as &(dyn ToSql + Sync), &AUDIT_KEPT]);
            APPEND_ACTING.on(log)
        }
    };
    let row = ticket.query_one(pool, statement, &parameters).await?;
    let Some((row, Time(written_at))) = row.and_then(|row| row.get::<_, Option<Time>>(0).map(|at| (row, at))) else {
        return Ok(None);
    };
    Ok(Some(match row.get::<_, Option<Vec<i64>>>(1) {
        Some(positions) => batch.entries_at(written_at, &positions),
        None => batch.entries(written_at),
    }))
}

/// Puts an empty batch under the number of this one, or finds out whose is there.
pub(super) async fn fence(connection: &mut Connection, log: Incarnation, batch: &Batch) -> Result<Settled, Failure> {
    // An id of its own, so that the empty batch does not pass for the lost one later.
    let id = uuid::Uuid::new_v4();
    let after = &batch.after;
    let fenced = connection.query_one(FENCE.on(log), &[&after.batch, &after.position, &after.id, &id]).await?;
    if fenced.is_some_and(|row| row.get(0)) {
        return Ok(Settled::NotCommitted);
    }
    // The number is taken, or the head that it follows is not in the log any more, after a failover.
    let first = batch.messages.first();
    let (position, id) =
        first.map_or((after.position.saturating_add(1), batch.id), |message| (message.global_position, message.id));
    let number = batch.after.batch + 1;
    let last = batch.head().position;
    let found = connection.query_one(SETTLE.on(log), &[&number, &batch.id, &position, &id, &last]).await?;
    Ok(match found.filter(|row| row.get(0)) {
        Some(row) => Settled::Committed(batch.entries_at(row.get::<_, Time>(1).0, &row.get::<_, Vec<i64>>(2))),
        None => Settled::NotCommitted,
    })
}

/// The columns of messages.
struct Columns<'a> {
    at: Vec<i64>,
    streams: Vec<&'a str>,
    positions: Vec<i64>,
    categories: Vec<&'a str>,
    hashes: Vec<i64>,
    kinds: Vec<&'a str>,
    ids: Vec<uuid::Uuid>,
    metadatas: Vec<Option<&'a str>>,
    datas: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(messages: &'a [Message], position: impl Fn(&Message) -> i64) -> Self {
        Self {
            at: each(messages, |m| m.global_position),
            streams: each(messages, |m| &*m.stream),
            positions: each(messages, position),
            categories: each(messages, |m| name::category(&m.stream)),
            hashes: each(messages, |m| group::stream_hash(&m.stream)),
            kinds: each(messages, |m| &*m.kind),
            ids: each(messages, |m| m.id),
            metadatas: each(messages, |m| m.metadata.as_deref()),
            datas: each(messages, |m| &*m.data),
        }
    }
}

/// What happens to groups, as the function takes it. An append gives no epochs.
fn acting(changes: &[Change]) -> String {
    let act = |change: &Change| {
        json!({
            "of_group": &*change.group, "known": change.known.map(|known| known.number), "known_stamp": change.known.map(|known| known.stamp),
            "next": change.next.number, "next_stamp": change.next.stamp,
            "epoch": change.epochs.0.number(), "state": change.state, "changed": rows_of(&change.changes),
            "at_ms": change.now,
        })
    };
    serde_json::Value::from_iter(changes.iter().map(act)).to_string()
}

fn each<'a, T>(messages: &'a [Message], part: impl Fn(&'a Message) -> T) -> Vec<T> {
    messages.iter().map(part).collect()
}
