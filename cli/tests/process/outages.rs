//! A PostgreSQL that crashes or ends its sessions while a server writes: the server recovers by itself, and its
//! subscriptions go on. The server warns of a PostgreSQL that a crash would damage.

use std::process::Stdio;
use std::time::Instant;

use eventodb_store::testing::tell;
use eventodb_testing::postgres;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::process::Command;

use super::load::{Load, Told};
use super::server::*;

const CYCLES: u64 = 20;
/// Acknowledged writes of each writer before the database is disturbed again.
const ROUNDS: usize = 10;
const END_SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                            WHERE pid <> pg_backend_pid() AND datname = current_database()";

/// Disturbs the database under load repeatedly. `disturb` returns once the database works again.
async fn disturb_again_and_again(url: &str, disturb: impl AsyncFn()) {
    let (load, told) = (Load::default(), Told::default());
    let server = Server::on_database(url, &[]).await;
    let follower = told.follow(&server);
    let writers = load.start(&server, 0);
    let mut recoveries = Vec::new();
    for cycle in 0..CYCLES {
        for _ in 0..ROUNDS {
            load.until_all_write().await;
        }
        disturb().await;
        let back = Instant::now();
        load.until_all_write().await;
        recoveries.push(back.elapsed());
        tell(&format!("cycle {cycle}: all write again after {:?}; {}", back.elapsed(), load.tally()));
    }
    load.stop();
    for writer in writers {
        writer.await.expect("a writer does not panic");
    }
    recoveries.sort_unstable();
    tell(&format!("recovered within {:?} in the worst case", recoveries[recoveries.len() - 1]));
    load.retry_unanswered(&server).await;
    let all = server.all().await;
    load.check(&all);
    told.check(&all).await;
    assert!(!follower.is_finished(), "the subscription stayed open all the time");
    server.stop().await;
    follower.await.expect("a follower does not panic");
}

#[tokio::test]
async fn a_database_that_may_lose_messages_is_warned_about() {
    let database = postgres::Server::start(&["fsync=off", "full_page_writes=off"]);
    let told = warnings_at_start(&database).await;
    for setting in ["fsync=off", "full_page_writes=off"] {
        let warned = told.lines().any(|line| line.contains("WARN") && line.contains(setting) && line.contains("LOSES"));
        assert!(warned, "{setting}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_checksums_is_warned_about() {
    let database = postgres::Server::start(&[]);
    let checksums = |switch: &str| {
        tokio::task::block_in_place(|| {
            database.stop("fast");
            let program = std::process::Command::new(postgres::program("pg_checksums"));
            let mut command = postgres::unprivileged(program, database.folder());
            // It fails if checksums are on already, which they are by default in newer versions.
            command.arg(switch).arg("--pgdata").arg(database.folder().join("data")).output().expect("it starts");
            database.start_again();
        });
    };
    for (switch, is_warned) in [("--disable", true), ("--enable", false)] {
        checksums(switch);
        let told = warnings_at_start(&database).await;
        let warned = told.lines().any(|line| line.contains("WARN") && line.contains("data_checksums=off"));
        assert_eq!(warned, is_warned, "{switch}: {told}");
    }
}

/// The lines at level warn and above in the log of a server that is started on a database.
async fn warnings_at_start(database: &postgres::Server) -> String {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--port", "0", "--token", TOKEN, "--log-level", "warn"]);
    command.args(["--db-url", &database.url("postgres")]).stderr(Stdio::piped());
    let mut server = Server::launch(command).await;
    let log = server.child.stderr.take().expect("it is piped");
    server.signal(rustix::process::Signal::TERM);
    let mut told = String::new();
    BufReader::new(log).read_to_string(&mut told).await.expect("it is text");
    assert!(server.ended().await.success());
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_over_crashes_of_the_database() {
    let database = postgres::Server::start(&[]);
    let url = postgres::create_database(&database.url("postgres"), "ENCODING 'UTF8'").await;
    disturb_again_and_again(&url, async || {
        tokio::task::block_in_place(|| {
            database.stop("immediate");
            database.start_again();
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_over_the_end_of_all_its_sessions() {
    let url = postgres::database().await;
    disturb_again_and_again(&url, async || postgres::run(&url, END_SESSIONS).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_a_server_is_not_ready_and_refers_to_its_log() {
    const READY: &[u8] = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let database = postgres::Server::start(&[]);
    let server = Server::on_database(&database.url("postgres"), &[]).await;
    let ready = async || {
        let mut http = server.connect().await;
        http.send(READY).await.expect("the server reads");
        http.answer().await.expect("the server answers")
    };
    assert_eq!(ready().await.0, 200);
    tokio::task::block_in_place(|| database.stop("immediate"));
    let (status, told) = ready().await;
    let message = "the store does not answer; the server's log says why";
    assert_eq!((status, told), (503, json!({ "error": { "code": "BACKEND_UNAVAILABLE", "message": message } })));
    tokio::task::block_in_place(|| database.start_again());
    while ready().await.0 != 200 {}
    server.stop().await;
}
