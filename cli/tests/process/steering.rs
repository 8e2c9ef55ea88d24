//! Settings that change while clients write: a bad value changes nothing, and a good one holds for the next request on
//! every connection.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::http::Http;
use super::server::{PATIENCE, Server};

/// Connections that write all the time.
const BUSY: usize = 8;
/// Connections that were there before the change, and are asked after it.
const ASKED: usize = 16;

/// Writers that go on until they are dropped.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    writers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn on(server: &Server) -> Self {
        let (stop, written, refused) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Self { stop, written, refused, writers: Vec::new() };
        for number in 0..BUSY {
            let mut http = server.connect().await;
            let (stop, written, refused) = (load.stop.clone(), load.written.clone(), load.refused.clone());
            load.writers.push(tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    match write(&mut http, &format!("busy-{number}")).await {
                        200 => written.fetch_add(1, SeqCst),
                        503 => refused.fetch_add(1, SeqCst),
                        status => panic!("{status}"),
                    };
                }
            }));
        }
        load
    }

    /// Waits until more have been written.
    async fn goes_on(&self) {
        let before = self.written.load(SeqCst);
        until(|| self.written.load(SeqCst) > before + 100).await;
    }

    async fn end(self) {
        self.stop.store(true, SeqCst);
        for writer in self.writers {
            writer.await.expect("no writer fails otherwise");
        }
        assert!(self.refused.load(SeqCst) > 0, "it was under way when writes were refused");
    }
}

async fn until(is_so: impl Fn() -> bool) {
    let waits = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("it comes");
}

async fn write(http: &mut Http, stream: &str) -> u16 {
    http.call(&json!(["stream.write", stream, { "type": "T", "data": {} }])).await.expect("the server answers").0
}

/// The statuses of one write on each connection.
async fn asked(connections: &mut [Http]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (number, http) in connections.iter_mut().enumerate() {
        statuses.push(write(http, &format!("asked-{number}")).await);
    }
    statuses
}

async fn config(http: &mut Http, change: &Value) -> (u16, Value) {
    http.call(&json!(["sys.config", change])).await.expect("the server answers")
}

/// The value of a setting that is in force.
async fn value(http: &mut Http, name: &str) -> Value {
    let (_, all) = config(http, &json!({})).await;
    let settings = all["settings"].as_array().expect("settings").clone();
    settings.into_iter().find(|setting| setting["name"] == name).expect("the setting")["value"].clone()
}

fn set_file(file: &Path, text: &str) {
    std::fs::write(file, text).expect("the folder is ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_holds_for_the_next_request_on_every_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("eventodb.toml");
    set_file(&file, "max-wrong-tokens = 30\n");
    let flags = ["--config", file.to_str().expect("a temporary folder's name")];
    let server = Server::start(&folder.path().join("data"), &flags).await;
    let load = Load::on(&server).await;
    let mut admin = server.connect().await;
    let mut connections = Vec::new();
    for _ in 0..ASKED {
        connections.push(server.connect().await);
    }
    assert_eq!(asked(&mut connections).await, [200; ASKED]);
    for _ in 0..5 {
        let bad = json!({ "read-only": true, "slow-query-threshold-ms": "soon" });
        let (status, refused) = config(&mut admin, &bad).await;
        assert!(status == 400 && refused["error"]["message"].as_str().is_some_and(|text| text.contains("soon")));
        assert_eq!(asked(&mut connections).await, [200; ASKED], "a bad change changes nothing");
        assert_eq!(config(&mut admin, &json!({ "read-only": true })).await.0, 200);
        assert_eq!(asked(&mut connections).await, [503; ASKED]);
        assert_eq!(config(&mut admin, &json!({ "reset": ["read-only"] })).await.0, 200);
        assert_eq!(asked(&mut connections).await, [200; ASKED]);
    }
    load.goes_on().await;

    set_file(&file, "read-only = true\nmax-wrong-tokens = -1\n");
    server.signal(Signal::HUP);
    load.goes_on().await;
    assert_eq!(asked(&mut connections).await, [200; ASKED], "a bad file changes nothing");
    set_file(&file, "read-only = true\nmax-wrong-tokens = 31\n");
    server.signal(Signal::HUP);
    let changes = async { while value(&mut admin, "max-wrong-tokens").await != "31" {} };
    tokio::time::timeout(PATIENCE, changes).await.expect("the file is read");
    assert_eq!(asked(&mut connections).await, [503; ASKED]);
    assert_eq!(config(&mut admin, &json!({ "read-only": false })).await.0, 200);
    assert_eq!(asked(&mut connections).await, [200; ASKED], "a call lies above the file");
    load.end().await;
    server.stop().await;
}
