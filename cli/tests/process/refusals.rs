//! Refused requests in the log: a client that is refused ten thousand times a second must not fill the disk with log
//! lines.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::http::Http;
use super::server::*;

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_are_sampled_in_the_log() {
    const REFUSED: u64 = 3_000;
    let directory = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(BINARY);
    let arguments = Server::arguments(directory.path()).into_iter();
    command.args(arguments.map(|argument| if argument == "error" { "info".to_owned() } else { argument }));
    // Otherwise most would be refused because there were so many wrong tokens.
    command.args(["--max-wrong-tokens", "0"]).stderr(Stdio::piped());
    let mut server = Server::launch(command).await;
    let mut stderr = server.child.stderr.take().expect("it is piped");
    let log = tokio::spawn(async move {
        let mut log = String::new();
        stderr.read_to_string(&mut log).await.expect("text");
        log
    });
    let mut http = Http::connect(&server.address, "nonsense").await.expect("the server listens");
    for _ in 0..REFUSED {
        let (status, _) = http.call(&json!(["stream.version", "a-1"])).await.expect("an answer");
        assert_eq!(status, 401);
    }
    let refused: Value = http.call(&json!(["no.such"])).await.expect("an answer").1;
    assert_eq!(refused["error"]["code"], "METHOD_NOT_FOUND");
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    let log = log.await.expect("no panic");
    let of = |code: &str| -> Vec<&str> { log.lines().filter(|line| line.contains(code)).collect() };
    let (more, single): (Vec<&str>, Vec<&str>) =
        of("AUTH_INVALID_TOKEN").into_iter().partition(|line| line.contains("more ended alike"));
    let more: Vec<u64> = more.into_iter().map(|line| number(line, "more=")).collect();
    assert_eq!(single.len() as u64 + more.iter().sum::<u64>(), REFUSED, "each is told of: {log}");
    assert_eq!(single.len(), 1, "all came from one address: {log}");
    assert_eq!(of("METHOD_NOT_FOUND").len(), 1, "another kind has lines of its own: {log}");
}

fn number(line: &str, before: &str) -> u64 {
    let (_, rest) = line.split_once(before).expect("it stands there");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}
