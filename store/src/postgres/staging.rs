//! Incarnations that are being filled to take the place of another.

use std::time::Duration;

use eventodb_protocol::reply::Quota;

use super::change::{self, Change, confirmed, time};
use super::connection::Connection;
use super::error::Failure;
use super::registry::to_namespace;
use super::seal;
use super::statement::{DISCARD, DISCARD_EXPIRED, HELD, KEEP, LOCK_STAGED, LOCK_TERMS, PROMOTE, REPLACE, STAGE};
use super::time::Time;
use crate::error::Error;
use crate::model::{Incarnation, Namespace, Size};
use crate::storage::KEEP_EVERY;

/// A staged incarnation that was not kept for this long may be given up by any server. A longer outage of the database
/// therefore ends the import, and the namespace stays as it was.
const KEPT_FOR: Duration = KEEP_EVERY.saturating_mul(4);

/// Stages an incarnation for the place of a living one; `None` if that was deleted, or another is staged.
pub(super) async fn stage(connection: &mut Connection, living: Incarnation) -> Result<Option<Namespace>, Failure> {
    discard_expired(connection).await?;
    let mut change = Change::begin(connection).await?;
    let now = change.time().await?;
    let staged = change.query_one(STAGE.on_registry(), &[&living.0, &now, &(now + KEPT_FOR)]).await?;
    change.commit().await?;
    Ok(staged.map(|row| to_namespace(&row)))
}

/// Keeps a staged incarnation; whether it can still be promoted.
pub(super) async fn keep(connection: &mut Connection, staged: Incarnation) -> Result<bool, Failure> {
    let mut change = Change::begin(connection).await?;
    let until = change.time().await? + KEPT_FOR;
    let kept = change.query_one(KEEP.on_registry(), &[&staged.0, &until]).await?;
    change.commit().await?;
    Ok(kept.is_some())
}

/// Promotes a staged incarnation of this size, unless a rule forbids it.
pub(super) async fn promote(
    connection: &mut Connection,
    staged: Incarnation,
    size: Size,
) -> Result<Result<(), Error>, Failure> {
    match replace(connection, staged, size).await? {
        Ok(()) => {
            let lives = seal::lives(connection, staged).await;
            confirmed(lives.map(|lives| lives.then_some(Ok(()))))
        }
        Err(Error::Overtaken) => {
            // An earlier attempt, whose outcome was unknown, may have done it.
            Ok(if seal::lives(connection, staged).await? { Ok(()) } else { Err(Error::Overtaken) })
        }
        refused => Ok(refused),
    }
}

/// Lets a staged incarnation take the place of the living one.
async fn replace(connection: &mut Connection, staged: Incarnation, size: Size) -> Result<Result<(), Error>, Failure> {
    let mut change = Change::begin(connection).await?;
    let now = change.time().await?;
    // Locked first: given up meanwhile, it must not end the living one.
    let replaced = change.query_one(LOCK_STAGED.on_registry(), &[&staged.0]).await?;
    let Some(replaced) = replaced.map(|row| row.get::<_, i64>(0)) else {
        change.undo().await?;
        return Ok(Err(Error::Overtaken));
    };
    let terms = change.query_one(LOCK_TERMS.on_registry(), &[&replaced]).await?;
    let allowed = terms.ok_or(Error::Overtaken).and_then(|row| {
        let quota = Quota { messages: row.get(1), bytes: row.get(2) };
        size.may_replace(row.get(0), quota)
    });
    if let Err(refused) = allowed {
        change.undo().await?;
        return Ok(Err(refused));
    }
    change.query(REPLACE.on_registry(), &[&replaced, &now]).await?;
    change.query(PROMOTE.on_registry(), &[&staged.0, &replaced]).await?;
    change.commit().await?;
    Ok(Ok(()))
}

/// Gives up the staged incarnations that nobody keeps.
pub(super) async fn discard_expired(connection: &mut Connection) -> Result<(), Failure> {
    let now = time(connection).await?;
    change::one(connection, DISCARD_EXPIRED.on_registry(), &[&now]).await?;
    Ok(())
}

/// Where an incarnation is staged for the place of this one: whether it is kept.
pub(super) async fn is_kept(connection: &mut Connection, living: Incarnation) -> Result<Option<bool>, Failure> {
    let Some(row) = connection.query_one(HELD.on_registry(), &[&living.0]).await? else { return Ok(None) };
    let until: Time = row.get(0);
    Ok(Some(until.0 >= time(connection).await?.0))
}

/// Gives a staged incarnation up. Returns the one that it was to replace, whose seal does not hold then.
pub(super) async fn discard(connection: &mut Connection, staged: Incarnation) -> Result<Option<Incarnation>, Failure> {
    let replaced = change::one(connection, DISCARD.on_registry(), &[&staged.0]).await?;
    Ok(replaced.map(|row| Incarnation(row.get(0))))
}
