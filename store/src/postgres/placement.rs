//! Where it is written which node has the schema of a log.
//!
//! On Citus with schema-based sharding each log's schema is whole on one node. Without Citus all are on the one server.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::connection::Connection;
use super::error::Failure;
use super::settings::Settings;
use super::statement::{
    BYTES, BYTES_CITUS, HAS_CITUS, NODE_CITUS, NODE_STAND_IN, PLACEMENTS_CITUS, PLACEMENTS_STAND_IN, SELF_CITUS,
    SELF_STAND_IN, Template, schema,
};
use crate::model::Incarnation;

/// The name and the port of a node, as the database has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Which server a node is, under whatever name it is reached. Home and the node say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity(String);

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

    /// Which server a node is, as home has it. `None` if home has no such node.
    pub(super) async fn node(self, home: &mut Connection, address: &Address) -> Result<Option<Identity>, Failure> {
        let template = match self {
            Self::One => return Ok(None),
            Self::Citus => &NODE_CITUS,
            Self::StandIn => &NODE_STAND_IN,
        };
        let row = home.query_one(template.on_registry(), &[&address.host, &i32::from(address.port)]).await?;
        Ok(row.map(|row| Identity(row.get(0))))
    }

    /// Which server that of this connection is, as it has it itself. `None` if it is no node.
    pub(super) async fn itself(self, connection: &mut Connection) -> Result<Option<Identity>, Failure> {
        let template = match self {
            Self::One => return Ok(None),
            Self::Citus => &SELF_CITUS,
            Self::StandIn => &SELF_STAND_IN,
        };
        Ok(connection.query_one(template.on_registry(), &[]).await?.map(|row| Identity(row.get(0))))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        write!(f, "{host}:{port}")
    }
}
