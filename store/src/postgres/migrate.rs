//! Migrations: forward only, each in one transaction, under a lock, so that any number of servers may start at once. The
//! statements are sent one at a time.

use std::time::Duration;

use eventodb_schema::{Migration, POSTGRES_LOG, POSTGRES_REGISTRY};

use super::connection::Connection;
use super::error::Failure;
use super::keys;
use super::owner::{self, Stranger};
use super::placement::Placement;
use super::registry;
use super::statement::{
    EXISTS, LOCK_USABLE, MIGRATED, MIGRATION_LOCK, REGISTRY, SCHEMA_EXISTS, Statement, USABLE, VERSION, schema,
};
use crate::model::Incarnation;
use crate::seldom::{Due, Seldom};

/// How long a migration may take, and how long one waits for another server's while nobody waits for it.
const LIMIT: Duration = Duration::from_secs(600);
/// How long the migration of a log that a call opens waits for a lock: another server's migration, or somebody who uses
/// a table. It is longer than the second after which PostgreSQL cancels an autovacuum that is in the way.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum MigrateError {
    /// A statement failed.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// It was made by a newer version.
    #[error("schema {schema} needs a newer version of this program: {needs} or newer")]
    Newer {
        /// The schema.
        schema: String,
        /// The oldest version that may use it.
        needs: String,
    },
    /// It is older, and may not be changed.
    #[error("schema {0} needs a migration, and migrations are switched off")]
    Needed(String),
    /// Something in it belongs to another role.
    #[error(transparent)]
    Stranger(Stranger),
    /// Its incarnation was deleted.
    #[error("the namespace was deleted")]
    Deleted,
    /// It is not here, but at another node, and is not to be made anew.
    #[error("schema {0} is at another node of the database")]
    Elsewhere(String),
}

impl MigrateError {
    /// Whether the schema may be at another node, or may have moved there meanwhile.
    pub(super) fn may_be_elsewhere(&self) -> bool {
        match self {
            Self::Elsewhere(_) => true,
            Self::Failure(failure) => failure.is_missing(),
            _ => false,
        }
    }
}

/// Brings the registry up to date.
pub(super) async fn registry(connection: &mut Connection, may_migrate: bool) -> Result<(), MigrateError> {
    let registry = Target {
        schema: REGISTRY.to_owned(),
        owner: None,
        steps: POSTGRES_REGISTRY,
        version: VERSION.on_registry(),
        migrated: MIGRATED.on_registry(),
        placement: Placement::One,
        patience: LIMIT,
    };
    // If there is no registry at all, it may be the wrong database: making it is a migration too, which may be
    // forbidden.
    if !registry.is_up_to_date(connection, may_migrate, may_migrate).await? {
        registry.migrate(connection).await?;
    }
    Ok(())
}

/// Whether the schema of a log is there and up to date. If it is not, [`log`] is to be called.
///
/// # Errors
/// [`MigrateError::Needed`] if it is older and may not be changed.
pub(super) async fn is_up_to_date(
    connection: &mut Connection,
    incarnation: Incarnation,
    may_migrate: bool,
) -> Result<bool, MigrateError> {
    let log = Target::log(incarnation, Placement::One, PATIENCE);
    // A missing one is made in any case: it belongs to a namespace that was just created.
    log.is_up_to_date(connection, may_migrate, true).await
}

/// Makes the schema of a log, unless `placement` tells that another node has it, or brings it up to date. If another
/// migration is under way for too long, nothing is changed, and it may be tried again.
pub(super) async fn log(
    connection: &mut Connection,
    incarnation: Incarnation,
    placement: Placement,
) -> Result<(), MigrateError> {
    Target::log(incarnation, placement, PATIENCE).migrate(connection).await
}

/// Whether the schema of a log, which is there, has exactly the steps that this program knows.
pub(super) async fn is_current(connection: &mut Connection, incarnation: Incarnation) -> Result<bool, Failure> {
    let row = connection.query_one(VERSION.on(incarnation), &[]).await?;
    let version: i64 = row.map_or(0, |row| row.get(0));
    Ok(usize::try_from(version) == Ok(POSTGRES_LOG.len()))
}

