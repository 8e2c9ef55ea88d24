//! The things that a run has in place: servers, their messages, ceilings. Each is made when it is first needed.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;

use crate::Distribution;
use crate::args::{Args, Backend};
use crate::ceiling::postgres::Postgres;
use crate::ceiling::rows::Rows;
use crate::ceiling::sqlite::Sqlite;
use crate::host::{Host, Hosts, Server};
use crate::measure::Gauge;
use crate::names::Names;
use crate::plan::large;
use crate::preload::{Fill, fill};
use crate::rpc;
use crate::scenario::read::{self, Filled};
use crate::scenario::{Needs, Scenario, namespaces, rare};
use crate::wire::Address;

/// Everything that a run needs.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) args: Args,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) names: Names,
    pub(crate) hosts: Hosts,
    /// The usual server.
    pub(crate) main: Host,
    /// The server at `--url`, addressed as the arguments say. `main` is a namespace of the bench's own there.
    foreign: Option<Address>,
    pub(crate) noop: Address,
    pub(crate) noop_server: Option<Server>,
    filled: Option<Filled>,
    /// A namespace with very many streams.
    many: Option<Address>,
    large: Option<Large>,
    /// Whether the large log has the category that only one stream has.
    is_rare: bool,
    /// The ceilings of SQLite, without and with indexes.
    sqlite: [Option<Sqlite>; 2],
    postgres: Option<Postgres>,
    namespaces: Option<(Host, Vec<Address>)>,
    /// Removed after everything else has ended.
    pub(crate) directory: tempfile::TempDir,
}

/// A log that is larger than the usual one.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) host: Host,
    /// The namespace of the log; the server may have others.
    pub(crate) address: Address,
}

impl Session {
    pub(crate) async fn start(args: &Args, gauge: Arc<Gauge>) -> anyhow::Result<Self> {
        let parent = args.data_dir.clone().unwrap_or_else(|| ".".into());
        std::fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        // A PostgreSQL that runs as another user must be able to enter its own directory.
        let through = std::fs::Permissions::from_mode(0o711);
        let mut directory = tempfile::Builder::new();
        let directory = directory.prefix("eventodb-bench-").permissions(through).tempdir_in(parent.canonicalize()?)?;
        let noop_server = match args.noop_url {
            Some(_) => None,
            None => Some(Server::start(None, &["bench".to_owned(), "noop-server".to_owned()]).await?),
        };
        let noop_url = noop_server.as_ref().map(|server| &server.url).or(args.noop_url.as_ref());
        let noop = Address::new(noop_url.context("there is no no-op server")?, None)?;
        let hosts = Hosts::new(args, directory.path()).await?;
        let mut main = hosts.start(None).await?;
        let foreign = hosts.backend().is_none().then(|| main.address.clone());
        if let Some(foreign) = &foreign {
            main.address = own_namespace(foreign, args.yes).await?;
        }
        Ok(Self {
            args: args.clone(),
            gauge,
            names: Names::new(args.streams, args.categories, args.distribution),
            hosts,
            main,
            foreign,
            noop,
            noop_server,
            filled: None,
            many: None,
            large: None,
            is_rare: false,
            sqlite: [None, None],
            postgres: None,
            namespaces: None,
            directory,
        })
    }

