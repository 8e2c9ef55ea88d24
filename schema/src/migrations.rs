//! The SQL migrations of both backends, as text, oldest first. Forward only: one that has been
//! released is never changed.

/// Steps of `registry.db`.
pub const SQLITE_REGISTRY: &[&str] = &[include_str!("migrations/sqlite/registry_0001.sql")];
/// Steps of `N.log.db`.
pub const SQLITE_LOG: &[&str] = &[include_str!("migrations/sqlite/log_0001.sql")];
/// Steps of `N.index.db`.
pub const SQLITE_INDEX: &[&str] = &[include_str!("migrations/sqlite/index_0001.sql")];
