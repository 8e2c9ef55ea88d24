//! What is measured: a server, and what it keeps its messages in.

mod index;
mod postgres;
mod process;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use eventodb_protocol::{DEFAULT_NAMESPACE, Token};

pub(crate) use self::postgres::{Cluster, Database};
pub(crate) use self::process::{Server, Vitals, cpu};
use crate::args::{Args, Backend};
use crate::wire::{Address, Connection};

/// A server under measurement.
#[derive(Debug)]
pub(crate) struct Host {
    /// Where it listens, and as whom it is spoken to.
    pub(crate) address: Address,
    server: Option<Server>,
    storage: Storage,
}

/// Whom a server lets in.
#[derive(Clone, Debug)]
enum Access {
    /// Everybody.
    Test,
    /// Who has a token.
    Tokens {
        administrator: String,
        /// Bytes of what may wait in it.
        memory: u64,
    },
}

/// Where a server has its messages.
#[derive(Debug)]
enum Storage {
    /// Nobody here knows.
    Foreign,
    Memory,
    /// Files in this directory, which goes with the host.
    Sqlite(tempfile::TempDir),
    Postgres(Database),
}

/// Makes hosts, each with a storage of its own.
#[derive(Debug)]
pub(crate) struct Hosts {
    backend: Backend,
    /// A server that runs already.
    foreign: Option<Address>,
    directory: PathBuf,
    /// Where databases are made.
    cluster: Option<Cluster>,
}

/// How long a server may take to end after SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(30);

impl Hosts {
    /// Hosts as the arguments want them, with what they need in `directory`.
    pub(crate) async fn new(args: &Args, directory: &Path) -> anyhow::Result<Self> {
        let foreign = match &args.url {
            Some(url) => Some(Address::new(url, args.token.clone())?),
            None => None,
        };
        let cluster = match (&foreign, args.backend, &args.db_url) {
            (None, Backend::Postgres, Some(url)) => Some(Cluster::existing(url).await?),
            (None, Backend::Postgres, None) => Some(Cluster::start(directory, &args.pg_settings).await?),
            _ => None,
        };
        Ok(Self { backend: args.backend, foreign, directory: directory.to_owned(), cluster })
    }

    /// The backend of the servers that are started; `None` for a foreign one.
    pub(crate) fn backend(&self) -> Option<Backend> {
        self.foreign.is_none().then_some(self.backend)
    }

    /// Where databases are made, on PostgreSQL.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// A server on an empty storage of its own; the foreign server where one was named.
    pub(crate) async fn start(&self) -> anyhow::Result<Host> {
        self.start_as(&Access::Test).await
    }

    /// The same, but tokens are asked for, and what waits in it has so many bytes of memory; it is spoken to as its
    /// administrator.
    pub(crate) async fn start_guarded(&self, memory: u64) -> anyhow::Result<Host> {
        let token = Token::generate(DEFAULT_NAMESPACE).as_str().to_owned();
        self.start_as(&Access::Tokens { administrator: token, memory }).await
    }

    async fn start_as(&self, access: &Access) -> anyhow::Result<Host> {
        if let Some(address) = &self.foreign {
            Connection::open(address).await?;
            return Ok(Host { address: address.clone(), server: None, storage: Storage::Foreign });
        }
        let storage = match (self.backend, &self.cluster) {
            (Backend::Memory, _) => Storage::Memory,
            (Backend::Postgres, Some(cluster)) => Storage::Postgres(cluster.database().await?),
            _ => Storage::Sqlite(tempfile::Builder::new().prefix("data-").tempdir_in(&self.directory)?),
        };
        let server = Server::start(&serve(&storage, access)).await?;
        let token = match access {
            Access::Test => None,
            Access::Tokens { administrator, .. } => Some(administrator.clone()),
        };
        Ok(Host { address: Address::new(&server.url, token)?, server: Some(server), storage })
    }

    /// Ends what was started for the hosts.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }
}

impl Host {
    /// The server's process, where it is known.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.server.as_ref().and_then(Server::pid)
    }

    /// What the server's process holds.
    pub(crate) fn vitals(&self) -> anyhow::Result<Vitals> {
        Vitals::of(self.pid().context("the server's process is not known")?)
    }

    /// Another server on the same storage.
    pub(crate) async fn second(&self) -> anyhow::Result<Server> {
        Server::start(&serve(&self.storage, &Access::Test)).await
    }

    /// Ends the server as SIGTERM does and starts another on the same storage; answers when the program was called.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<Instant> {
        let server = self.server.take().context("the server is not the bench's own")?;
        server.terminate(END_WITHIN).await?;
        let begin = Instant::now();
        let server = Server::start(&serve(&self.storage, &Access::Test)).await?;
        self.address = Address::new(&server.url, None)?;
        self.server = Some(server);
        Ok(begin)
    }

    /// Waits until everything that was written is indexed; answers how long after `since` that was.
    pub(crate) async fn caught_up(&self, since: Instant) -> anyhow::Result<f64> {
        let end = match &self.storage {
            Storage::Foreign | Storage::Postgres(_) => since,
            Storage::Sqlite(directory) => index::caught_up(directory.path()).await?,
            Storage::Memory => process::settle(self.pid().context("the server's process is not known")?).await?,
        };
        Ok(end.saturating_duration_since(since).as_secs_f64())
    }

    /// Ends the server and removes its storage.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        if let Some(server) = self.server {
            server.kill().await?;
        }
        match self.storage {
            Storage::Postgres(database) => database.drop().await,
            Storage::Sqlite(directory) => directory.close().context("cannot remove the data directory"),
            Storage::Foreign | Storage::Memory => Ok(()),
        }
    }
}

fn serve(storage: &Storage, access: &Access) -> Vec<String> {
    let mut line: Vec<String> =
        ["serve", "--port", "0", "--log-level", "error"].into_iter().map(str::to_owned).collect();
    // A file without --test-mode would want a token, and --test-mode alone keeps everything in memory.
    match access {
        Access::Test => line.push("--test-mode".to_owned()),
        Access::Tokens { administrator, memory } => {
            line.extend([
                "--token".to_owned(),
                administrator.clone(),
                "--memory-budget".to_owned(),
                memory.to_string(),
            ]);
        }
    }
    match storage {
        Storage::Foreign => {}
        Storage::Memory => line.extend(["--db-url".to_owned(), "sqlite://:memory:".to_owned()]),
        Storage::Sqlite(directory) => line.extend([
            "--data-dir".to_owned(),
            directory.path().display().to_string(),
            "--db-url".to_owned(),
            "sqlite://eventodb.db".to_owned(),
        ]),
        Storage::Postgres(database) => line.extend(["--db-url".to_owned(), database.url().to_owned()]),
    }
    line
}
