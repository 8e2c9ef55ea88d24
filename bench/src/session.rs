//! What a run has in place: servers, messages in them, ceilings. Each is made when it is first needed.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;

use crate::Distribution;
use crate::args::{Args, Backend};
use crate::ceiling::postgres::Postgres;
use crate::ceiling::sqlite::Sqlite;
use crate::host::{Host, Hosts, Server};
use crate::measure::Gauge;
use crate::names::Names;
use crate::plan::large;
use crate::preload::{Fill, fill};
use crate::rpc;
use crate::scenario::read::{self, Filled};
use crate::scenario::{Scenario, namespaces, rare};
use crate::wire::Address;

/// What a run needs.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) args: &'a Args,
    pub(crate) gauge: Arc<Gauge>,
    /// The streams.
    pub(crate) names: Names,
    pub(crate) hosts: Hosts,
    /// The server that most scenarios measure.
    pub(crate) main: Host,
    /// A server that runs already, spoken to as the arguments say: `main` is a namespace of the bench's own there.
    foreign: Option<Address>,
    pub(crate) noop: Address,
    pub(crate) noop_server: Option<Server>,
    filled: Option<Filled>,
    /// A namespace with very many streams.
    many: Option<Address>,
    /// A server with a larger log.
    large: Option<Large>,
    /// Whether the category that only one stream has is in place there.
    is_rare: bool,
    sqlite: Option<Sqlite>,
    indexed: Option<Sqlite>,
    postgres: Option<Postgres>,
    /// A server with thousands of namespaces.
    crowd: Option<(Host, Vec<Address>)>,
    /// Removed when all else has ended.
    pub(crate) directory: tempfile::TempDir,
}

/// A log that is larger than the others'.
#[derive(Debug)]
pub(crate) struct Large {
    /// The server.
    pub(crate) host: Host,
    /// The namespace of the log, which others may stand beside.
    pub(crate) address: Address,
}

impl<'a> Session<'a> {
    /// Starts the servers.
    pub(crate) async fn start(args: &'a Args, gauge: Arc<Gauge>) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = args.data_dir.clone().unwrap_or_else(|| ".".into());
        std::fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        // PostgreSQL's user, where that is another, must get through to its own directory.
        let through = std::fs::Permissions::from_mode(0o711);
        let mut directory = tempfile::Builder::new();
        let directory = directory.prefix("eventodb-bench-").permissions(through).tempdir_in(parent.canonicalize()?)?;
        let noop_server = match args.noop_url {
            Some(_) => None,
            None => Some(Server::start(&["bench".to_owned(), "noop-server".to_owned()]).await?),
        };
        let noop_url = noop_server.as_ref().map(|server| &server.url).or(args.noop_url.as_ref());
        let noop = Address::new(noop_url.context("there is no no-op server")?, None)?;
        let hosts = Hosts::new(args, directory.path()).await?;
        let mut main = hosts.start().await?;
        let foreign = hosts.backend().is_none().then(|| main.address.clone());
        if let Some(foreign) = &foreign {
            main.address = own_namespace(foreign, args.yes).await?;
        }
        let names = Names::new(args.streams, args.categories, args.distribution);
        Ok(Self {
            args,
            gauge,
            names,
            hosts,
            main,
            foreign,
            noop,
            noop_server,
            filled: None,
            many: None,
            large: None,
            is_rare: false,
            sqlite: None,
            indexed: None,
            postgres: None,
            crowd: None,
            directory,
        })
    }

