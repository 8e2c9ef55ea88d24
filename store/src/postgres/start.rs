//! The look at a database when it is opened: what it is, whether it can be used, and what is worth a warning.

use std::fmt;

use tokio_postgres::Row;

use super::citus::{self, Cluster};
use super::connection::Connection;
use super::error::OpenError;
use super::migrate::MigrateError;
use super::settings::Settings;
use super::statement::SERVER;

/// The oldest version of PostgreSQL that works.
const OLDEST_SERVER: i32 = 140_000;

/// What was found, as it is logged.
#[derive(Debug)]
struct Found {
    /// The version of PostgreSQL.
    version: String,
    cluster: Option<Cluster>,
    /// Whether a pooler may be in between that keeps no sessions, as the settings say. It cannot be asked.
    is_pooled: bool,
}

/// A database that has been looked at.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) connection: Connection,
    pub(super) is_read_only: bool,
    /// Whether a commit is on its disk, whatever becomes of its machine.
    pub(super) is_durable: bool,
}

/// Looks at a database.
///
/// # Errors
/// Why it cannot be used, and what to do.
pub(super) async fn prepare(settings: &Settings) -> Result<Prepared, OpenError> {
    let mut connection = Connection::open(settings).await?;
    let row = connection.query_one(SERVER.on_registry(), &[]).await.map_err(MigrateError::from)?;
    let row = row.ok_or_else(|| OpenError::other("it told nothing about itself"))?;
    let (version, database): (String, String) = (row.get(1), row.get(6));
    if row.get::<_, i32>(0) < OLDEST_SERVER {
        return Err(OpenError::TooOld(version));
    }
    let encoding: String = row.get(2);
    if encoding != "UTF8" {
        return Err(OpenError::NotUtf8(encoding));
    }
    let cluster = match row.get(9) {
        Some(version) => Some(citus::look(&mut connection, version).await.map_err(MigrateError::from)?),
        None => None,
    };
    let found = Found { version, cluster, is_pooled: !settings.prepare };
    tracing::info!("found {found}");
    warn(&row);
    found.cluster.as_ref().map_or(Ok(()), |cluster| cluster.check(&database))?;
    if !row.get::<_, bool>(5) {
        return Err(OpenError::Privilege(format!("GRANT CREATE ON DATABASE {database} to this user")));
    }
    Ok(Prepared { connection, is_read_only: row.get(7), is_durable: row.get(3) && row.get(4) })
}

/// Logs what PostgreSQL may lose or damage by itself.
fn warn(row: &Row) {
    for (column, setting) in [(3, "fsync"), (4, "full_page_writes")] {
        if !row.get::<_, bool>(column) {
            tracing::warn!("PostgreSQL runs with {setting}=off: A CRASH OF ITS MACHINE LOSES OR DAMAGES MESSAGES");
        }
    }
    if !row.get::<_, bool>(8) {
        tracing::warn!(
            "PostgreSQL runs with data_checksums=off: it does not notice a page that its disk changed, and damaged \
             messages may be served as true; stop it and run `pg_checksums --enable`"
        );
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL {}", self.version)?;
        if let Some(cluster) = &self.cluster {
            write!(f, " with {cluster}")?;
        }
        if self.is_pooled {
            write!(f, "; no statement is prepared, as a pooler in transaction mode needs it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_one_line() {
        let plain = Found { version: "15.8".to_owned(), cluster: None, is_pooled: false };
        assert_eq!(plain.to_string(), "PostgreSQL 15.8");
        let pooled = Found { is_pooled: true, ..plain };
        assert_eq!(
            pooled.to_string(),
            "PostgreSQL 15.8; no statement is prepared, as a pooler in transaction mode needs it"
        );
    }
}
