//! A server whose index is missing: it starts, answers that the namespace is unavailable, and rebuilds the index.

use std::fs;

use serde_json::json;

use super::server::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_while_a_missing_index_is_built() {
    const WRITES: i64 = 200;
    // The memtable is so small that the whole log must be indexed before anything can be read.
    const FLAGS: [&str; 4] = ["--memtable-messages", "8", "--index-batch", "4"];
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(directory.path(), &FLAGS).await;
    let mut http = server.connect().await;
    for at in 0..WRITES {
        call(&mut http, &json!(["stream.write", "account-1", { "type": "T", "data": { "at": at } }])).await;
    }
    server.stop().await;
    for entry in fs::read_dir(directory.path()).expect("it is there") {
        let file = entry.expect("it is there").path();
        if file.to_string_lossy().contains(".index.db") {
            fs::remove_file(file).expect("it is there");
        }
    }

    let server = Server::start(directory.path(), &FLAGS).await;
    let mut http = server.connect().await;
    assert_eq!(call(&mut http, &json!(["stream.version", "account-1"])).await, json!(WRITES - 1));
    assert_eq!(server.all().await.len() as i64, WRITES);
    server.stop().await;
}
