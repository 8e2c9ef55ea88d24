//! The conformance suite on SQLite, in a file and in memory, and on PostgreSQL, with default and with tiny bounds.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventodb_protocol::Token;
use eventodb_store::conformance::{self, Database, Harness};
use eventodb_store::model::NewNamespace;
use eventodb_store::postgres::{self, Postgres};
use eventodb_store::sqlite::{self, Location, Sqlite};
use eventodb_store::testing;
use eventodb_store::{Backend, Settings};
use eventodb_testing::nodes::{self, Nodes};
use eventodb_testing::postgres::run;
use tempfile::TempDir;

/// How long a case waits for a connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// Databases in files.
struct Files(sqlite::Settings);

struct FileDatabase {
    directory: TempDir,
    settings: sqlite::Settings,
}

#[async_trait]
impl Harness for Files {
    async fn create(&self) -> Box<dyn Database> {
        let directory = tempfile::tempdir().expect("a temporary folder");
        Box::new(FileDatabase { directory, settings: self.0.clone() })
    }
}

#[async_trait]
impl Database for FileDatabase {
    async fn open(&self) -> Arc<dyn Backend> {
        let location = Location::Directory(self.directory.path().to_owned());
        Sqlite::open(location, self.settings.clone()).expect("the folder is ours")
    }

    fn is_durable(&self) -> bool {
        true
    }
}

/// Databases in memory.
struct Memory(sqlite::Settings);

#[async_trait]
impl Harness for Memory {
    async fn create(&self) -> Box<dyn Database> {
        Box::new(Self(self.0.clone()))
    }
}

#[async_trait]
impl Database for Memory {
    async fn open(&self) -> Arc<dyn Backend> {
        Sqlite::open(Location::Memory, self.0.clone()).expect("memory is there")
    }

    fn is_durable(&self) -> bool {
        false
    }
}

/// Databases in PostgreSQL, copied from one that has what each case would make first.
struct Servers {
    template: String,
    change: fn(&mut postgres::Settings),
}

struct ServerDatabase(postgres::Settings);

impl Servers {
    async fn new(change: fn(&mut postgres::Settings)) -> Self {
        let template = eventodb_testing::postgres::database().await;
        make_logs(&template, LOGS_MADE).await;
        Postgres::open(settings(&template)).await.expect("the database is ours").close().await;
        Self { template, change }
    }
}

#[async_trait]
impl Harness for Servers {
    async fn create(&self) -> Box<dyn Database> {
        let url = eventodb_testing::postgres::copy_of(&self.template).await;
        let mut settings = settings(&url);
        (self.change)(&mut settings);
        Box::new(ServerDatabase(settings))
    }
}

#[async_trait]
impl Database for ServerDatabase {
    async fn open(&self) -> Arc<dyn Backend> {
        Postgres::open(self.0.clone()).await.expect("the database is ours")
    }

    fn is_durable(&self) -> bool {
        true
    }
}

/// Databases at two nodes: the registry is at one, and each log from its beginning at the other.
struct TwoNodes {
    nodes: &'static Nodes,
    /// Its database at the other node has the schemas of the first logs.
    template: nodes::Database,
    change: fn(&mut postgres::Settings),
}

struct Spread {
    database: nodes::Database,
    settings: postgres::Settings,
}

/// No case makes more logs.
const LOGS: i64 = 12;
/// The first logs of a database on one server are there already. Cases that make more, such as those of namespaces, make
/// the others' schemas.
const LOGS_MADE: i64 = 1;

/// Puts the schemas of the first logs into a database, and no registry.
async fn make_logs(url: &str, count: i64) {
    let backend = Postgres::open(settings(url)).await.expect("the database is ours");
    for at in 0..count {
        let namespace = NewNamespace {
            name: format!("n{at}"),
            token_hash: Token::generate("n").hash(),
            description: String::new(),
            metadata: "{}".to_owned(),
        };
        let made = backend.create(&namespace).await.expect("the name is free");
        backend.open(made.incarnation).await.expect("it lives");
    }
    backend.close().await;
    run(url, "DROP SCHEMA eventodb CASCADE").await;
}

impl TwoNodes {
    async fn new(change: fn(&mut postgres::Settings)) -> Self {
        let nodes = Nodes::shared();
        let template = nodes.database().await;
        make_logs(&template.away, LOGS).await;
        Self { nodes, template, change }
    }
}

#[async_trait]
impl Harness for TwoNodes {
    async fn create(&self) -> Box<dyn Database> {
        let database = self.nodes.database_like(&self.template).await;
        database.note_away(1..=LOGS).await;
        let mut settings = settings(&database.home);
        settings.stand_in = true;
        (self.change)(&mut settings);
        Box::new(Spread { database, settings })
    }
}

#[async_trait]
impl Database for Spread {
    async fn open(&self) -> Arc<dyn Backend> {
        Postgres::open(self.settings.clone()).await.expect("the database is ours")
    }

    fn is_durable(&self) -> bool {
        true
    }

    async fn end(&self) {
        assert_eq!(self.database.logs_at_home().await, 0, "all logs are at the other node");
    }
}

fn settings(url: &str) -> postgres::Settings {
    let mut settings = postgres::Settings::new(url.parse().expect("a good URL"));
    // That the machine is busy with other tests is no outage.
    settings.acquire_timeout = PATIENCE;
    settings.connect_timeout = PATIENCE;
    settings
}

fn tiny_postgres(settings: &mut postgres::Settings) {
    settings.pool_max = 2;
    settings.sequencer_connections = 2;
    settings.examined_rows = 3;
    settings.fold_messages = 5;
}

/// As [`conformance::tiny`], for the backend.
fn tiny() -> sqlite::Settings {
    sqlite::Settings {
        open_namespaces: 1,
        memtable_messages: 5,
        memtables_messages: 8,
        index_batch: 2,
        writer_threads: 2,
        readers: 2,
        examined_rows: 3,
        merged_categories: 1,
        min_free: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_file() {
    conformance::run(&Files(sqlite::Settings::default()), &Settings::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_file_with_tiny_bounds() {
    conformance::run(&Files(tiny()), &conformance::tiny(testing::seed())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_memory() {
    conformance::run(&Memory(sqlite::Settings::default()), &Settings::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_memory_with_tiny_bounds() {
    conformance::run(&Memory(tiny()), &conformance::tiny(testing::seed())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    conformance::run(&Servers::new(|_| {}).await, &Settings::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_with_tiny_bounds() {
    conformance::run(&Servers::new(tiny_postgres).await, &conformance::tiny(testing::seed())).await;
}

/// The long form, with tiny bounds too, is a part of `make scaling-check`. The short one leaves out tokens, which are in
/// the registry alone, and subscriptions, which the tests of moves have.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_at_two_nodes() {
    let is_long = std::env::var_os("EVENTODB_TEST_NODES").is_some();
    let left_out = ["tokens::", "subscriptions::"];
    let is_wanted = |case: &str| is_long || !left_out.iter().any(|module| case.starts_with(module));
    conformance::run_where(&TwoNodes::new(|_| {}).await, &Settings::default(), is_wanted).await;
    if is_long {
        conformance::run(&TwoNodes::new(tiny_postgres).await, &conformance::tiny(testing::seed())).await;
    }
}
