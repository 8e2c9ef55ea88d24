//! The primary keys that a migration did not make, because somebody read the table for long, as a backup does. On Citus a
//! namespace without them cannot be moved, so that they are made later.
//!
//! That is done at home, because Citus spreads changes of tables from there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::connection::Connection;
use super::error::{Failure, spoils_session};
use super::owner;
use super::shared::Shared;
use super::statement::{VERSION, WITHOUT_KEY, schema};
use crate::error::Chain;
use crate::model::Incarnation;

/// How often it is looked for tables without a key.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long the change of a table waits for its readers. Meanwhile it holds up others.
const LOCK_TIMEOUT_MS: u32 = 200;
/// The step of a log's schema that makes the key if it can. Before it, the key would be in its way.
const STEP: i64 = 6;

/// Makes the missing keys again and again, until the end, if schemas may be changed.
pub(super) async fn keep_making(shared: Arc<Shared>) {
    if !shared.settings.auto_migrate {
        return;
    }
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let work = async { make_missing(&mut *shared.schemas.get().await?).await };
        match shared.stop.run_until_cancelled(work).await {
            None => return,
            Some(Err(error)) => tracing::debug!(error = %Chain(&error), "cannot look for missing primary keys"),
            Some(Ok(())) => {}
        }
    }
}

/// Makes the missing keys of all logs. A table that is in use stays as it is.
pub(super) async fn make_missing(connection: &mut Connection) -> Result<(), Failure> {
    let mut left = 0;
    for row in connection.query(WITHOUT_KEY.on_registry(), &[]).await? {
        let name: String = row.get(0);
        let number = name.rsplit('_').next().and_then(|number| number.parse().ok());
        let Some(log) = number.map(Incarnation).filter(|log| schema(*log) == name) else { continue };
        if is_due(connection, log).await? && !make(connection, log).await? {
            left += 1;
        }
    }
    if left > 0 {
        tracing::warn!(
            left,
            "tables in use have no primary key yet: on Citus their namespaces cannot be moved before they have one"
        );
    }
    Ok(())
}

/// Whether the step is done that makes the key if it can, in a schema of this role.
async fn is_due(connection: &mut Connection, log: Incarnation) -> Result<bool, Failure> {
    if owner::find_stranger(connection, &schema(log)).await?.is_some() {
        return Ok(false);
    }
    let row = connection.query_one(VERSION.on(log), &[]).await?;
    Ok(row.is_some_and(|row| row.get::<_, i64>(0) >= STEP))
}

/// Makes the key of one log; whether it is there now.
async fn make(connection: &mut Connection, log: Incarnation) -> Result<bool, Failure> {
    connection.begin().await?;
    connection.batch(&format!("SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")).await?;
    match connection.batch(&format!("ALTER TABLE {}.folded ADD PRIMARY KEY (position)", schema(log))).await {
        Ok(()) => {
            connection.commit().await?;
            Ok(true)
        }
        Err(failure) if failure.state().is_some_and(|state| !spoils_session(state)) => {
            tracing::debug!(error = %Chain(&failure), log = log.0, "cannot make a primary key now");
            connection.rollback().await?;
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use eventodb_schema::POSTGRES_LOG;

    use super::*;

    #[test]
    fn the_step_is_the_one_that_makes_the_key() {
        let step = &POSTGRES_LOG[usize::try_from(STEP).expect("it is small") - 1];
        assert!(step.sql.contains("ALTER TABLE {log}.folded ADD PRIMARY KEY (position)"));
    }
}
