//! A PostgreSQL for tests, in a temporary folder, that goes away with the process whatever ends it.
//!
//! [`database`] gives each test a fresh database on one server for the whole process: the one that
//! `EVENTODB_TEST_PG_URL` names, or else one that is started here. [`Server::start`] gives a test one
//! of its own, to stop and start again.

use std::ffi::OsStr;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

/// The variable that names a server to use, by the URL of one of its databases and a superuser.
pub const URL_VARIABLE: &str = "EVENTODB_TEST_PG_URL";

const USER: &str = "postgres";
const PASSWORD: &str = "for-tests-only";
/// Where distributions put the programs that they keep off the path.
const PLACES: &[&str] = &["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt"];
const ATTEMPTS: u32 = 5;
/// How long a server may take to be back.
const PATIENCE: Duration = Duration::from_secs(60);

/// A PostgreSQL server of this process.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    account: Option<(u32, u32)>,
    settings: Vec<String>,
    /// Stops the server and removes the folder once its input closes, which it does even if this
    /// process is killed.
    watchdog: Child,
}

/// The URL of a fresh database on the process's server.
///
/// # Panics
/// Where no server can be had; the message says what to install.
pub async fn database() -> String {
    static SERVER: OnceLock<(String, Option<Server>)> = OnceLock::new();
    let (url, _) = SERVER.get_or_init(|| match std::env::var(URL_VARIABLE) {
        Ok(url) => (url, None),
        Err(_) => {
            let server = Server::start(&[]);
            (server.url("postgres"), Some(server))
        }
    });
    create_database(url, "ENCODING 'UTF8'").await
}

/// Creates a database with these options beside the one that `url` names; its URL comes back.
///
/// # Panics
/// Where PostgreSQL refuses.
pub async fn create_database(url: &str, options: &str) -> String {
    let name = format!("test_{:016x}", rand::random::<u64>());
    run(url, &format!("CREATE DATABASE {name} TEMPLATE template0 {options}")).await;
    with_database(url, &name)
}

/// The URL of another database on the same server.
pub fn with_database(url: &str, name: &str) -> String {
    let (place, options) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = place.rsplit_once('/').expect("the URL names a database");
    if options.is_empty() { format!("{server}/{name}") } else { format!("{server}/{name}?{options}") }
}

/// A session with the database at `url`, past the code under test.
///
/// # Panics
/// Where there is none.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL lets us in");
    tokio::spawn(connection);
    client
}

/// Runs SQL text past the code under test.
///
/// # Panics
/// Where PostgreSQL refuses it.
pub async fn run(url: &str, sql: &str) {
    connect(url).await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Where one of PostgreSQL's programs is, of the same version as the servers that are started here.
///
/// # Panics
/// Where there is no PostgreSQL; the message says what to install.
pub fn program(name: &str) -> PathBuf {
    let initdb = programs().join("initdb");
    std::fs::canonicalize(&initdb).unwrap_or(initdb).with_file_name(name)
}

/// Makes a command run as a user who is not root, who is given the folder.
///
/// # Panics
/// Where root may not give it away.
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
    /// Makes and starts a server with these settings (`name=value`) beyond the defaults.
    ///
    /// # Panics
    /// Where that cannot be; the message says what to install.
    pub fn start(settings: &[&str]) -> Self {
        let programs = programs();
        let account = account();
        let folder = std::env::temp_dir().join(format!("eventodb-pg-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&folder).expect("the temporary folder can be written to");
        if let Some((user, group)) = account {
            chown(&folder, Some(user), Some(group)).expect("root may give a folder away");
        }
        let watchdog = watch(&programs, &folder, account);
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { programs, folder, port: 0, account, settings, watchdog };
        server.initialise();
        for _ in 0..ATTEMPTS {
            server.port = free_port();
            // Somebody else may take the port meanwhile.
            if server.try_start() {
                return server;
            }
        }
        panic!("PostgreSQL does not start: {}", server.log());
    }

    /// The URL of one of its databases, for its superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder that goes away with it; its configuration is in `data`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops it: `smart`, `fast`, or `immediate`, which is as good as a crash.
    ///
    /// # Panics
    /// Where it does not stop.
    pub fn stop(&self, mode: &str) {
        let stopped = self.control(&["stop", "-w", "-m", mode]);
        assert!(stopped, "PostgreSQL does not stop: {}", self.log());
    }

    /// Starts it again after [`Server::stop`], on the same port.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start_again(&self) {
        assert!(self.try_start(), "PostgreSQL does not start again: {}", self.log());
    }

    /// Starts it if it does not run, and waits until it lets somebody in.
    ///
    /// # Panics
    /// Where it does not come back.
    pub fn revive(&self) {
        let begun = Instant::now();
        while !self.lets_in() {
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not come back: {}", self.log());
            // Processes of one that was killed may still hold its memory, so that the next try succeeds.
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

    /// The process that listens, whose children are the others.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn pid(&self) -> u32 {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("it runs");
        file.lines().next().and_then(|pid| pid.parse().ok()).expect("the file begins with the id")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn initialise(&self) {
        let password = self.folder.join("password");
        std::fs::write(&password, PASSWORD).expect("the folder can be written to");
        let output = self
            .command("initdb")
            .args(["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .arg("--pwfile")
            .arg(&password)
            .arg("--pgdata")
            .arg(self.folder.join("data"))
            .output()
            .expect("initdb was found");
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn try_start(&self) -> bool {
        let mut options = format!("-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''", self.port);
        // A recovery syncs every file of every database one by one otherwise: on a busy disk that took a minute.
        let fixed = ["max_connections=200", "timezone=UTC", "recovery_init_sync_method=syncfs"];
        for setting in fixed.into_iter().chain(self.settings.iter().map(|s| &**s)) {
            options.push_str(" -c ");
            options.push_str(setting);
        }
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
fn watch(programs: &Path, folder: &Path, account: Option<(u32, u32)>) -> Child {
    let script = r#"trap '' INT TERM HUP; read -r _; "$1/pg_ctl" -D "$2/data" -m immediate stop; rm -rf "$2""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "eventodb-test-watchdog"]).arg(programs).arg(folder).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    as_account(command, account).spawn().expect("there is a shell")
}

fn as_account(mut command: Command, account: Option<(u32, u32)>) -> Command {
    if let Some((user, group)) = account {
        command.uid(user).gid(group).current_dir("/");
    }
    command
}

/// Where initdb and the others are.
fn programs() -> PathBuf {
    let on_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let versions = PLACES.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten();
    let mut installed: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    // The newest first.
    installed.sort_by_key(|path| {
        std::cmp::Reverse(path.parent().and_then(|p| p.file_name()?.to_str()?.parse::<u32>().ok()))
    });
    on_path
        .chain(installed)
        // A symbolic link on the path may stand alone, so both programs must be there.
        .find(|place| place.join("initdb").is_file() && place.join("pg_ctl").is_file())
        .unwrap_or_else(|| {
            panic!(
                "the tests need PostgreSQL 14 or newer: install it (Debian: apt-get install postgresql), \
                 or set {URL_VARIABLE} to the URL of a server and a superuser on it"
            )
        })
}

/// PostgreSQL refuses to run as root; then it runs as its own user, or as nobody.
fn account() -> Option<(u32, u32)> {
    let mut own = String::new();
    let status = std::fs::File::open("/proc/self/status").and_then(|mut file| file.read_to_string(&mut own));
    let effective =
        own.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse::<u32>().ok());
    if status.is_err() || effective != Some(0) {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let fields: Vec<&str> =
            accounts.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}
