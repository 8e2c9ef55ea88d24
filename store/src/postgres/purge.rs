//! Dropping the schemas of deleted incarnations. That is done at home, because Citus drops them at their nodes from there.

use super::connection::Connection;
use super::error::Failure;
use super::pool::Pool;
use super::statement::{DELETED, FORGET, FORGET_TOKENS, schema};
use super::{seal, staging, tokens};
use crate::model::Incarnation;

/// How long a drop waits for readers of the schema, such as a backup. Meanwhile it holds up others.
const LOCK_TIMEOUT_MS: u32 = 200;

/// Drops the schemas of deleted incarnations, and of staged ones that nobody keeps; whether all are gone. What somebody
/// uses stays for a later call. If it `adopts`, what servers of earlier versions noted about tokens is taken over.
pub(super) async fn run(pool: &Pool, adopts: bool) -> Result<bool, Failure> {
    let mut connection = pool.get().await?;
    staging::discard_expired(&mut connection).await?;
    if adopts {
        tokens::adopt(&mut connection).await?;
    }
    let deleted = connection.query(DELETED.on_registry(), &[]).await?;
    let (mut all, mut any) = (true, false);
    for row in deleted {
        let incarnation = Incarnation(row.get(0));
        match drop_schema(&mut connection, incarnation).await {
            Ok(()) => any = true,
            Err(failure) if failure.state().is_some() => {
                tracing::debug!(%failure, incarnation = incarnation.0, "a deleted namespace is still in use");
                connection.rollback().await?;
                // The server that deleted it may have died before it did this.
                if let Err(failure) = seal::end(&mut connection, incarnation).await {
                    tracing::debug!(%failure, incarnation = incarnation.0, "cannot end a deleted log now");
                }
                all = false;
            }
            Err(failure) => return Err(failure),
        }
    }
    if any {
        connection.query(FORGET_TOKENS.on_registry(), &[]).await?;
    }
    Ok(all)
}

async fn drop_schema(connection: &mut Connection, incarnation: Incarnation) -> Result<(), Failure> {
    connection.begin().await?;
    connection.batch(&format!("SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")).await?;
    connection.batch(&format!("DROP SCHEMA IF EXISTS {} CASCADE", schema(incarnation))).await?;
    connection.commit().await?;
    connection.query(FORGET.on_registry(), &[&incarnation.0]).await?;
    Ok(())
}
