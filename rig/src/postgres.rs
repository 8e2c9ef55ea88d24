//! A PostgreSQL in a folder of its own, which stops and is removed when this process ends, however it ends.
//!
//! [`database`] gives each test a fresh database on one server for the whole process: the server that
//! `EVENTODB_TEST_PG_URL` names, or one that is started here. [`Server::start`] gives a test a server of its own, to
//! stop and start again.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use crate::ports;

/// The variable that names a server to use, by the URL of one of its databases and a superuser.
pub const URL_VARIABLE: &str = "EVENTODB_TEST_PG_URL";

/// The variable that names the directory of PostgreSQL's programs.
pub const PROGRAMS_VARIABLE: &str = "PG_BIN";

const USER: &str = "postgres";
/// The superuser's password on servers for tests.
const PASSWORD: &str = "for-tests-only";
/// The settings of servers for tests beyond PostgreSQL's defaults. By default a recovery syncs every file of every
/// database one by one, which took a minute on a busy disk.
const FOR_TESTS: [&str; 3] = ["max_connections=200", "timezone=UTC", "recovery_init_sync_method=syncfs"];
/// The directories in which distributions keep programs that are not on the path.
const PLACES: &[&str] = &["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt"];
const ATTEMPTS: u32 = 5;
/// Whether a database is copied sooner file by file than page by page through the write-ahead log: what is copied in files is
/// synced at once.
const COPIES_FILES: &str =
    "SELECT current_setting('server_version_num')::int4 >= 150000 AND current_setting('fsync') = 'off'";
/// What the process's server holds need not outlive the machine.
const SHARED_SETTINGS: [&str; 1] = ["fsync=off"];
/// How long a server may take to be back.
const PATIENCE: Duration = Duration::from_secs(60);

/// A PostgreSQL server of this process.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    account: Option<(u32, u32)>,
    password: String,
    /// Stops the server and removes the folder once its input closes, which it does even if this
    /// process is killed.
    watchdog: Child,
}

/// The URL of a fresh database on the process's server.
///
/// # Panics
/// No server can be started. The message says what to install if there is no PostgreSQL.
pub async fn database() -> String {
    static SERVER: OnceLock<(String, Option<Server>)> = OnceLock::new();
    let (url, _) = SERVER.get_or_init(|| match std::env::var(URL_VARIABLE) {
        Ok(url) => (url, None),
        Err(_) => {
            let server = Server::start(&SHARED_SETTINGS);
            (server.url("postgres"), Some(server))
        }
    });
    create_database(url, "ENCODING 'UTF8'").await
}

/// Creates a database with these options beside the one that `url` names; returns its URL.
///
/// # Panics
/// PostgreSQL refuses it.
pub async fn create_database(url: &str, options: &str) -> String {
    copy(url, &new_name(), "template0", options).await
}

/// Creates a database with what the one at `url` has, with which nobody may be connected; returns its URL.
///
/// # Panics
/// PostgreSQL refuses it.
pub async fn copy_of(url: &str) -> String {
    let (_, template) = url.rsplit_once('/').expect("a URL ends with the name of its database");
    copy(&with_database(url, "postgres"), &new_name(), template, "").await
}

/// Drops the database at `url`, whoever is connected to it.
///
/// # Panics
/// PostgreSQL refuses it.
pub async fn drop_database(url: &str) {
    let (_, name) = url.rsplit_once('/').expect("a URL ends with the name of its database");
    run(&with_database(url, "postgres"), &format!("DROP DATABASE {name} WITH (FORCE)")).await;
}

fn new_name() -> String {
    format!("test_{:016x}", rand::random::<u64>())
}

/// Creates the database of this name as a copy of `template`; returns its URL.
///
/// # Panics
/// The server refuses it.
pub async fn copy(url: &str, name: &str, template: &str, options: &str) -> String {
    let client = connect(url).await;
    let copies_files: bool = client.query_one(COPIES_FILES, &[]).await.expect("good SQL").get(0);
    let strategy = if copies_files { "STRATEGY file_copy" } else { "" };
    let create = format!("CREATE DATABASE {name} TEMPLATE {template} {options} {strategy}");
    client.batch_execute(&create).await.unwrap_or_else(|error| panic!("{create}: {error:?}"));
    with_database(url, name)
}

