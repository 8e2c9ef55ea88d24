//! A server process on a directory, and helpers to call it.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio_postgres::Client;

use super::http::Http;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_eventodb");

/// The administrator's token of all servers here.
pub(crate) const TOKEN: &str = "ns_ZGVmYXVsdA_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The flags of all servers here.
const ARGUMENTS: [&str; 5] = ["serve", "--token", TOKEN, "--log-level", "error"];

/// A test fails if one step takes longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; killed when it is dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// The id of the server's own process. If strace watches the server, that is a child of the started process.
    pub(crate) pid: u32,
    pub(crate) address: String,
}

impl Server {
    pub(crate) async fn start(directory: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(Self::arguments(directory)).args(flags);
        Self::launch(command).await
    }

    /// A server that replaces another one at its address.
    pub(crate) async fn start_at(address: &str, directory: &Path) -> Self {
        let (_, port) = address.rsplit_once(':').expect("an address has a port");
        let mut command = Command::new(BINARY);
        command.args(Self::arguments_at(port, directory));
        Self::launch(command).await
    }

    /// A server on PostgreSQL.
    pub(crate) async fn on_database(url: &str, flags: &[&str]) -> Self {
        Self::on_database_at("0", url, flags).await
    }

    /// A server on PostgreSQL that listens on this port.
    pub(crate) async fn on_database_at(port: &str, url: &str, flags: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(Self::arguments_on(port, url)).args(flags);
        Self::launch(command).await
    }

    /// The arguments of a server on PostgreSQL.
    pub(crate) fn arguments_on<'a>(port: &'a str, url: &'a str) -> impl Iterator<Item = &'a str> {
        ARGUMENTS.into_iter().chain(["--port", port, "--db-url", url])
    }

    pub(crate) fn arguments(directory: &Path) -> Vec<String> {
        Self::arguments_at("0", directory)
    }

    pub(crate) fn arguments_at(port: &str, directory: &Path) -> Vec<String> {
        let directory = directory.to_str().expect("a temporary folder's name");
        // Some of these tests need a disk to be full.
        let place = ["--port", port, "--data-dir", directory, "--min-free", "0"];
        ARGUMENTS.into_iter().chain(place).map(str::to_owned).collect()
    }

    pub(crate) async fn launch(command: Command) -> Self {
        Self::try_launch(command).await.unwrap_or_else(|_| panic!("the server ended before it listened"))
    }

    /// As [`Self::launch`], but returns how the process ended if it ends before it listens.
    pub(crate) async fn try_launch(mut command: Command) -> Result<Self, ExitStatus> {
        let child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the binary starts");
        Self::listening(child).await
    }

    /// Waits until a spawned server, whose output is piped, listens.
    pub(crate) async fn listening(mut child: Child) -> Result<Self, ExitStatus> {
        let pid = child.id().expect("it runs");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let address = async {
            while let Some(line) = lines.next_line().await.expect("it is text") {
                if let Some((_, url)) = line.split_once("address  ") {
                    return url.split_once("://").map(|(_, address)| address.to_owned());
                }
            }
            None
        };
        let Some(address) = tokio::time::timeout(PATIENCE, address).await.expect("the server starts") else {
            return Err(child.wait().await.expect("it is our child"));
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, pid, address })
    }

    pub(crate) async fn connect(&self) -> Http {
        Http::connect(&self.address, TOKEN).await.expect("the server listens")
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }

    /// Kills it at once, as a power failure would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("the process is there");
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("the server ends").expect("it is our child")
    }

    /// Stops it by SIGTERM, as a service manager does.
    pub(crate) async fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert!(self.ended().await.success());
    }

    /// Every message, in global order: id, stream, type, position, global position, data, metadata, time.
    pub(crate) async fn all(&self) -> Vec<Value> {
        let mut http = self.connect().await;
        let mut all: Vec<Value> = Vec::new();
        loop {
            let from = all.last().map_or(1, |message| integer(&message[4]) + 1);
            let page = call(&mut http, &json!(["category.get", "", { "position": from, "batchSize": 1000 }])).await;
            let page = page.as_array().expect("a page").clone();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }
}

/// Calls a method, and retries while the storage is unavailable.
pub(crate) async fn call(http: &mut Http, call: &Value) -> Value {
    let answered = async {
        loop {
            match http.call(call).await.expect("the server answers") {
                (200, result) => return result,
                (503, _) => tokio::time::sleep(Duration::from_millis(10)).await,
                (status, error) => panic!("{call}: {status} {error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the storage gets ready")
}

/// Waits until a session of the same database waits for a lock.
pub(crate) async fn until_a_session_waits_for_a_lock(session: &Client) {
    let waits = "SELECT count(*) FROM pg_locks JOIN pg_database ON database = pg_database.oid
        WHERE NOT granted AND datname = current_database()";
    let one_waits = async { while session.query_one(waits, &[]).await.expect("good SQL").get::<_, i64>(0) == 0 {} };
    tokio::time::timeout(PATIENCE, one_waits).await.expect("none waits for a lock");
}

pub(crate) fn integer(value: &Value) -> i64 {
    value.as_i64().expect("an integer")
}
