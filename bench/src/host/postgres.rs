//! A PostgreSQL of the bench's own, and databases in it or in one that was named.
//!
//! Its settings are PostgreSQL's own defaults, but for the number of connections and what is asked for.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio_postgres::NoTls;

use crate::args::Setting;

/// A PostgreSQL.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// As whom databases are made.
    url: String,
    /// The postmaster, where it was started here; its files go with it.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    // Dropped first: the files go once nobody writes to them.
    postmaster: Postmaster,
    directory: tempfile::TempDir,
}

/// Ends when it is dropped.
#[derive(Debug)]
struct Postmaster(Child);

/// A database that is empty at first.
#[derive(Debug)]
pub(crate) struct Database {
    cluster: String,
    name: String,
    url: String,
}

/// How long PostgreSQL may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTIONS: u32 = 300;
/// Ports that are tried before it is given up.
const PORTS: u32 = 5;

impl Cluster {
    /// One that runs already.
    pub(crate) async fn existing(url: &str) -> anyhow::Result<Self> {
        connect(url).await?;
        Ok(Self { url: url.to_owned(), own: None })
    }

    /// Starts one with its files below `parent` and with these settings.
    pub(crate) async fn start(parent: &Path, settings: &[Setting]) -> anyhow::Result<Self> {
        let programs = programs().context(
            "there is no PostgreSQL on this machine (Debian: apt-get install postgresql); PG_BIN names its programs, \
             --db-url one that runs",
        )?;
        let directory = tempfile::Builder::new().prefix("postgres-").tempdir_in(parent)?;
        let owner = owner(directory.path())?;
        let data = directory.path().join("data");
        let password = uuid::Uuid::new_v4().simple().to_string();
        let secret = directory.path().join("password");
        std::fs::write(&secret, &password)?;
        let mut initdb = command(&programs.join("initdb"), owner);
        initdb.args(["--username", "postgres", "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]);
        initdb.arg("--no-sync").arg("--pwfile").arg(&secret).arg("--pgdata").arg(&data);
        let made = initdb.current_dir(directory.path()).output().await.context("cannot run initdb")?;
        anyhow::ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr).trim());
        let mut configuration = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
        settings
            .iter()
            .try_for_each(|(name, value)| writeln!(configuration, "{name} = '{}'", value.replace('\'', "''")))?;
        let log = directory.path().join("log");
        for _ in 0..PORTS {
            let port = free_port()?;
            let mut postgres = command(&programs.join("postgres"), owner);
            postgres.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
            postgres.args(["-c", "unix_socket_directories=", "-c", &format!("max_connections={CONNECTIONS}")]);
            postgres.current_dir(directory.path()).stdout(Stdio::null()).stderr(std::fs::File::create(&log)?);
            let mut postmaster = postgres.spawn().context("cannot start postgres")?;
            let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres");
            if answers(&mut postmaster, &url).await? {
                make_log_files(&url).await.context("cannot make PostgreSQL's log files")?;
                return Ok(Self { url, own: Some(Own { postmaster: Postmaster(postmaster), directory }) });
            }
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        anyhow::bail!("PostgreSQL does not start in {}: {}", data.display(), said.trim())
    }

    /// A new database.
    pub(crate) async fn database(&self) -> anyhow::Result<Database> {
        let name = format!("eventodb_bench_{}", uuid::Uuid::new_v4().simple());
        let make = format!(r#"CREATE DATABASE "{name}""#);
        connect(&self.url).await?.batch_execute(&make).await.context("cannot make a database")?;
        Ok(Database { cluster: self.url.clone(), url: of_database(&self.url, &name)?, name })
    }

    /// Stops it, where it was started here.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let Some(mut own) = self.own.take() else { return Ok(()) };
        // Fast: whoever is connected is cut.
        signal(&own.postmaster.0, Signal::INT)?;
        let ended = tokio::time::timeout(PATIENCE, own.postmaster.0.wait()).await;
        ended.context("PostgreSQL does not stop")?.context("cannot wait for PostgreSQL")?;
        own.directory.close().context("cannot remove PostgreSQL's files")
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        // After `stop` it has ended, and there is nobody to signal.
        if signal(&self.0, Signal::QUIT).is_ok() {
            let begin = Instant::now();
            while matches!(self.0.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Database {
    /// How it is reached.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A connection to it.
    pub(crate) async fn connect(&self) -> anyhow::Result<tokio_postgres::Client> {
        connect(&self.url).await
    }

    /// Removes it, whoever is connected.
    pub(crate) async fn drop(self) -> anyhow::Result<()> {
        let drop = format!(r#"DROP DATABASE "{}" WITH (FORCE)"#, self.name);
        connect(&self.cluster).await?.batch_execute(&drop).await.context("cannot remove a database")
    }
}

async fn connect(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("cannot connect to PostgreSQL")?;
    // Its failure is that of the client's next call.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Whether a postmaster comes to answer, rather than to end.
async fn answers(postmaster: &mut Child, url: &str) -> anyhow::Result<bool> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE && postmaster.try_wait()?.is_none() {
        if connect(url).await.is_ok() {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(false)
}

/// Makes as many files of PostgreSQL's log as it keeps in any case (`min_wal_size`), as one has that has run for a while.
/// It makes them no earlier than it needs them: whoever commits waits while 16 MB are written and synced.
async fn make_log_files(url: &str) -> anyhow::Result<()> {
    let client = connect(url).await?;
    let wanted =
        "SELECT pg_size_bytes(current_setting('min_wal_size')) / pg_size_bytes(current_setting('wal_segment_size'))";
    let wanted: i64 = client.query_one(wanted, &[]).await?.get(0);
    // A checkpoint takes those that were used for those that will be: there is to be one in the end only.
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

/// The URL of another database of the same PostgreSQL.
fn of_database(url: &str, name: &str) -> anyhow::Result<String> {
    let at = url.find("://").context("a database's URL begins with postgres://")? + 3;
    let end = url[at..].find(['/', '?']).map_or(url.len(), |end| at + end);
    let options = url[end..].find('?').map_or("", |from| &url[end + from..]);
    Ok(format!("{}/{name}{options}", &url[..end]))
}

/// The directory with the newest `initdb` and `postgres`.
fn programs() -> Option<PathBuf> {
    let named = std::env::var_os("PG_BIN").map(PathBuf::from);
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = named.into_iter().chain(versions.into_iter().rev().map(|(_, place)| place));
    let is_there = |place: &PathBuf| place.join("initdb").exists() && place.join("postgres").exists();
    places.find(is_there).or_else(|| std::env::split_paths(&path).find(is_there))
}

/// As whom PostgreSQL runs: it refuses to be root, and then gets the directory for another.
fn owner(directory: &Path) -> anyhow::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("cannot tell whom PostgreSQL could run as")?;
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    let (user, group) = of("postgres").or_else(|| of("nobody")).context("there is no user postgres or nobody")?;
    std::os::unix::fs::chown(directory, Some(user), Some(group)).context("cannot give the directory to PostgreSQL")?;
    for above in directory.ancestors().skip(1).filter(|above| above.is_dir()) {
        let is_open = std::fs::metadata(above)?.mode() & 0o001 != 0;
        anyhow::ensure!(is_open, "PostgreSQL's user cannot enter {}: choose another --data-dir", above.display());
    }
    Ok(Some((user, group)))
}

fn command(program: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).kill_on_drop(true).process_group(0);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    kill_process(pid.context("PostgreSQL has ended")?, signal).context("cannot signal PostgreSQL")
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_databases_url_keeps_all_but_the_name() {
        for (url, wanted) in [
            ("postgres://u:p@h:1/postgres", "postgres://u:p@h:1/x"),
            ("postgres://u:p@h:1", "postgres://u:p@h:1/x"),
            ("postgres://h/old?sslmode=disable", "postgres://h/x?sslmode=disable"),
            ("postgres://h?sslmode=disable", "postgres://h/x?sslmode=disable"),
        ] {
            assert_eq!(of_database(url, "x").unwrap(), wanted);
        }
        assert!(of_database("nonsense", "x").is_err());
    }
}