/// The URL of another database on the same server.
///
/// # Panics
/// The URL has another form.
pub fn with_database(url: &str, name: &str) -> String {
    of_database(url, name).expect("the URL begins with postgres://")
}

/// The URL of another database on the same server; `None` if the URL does not begin with `postgres://`.
pub fn of_database(url: &str, name: &str) -> Option<String> {
    let at = url.find("://")? + 3;
    let end = url[at..].find(['/', '?']).map_or(url.len(), |end| at + end);
    let options = url[end..].find('?').map_or("", |from| &url[end + from..]);
    Some(format!("{}/{name}{options}", &url[..end]))
}

/// A session with the database at `url` that bypasses the code under test.
///
/// # Panics
/// There is none.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL lets us in");
    tokio::spawn(connection);
    client
}

/// Runs SQL text, bypassing the code under test.
///
/// # Panics
/// PostgreSQL refuses it.
pub async fn run(url: &str, sql: &str) {
    connect(url).await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The path of one of PostgreSQL's programs, of the same version as the servers that are started here.
///
/// # Panics
/// There is no PostgreSQL. The message says what to install.
pub fn program(name: &str) -> PathBuf {
    let initdb = programs().unwrap_or_else(|error| panic!("{error}")).join("initdb");
    std::fs::canonicalize(&initdb).unwrap_or(initdb).with_file_name(name)
}

/// Makes a command run as a user other than root, and gives the folder to that user.
///
/// # Panics
/// The folder cannot be given away.
pub fn unprivileged(command: Command, folder: &Path) -> Command {
    let account = account();
    if let Some((user, group)) = account {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in entries.chain([folder.to_owned()]) {
            chown(path, Some(user), Some(group)).expect("root may give files away");
        }
    }
    as_account(command, account)
}

impl Server {
    /// Makes and starts a server for tests with these settings (`name=value`) beyond the defaults.
    ///
    /// # Panics
    /// It does not start. The message says what to install if there is no PostgreSQL.
    pub fn start(settings: &[&str]) -> Self {
        let settings: Vec<String> = FOR_TESTS.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
        Self::start_in(&std::env::temp_dir(), &settings, PASSWORD).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes and starts a server below `parent`, with this password of its superuser, these settings (`name=value`), and
    /// otherwise PostgreSQL's defaults.
    ///
    /// # Errors
    /// There is no PostgreSQL, or it does not start, as with a setting that it does not know.
    pub fn start_in(parent: &Path, settings: &[String], password: &str) -> io::Result<Self> {
        let (programs, account) = (programs()?, account());
        let folder = parent.join(format!("eventodb-pg-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&folder)?;
        if let Some((user, group)) = account {
            chown(&folder, Some(user), Some(group))?;
            check_way(parent)?;
        }
        let watchdog = watch(&programs, &folder, account)?;
        let mut server = Self { programs, folder, port: 0, account, password: password.to_owned(), watchdog };
        server.initialise(settings)?;
        for _ in 0..ATTEMPTS {
            server.port = ports::free()?;
            // Another process may take the port in between.
            if server.try_start() {
                return Ok(server);
            }
        }
        Err(io::Error::other(format!("PostgreSQL does not start: {}", server.log().trim())))
    }

    /// The URL of one of its databases, for its superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder that goes away with it; its configuration is in `data`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops it: `smart`, `fast`, or `immediate`, which has the effect of a crash.
    ///
    /// # Panics
    /// It does not stop.
    pub fn stop(&self, mode: &str) {
        let stopped = self.control(&["stop", "-w", "-m", mode]);
        assert!(stopped, "PostgreSQL does not stop: {}", self.log());
    }

    /// Starts it again after [`Server::stop`], on the same port.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_again(&self) {
        assert!(self.try_start(), "PostgreSQL does not start again: {}", self.log());
    }

    /// Starts it if it does not run, and waits until it accepts connections.
    ///
    /// # Panics
    /// It does not come back.
    pub fn revive(&self) {
        let begun = Instant::now();
        while !self.lets_in() {
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not come back: {}", self.log());
            // Processes of a killed server may still hold its memory; then a later try succeeds.
            if !self.control(&["status"]) {
                self.try_start();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn lets_in(&self) -> bool {
        let mut command = as_account(Command::new(program("pg_isready")), self.account);
        command.args(["--quiet", "--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.status().is_ok_and(|status| status.success())
    }

    /// The process that listens; the others are its children.
    ///
    /// # Panics
    /// It does not run.
    pub fn pid(&self) -> u32 {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("it runs");
        file.lines().next().and_then(|pid| pid.parse().ok()).expect("the file begins with the id")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn initialise(&self, settings: &[String]) -> io::Result<()> {
        let (password, data) = (self.folder.join("password"), self.folder.join("data"));
        std::fs::write(&password, &self.password)?;
        let output = self
            .command("initdb")
            .args(["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .arg("--pwfile")
            .arg(&password)
            .arg("--pgdata")
            .arg(&data)
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("initdb: {}", String::from_utf8_lossy(&output.stderr).trim())));
        }
        let mut configuration = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
        for setting in settings {
            let (name, value) = setting.split_once('=').ok_or_else(|| io::Error::other("a setting is name=value"))?;
            writeln!(configuration, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        Ok(())
    }

    fn try_start(&self) -> bool {
        let options = format!("-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''", self.port);
        let log = self.folder.join("log");
        self.control(&["start", "-w", "-o", &options, "-l", &log.to_string_lossy()])
    }

    fn control(&self, arguments: &[&str]) -> bool {
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(self.folder.join("data")).args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        as_account(Command::new(self.programs.join(program.as_ref())), self.account)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // It has stopped the server and removed the folder when it ends.
        _ = self.watchdog.wait();
    }
}

/// A shell that waits for its input to close.
fn watch(programs: &Path, folder: &Path, account: Option<(u32, u32)>) -> io::Result<Child> {
    let script = r#"trap '' INT TERM HUP; read -r _; "$1/pg_ctl" -D "$2/data" -m immediate stop; rm -rf "$2""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "eventodb-test-watchdog"]).arg(programs).arg(folder).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    as_account(command, account).spawn()
}

fn as_account(mut command: Command, account: Option<(u32, u32)>) -> Command {
    if let Some((user, group)) = account {
        command.uid(user).gid(group).current_dir("/");
    }
    command
}

/// The directory with `initdb` and the other programs: a named one, one on the path, or that of the newest version.
fn programs() -> io::Result<PathBuf> {
    let named = std::env::var_os(PROGRAMS_VARIABLE).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = PLACES.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten();
    let mut installed: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    installed.sort_by_key(|path| {
        std::cmp::Reverse(path.parent().and_then(|p| p.file_name()?.to_str()?.parse::<u32>().ok()))
    });
    let mut places = named.into_iter().chain(std::env::split_paths(&path)).chain(installed);
    // The path may have a link to one program alone.
    let found = places.find(|place| place.join("initdb").is_file() && place.join("pg_ctl").is_file());
    found.ok_or_else(|| {
        io::Error::other(format!(
            "there is no PostgreSQL 14 or newer on this machine: install it (Debian: apt-get install postgresql), or \
             name the directory of its programs by {PROGRAMS_VARIABLE}; tests use the server whose URL and superuser \
             {URL_VARIABLE} names"
        ))
    })
}

/// The user and group that PostgreSQL runs as if this process is root, as whom it refuses to run.
fn account() -> Option<(u32, u32)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace();
    if ids.nth(1) != Some("0") {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}

/// Makes sure that every user can enter a directory.
fn check_way(directory: &Path) -> io::Result<()> {
    for above in directory.ancestors().filter(|above| above.is_dir()) {
        if std::fs::metadata(above)?.mode() & 0o001 == 0 {
            return Err(io::Error::other(format!("PostgreSQL's user cannot enter {}", above.display())));
        }
    }
    Ok(())
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
            assert_eq!(with_database(url, "x"), wanted);
        }
        assert!(of_database("nonsense", "x").is_none());
    }
}
