//! Incarnations that are being filled to take the place of another.

use std::time::Duration;

use super::connection::Connection;
use super::error::Failure;
use super::registry::to_namespace;
use super::seal;
use super::statement::{DISCARD, DISCARD_EXPIRED, KEEP, PROMOTE, STAGE};
use crate::model::{Incarnation, Namespace};
use crate::storage::KEEP_EVERY;

/// A staged incarnation that was not kept for this long may be given up by any server. A longer outage of the database
/// therefore ends the import, and the namespace stays as it was.
const KEPT_FOR: Duration = KEEP_EVERY.saturating_mul(4);

/// Stages an incarnation for the place of a living one; `None` if that was deleted, or another is staged.
pub(super) async fn stage(connection: &mut Connection, living: Incarnation) -> Result<Option<Namespace>, Failure> {
    connection.query(DISCARD_EXPIRED.on_registry(), &[]).await?;
    let staged = connection.query_one(STAGE.on_registry(), &[&living.0, &KEPT_FOR.as_secs_f64()]).await?;
    Ok(staged.map(|row| to_namespace(&row)))
}

/// Keeps a staged incarnation; whether it can still be promoted.
pub(super) async fn keep(connection: &mut Connection, staged: Incarnation) -> Result<bool, Failure> {
    let kept = connection.query_one(KEEP.on_registry(), &[&staged.0, &KEPT_FOR.as_secs_f64()]).await?;
    Ok(kept.is_some())
}

/// Promotes a staged incarnation; whether it lives now.
pub(super) async fn promote(connection: &mut Connection, staged: Incarnation) -> Result<bool, Failure> {
    let promoted = connection.query_one(PROMOTE.on_registry(), &[&staged.0]).await?;
    // An earlier attempt, whose outcome was unknown, may have done it.
    Ok(promoted.is_some() || seal::lives(connection, staged).await?)
}

/// Gives a staged incarnation up, and unseals the log that it was to replace.
pub(super) async fn discard(connection: &mut Connection, staged: Incarnation) -> Result<(), Failure> {
    if let Some(row) = connection.query_one(DISCARD.on_registry(), &[&staged.0]).await? {
        seal::look(connection, Incarnation(row.get(0))).await?;
    }
    Ok(())
}
