//! Citus at the start: what the cluster is to this server, and whether namespaces can be spread over it.
//!
//! Its catalogue is read only in a database that has the extension.

use std::fmt;

use super::connection::Connection;
use super::error::{Failure, OpenError};

/// The first version that places each schema on one node.
const OLDEST: (u32, u32) = (12, 0);

/// What was found of a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    version: String,
    /// Whether a schema that this session makes is placed on one node.
    places_schemas: bool,
    is_coordinator: bool,
    /// Workers that take part.
    workers: i64,
    /// Whether this role may have a function run where its schema is.
    may_distribute: bool,
}

/// Looks at the cluster in whose database this session is.
pub(super) async fn look(connection: &mut Connection, version: String) -> Result<Cluster, Failure> {
    let mut found = None;
    let text = include_str!("sql/citus.sql").to_owned();
    connection.for_each_of_texts(&[text], |row| found = Some(row)).await?;
    let row = found.expect("a SELECT without FROM has one row");
    Ok(Cluster {
        version,
        places_schemas: row.get(0),
        is_coordinator: row.get(1),
        workers: row.get(2),
        may_distribute: row.get(3),
    })
}

impl Cluster {
    /// Whether namespaces can be spread over it.
    ///
    /// # Errors
    /// What stands in the way, and what to do.
    pub(super) fn check(&self, database: &str) -> Result<(), OpenError> {
        if release(&self.version) < OLDEST {
            let (major, minor) = OLDEST;
            return Err(OpenError::Citus(format!(
                "version {} is too old; {major}.{minor} or newer is needed",
                self.version
            )));
        }
        if !self.places_schemas {
            return Err(OpenError::Citus(format!(
                "citus.enable_schema_based_sharding is off; ALTER DATABASE {database} SET citus.enable_schema_based_sharding = on, \
                 or use a database without the extension"
            )));
        }
        if !self.may_distribute {
            let grant = "GRANT EXECUTE ON FUNCTION pg_catalog.create_distributed_function TO this user";
            return Err(OpenError::Privilege(grant.to_owned()));
        }
        Ok(())
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, workers, .. } = self;
        let node = if self.is_coordinator { "the coordinator" } else { "a worker" };
        let plural = if *workers == 1 { "" } else { "s" };
        write!(f, "Citus {version}, schema-based sharding on, {workers} worker{plural}; this is {node}")
    }
}

/// The first two numbers of a version such as `13.2-1`. A part that is no number counts as 0.
fn release(version: &str) -> (u32, u32) {
    let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        Cluster {
            version: "13.2-1".to_owned(),
            places_schemas: true,
            is_coordinator: true,
            workers: 2,
            may_distribute: true,
        }
    }

    #[test]
    fn a_cluster_is_told_in_one_line() {
        cluster().check("events").expect("it can be used");
        let told = cluster().to_string();
        assert_eq!(told, "Citus 13.2-1, schema-based sharding on, 2 workers; this is the coordinator");
        let worker = Cluster { is_coordinator: false, workers: 1, ..cluster() };
        assert_eq!(worker.to_string(), "Citus 13.2-1, schema-based sharding on, 1 worker; this is a worker");
    }

    #[test]
    fn what_cannot_work_is_refused_in_one_line_that_says_what_to_do() {
        for (version, is_old) in
            [("11.3-1", true), ("9.5-1", true), ("12.0-1", false), ("12.1-1", false), ("13.2-1", false)]
        {
            let refused = Cluster { version: version.to_owned(), ..cluster() }.check("events");
            assert_eq!(refused.is_err(), is_old, "{version}");
        }
        let off = Cluster { places_schemas: false, ..cluster() }.check("events").expect_err("it is off").to_string();
        assert!(off.contains("ALTER DATABASE events SET citus.enable_schema_based_sharding = on"), "{off}");
        let role = Cluster { may_distribute: false, ..cluster() }.check("events").expect_err("it may not").to_string();
        assert!(role.contains("GRANT EXECUTE"), "{role}");
        assert!(!off.contains('\n') && !role.contains('\n'));
    }
}
