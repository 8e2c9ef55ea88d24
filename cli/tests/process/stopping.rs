//! SIGTERM: accepted writes are answered, subscriptions end cleanly, and the exit code is 0. A second signal ends the
//! server at once, and nothing that hangs holds it up beyond the drain time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_testing::postgres;
use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::json;

use super::http::Http;
use super::server::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_answers_what_it_has_accepted() {
    const WRITERS: usize = 8;
    let directory = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::start(directory.path(), &[]).await;
    let mut subscriber = server.connect().await;
    subscriber.subscribe(0).await.expect("the server answers");
    let (written, sent) = (Arc::new(Mutex::new(Vec::new())), Arc::new(tokio::sync::Semaphore::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (address, written, sent) = (server.address.clone(), written.clone(), sent.clone());
            tokio::spawn(async move {
                let mut http = Http::connect(&address, TOKEN).await.expect("the server listens");
                loop {
                    let write = json!(["stream.write", format!("s-{writer}"), { "type": "T", "data": {} }]);
                    match http.call(&write).await {
                        Ok((200, place)) => written.lock().push((format!("s-{writer}"), place)),
                        // The write was refused, or the idle connection was closed.
                        Ok((503, _)) | Err(_) => return,
                        Ok((status, error)) => panic!("{status} {error}"),
                    }
                    sent.add_permits(1);
                }
            })
        })
        .collect();
    let _ = sent.acquire_many(200).await.expect("never closed");
    server.signal(Signal::TERM);
    while subscriber.chunk().await.expect("the subscription ends cleanly").is_some() {}
    for writer in writers {
        writer.await.expect("a writer does not panic");
    }
    assert_eq!(server.ended().await.code(), Some(0));

    let server = Server::start(directory.path(), &[]).await;
    let all = server.all().await;
    let written = written.lock().clone();
    for (stream, place) in &written {
        let message = &all[usize::try_from(integer(&place["globalPosition"])).expect("positive") - 1];
        assert_eq!((message[1].as_str(), &message[3]), (Some(&**stream), &place["position"]));
    }
    // Every accepted write is answered: no message exists without a reply.
    assert_eq!(all.len(), written.len());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::start(directory.path(), &["--drain-timeout-ms", "600000"]).await;
    // A stopping server waits for the body of this request, which does not come.
    let mut http = server.connect().await;
    let head = format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n["
    );
    http.send(head.as_bytes()).await.expect("the server reads");
    server.signal(Signal::TERM);
    let deadline = Instant::now() + PATIENCE;
    while Http::connect(&server.address, TOKEN).await.is_ok() {
        assert!(Instant::now() < deadline, "it listens for ever");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.signal(Signal::TERM);
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrative_act_that_hangs_holds_a_stop_up_no_longer_than_any_request() {
    let url = postgres::database().await;
    // The time of a statement is far beyond the patience of this test.
    let flags = ["--drain-timeout-ms", "200", "--pg-statement-timeout-ms", "600000"];
    let mut server = Server::on_database(&url, &flags).await;
    let session = postgres::connect(&url).await;
    session.batch_execute("BEGIN; LOCK TABLE eventodb.namespaces IN SHARE MODE").await.expect("good SQL");
    let address = server.address.clone();
    let act = tokio::spawn(async move {
        let mut http = Http::connect(&address, TOKEN).await.expect("the server listens");
        http.call(&json!(["ns.create", "hanging"])).await
    });
    until_a_session_waits_for_a_lock(&session).await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(act.await.expect("it does not panic").is_err(), "it was cut");
}
