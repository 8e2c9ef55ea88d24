//! A PostgreSQL that the bench starts, or one that is named, and databases in it.
//!
//! The settings of the one that is started are PostgreSQL's own defaults, except for the number of connections and what
//! is asked for.

use std::path::Path;

use anyhow::Context as _;
use eventodb_rig::postgres::{Server, of_database};
use tokio_postgres::NoTls;

use crate::args::Setting;

/// A PostgreSQL.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The URL at which databases are made.
    url: String,
    /// The server, if the bench started it; its files go with it.
    own: Option<Server>,
}

/// A new database.
#[derive(Debug)]
pub(crate) struct Database {
    cluster: String,
    name: String,
    url: String,
}

const CONNECTIONS: u32 = 300;

impl Cluster {
    /// One that runs already.
    pub(crate) async fn existing(url: &str) -> anyhow::Result<Self> {
        connect(url).await?;
        Ok(Self { url: url.to_owned(), own: None })
    }

    /// Starts one with its files below `parent` and with these settings.
    pub(crate) async fn start(parent: &Path, settings: &[Setting]) -> anyhow::Result<Self> {
        let parent = parent.to_owned();
        let asked = settings.iter().map(|(name, value)| format!("{name}={value}"));
        let settings: Vec<String> = [format!("max_connections={CONNECTIONS}")].into_iter().chain(asked).collect();
        let password = uuid::Uuid::new_v4().simple().to_string();
        let start = move || Server::start_in(&parent, &settings, &password);
        let started = tokio::task::spawn_blocking(start).await?;
        let server = started.context("cannot start PostgreSQL; --db-url names one that runs")?;
        let url = server.url("postgres");
        make_log_files(&url).await.context("cannot make PostgreSQL's log files")?;
        Ok(Self { url, own: Some(server) })
    }

    /// A new database.
    pub(crate) async fn database(&self) -> anyhow::Result<Database> {
        let name = format!("eventodb_bench_{}", uuid::Uuid::new_v4().simple());
        let make = format!(r#"CREATE DATABASE "{name}""#);
        let url = of_database(&self.url, &name).context("a database's URL begins with postgres://")?;
        connect(&self.url).await?.batch_execute(&make).await.context("cannot make a database")?;
        Ok(Database { cluster: self.url.clone(), url, name })
    }

    /// Stops it and removes its files, if the bench started it.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        Ok(tokio::task::spawn_blocking(|| drop(self.own)).await?)
    }
}

impl Database {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<tokio_postgres::Client> {
        connect(&self.url).await
    }

    /// Removes it, even if it has connections.
    pub(crate) async fn drop(self) -> anyhow::Result<()> {
        let drop = format!(r#"DROP DATABASE "{}" WITH (FORCE)"#, self.name);
        connect(&self.cluster).await?.batch_execute(&drop).await.context("cannot remove a database")
    }
}

async fn connect(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("cannot connect to PostgreSQL")?;
    // If the connection fails, the client's next call reports it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Makes as many files of PostgreSQL's log as it always keeps (`min_wal_size`), so that it is like a server that has run
/// for a while. It would make them when it needs them, and commits would wait while 16 MB are written and synced.
async fn make_log_files(url: &str) -> anyhow::Result<()> {
    let client = connect(url).await?;
    let wanted =
        "SELECT pg_size_bytes(current_setting('min_wal_size')) / pg_size_bytes(current_setting('wal_segment_size'))";
    let wanted: i64 = client.query_one(wanted, &[]).await?.get(0);
    // A checkpoint recycles the used files, so that there must be one at the end only.
    client.batch_execute("ALTER SYSTEM SET max_wal_size = '1TB'").await?;
    client.batch_execute("SELECT pg_reload_conf()").await?;
    let made = "SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'";
    while client.query_one(made, &[]).await?.get::<_, i64>(0) < wanted {
        client.batch_execute("SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()").await?;
    }
    client.batch_execute("CHECKPOINT").await?;
    client.batch_execute("ALTER SYSTEM RESET max_wal_size").await?;
    Ok(client.batch_execute("SELECT pg_reload_conf()").await?)
}
