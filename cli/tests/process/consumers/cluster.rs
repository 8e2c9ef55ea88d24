//! The servers of a test, on one store: they are killed and replaced at their ports, and so is PostgreSQL.

use std::ffi::OsString;

use eventodb_client::Client;
use eventodb_testing::pooler::Pooler;
use eventodb_testing::postgres;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::Instant;

use super::super::client::tables::Place;
use crate::server::{BINARY, PATIENCE, Server};

/// Names another binary than the one under test, such as one that is optimised fully.
const BINARY_VARIABLE: &str = "EVENTODB_BIN";

/// How many connections a PgBouncer has to the database: fewer than the servers have to it.
const CONNECTIONS: usize = 4;

/// What the servers keep the log in.
enum Store {
    File(TempDir),
    Database { postgres: postgres::Server, direct: String, pooler: Option<Pooler> },
}

pub(super) struct Cluster {
    store: Store,
    servers: Vec<Server>,
}

impl Cluster {
    /// A server on a SQLite file.
    pub(super) async fn on_a_file() -> Self {
        Self::of(Store::File(tempfile::tempdir().expect("a temporary folder")), 1).await
    }

    /// Two servers on a PostgreSQL of their own.
    pub(super) async fn on_postgres() -> Self {
        let postgres = postgres::Server::start(&["fsync=off"]);
        let direct = postgres::create_database(&postgres.url("postgres"), "ENCODING 'UTF8'").await;
        Self::of(Store::Database { postgres, direct, pooler: None }, 2).await
    }

    /// The same behind a PgBouncer in transaction mode.
    pub(super) async fn behind_a_pooler() -> Self {
        let postgres = postgres::Server::start(&["fsync=off"]);
        let direct = postgres::create_database(&postgres.url("postgres"), "ENCODING 'UTF8'").await;
        let pooler = Some(Pooler::start(&direct, CONNECTIONS).await);
        Self::of(Store::Database { postgres, direct, pooler }, 2).await
    }

    async fn of(store: Store, count: usize) -> Self {
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(Server::launch(store.command("0")).await);
        }
        Self { store, servers }
    }

    /// A place for a read model: a file, or the database of the servers, which dies with theirs.
    pub(super) fn place(&self) -> Place {
        match &self.store {
            Store::File(directory) => Place::Sqlite(directory.path().join("read-model.db")),
            Store::Database { direct, .. } => Place::Postgres(direct.clone()),
        }
    }

    /// How many servers there are.
    pub(super) fn size(&self) -> usize {
        self.servers.len()
    }

    /// The address of a server. It is the same after a restart.
    pub(super) fn url(&self, server: usize) -> String {
        self.servers[server % self.servers.len()].url()
    }

    pub(super) fn client(&self, server: usize) -> Client {
        self.servers[server % self.servers.len()].client()
    }

    /// Kills a server and starts another one at its port.
    pub(super) async fn replace(&mut self, server: usize) {
        let port = self.servers[server].address.rsplit_once(':').expect("an address has a port").1.to_owned();
        self.servers[server].child.kill().await.expect("the process is there");
        let deadline = Instant::now() + PATIENCE;
        self.servers[server] = loop {
            match Server::try_launch(self.store.command(&port)).await {
                Ok(started) => break started,
                // A pooler remembers for a second that the database was away. A service manager tries again, too.
                Err(status) => assert!(Instant::now() < deadline, "the server ends with {status}"),
            }
        };
    }

    /// Ends PostgreSQL as a crash would, and starts it again. Returns whether there is one.
    pub(super) fn crash_database(&self) -> bool {
        let Store::Database { postgres, .. } = &self.store else { return false };
        tokio::task::block_in_place(|| {
            postgres.stop("immediate");
            postgres.start_again();
        });
        true
    }

    pub(super) async fn stop(self) {
        for server in self.servers {
            server.stop().await;
        }
    }
}

impl Store {
    fn command(&self, port: &str) -> Command {
        let binary = std::env::var_os(BINARY_VARIABLE).unwrap_or_else(|| OsString::from(BINARY));
        let mut command = Command::new(binary);
        match self {
            Self::File(directory) => {
                command.args(Server::arguments_at(port, directory.path()));
            }
            Self::Database { direct, pooler: None, .. } => {
                command.args(Server::arguments_on(port, direct));
            }
            Self::Database { direct, pooler: Some(pooler), .. } => {
                command.args(Server::arguments_on(port, &pooler.url(direct)));
                command.args(["--pg-prepare", "off", "--listen-url", direct]);
            }
        }
        command
    }
}
