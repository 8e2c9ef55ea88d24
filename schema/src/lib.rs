//! The database schemas of both backends: SQL files, and the lists of their migrations, oldest first.
//!
//! Migrations only go forward. What a released migration does is never changed, because databases exist that have run it.

/// Steps of `registry.db`.
pub const SQLITE_REGISTRY: &[&str] = &[
    include_str!("migrations/sqlite/registry_0001.sql"),
    include_str!("migrations/sqlite/registry_0002.sql"),
    include_str!("migrations/sqlite/registry_0003.sql"),
];
/// Steps of `N.log.db`.
pub const SQLITE_LOG: &[&str] = &[
    include_str!("migrations/sqlite/log_0001.sql"),
    include_str!("migrations/sqlite/log_0002.sql"),
    include_str!("migrations/sqlite/log_0003.sql"),
];
/// Steps of `N.index.db`.
pub const SQLITE_INDEX: &[&str] = &[
    include_str!("migrations/sqlite/index_0001.sql"),
    include_str!("migrations/sqlite/index_0002.sql"),
    include_str!("migrations/sqlite/index_0003.sql"),
];

/// A step of a schema on PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its SQL. In the steps of a log `{log}` stands for the schema's name.
    pub sql: &'static str,
    /// The oldest version of this program that may use the schema once the step is done.
    pub oldest_binary: &'static str,
}

impl Migration {
    /// Its statements, to be sent one at a time: Citus does not take several in one message. A semicolon and an empty
    /// line stand between two of them, and nowhere else in the file.
    pub fn statements(&self) -> impl Iterator<Item = &'static str> {
        self.sql.split(";\n\n").map(str::trim_end)
    }
}

/// Steps of the schema `eventodb`, which holds the registry.
pub const POSTGRES_REGISTRY: &[Migration] = &[
    Migration { sql: include_str!("migrations/postgres/registry_0001.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/registry_0002.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/registry_0003.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/registry_0004.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/registry_0005.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/registry_0006.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/registry_0007.sql"), oldest_binary: "0.1.0" },
];
/// Steps of the schema of one incarnation. The number in a function's name is the version of what it does: a step that
/// changes that makes a new function, and the old one stays for servers that call it.
pub const POSTGRES_LOG: &[Migration] = &[
    Migration { sql: include_str!("migrations/postgres/log_0001.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0002.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0003.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0004.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0005.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0006.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0007.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0008.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0009.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0010.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0011.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0012.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0013.sql"), oldest_binary: "0.1.0" },
    Migration { sql: include_str!("migrations/postgres/log_0014.sql"), oldest_binary: "0.1.0" },
];
