//! Where it is written which node has the schema of a log.
//!
//! On Citus with schema-based sharding each log's schema is whole on one node. Without Citus all are on the one server.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::connection::Connection;
use super::error::Failure;
use super::settings::Settings;
use super::statement::{BYTES, BYTES_CITUS, HAS_CITUS, PLACEMENTS_CITUS, PLACEMENTS_STAND_IN, Template, schema};
use crate::model::Incarnation;

/// The name and the port of a node, as the database has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Where it is written which node has the schema of a log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Placement {
    /// Nowhere: there is one server.
    One,
    /// In the tables of Citus.
    Citus,
    /// In a table of a test.
    StandIn,
}

impl Placement {
    /// What the database has.
    pub(super) async fn look(connection: &mut Connection, settings: &Settings) -> Result<Self, Failure> {
        if settings.stand_in {
            return Ok(Self::StandIn);
        }
        let row = connection.query_one(HAS_CITUS.on_registry(), &[]).await?;
        let has_citus = row.is_some_and(|row| row.get(0));
        Ok(if has_citus { Self::Citus } else { Self::One })
    }

    /// The statement that tells the bytes of a log. On Citus the table that bears the log's name is empty, and stands for
    /// another one.
    pub(super) fn bytes(self) -> &'static Template {
        if matches!(self, Self::Citus) { &BYTES_CITUS } else { &BYTES }
    }

    /// The nodes of those of these logs that are not at the server of this connection.
    pub(super) async fn find(
        self,
        connection: &mut Connection,
        logs: &[Incarnation],
    ) -> Result<HashMap<Incarnation, Address>, Failure> {
        let template = match self {
            Self::One => return Ok(HashMap::new()),
            Self::Citus => &PLACEMENTS_CITUS,
            Self::StandIn => &PLACEMENTS_STAND_IN,
        };
        let names: HashMap<String, Incarnation> = logs.iter().map(|&log| (schema(log), log)).collect();
        let schemas: Vec<&str> = names.keys().map(String::as_str).collect();
        let rows = connection.query(template.on_registry(), &[&schemas]).await?;
        let placed = |row: &Row| {
            let log = *names.get(row.get::<_, &str>(0))?;
            let port = u16::try_from(row.get::<_, i32>(2)).ok()?;
            Some((log, Address { host: row.get(1), port }))
        };
        Ok(rows.iter().filter_map(placed).collect())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        write!(f, "{host}:{port}")
    }
}