    /// Ends everything, and removes what was made.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
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
        let others = [self.namespaces.map(|(host, _)| host), self.large.map(|large| large.host)];
        for host in others.into_iter().flatten().chain([self.main]) {
            host.stop().await?;
        }
        self.hosts.stop().await?;
        match self.noop_server {
            Some(server) => server.kill().await,
            None => Ok(()),
        }
    }

    /// Why a scenario cannot be measured here, if it cannot.
    pub(crate) async fn lacks(&mut self, scenario: Scenario) -> anyhow::Result<Option<String>> {
        let (spec, backend) = (scenario.spec(), self.hosts.backend());
        if let Some(why) = scenario.lacks(backend) {
            return Ok(Some(why));
        }
        if let Some(method) = spec.method
            && !rpc::knows(&self.main.address, method).await?
        {
            return Ok(Some(format!("the server does not know {method}")));
        }
        if spec.needs == Needs::ManyStreams
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
        match scenario.spec().needs {
            Needs::Noop | Needs::Directory | Needs::Server | Needs::Messages | Needs::OwnServer => Ok(()),
            // Written anew each time, because other scenarios write in between.
            Needs::Newest => self.fill_main(&self.names, read::tail(self.names.categories)).await,
            Needs::HotStreams => self.fill_main(&self.hot(), self.hot().streams * read::PAGE).await,
            Needs::ManyStreams => self.many().await.map(drop),
            Needs::Large => self.large().await.map(drop),
            Needs::Rare => self.rare().await.map(drop),
            Needs::Namespaces => self.namespaces().await.map(drop),
            Needs::PostgresLog => self.postgres().await.map(drop),
            Needs::SqliteLog { is_indexed } => self.sqlite(is_indexed).map(drop),
        }
    }

    pub(crate) async fn filled(&mut self) -> anyhow::Result<Filled> {
        if let Some(filled) = self.filled {
            return Ok(filled);
        }
        let before = rpc::head(&self.main.address).await?;
        self.fill_main(&self.names, self.args.preload).await?;
        let filled = match self.args.preload {
            0 => Filled { first: 1, last: before },
            count => Filled { first: before + 1, last: before + count },
        };
        Ok(*self.filled.insert(filled))
    }

    async fn fill_main(&self, names: &Names, count: u64) -> anyhow::Result<()> {
        self.fill(&self.main, &self.main.address, names, count, false).await
    }

    /// Puts messages in place, with random ids of the client's if asked for, and waits until they are indexed.
    pub(crate) async fn fill(
        &self,
        host: &Host,
        address: &Address,
        names: &Names,
        count: u64,
        random_ids: bool,
    ) -> anyhow::Result<()> {
        let what = Fill { address, names, count, size: self.args.size, random_ids };
        fill(&what, Arc::clone(&self.gauge)).await?;
        host.caught_up(Instant::now()).await.map(drop)
    }

    /// A namespace with very many streams, and as many messages as the usual one.
    pub(crate) async fn many(&mut self) -> anyhow::Result<(Address, Names)> {
        let names = self.many_names();
        if let Some(address) = &self.many {
            return Ok((address.clone(), names));
        }
        let address = rpc::create_namespace(self.foreign.as_ref().unwrap_or(&self.main.address), &own_id()).await?;
        self.fill(&self.main, &address, &names, self.args.preload, false).await?;
        Ok((self.many.insert(address).clone(), names))
    }

    /// The streams that are read at their ends: few enough that the newest messages have a page of each.
    pub(crate) fn hot(&self) -> Names {
        self.names.first(64)
    }

    pub(crate) fn many_names(&self) -> Names {
        Names::new(self.args.many_streams, self.args.categories, Distribution::Uniform).with_uuids()
    }

    /// A server with a log that is larger than the usual one, over very many streams; a foreign server as it is.
    pub(crate) async fn large(&mut self) -> anyhow::Result<&mut Large> {
        if self.large.is_none() {
            let host = self.hosts.start(None).await?;
            let count = if self.hosts.backend().is_some() { large(&self.args) } else { 0 };
            self.fill(&host, &host.address, &self.many_names(), count, false).await?;
            self.large = Some(Large { address: host.address.clone(), host });
        }
        self.large.as_mut().context("there is a large log now")
    }

    /// Takes over a server whose `address` has `messages` over very many streams as the large log, if it is one.
    pub(crate) async fn take_over(&mut self, host: Host, address: Address, messages: u64) -> anyhow::Result<()> {
        if self.large.is_some() || messages < large(&self.args) {
            return host.stop().await;
        }
        self.large = Some(Large { host, address });
        Ok(())
    }

    /// The large log with the category that only one stream has; a foreign one as it is.
    pub(crate) async fn rare(&mut self) -> anyhow::Result<&Large> {
        let is_rare = self.is_rare || self.foreign.is_some();
        let (count, gauge) = (large(&self.args), Arc::clone(&self.gauge));
        let large = self.large().await?;
        if !is_rare {
            rare::prepare(&large.address, count, &gauge).await?;
            large.host.caught_up(Instant::now()).await?;
            self.is_rare = true;
        }
        self.large().await.map(|large| &*large)
    }

    pub(crate) async fn namespaces(&mut self) -> anyhow::Result<&(Host, Vec<Address>)> {
        if self.namespaces.is_none() {
            let host = self.hosts.start(None).await?;
            let namespaces = namespaces::create(&host.address, self.args.namespaces, &self.gauge).await?;
            self.namespaces = Some((host, namespaces));
        }
        self.namespaces.as_ref().context("there are namespaces now")
    }

    pub(crate) fn sqlite(&mut self, is_indexed: bool) -> anyhow::Result<&mut Sqlite> {
        let rows = self.rows();
        let kept = &mut self.sqlite[usize::from(is_indexed)];
        if kept.is_none() {
            let (directory, preload) = (self.directory.path(), self.args.preload);
            let make = || Sqlite::new(directory, rows, preload, is_indexed, &self.gauge);
            *kept = Some(tokio::task::block_in_place(make)?);
        }
        kept.as_mut().context("there is a ceiling now")
    }

    pub(crate) async fn postgres(&mut self) -> anyhow::Result<&mut Postgres> {
        if self.postgres.is_none() {
            let database = self.hosts.database().await?;
            self.postgres = Some(Postgres::new(database, self.rows(), self.args.preload, &self.gauge).await?);
        }
        self.postgres.as_mut().context("there is a ceiling now")
    }

    /// The messages that a ceiling commits.
    fn rows(&self) -> Rows {
        Rows::new(&self.names, self.args.size, 0)
    }
}

impl Scenario {
    /// Why it cannot be measured on this backend, if it cannot; `None` is a server that the bench did not start.
    pub(crate) fn lacks(self, backend: Option<Backend>) -> Option<String> {
        let spec = self.spec();
        if let Some(needs) = spec.backend.filter(|&needs| backend != Some(needs)) {
            return Some(format!("only with --backend {}", needs.name()));
        }
        if spec.is_started && backend.is_none() {
            return Some("only with a server that the bench starts itself".to_owned());
        }
        let is_lost = self == Self::Start && backend == Some(Backend::Memory);
        is_lost.then(|| "what is in memory does not outlive its server".to_owned())
    }
}

/// The name of a namespace that is the bench's own.
fn own_id() -> String {
    format!("bench-{}", uuid::Uuid::new_v4().simple())
}

/// A new namespace on a server at `--url`; the namespace of its token, if none can be made and it `may_be_used`.
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