    /// Ends everything.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        // On a server of the bench's own everything goes with it.
        if let Some(foreign) = &self.foreign {
            let own = self.many.iter().chain([&self.main.address]).map(Address::namespace);
            for namespace in own.filter(|namespace| *namespace != foreign.namespace()) {
                let removed = rpc::call(foreign, &serde_json::json!(["ns.delete", namespace])).await;
                removed.with_context(|| format!("the namespace {namespace} of the bench cannot be removed"))?;
            }
        }
        if let Some(ceiling) = self.postgres {
            ceiling.stop().await?;
        }
        if let Some((host, _)) = self.crowd {
            host.stop().await?;
        }
        if let Some(large) = self.large {
            large.host.stop().await?;
        }
        self.main.stop().await?;
        self.hosts.stop().await?;
        match self.noop_server {
            Some(server) => server.kill().await,
            None => Ok(()),
        }
    }

    /// Why a scenario cannot be measured here.
    pub(crate) async fn lacks(&mut self, scenario: Scenario) -> anyhow::Result<Option<String>> {
        let backend = self.hosts.backend();
        let needs = scenario.needs_backend();
        if needs.is_some_and(|needs| backend != Some(needs)) {
            return Ok(Some(format!("only with --backend {}", needs.unwrap_or(Backend::Sqlite).name())));
        }
        if scenario.needs_started_server() && backend.is_none() {
            return Ok(Some("only with a server that the bench starts itself".to_owned()));
        }
        if scenario == Scenario::Start && backend == Some(Backend::Memory) {
            return Ok(Some("what is in memory does not outlive its server".to_owned()));
        }
        if let Some(method) = scenario.needs_method()
            && !rpc::knows(&self.main.address, method).await?
        {
            return Ok(Some(format!("the server does not know {method}")));
        }
        if scenario == Scenario::WriteMillion
            && backend.is_none()
            && let Err(error) = self.many().await
        {
            return Ok(Some(format!("the server lets us make no namespace: {error:#}")));
        }
        Ok(None)
    }

    /// Puts in place what a scenario needs, before any clock runs.
    pub(crate) async fn prepare(&mut self, scenario: Scenario) -> anyhow::Result<()> {
        if scenario.needs_messages() {
            self.filled().await?;
        }
        let main = &self.main;
        match scenario {
            // Whatever ran before, the newest messages are those that are read.
            Scenario::CategoryTail => {
                self.fill(main, &main.address, &self.names, read::tail(self.names.categories())).await
            }
            Scenario::StreamTail => {
                let hot = self.hot();
                self.fill(main, &main.address, &hot, hot.streams() * read::PAGE).await
            }
            Scenario::WriteMillion => self.many().await.map(drop),
            Scenario::Rare => self.rare().await.map(drop),
            scenario if scenario.is_about_size() => self.large().await.map(drop),
            Scenario::NsList | Scenario::Namespaces => self.crowd().await.map(drop),
            Scenario::PgRaw => self.postgres().await.map(drop),
            Scenario::SqliteRaw | Scenario::SqliteLogIndex => {
                let is_indexed = scenario == Scenario::SqliteLogIndex;
                let ceiling = self.take_sqlite(is_indexed).await?;
                self.keep_sqlite(is_indexed, ceiling);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The preloaded messages, in place.
    pub(crate) async fn filled(&mut self) -> anyhow::Result<Filled> {
        if let Some(filled) = self.filled {
            return Ok(filled);
        }
        let before = rpc::head(&self.main.address).await?;
        self.fill(&self.main, &self.main.address, &self.names, self.args.preload).await?;
        let filled = match self.args.preload {
            0 => Filled { first: 1, last: before },
            count => Filled { first: before + 1, last: before + count },
        };
        Ok(*self.filled.insert(filled))
    }

    /// Puts messages in place, and waits until they are indexed.
    pub(crate) async fn fill(&self, host: &Host, address: &Address, names: &Names, count: u64) -> anyhow::Result<()> {
        let what = Fill { address, names, count, size: self.args.size, random_ids: false };
        fill(&what, Arc::clone(&self.gauge)).await?;
        host.caught_up(Instant::now()).await.map(drop)
    }

    /// A namespace with very many streams, preloaded as the other.
    pub(crate) async fn many(&mut self) -> anyhow::Result<(Address, Names)> {
        let names = self.many_names();
        if self.many.is_none() {
            let address = rpc::create_namespace(self.foreign.as_ref().unwrap_or(&self.main.address), &own_id()).await?;
            self.fill(&self.main, &address, &names, self.args.preload).await?;
            self.many = Some(address);
        }
        Ok((self.many.clone().context("there is a namespace now")?, names))
    }

    /// The streams that are read at their ends: so few that the newest messages have a page of each.
    pub(crate) fn hot(&self) -> Names {
        const HOT: u64 = 64;
        self.names.first(HOT.min(self.names.streams()))
    }

    /// Names of streams where there shall be very many.
    pub(crate) fn many_names(&self) -> Names {
        Names::new(self.args.many_streams, self.args.categories, Distribution::Uniform).with_uuids()
    }

    /// A server with a log that is larger than the others', over very many streams; a foreign server as it is.
    pub(crate) async fn large(&mut self) -> anyhow::Result<&mut Large> {
        if self.large.is_none() {
            let host = self.hosts.start().await?;
            let count = if self.hosts.backend().is_some() { large(self.args) } else { 0 };
            self.fill(&host, &host.address, &self.many_names(), count).await?;
            self.large = Some(Large { address: host.address.clone(), host });
        }
        self.large.as_mut().context("there is a large log now")
    }

    /// Takes a server over whose `address` has `messages` over very many streams: as the large log, where it is one.
    pub(crate) async fn take_over(&mut self, host: Host, address: Address, messages: u64) -> anyhow::Result<()> {
        if self.large.is_some() || messages < large(self.args) {
            return host.stop().await;
        }
        self.large = Some(Large { host, address });
        Ok(())
    }

    /// The large log with what the scenario of rare matches looks for; a foreign one as it is.
    pub(crate) async fn rare(&mut self) -> anyhow::Result<&Large> {
        let is_rare = self.is_rare || self.foreign.is_some();
        let (count, gauge) = (large(self.args), Arc::clone(&self.gauge));
        let large = self.large().await?;
        if !is_rare {
            rare::prepare(&large.address, count, &gauge).await?;
            large.host.caught_up(Instant::now()).await?;
            self.is_rare = true;
        }
        self.large().await.map(|large| &*large)
    }

    /// A server with very many namespaces.
    pub(crate) async fn crowd(&mut self) -> anyhow::Result<&(Host, Vec<Address>)> {
        if self.crowd.is_none() {
            let host = self.hosts.start().await?;
            let namespaces = namespaces::create(&host.address, self.args.namespaces, &self.gauge).await?;
            self.crowd = Some((host, namespaces));
        }
        self.crowd.as_ref().context("there is a crowd now")
    }

    /// The ceiling of SQLite, with or without indexes, to be given back.
    pub(crate) async fn take_sqlite(&mut self, is_indexed: bool) -> anyhow::Result<Sqlite> {
        let kept = if is_indexed { &mut self.indexed } else { &mut self.sqlite };
        match kept.take() {
            Some(ceiling) => Ok(ceiling),
            None => {
                let (directory, args) = (self.directory.path(), self.args);
                Sqlite::new(directory, &self.names, args.size, args.preload, is_indexed, Arc::clone(&self.gauge)).await
            }
        }
    }

    /// Keeps a ceiling of SQLite for the next round.
    pub(crate) fn keep_sqlite(&mut self, is_indexed: bool, ceiling: Sqlite) {
        *(if is_indexed { &mut self.indexed } else { &mut self.sqlite }) = Some(ceiling);
    }

    /// The ceiling of PostgreSQL.
    pub(crate) async fn postgres(&mut self) -> anyhow::Result<&mut Postgres> {
        if self.postgres.is_none() {
            let database = self.hosts.cluster().context("there is no PostgreSQL")?.database().await?;
            let made = Postgres::new(database, &self.names, self.args.size, self.args.preload, &self.gauge).await?;
            self.postgres = Some(made);
        }
        self.postgres.as_mut().context("there is a ceiling now")
    }
}

/// The name of a namespace that is the bench's own.
fn own_id() -> String {
    format!("bench-{}", uuid::Uuid::new_v4().simple())
}

/// A new namespace on a server that runs already; that of its token, where none can be made and it `may_be_used`.
async fn own_namespace(foreign: &Address, may_be_used: bool) -> anyhow::Result<Address> {
    match rpc::create_namespace(foreign, &own_id()).await {
        Ok(address) => Ok(address),
        Err(_) if may_be_used => Ok(foreign.clone()),
        Err(error) => Err(error.context(format!(
            "the bench makes a namespace of its own at --url, and removes it: give the administrator's token, or say --yes \
             to write into the namespace {} and leave the messages there",
            foreign.namespace()
        ))),
    }
}
