//! The servers that are measured, and the storage of each.

mod certificate;
mod index;
mod postgres;
mod process;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use eventodb_protocol::{DEFAULT_NAMESPACE, Token};

pub(crate) use self::certificate::Certificate;
pub(crate) use self::postgres::{Cluster, Database};
pub(crate) use self::process::{Server, Vitals, resident, used};
use crate::args::{Args, Backend};
use crate::wire::{Address, Connection};

/// A server under measurement.
#[derive(Debug)]
pub(crate) struct Host {
    /// Where it listens, and the token for it.
    pub(crate) address: Address,
    server: Option<Server>,
    /// What is started as the server, if it is another build than this.
    program: Option<PathBuf>,
    storage: Storage,
}

/// A server that asks for tokens.
#[derive(Debug)]
pub(crate) struct Guard {
    administrator: Token,
    /// What else the server is started with.
    flags: Vec<String>,
    /// Its certificate, if it has TLS.
    certificate: Option<Certificate>,
}

/// The place of a server's messages.
#[derive(Debug)]
enum Storage {
    /// A server at `--url` has its own.
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
    /// What is started as the server, if it is another build than this.
    program: Option<PathBuf>,
    /// Where databases are made.
    cluster: Option<Cluster>,
}

/// How long a server may take to end after SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(30);

/// The directory of a SQLite store in its data directory.
const STORE: &str = "eventodb.db";

impl Hosts {
    /// Hosts as the arguments want them, with their files in `directory`.
    pub(crate) async fn new(args: &Args, directory: &Path) -> anyhow::Result<Self> {
        let foreign = args.url.as_ref();
        let foreign =
            foreign.map(|url| Address::trusting(url, args.token.clone(), args.ca_file.as_deref())).transpose()?;
        let cluster = match (&foreign, args.backend, &args.db_url) {
            (None, Backend::Postgres, Some(url)) => Some(Cluster::existing(url).await?),
            (None, Backend::Postgres, None) => Some(Cluster::start(directory, &args.pg_settings).await?),
            _ => None,
        };
        let program = args.server_program.clone();
        Ok(Self { backend: args.backend, foreign, directory: directory.to_owned(), program, cluster })
    }

    /// The backend of the servers that are started; `None` for a server at `--url`.
    pub(crate) fn backend(&self) -> Option<Backend> {
        self.foreign.is_none().then_some(self.backend)
    }

    pub(crate) async fn database(&self) -> anyhow::Result<Database> {
        self.cluster.as_ref().context("there is no PostgreSQL")?.database().await
    }

    /// A server on an empty storage of its own, or the one at `--url`. A guarded one is addressed as its administrator.
    pub(crate) async fn start(&self, guard: Option<&Guard>) -> anyhow::Result<Host> {
        if let Some(address) = &self.foreign {
            Connection::open(address).await?;
            return Ok(Host { address: address.clone(), server: None, program: None, storage: Storage::Foreign });
        }
        let storage = match self.backend {
            Backend::Memory => Storage::Memory,
            Backend::Postgres => Storage::Postgres(self.database().await?),
            Backend::Sqlite => Storage::Sqlite(tempfile::Builder::new().prefix("data-").tempdir_in(&self.directory)?),
        };
        let server = Server::start(self.program.as_deref(), &serve(&storage, guard)).await?;
        let token = guard.map(|guard| guard.administrator.as_str().to_owned());
        Ok(Host {
            address: Address::trusting(&server.url, token, guard.and_then(Guard::authorities))?,
            server: Some(server),
            program: self.program.clone(),
            storage,
        })
    }

    /// Ends the PostgreSQL that was started for the hosts.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }
}

impl Guard {
    /// A new administrator's token, and these flags beside it.
    pub(crate) fn new(flags: impl IntoIterator<Item = String>) -> Self {
        let flags = flags.into_iter().collect();
        Self { administrator: Token::generate(DEFAULT_NAMESPACE), flags, certificate: None }
    }

    /// The same, with TLS by this certificate.
    pub(crate) fn with_tls(certificate: Certificate) -> Self {
        Self { certificate: Some(certificate.clone()), ..Self::new(certificate.flags()) }
    }

    fn authorities(&self) -> Option<&Path> {
        self.certificate.as_ref().map(|certificate| &*certificate.file)
    }
}

impl Host {
    pub(crate) fn pid(&self) -> Option<u32> {
        self.server.as_ref().and_then(Server::pid)
    }

    /// Processor time that the server's process has used, as far as it is known.
    pub(crate) fn used(&self) -> Duration {
        used(self.pid())
    }

    pub(crate) fn vitals(&self) -> anyhow::Result<Vitals> {
        Vitals::of(self.pid().context("the server's process is not known")?)
    }

    /// Its database, if it is the bench's own.
    pub(crate) fn database(&self) -> Option<&Database> {
        match &self.storage {
            Storage::Postgres(database) => Some(database),
            Storage::Foreign | Storage::Memory | Storage::Sqlite(_) => None,
        }
    }

    pub(crate) async fn second(&self) -> anyhow::Result<Server> {
        Server::start(self.program.as_deref(), &serve(&self.storage, None)).await
    }

    /// Ends the server by SIGTERM and starts another on the same storage; returns when the program was called.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<Instant> {
        let server = self.server.take().context("the server is not the bench's own")?;
        server.terminate(END_WITHIN).await?;
        let begin = Instant::now();
        let server = Server::start(self.program.as_deref(), &serve(&self.storage, None)).await?;
        self.address = Address::new(&server.url, None)?;
        self.server = Some(server);
        Ok(begin)
    }

    /// Waits until everything that was written is indexed; returns the seconds from `since` to then.
    pub(crate) async fn caught_up(&self, since: Instant) -> anyhow::Result<f64> {
        let end = match &self.storage {
            Storage::Foreign | Storage::Postgres(_) => since,
            Storage::Sqlite(directory) => index::caught_up(&directory.path().join(STORE)).await?,
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

/// The arguments of `eventodb` for a server on a storage.
fn serve(storage: &Storage, guard: Option<&Guard>) -> Vec<String> {
    let storage = match storage {
        Storage::Foreign => Vec::new(),
        Storage::Memory => vec!["--db-url=sqlite://:memory:".to_owned()],
        // Test mode alone would keep everything in memory.
        Storage::Sqlite(directory) => {
            let directory = directory.path().display();
            vec![format!("--data-dir={directory}"), format!("--db-url=sqlite://{STORE}")]
        }
        Storage::Postgres(database) => vec![format!("--db-url={}", database.url())],
    };
    let guard = match guard {
        None => vec!["--test-mode".to_owned()],
        Some(Guard { administrator, flags, .. }) => {
            let token = format!("--token={}", administrator.as_str());
            [token].into_iter().chain(flags.iter().cloned()).collect()
        }
    };
    let line = ["serve", "--port=0", "--log-level=error"].map(str::to_owned);
    line.into_iter().chain(guard).chain(storage).collect()
}
