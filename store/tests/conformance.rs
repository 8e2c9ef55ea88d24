//! The conformance suite on SQLite, in a file and in memory, and on PostgreSQL, with default and with tiny bounds.

use std::sync::Arc;

use async_trait::async_trait;
use eventodb_store::conformance::{self, Database, Harness};
use eventodb_store::postgres::{self, Postgres};
use eventodb_store::sqlite::{self, Location, Sqlite};
use eventodb_store::testing;
use eventodb_store::{Backend, Settings};
use tempfile::TempDir;

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

/// Databases in PostgreSQL.
struct Servers(fn(&mut postgres::Settings));

struct ServerDatabase(postgres::Settings);

#[async_trait]
impl Harness for Servers {
    async fn create(&self) -> Box<dyn Database> {
        let url = eventodb_testing::postgres::database().await;
        let mut settings = postgres::Settings::new(url.parse().expect("a good URL"));
        (self.0)(&mut settings);
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
    conformance::run(&Servers(|_| {}), &Settings::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_with_tiny_bounds() {
    conformance::run(&Servers(tiny_postgres), &conformance::tiny(testing::seed())).await;
}
