//! A backup of a server under load, which is verified and started; tokens that are rotated while servers run.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use eventodb_store::testing::tell;
use eventodb_testing::postgres;
use serde_json::json;

use super::http::Http;
use super::server::*;

fn eventodb(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().expect("the binary starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_a_working_server() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let data = directory.path().join("data");
    let backup = directory.path().join("backup");
    let server = Server::start(&data, &[]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (address, stop) = (server.address.clone(), stop.clone());
            tokio::spawn(async move {
                let mut http = Http::connect(&address, TOKEN).await.expect("the server listens");
                while !stop.load(SeqCst) {
                    call(&mut http, &json!(["stream.write", format!("s-{writer}"), { "type": "T", "data": {} }])).await;
                }
            })
        })
        .collect();
    let mut http = server.connect().await;
    let before = call(&mut http, &json!(["stream.write", "before-1", { "type": "T", "data": {} }])).await;
    let (from, to) = (data.clone(), backup.clone());
    let taken =
        tokio::task::spawn_blocking(move || eventodb(&["backup", "--data-dir", text(&from), "--output", text(&to)]));
    let taken = taken.await.expect("it does not panic");
    assert!(taken.status.success(), "{taken:?}");
    stop.store(true, SeqCst);
    for writer in writers {
        writer.await.expect("a writer does not panic");
    }
    let original = server.all().await;
    // The server has locked its directory. No server has locked the backup.
    assert_eq!(eventodb(&["verify", text(&data)]).status.code(), Some(73));
    assert_eq!(eventodb(&["verify", text(&backup)]).status.code(), Some(0));
    server.stop().await;
    assert_eq!(eventodb(&["verify", text(&data)]).status.code(), Some(0));

    let log = backup.join("1.log.db");
    let whole = std::fs::read(&log).expect("it is there");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&log, flipped).expect("it is ours");
    let found = eventodb(&["verify", text(&backup)]);
    assert_eq!(found.status.code(), Some(1));
    let told = String::from_utf8(found.stdout).expect("it is text");
    assert!(told.lines().any(|line| line.starts_with("1.log.db") && line.contains("DAMAGED")), "{told}");
    std::fs::write(&log, whole).expect("it is ours");

    let restored = Server::start(&backup, &[]).await;
    let copied = restored.all().await;
    assert!(copied.len() as i64 >= integer(&before["globalPosition"]));
    assert_eq!(copied, original[..copied.len()]);
    let mut http = restored.connect().await;
    let next = call(&mut http, &json!(["stream.write", "after-1", { "type": "T", "data": {} }])).await;
    assert_eq!(integer(&next["globalPosition"]), copied.len() as i64 + 1);
    restored.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_replaces_the_old_one() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let data = text(directory.path());
    let rotate = ["token", "rotate", "default", "--data-dir", data];
    assert_eq!(eventodb(&rotate).status.code(), Some(64), "there is no store yet");
    let server = Server::start(directory.path(), &[]).await;
    assert_eq!(eventodb(&rotate).status.code(), Some(73), "the server uses it");
    server.stop().await;
    let rotated = eventodb(&rotate);
    assert_eq!(rotated.status.code(), Some(0));
    let token = String::from_utf8(rotated.stdout).expect("it is text");
    let refused = eventodb(&["serve", "--port", "0", "--token", TOKEN, "--data-dir", data]);
    assert_eq!(refused.status.code(), Some(64));
    let mut command = tokio::process::Command::new(BINARY);
    command.args(["serve", "--port", "0", "--token", token.trim(), "--data-dir", data]);
    let server = Server::launch(command).await;
    let list = json!(["ns.list"]);
    let mut http = Http::connect(&server.address, TOKEN).await.expect("the server listens");
    assert_eq!(http.call(&list).await.expect("the server answers").0, 403);
    let mut http = Http::connect(&server.address, token.trim()).await.expect("the server listens");
    assert_eq!(http.call(&list).await.expect("the server answers").0, 200);
    server.stop().await;
    let unknown = eventodb(&["token", "rotate", "nobody", "--data-dir", data]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(String::from_utf8(unknown.stderr).expect("it is text").lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_rotated_on_postgresql_beside_a_running_server() {
    let url = postgres::database().await;
    let rotate = ["token", "rotate", "default", "--db-url", &url];
    assert_eq!(eventodb(&rotate).status.code(), Some(1), "there is no namespace yet");
    let server = Server::on_database(&url, &[]).await;
    let list = json!(["ns.list"]);
    let mut old = server.connect().await;
    assert_eq!(old.call(&list).await.expect("the server answers").0, 200);
    let rotated = eventodb(&rotate);
    assert_eq!(rotated.status.code(), Some(0), "{rotated:?}");
    let token = String::from_utf8(rotated.stdout).expect("it is text");
    // The server looks up an unknown token at once. It accepts a known one until it hears of the rotation.
    let mut new = Http::connect(&server.address, token.trim()).await.expect("the server listens");
    assert_eq!(new.call(&list).await.expect("the server answers").0, 200);
    let rotated = Instant::now();
    while old.call(&list).await.expect("the server answers").0 != 403 {
        assert!(rotated.elapsed() < PATIENCE, "the old token lasts");
    }
    tell(&format!("the old token was refused {:?} after the new one was taken", rotated.elapsed()));
    server.stop().await;
    let unknown = eventodb(&["token", "rotate", "nobody", "--db-url", &url]);
    assert_eq!(unknown.status.code(), Some(1));
    let refused = String::from_utf8(unknown.stderr).expect("it is text");
    assert_eq!((refused.lines().count(), refused.contains("for-tests-only")), (1, false), "{refused}");
}
