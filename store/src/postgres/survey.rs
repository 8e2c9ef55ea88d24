//! What a migration would do, without doing it, and which versions of this program may use a schema.
//!
//! Each step of a schema writes down the oldest version that may use the schema from then on. A server whose own version is
//! older refuses the schema, so that the schema itself says how far one may go back.

use std::time::{Duration, Instant};

use eventodb_schema::{Migration, POSTGRES_LOG, POSTGRES_REGISTRY};
use serde::Serialize;

use super::connection::Connection;
use super::error::Failure;
use super::migrate::is_newer;
use super::registry;
use super::statement::{EXISTS, PING, REGISTRY, Statement, VERSION, schema};

/// Statements of a migration beside those of its steps: of its transaction, its locks, and its checks.
const AROUND: usize = 8;
/// What a statement takes beside its round trip, the commit included. 2.0 and 3.4 ms were measured, for 46 and 16 statements on
/// a busy machine with a local disk. No statement reads messages.
pub const STATEMENT_TIME: Duration = Duration::from_millis(3);
/// Round trips that are timed.
const TIMED: u32 = 10;

/// What a migration would do.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The registry, and the log of each living namespace whose schema was made. A schema that is made later gets all steps
    /// then.
    pub schemas: Vec<SchemaState>,
    /// The time of one question and its answer.
    pub round_trip: Duration,
}

impl Survey {
    /// How many statements a migration would send.
    pub fn statements(&self) -> usize {
        let changed = self.schemas.iter().filter(|state| state.needs_migration());
        changed.map(|state| state.statements + AROUND).sum()
    }

    /// About how long it would take, if nobody holds a lock for long.
    pub fn estimate(&self) -> Duration {
        (self.round_trip + STATEMENT_TIME) * u32::try_from(self.statements()).unwrap_or(u32::MAX)
    }
}

/// A schema, and what a migration would do to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaState {
    /// Its name.
    pub schema: String,
    /// Steps that are done; `None` if the schema is not made yet.
    pub done: Option<usize>,
    /// Steps that this program knows.
    pub known: usize,
    /// Statements of the steps that are not done.
    pub statements: usize,
    /// The oldest version of this program that may use the schema as it is.
    pub oldest_version: Option<String>,
    /// The oldest version that may use it once all steps are done.
    pub oldest_version_then: String,
    /// Whether this program is too old for it.
    pub is_newer: bool,
}

impl SchemaState {
    /// Whether a step is missing.
    pub fn needs_migration(&self) -> bool {
        self.done.is_none_or(|done| done < self.known)
    }

    fn of(schema: String, steps: &[Migration], found: Option<(usize, String)>) -> Self {
        let done = found.as_ref().map(|(done, _)| *done);
        let oldest_version = found.map(|(_, oldest)| oldest).filter(|oldest| !oldest.is_empty());
        let last = steps.last().map_or("", |step| step.oldest_binary);
        let missing = steps.iter().skip(done.unwrap_or(0));
        let is_ahead = done.is_some_and(|done| done > steps.len());
        Self {
            schema,
            done,
            known: steps.len(),
            statements: missing.map(|step| step.statements().count()).sum(),
            oldest_version_then: match &oldest_version {
                Some(oldest) if is_ahead => oldest.clone(),
                _ => last.to_owned(),
            },
            is_newer: is_ahead
                && oldest_version.as_deref().is_some_and(|oldest| is_newer(oldest, eventodb_protocol::VERSION)),
            oldest_version,
        }
    }
}

/// Looks at all schemas.
///
/// # Errors
/// A statement fails.
pub(super) async fn survey(connection: &mut Connection) -> Result<Survey, Failure> {
    let round_trip = round_trip(connection).await?;
    let found = found(connection, REGISTRY, VERSION.on_registry()).await?;
    let is_made = found.is_some();
    let mut schemas = vec![SchemaState::of(REGISTRY.to_owned(), POSTGRES_REGISTRY, found)];
    let logs = if is_made { registry::logs(connection).await? } else { Vec::new() };
    for (incarnation, _) in logs.into_iter().filter(|(_, is_made)| *is_made) {
        let schema = schema(incarnation);
        let found = self::found(connection, &schema, VERSION.on(incarnation)).await?;
        schemas.push(SchemaState::of(schema, POSTGRES_LOG, found));
    }
    Ok(Survey { schemas, round_trip })
}

async fn round_trip(connection: &mut Connection) -> Result<Duration, Failure> {
    let begun = Instant::now();
    for _ in 0..TIMED {
        connection.query_one(PING.on_registry(), &[]).await?;
    }
    Ok(begun.elapsed() / TIMED)
}

/// The number of steps that are done, and the oldest version for the last of them.
async fn found(
    connection: &mut Connection,
    schema: &str,
    version: Statement,
) -> Result<Option<(usize, String)>, Failure> {
    let exists = connection.query_one(EXISTS.on_registry(), &[&schema, &"migrations"]).await?;
    if !exists.is_some_and(|row| row.get(0)) {
        return Ok(None);
    }
    let Some(row) = connection.query_one(version, &[]).await? else { return Ok(Some((0, String::new()))) };
    Ok(Some((usize::try_from(row.get::<_, i64>(0)).unwrap_or(0), row.get(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_schema_says_whether_this_version_may_use_it() {
        let steps = POSTGRES_REGISTRY;
        let state = |done: usize, oldest: &str| SchemaState::of("s".to_owned(), steps, Some((done, oldest.to_owned())));
        let current = state(steps.len(), "0.1.0");
        assert!(!current.needs_migration() && !current.is_newer && current.statements == 0);
        let ahead = state(steps.len() + 1, "0.1.0");
        assert!(!ahead.is_newer && ahead.oldest_version_then == "0.1.0");
        assert!(state(steps.len() + 1, "99.0.0").is_newer);
        let missing = SchemaState::of("s".to_owned(), steps, None);
        assert!(missing.needs_migration() && missing.statements >= steps.len());
    }

    #[test]
    fn no_step_lets_an_older_version_in_than_the_step_before() {
        for steps in [POSTGRES_REGISTRY, POSTGRES_LOG] {
            for pair in steps.windows(2) {
                assert!(!is_newer(pair[0].oldest_binary, pair[1].oldest_binary), "only the last step is asked");
            }
        }
    }
}