/// Brings the registry and every log that has a schema up to date.
pub(super) async fn all(connection: &mut Connection, placement: Placement) -> Result<(), MigrateError> {
    self::registry(connection, true).await?;
    for (incarnation, _) in registry::logs(connection).await?.into_iter().filter(|(_, is_made)| *is_made) {
        let log = Target::log(incarnation, placement, LIMIT);
        let outcome = match log.is_up_to_date(connection, true, true).await {
            Ok(false) => log.migrate(connection).await,
            outcome => outcome.map(|_| ()),
        };
        match outcome {
            Ok(()) | Err(MigrateError::Deleted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(keys::make_missing(connection).await?)
}

/// A schema that is to be brought up to date.
struct Target {
    schema: String,
    /// The incarnation that must live, or be staged, for it.
    owner: Option<Incarnation>,
    steps: &'static [Migration],
    version: Statement,
    migrated: Statement,
    /// Where it is written that another node has the schema.
    placement: Placement,
    /// How long it waits for a lock.
    patience: Duration,
}

impl Target {
    fn log(incarnation: Incarnation, placement: Placement, patience: Duration) -> Self {
        Self {
            schema: schema(incarnation),
            owner: Some(incarnation),
            steps: POSTGRES_LOG,
            version: VERSION.on(incarnation),
            migrated: MIGRATED.on(incarnation),
            placement,
            patience,
        }
    }

    async fn is_up_to_date(
        &self,
        connection: &mut Connection,
        may_migrate: bool,
        may_create: bool,
    ) -> Result<bool, MigrateError> {
        if let Some(owner) = self.owner {
            connection.query_one(USABLE.on_registry(), &[&owner.0]).await?.ok_or(MigrateError::Deleted)?;
        }
        self.check_owner(connection).await?;
        match self.done(connection).await? {
            Some(done) if done >= self.steps.len() => Ok(true),
            Some(_) if !may_migrate => Err(MigrateError::Needed(self.schema.clone())),
            None if !may_create => Err(MigrateError::Needed(self.schema.clone())),
            _ => Ok(false),
        }
    }

    async fn migrate(&self, connection: &mut Connection) -> Result<(), MigrateError> {
        connection.begin().await?;
        let (limit, patience) = (LIMIT.as_millis(), self.patience.as_millis());
        let limits = format!("SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {patience}");
        connection.execute(&limits, LIMIT).await?;
        connection.query_within(LIMIT, MIGRATION_LOCK.on_registry(), &[]).await?;
        if let Some(owner) = self.owner {
            // Taken second, and kept to the end: the incarnation cannot be deleted under the migration.
            connection.query_one(LOCK_USABLE.on_registry(), &[&owner.0]).await?.ok_or(MigrateError::Deleted)?;
        }
        // Another server may have done it meanwhile.
        let done = match self.done(connection).await? {
            Some(done) => done,
            None => {
                self.check_nowhere(connection).await?;
                self.create(connection).await?;
                0
            }
        };
        // Once more, because another role may have made it meanwhile.
        self.check_owner(connection).await?;
        for (at, step) in self.steps.iter().enumerate().skip(done) {
            for statement in step.statements() {
                connection.execute_one(&statement.replace("{log}", &self.schema), LIMIT).await?;
            }
            let version = i64::try_from(at + 1).expect("there are few steps");
            connection.query(self.migrated, &[&version, &step.oldest_binary]).await?;
        }
        connection.commit().await?;
        self.tell(done);
        Ok(())
    }

    /// Logs that the steps after the first `done` ones were done.
    fn tell(&self, done: usize) {
        /// A new version migrates thousands of schemas one after the other.
        static MIGRATED: Seldom = Seldom::new();
        let to = self.steps.len();
        if done == 0 {
            tracing::debug!(schema = self.schema, version = to, "made a schema");
        } else if done < to
            && let Some(Due { held_back }) = MIGRATED.due("migrated")
        {
            tracing::info!(schema = self.schema, from = done, to, held_back, "migrated a schema");
        }
    }

    async fn check_owner(&self, connection: &mut Connection) -> Result<(), MigrateError> {
        match owner::find_stranger(connection, &self.schema).await? {
            Some(stranger) => Err(MigrateError::Stranger(stranger)),
            None => Ok(()),
        }
    }

    /// How many of the steps in the list are done; `None` if there is no schema.
    async fn done(&self, connection: &mut Connection) -> Result<Option<usize>, MigrateError> {
        let exists = connection
            .query_one(EXISTS.on_registry(), &[&self.schema, &"migrations"])
            .await?
            .is_some_and(|row| row.get(0));
        if !exists {
            return Ok(None);
        }
        let Some(row) = connection.query_one(self.version, &[]).await? else { return Ok(Some(0)) };
        let (version, needs): (i64, String) = (row.get(0), row.get(1));
        let done = usize::try_from(version).expect("versions count from 1");
        if done > self.steps.len() && is_newer(&needs, eventodb_protocol::VERSION) {
            return Err(MigrateError::Newer { schema: self.schema.clone(), needs });
        }
        Ok(Some(done))
    }

    /// Checks that no other node has the schema. The move of a schema is on record before the schema is gone from where
    /// it was. Whoever finds it missing, and then no record, therefore knows that it was never made.
    async fn check_nowhere(&self, connection: &mut Connection) -> Result<(), MigrateError> {
        let owner = self.owner.as_slice();
        let is_elsewhere = !self.placement.find(connection, owner).await?.is_empty();
        if is_elsewhere { Err(MigrateError::Elsewhere(self.schema.clone())) } else { Ok(()) }
    }

    async fn create(&self, connection: &mut Connection) -> Result<(), Failure> {
        // An administrator may have made the schema, so that this role needs no right to.
        let name = connection.query_one(SCHEMA_EXISTS.on_registry(), &[&self.schema]).await?;
        if name.is_none_or(|row| !row.get::<_, bool>(0)) {
            connection.execute_one(&format!("CREATE SCHEMA {}", self.schema), LIMIT).await?;
        }
        connection.execute_one(&include_str!("sql/migrations.sql").replace("{log}", &self.schema), LIMIT).await
    }
}

/// Whether version `a` is newer than version `b`. A part that is no number counts as 0.
pub(super) fn is_newer(a: &str, b: &str) -> bool {
    let parts = |text: &str| -> Vec<u64> {
        text.split(['.', '-', '+']).take(3).map(|part| part.parse().unwrap_or(0)).collect()
    };
    parts(a) > parts(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (newer, older) in [("0.10.0", "0.9.9"), ("1.0.0", "0.99.0"), ("0.1.1", "0.1.0")] {
            assert!(is_newer(newer, older) && !is_newer(older, newer), "{newer} {older}");
        }
        assert!(!is_newer("0.1.0", "0.1.0"));
    }
}
