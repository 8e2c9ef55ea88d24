//! One call on one file fails once: acknowledged messages stay, writes go on, and the process ends on SIGTERM.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

use super::http::Http;
use super::server::*;
use super::strace::traced;

/// More messages than the index takes before it is written back.
const MANY: usize = 70_000;

/// A server of whose calls on a file one fails once.
async fn start_with_fault(directory: &Path, file: &str, call: &str, error: &str) -> Server {
    let data = directory.join("data");
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qq", "-o"]).arg(directory.join("trace"));
    command.arg("-P").arg(data.join(file)).args(["-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:error={error}:when=1")]);
    command.arg(BINARY).args(Server::arguments(&data));
    let mut server = Server::launch(command).await;
    server.pid = traced(server.pid);
    server
}

/// Whether the trace has the failed call.
fn has_failed(directory: &Path) -> bool {
    std::fs::read_to_string(directory.join("trace")).expect("strace writes it").contains("(INJECTED)")
}

/// A data directory in which the default namespace has one message.
async fn prepare(directory: &Path) {
    let server = Server::start(&directory.join("data"), &[]).await;
    write(&mut server.connect().await).await;
    server.stop().await;
}

async fn write(http: &mut Http) -> Value {
    call(http, &json!(["stream.write", "s-1", { "type": "T", "data": {} }])).await
}

/// Imports enough messages for the index to be written back.
async fn import_many(server: &Server) {
    let mut records = String::new();
    for at in 0..MANY {
        let (stream, position, place) = (at % 1_000, at / 1_000, at + 2);
        let record = json!({
            "id": format!("00000000-0000-4000-8000-{at:012x}"), "stream": format!("t-{stream}"), "type": "T",
            "pos": position, "gpos": place, "data": {}, "meta": null, "time": "2024-01-01T00:00:00Z",
        });
        records += &record.to_string();
        records.push('\n');
    }
    let head = format!(
        "POST /import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        records.len()
    );
    let mut http = server.connect().await;
    http.send(format!("{head}{records}").as_bytes()).await.expect("the server reads");
    let reply = http.rest().await.expect("the server answers");
    assert!(reply.contains(&format!("\"imported\":{MANY}")), "{reply}");
}

/// The first sync of a commit fails. It is repeated, and the acknowledged messages are there after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_sync_fails_is_made_again_and_outlasts_a_crash() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    prepare(directory.path()).await;
    let server = start_with_fault(directory.path(), "1.log.db-wal", "fdatasync", "EIO").await;
    let written = write(&mut server.connect().await).await;
    assert!(has_failed(directory.path()), "it is the commit's sync that fails");
    server.signal(Signal::KILL);
    server.kill().await;

    let server = Server::start(&directory.path().join("data"), &[]).await;
    let all = server.all().await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[1][4], written["globalPosition"]);
    server.stop().await;
}

/// The checkpoint of a file fails: the messages are in the log and in the index all the same.
async fn check_checkpoint(file: &str, fault: &str, error: &str) {
    let directory = tempfile::tempdir().expect("a temporary folder");
    prepare(directory.path()).await;
    let mut server = start_with_fault(directory.path(), file, fault, error).await;
    import_many(&server).await;
    let failed = async {
        while !has_failed(directory.path()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.expect("the file is written back");

    let mut http = server.connect().await;
    let head = integer(&write(&mut http).await["globalPosition"]);
    assert!(head > integer(&json!(MANY)));
    let info = call(&mut http, &json!(["ns.info", "default"])).await;
    assert_eq!(info["messageCount"], json!(MANY + 2));
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());

    let server = Server::start(&directory.path().join("data"), &[]).await;
    assert_eq!(server.all().await.len(), MANY + 2);
    write(&mut server.connect().await).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_the_index_without_space_costs_nobody_a_write() {
    check_checkpoint("1.index.db", "pwrite64", "ENOSPC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_the_index_whose_sync_fails_costs_nobody_a_write() {
    check_checkpoint("1.index.db", "fdatasync", "EIO").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_the_log_without_space_costs_nobody_a_write() {
    check_checkpoint("1.log.db", "pwrite64", "ENOSPC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_the_log_whose_sync_fails_costs_nobody_a_write() {
    check_checkpoint("1.log.db", "fdatasync", "EIO").await;
}
