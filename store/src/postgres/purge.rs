//! Work that goes over many schemas: dropping those of deleted incarnations, counting messages.

use tokio_postgres::Row;

use super::connection::Connection;
use super::error::Failure;
use super::pool::Pool;
use super::statement::{DELETED, FORGET, FORGET_TOKENS, MESSAGE_COUNT, schema};
use super::storage::count;
use super::{registry, seal, staging, tokens};
use crate::model::Incarnation;

/// How long a drop waits for readers of the schema, such as a backup. Meanwhile it holds up others.
const LOCK_TIMEOUT_MS: u32 = 200;
/// Logs whose statements are sent one behind the other, before the first is answered.
const COUNT_AT_ONCE: usize = 100;

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

/// How many messages each living incarnation holds. One that was never opened holds none.
pub(super) async fn message_counts(connection: &mut Connection) -> Result<Vec<(Incarnation, u64)>, Failure> {
    let living = registry::logs(connection).await?;
    let mut counts = Vec::with_capacity(living.len());
    let mut logs = Vec::with_capacity(living.len());
    for (log, is_made) in living {
        if is_made { logs.push(log) } else { counts.push((log, 0)) }
    }
    for logs in logs.chunks(COUNT_AT_ONCE) {
        let texts: Vec<String> = logs.iter().map(|&log| MESSAGE_COUNT.on(log).text()).collect();
        let each_row = |row: Row| counts.push((Incarnation(row.get(0)), count(row.get(1))));
        connection.for_each_of_texts(&texts, each_row).await?;
    }
    Ok(counts)
}
