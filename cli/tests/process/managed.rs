//! What a service manager hears: sd_notify(3) on a socket of the test's.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use eventodb_store::testing::Disk;
use eventodb_testing::postgres;
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Command;

use super::server::*;

/// A manager whose watchdog waits for so many microseconds.
const WATCHDOG_USEC: &str = "200000";

/// The socket of a manager.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a new socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self(socket)
    }

    /// The lines of the next message.
    async fn hears(&self) -> Vec<String> {
        let socket = self.0.try_clone().expect("a socket");
        let heard = tokio::task::spawn_blocking(move || {
            let mut bytes = [0; 4096];
            let length = socket.recv(&mut bytes).expect("the manager is told in time");
            String::from_utf8(bytes[..length].to_vec()).expect("it is text")
        });
        heard.await.expect("it does not panic").lines().map(str::to_owned).collect()
    }

    /// Waits for a message that begins so. The watchdog may be fed before it.
    async fn hears_beside_the_watchdog(&self, first: &str) -> Vec<String> {
        loop {
            let heard = self.hears().await;
            if heard != ["WATCHDOG=1"] {
                assert_eq!(heard[0], first, "{heard:?}");
                return heard;
            }
        }
    }

    /// Waits until it has heard nothing for a second, as from a process that is stopped.
    async fn hears_nothing(&self) {
        let socket = self.0.try_clone().expect("a socket");
        let silence = move || {
            socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket");
            while socket.recv(&mut [0; 4096]).is_ok() {}
            socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        };
        tokio::task::spawn_blocking(silence).await.expect("it does not panic");
    }

    /// Waits until the watchdog is fed by what happens from now on.
    async fn is_fed(&self) {
        self.0.set_nonblocking(true).expect("a socket");
        while self.0.recv(&mut [0; 4096]).is_ok() {}
        self.0.set_nonblocking(false).expect("a socket");
        for _ in 0..2 {
            assert_eq!(self.hears().await, ["WATCHDOG=1"]);
        }
    }
}

async fn start(socket: &Path, data: &Path) -> Server {
    let mut command = Command::new(BINARY);
    command.args(Server::arguments(data)).env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", WATCHDOG_USEC);
    Server::launch(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_hears_that_the_server_is_ready_alive_and_stopping() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let socket = directory.path().join("notify");
    let manager = Manager::listen(&socket);
    let mut server = start(&socket, &directory.path().join("data")).await;
    let ready = manager.hears().await;
    assert_eq!(ready, ["READY=1".to_owned(), format!("STATUS=serves at http://{}", server.address)]);
    manager.is_fed().await;

    // What does not run is not alive, and lives on afterwards.
    server.signal(Signal::STOP);
    manager.hears_nothing().await;
    server.signal(Signal::CONT);
    manager.is_fed().await;

    server.signal(Signal::TERM);
    manager.hears_beside_the_watchdog("STOPPING=1").await;
    assert!(server.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_lets_the_watchdog_be_fed() {
    let Some(disk) = Disk::mount(4 * 1024 * 1024) else { return };
    let directory = tempfile::tempdir().expect("a temporary folder");
    let socket = directory.path().join("notify");
    let manager = Manager::listen(&socket);
    let server = start(&socket, &disk.path().join("data")).await;
    manager.hears_beside_the_watchdog("READY=1").await;
    let mut http = server.connect().await;
    let write = json!(["stream.write", "s-1", { "type": "T", "data": { "text": "x".repeat(60_000) } }]);
    while http.call(&write).await.expect("the server answers").0 == 200 {}
    manager.is_fed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_lets_the_watchdog_be_fed() {
    let database = postgres::Server::start(&[]);
    let directory = tempfile::tempdir().expect("a temporary folder");
    let socket = directory.path().join("notify");
    let manager = Manager::listen(&socket);
    let mut command = Command::new(BINARY);
    command
        .args(Server::arguments_on("0", &database.url("postgres")))
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", WATCHDOG_USEC);
    let server = Server::launch(command).await;
    manager.hears_beside_the_watchdog("READY=1").await;
    tokio::task::block_in_place(|| database.stop("immediate"));
    let write = json!(["stream.write", "s-1", { "type": "T", "data": {} }]);
    let (status, _) = server.connect().await.call(&write).await.expect("the server answers");
    assert_eq!(status, 503);
    manager.is_fed().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_reads_nothing_holds_up_neither_calls_nor_the_end() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let socket = directory.path().join("notify");
    let _manager = Manager::listen(&socket);
    let server = start(&socket, &directory.path().join("data")).await;
    let other = UnixDatagram::unbound().expect("a socket");
    other.set_nonblocking(true).expect("a socket");
    // The socket takes some messages before whoever sends has to wait.
    while other.send_to(b"X=1", &socket).is_ok() {}
    let mut http = server.connect().await;
    for number in 0..200 {
        call(&mut http, &json!(["stream.write", format!("s-{number}"), { "type": "T", "data": {} }])).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.stop().await;
}
