//! Dropping the schemas of deleted incarnations. That is done at home, because Citus drops them at their nodes from there.

use std::sync::Arc;

use super::error::Failure;
use super::pool::Pool;
use super::shared::Shared;
use super::statement::{DELETED, FORGET, FORGET_TOKENS, schema};
use super::storage::PostgresStorage;
use super::{staging, tokens};
use crate::error::Chain;
use crate::model::Incarnation;

/// How long a drop waits for readers of the schema, such as a backup. Meanwhile it holds up others.
const LOCK_TIMEOUT_MS: u32 = 200;

/// Drops the schemas of deleted incarnations, and of staged ones that nobody keeps; whether all are gone. What somebody
/// uses, or is at a node that does not answer, stays for a later call. If it `adopts`, what servers of earlier versions
/// noted about tokens is taken over.
pub(super) async fn run(shared: &Arc<Shared>, adopts: bool) -> Result<bool, Failure> {
    let (mut all, mut any) = (true, false);
    for incarnation in deleted(&shared.readers, adopts).await? {
        match drop_schema(&shared.readers, incarnation).await {
            Ok(()) => any = true,
            // Home does not answer.
            Err(failure @ Failure::NotSent(_)) => return Err(failure),
            Err(failure) => {
                all = false;
                tracing::debug!(error = %Chain(&failure), incarnation = incarnation.0, "a deleted namespace stays for now");
                // The server that deleted it may have died before it did this.
                if let Err(failure) = PostgresStorage::end(incarnation, shared).await {
                    tracing::debug!(error = %Chain(&failure), incarnation = incarnation.0, "cannot end a deleted log now");
                }
            }
        }
    }
    if any {
        shared.readers.get().await?.query(FORGET_TOKENS.on_registry(), &[]).await?;
    }
    Ok(all)
}

/// The incarnations whose schemas are to be dropped.
async fn deleted(pool: &Pool, adopts: bool) -> Result<Vec<Incarnation>, Failure> {
    let mut connection = pool.get().await?;
    staging::discard_expired(&mut connection).await?;
    if adopts {
        tokens::adopt(&mut connection).await?;
    }
    let deleted = connection.query(DELETED.on_registry(), &[]).await?;
    Ok(deleted.iter().map(|row| Incarnation(row.get(0))).collect())
}

/// Drops one schema. After a failure the session is closed, and the others are dropped over another one.
async fn drop_schema(pool: &Pool, incarnation: Incarnation) -> Result<(), Failure> {
    let mut connection = pool.get().await?;
    connection.begin().await?;
    connection.batch(&format!("SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")).await?;
    connection.batch(&format!("DROP SCHEMA IF EXISTS {} CASCADE", schema(incarnation))).await?;
    connection.commit().await?;
    connection.query(FORGET.on_registry(), &[&incarnation.0]).await?;
    Ok(())
}
