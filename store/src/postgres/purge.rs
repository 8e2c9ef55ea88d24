//! Dropping the schemas of deleted incarnations. That is done at home, because Citus drops them at their nodes from there.

use std::sync::Arc;

use super::error::Failure;
use super::owner::Stranger;
use super::pool::Pool;
use super::shared::Shared;
use super::statement::{DELETED, FORGET, FORGET_TOKENS, schema};
use super::storage::PostgresStorage;
use crate::error::Chain;
use crate::model::Incarnation;

/// How long a drop waits for readers of the schema, such as a backup. Meanwhile it holds up others.
const LOCK_TIMEOUT_MS: u32 = 200;

/// Drops the schemas of deleted incarnations; whether all are gone. What somebody uses, or is at a node that does not
/// answer, stays for a later call. Such a node is not asked again in this one.
pub(super) async fn run(shared: &Arc<Shared>) -> Result<bool, Failure> {
    let deleted = deleted(&shared.schemas).await?;
    let away = shared.places.away(&deleted).await?;
    let (mut all, mut any, mut silent) = (true, false, Vec::new());
    for incarnation in deleted {
        let node = away.get(&incarnation);
        if node.is_some_and(|node| silent.iter().any(|silent| Arc::ptr_eq(silent, node))) {
            all = false;
            continue;
        }
        match drop_schema(&shared.schemas, incarnation).await {
            Ok(()) => any = true,
            // Home does not answer.
            Err(failure @ Failure::NotSent(_)) => return Err(failure),
            Err(failure) => {
                all = false;
                tracing::debug!(error = %Chain(&failure), incarnation = incarnation.0, "a deleted namespace stays for now");
                let answers = end(shared, incarnation).await;
                silent.extend(node.filter(|_| !answers).cloned());
            }
        }
    }
    if any {
        shared.schemas.get().await?.query(FORGET_TOKENS.on_registry(), &[]).await?;
    }
    Ok(all)
}

/// Ends the log of an incarnation whose schema stays, because the server that deleted it may have died before it did so.
/// Returns whether the node of the log answers.
async fn end(shared: &Arc<Shared>, incarnation: Incarnation) -> bool {
    let Err(failure) = PostgresStorage::end(incarnation, shared).await else { return true };
    tracing::debug!(error = %Chain(&failure), incarnation = incarnation.0, "cannot end a deleted log now");
    match failure {
        Failure::NotSent(cause) => cause.is::<Stranger>(),
        Failure::Undone(_) => true,
        Failure::Open(_) => false,
    }
}

/// The incarnations whose schemas are to be dropped.
async fn deleted(pool: &Pool) -> Result<Vec<Incarnation>, Failure> {
    let deleted = pool.get().await?.query(DELETED.on_registry(), &[]).await?;
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
