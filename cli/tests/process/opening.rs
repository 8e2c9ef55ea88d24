//! A namespace whose opening hangs does not delay any other.

use std::path::Path;
use std::process::Stdio;

use eventodb_testing::postgres;
use serde_json::json;
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::http::Http;
use super::server::*;
use super::strace::traced;

/// Namespaces that open meanwhile. If locks were chosen by names, some of so many would share one.
const OTHERS: usize = 300;

fn name(at: usize) -> String {
    format!("other-{at}")
}

/// Creates the namespaces on a server and stops it, so that none of them is open.
async fn prepare(server: Server) {
    let mut http = server.connect().await;
    for name in (0..OTHERS).map(name).chain(["hanging".to_owned()]) {
        call(&mut http, &json!(["ns.create", name])).await;
        // Its log is created by its first use.
        call(&mut http, &json!(["ns.info", name])).await;
    }
    server.stop().await;
}

/// Sends a request for the namespace that hangs, and does not wait for its answer.
fn ask_for_hanging(server: &Server) -> JoinHandle<(u16, serde_json::Value)> {
    let address = server.address.clone();
    tokio::spawn(async move {
        let mut http = Http::connect(&address, TOKEN).await.expect("the server listens");
        http.call(&json!(["ns.info", "hanging"])).await.expect("the server answers in the end")
    })
}

/// All other namespaces are opened and answer while this one hangs.
async fn others_open(server: &Server, hanging: &JoinHandle<(u16, serde_json::Value)>) {
    let mut http = server.connect().await;
    for at in 0..OTHERS {
        let info = call(&mut http, &json!(["ns.info", name(at)])).await;
        assert_eq!(info["messageCount"], json!(0), "{}", name(at));
    }
    assert!(!hanging.is_finished(), "it was to hang meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_whose_opening_waits_for_a_lock_of_the_database_holds_up_no_other() {
    let url = postgres::database().await;
    prepare(Server::on_database(&url, &[]).await).await;
    let session = postgres::connect(&url).await;
    let query = "SELECT incarnation FROM eventodb.namespaces WHERE name = 'hanging'";
    let log: i64 = session.query_one(query, &[]).await.expect("it is there").get(0);
    let server = Server::on_database(&url, &["--pg-statement-timeout-ms", "600000"]).await;
    let lock = format!("BEGIN; LOCK TABLE eventodb_{log}.batches, eventodb_{log}.messages");
    session.batch_execute(&lock).await.expect("good SQL");
    let hanging = ask_for_hanging(&server);
    until_a_session_waits_for_a_lock(&session).await;
    others_open(&server, &hanging).await;
    session.batch_execute("ROLLBACK").await.expect("it is open");
    assert_eq!(hanging.await.expect("it does not panic").0, 200);
    server.stop().await;
}

/// A server whose every opening of the file takes an hour, until strace ends.
async fn start_hanging(directory: &Path, file: &Path) -> Server {
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qq", "-o"]).arg(directory.join("trace")).arg("-P").arg(file);
    command.args(["-e", "trace=openat", "-e", "inject=openat:delay_enter=3600s"]);
    command.arg(BINARY).args(Server::arguments(&directory.join("data"))).stderr(Stdio::null());
    let mut server = Server::launch(command).await;
    server.pid = traced(server.pid);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_whose_file_hangs_when_it_is_opened_holds_up_no_other() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let data = directory.path().join("data");
    prepare(Server::start(&data, &[]).await).await;
    let registry = rusqlite::Connection::open(data.join("registry.db")).expect("it is closed");
    let query = "SELECT incarnation FROM namespaces WHERE name = 'hanging'";
    let log: i64 = registry.query_row(query, [], |row| row.get(0)).expect("it is there");
    drop(registry);
    let file = data.join(format!("{log}.log.db"));
    assert!(file.exists(), "{}", file.display());
    let server = start_hanging(directory.path(), &file).await;
    let hanging = ask_for_hanging(&server);
    others_open(&server, &hanging).await;
    hanging.abort();
    server.signal(rustix::process::Signal::KILL);
    server.kill().await;
}
