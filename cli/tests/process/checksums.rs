//! Checksums of stored messages: a damaged message, and a log that has no checksums yet.

use std::path::Path;
use std::process::{Command as StdCommand, Output};
use std::time::Duration;

use eventodb_store::testing::logs::{FIRST_VERSION_MESSAGES, unpack_first_version};
use eventodb_store::testing::tell;
use serde_json::{Value, json};
use tokio::process::Command;

use super::server::*;
use super::strace::traced;

fn eventodb(arguments: &[&str]) -> Output {
    StdCommand::new(BINARY).args(arguments).output().expect("the binary starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name")
}

/// The output of `verify`, and whether it finds the directory sound.
fn verify(data: &Path) -> (bool, String) {
    let found = eventodb(&["verify", text(data)]);
    (found.status.success(), String::from_utf8_lossy(&found.stdout).into_owned())
}

/// Changes one digit of a message's data in the log's file.
fn change_digit(data: &Path, from: &str, to: &str) {
    let file = data.join("1.log.db");
    let mut bytes = std::fs::read(&file).expect("it is there");
    let found: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from.as_bytes())).collect();
    assert_eq!((found.len(), from.len()), (1, to.len()));
    bytes[found[0]..found[0] + to.len()].copy_from_slice(to.as_bytes());
    std::fs::write(&file, bytes).expect("it is ours");
}

/// A server with three messages, of which the second one has the amount 200.
async fn start_with_amounts(data: &Path) -> Server {
    let server = Server::start(data, &[]).await;
    let mut http = server.connect().await;
    for amount in [100, 200, 300] {
        call(&mut http, &json!(["stream.write", "a-1", { "type": "T", "data": { "amount": amount } }])).await;
    }
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_digit_is_never_served_and_can_be_given_up() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let data = directory.path().join("data");
    let server = start_with_amounts(&data).await;
    server.stop().await;
    change_digit(&data, "{\"amount\":200}", "{\"amount\":900}");

    let (sound, told) = verify(&data);
    assert!(!sound && told.contains("global position 2 is damaged"), "{told}");
    let backup = directory.path().join("backup");
    let taken = eventodb(&["backup", "--data-dir", text(&data), "--output", text(&backup)]);
    let told = String::from_utf8_lossy(&taken.stdout);
    assert!(taken.status.code() == Some(1) && told.contains("at global positions 2"), "{taken:?}");

    let server = Server::start(&data, &[]).await;
    let mut http = server.connect().await;
    for get in [json!(["category.get", ""]), json!(["category.get", "a"]), json!(["stream.get", "a-1"])] {
        let page = call(&mut http, &get).await;
        assert_eq!(page.as_array().map(Vec::len), Some(1), "{get}: {page}");
    }
    let (status, error) = http.call(&json!(["category.get", "", { "position": 2 }])).await.expect("an answer");
    assert_eq!((status, &error["error"]["code"]), (500, &json!("DATA_DAMAGED")), "{error}");
    assert_eq!(error["error"]["details"], json!({ "globalPosition": 2 }));
    http.send(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("the server reads");
    let (_, ready) = http.answer().await.expect("the server answers");
    assert_eq!(ready["degraded"][0]["code"], json!("DATA_DAMAGED"), "{ready}");
    server.stop().await;

    let give_up =
        |position| eventodb(&["repair", "--data-dir", text(&data), "--namespace", "default", "--give-up", position]);
    let refused = give_up("3");
    assert!(refused.status.code() == Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("it is as it was written"), "{refused:?}");
    let done = give_up("2");
    assert!(done.status.success() && String::from_utf8_lossy(&done.stdout).contains("it is given up"), "{done:?}");
    let (sound, told) = verify(&data);
    assert!(sound, "{told}");
    let server = Server::start(&data, &[]).await;
    let all = server.all().await;
    assert_eq!(
        (&all[1][1], &all[1][2], &all[1][3], &all[1][5]),
        (&json!("a-1"), &json!("$damaged"), &json!(1), &json!({}))
    );
    assert_eq!(all[2][5], json!({ "amount": 300 }));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_takes_a_damaged_message_for_the_end() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let data = directory.path().join("data");
    let server = start_with_amounts(&data).await;
    server.stop().await;
    change_digit(&data, "{\"amount\":200}", "{\"amount\":900}");

    let server = Server::start(&data, &[]).await;
    let (file, checkpoint) = (directory.path().join("all.ndjson"), directory.path().join("checkpoint"));
    let consume = ["consume", "--name", "x", "--checkpoint-file", text(&checkpoint), "--until-caught-up"];
    for (arguments, lines) in [
        (&["read"][..], 1),
        (&["read", "a-1"], 1),
        (&["read", "--category", "a", "--type", "T"], 1),
        (&["read", "--backward"], 1),
        (&["read", "-n", "1"], 1),
        (&["export"], 1),
        (&["export", "--output", text(&file)], 0),
        (&[&consume[..], &["--", "echo"]].concat(), 1),
    ] {
        let mut command = StdCommand::new(BINARY);
        command.args(arguments).env("EVENTODB_URL", format!("http://{}", server.address)).env("EVENTODB_TOKEN", TOKEN);
        let ended = command.output().expect("the binary starts");
        let told = String::from_utf8_lossy(&ended.stderr);
        let printed = String::from_utf8_lossy(&ended.stdout).lines().count();
        if arguments.contains(&"-n") {
            assert!(ended.status.success(), "what was asked for is there: {told}");
        } else {
            assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {told}");
            assert!(told.contains("damaged: the message at global position 2"), "{arguments:?}: {told}");
        }
        assert_eq!(printed, lines, "{arguments:?}: what comes before it is printed");
    }
    let exported = std::fs::read_to_string(&file).expect("it is there");
    assert_eq!(exported.lines().count(), 1, "what comes before it is exported: {exported}");
    assert_eq!(std::fs::read_to_string(&checkpoint).expect("it is there").trim(), "1");
    server.stop().await;
}

/// The table of `eventodb group status g`, or of another command about the group.
fn group(server: &Server, command: &str) -> String {
    let url = format!("http://{}", server.address);
    let shown = eventodb(&["group", command, "g", "--url", &url, "--token", TOKEN]);
    assert!(shown.status.success(), "{shown:?}");
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_stops_before_a_damaged_message_and_parks_its_stream_once_it_is_given_up() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let data = directory.path().join("data");
    let server = start_with_amounts(&data).await;
    let mut http = server.connect().await;
    call(&mut http, &json!(["group.create", "g", { "partitions": 1 }])).await;
    server.stop().await;
    change_digit(&data, "{\"amount\":200}", "{\"amount\":900}");

    let server = Server::start(&data, &[]).await;
    let mut http = server.connect().await;
    let member = call(&mut http, &json!(["group.join", "g", {}])).await;
    let (id, epoch) = (&member["member"], &member["assigned"][0]["epoch"]);
    let page = call(&mut http, &json!(["group.read", "g", id, {}])).await;
    assert_eq!((page["messages"].as_array().map(Vec::len), &page["upTo"]), (Some(1), &json!({ "0": 1 })), "{page}");
    assert!(group(&server, "status").contains("at work"), "something waits before it");
    let checkpoints = json!({ "0": { "epoch": epoch, "position": 1 } });
    call(&mut http, &json!(["group.heartbeat", "g", id, { "checkpoints": checkpoints }])).await;
    let (status, error) = http.call(&json!(["group.read", "g", id, {}])).await.expect("an answer");
    assert_eq!((status, &error["error"]["code"]), (500, &json!("DATA_DAMAGED")), "{error}");
    let shown = group(&server, "status");
    assert!(shown.contains("the message at 2 is damaged") && shown.contains("1+"), "{shown}");
    let waited = call(&mut http, &json!(["group.wait", "g", { "globalPosition": 2, "timeoutMs": 0 }])).await;
    assert_eq!(waited, json!({ "reached": false, "parked": 0 }));
    call(&mut http, &json!(["stream.write", "a-2", { "type": "T", "data": {} }])).await;
    server.stop().await;

    let done = eventodb(&["repair", "--data-dir", text(&data), "--namespace", "default", "--give-up", "2"]);
    assert!(done.status.success(), "{done:?}");
    let server = Server::start(&data, &[]).await;
    let mut http = server.connect().await;
    let page = call(&mut http, &json!(["group.read", "g", id, {}])).await;
    let given: Vec<&Value> = page["messages"].as_array().expect("a page").iter().map(|message| &message[4]).collect();
    assert_eq!(given, [4], "the stream of the marker waits, the other one goes on: {page}");
    let shown = group(&server, "parked");
    assert!(shown.contains("a-1") && shown.contains("position 2 was damaged and is given up"), "{shown}");
    server.stop().await;
}

/// A server whose syncs of the log are slow, so that it is killed between two of them.
async fn start_slowly(directory: &Path) -> Server {
    let data = directory.join("data");
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qq", "-o"]).arg(directory.join("trace"));
    command.arg("-P").arg(data.join("1.log.db-wal")).args(["-e", "trace=fdatasync"]);
    command.args(["-e", "inject=fdatasync:delay_enter=30000"]);
    command.arg(BINARY).args(Server::arguments(&data));
    let mut server = Server::launch(command).await;
    server.pid = traced(server.pid);
    server
}

/// The number of messages without a checksum, as `verify` prints it for a copy.
fn without_checksum(data: &Path) -> usize {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for entry in std::fs::read_dir(data).expect("it is there") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("there is room");
    }
    let (sound, told) = verify(copy.path());
    assert!(sound, "{told}");
    let words: Vec<&str> = told.split_whitespace().collect();
    let of_them = words.windows(3).find(|words| words[1..] == ["of", "them"]).map(|words| words[0]);
    of_them.map_or(0, |number| number.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_checksums_gets_them_while_it_is_served_and_killed() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let data = directory.path().join("data");
    std::fs::create_dir(&data).expect("a temporary folder");
    unpack_first_version(&data).expect("it is there");
    let mut left = without_checksum(&data);
    assert_eq!(left, FIRST_VERSION_MESSAGES);
    let (mut written, mut in_the_middle) = (0, 0);
    while left > 0 {
        let server = start_slowly(directory.path()).await;
        let mut http = server.connect().await;
        let begun = std::time::Instant::now();
        // Reads and writes go on meanwhile. The server is killed during some batch.
        while begun.elapsed() < Duration::from_millis(400) {
            call(&mut http, &json!(["stream.write", "account-1", { "type": "New", "data": {} }])).await;
            written += 1;
            assert_eq!(server.all().await.len(), FIRST_VERSION_MESSAGES + written);
        }
        // strace ends with the server.
        let mut server = server;
        server.signal(rustix::process::Signal::KILL);
        server.ended().await;
        let before = std::mem::replace(&mut left, without_checksum(&data));
        assert!(left <= before, "it goes on where it was");
        in_the_middle += usize::from(left > 0 && left < before);
        tell(&format!("killed with {left} messages without a checksum"));
    }
    assert!(in_the_middle > 0, "no kill came in the middle");
    let (sound, told) = verify(&data);
    assert!(sound && told.contains(&format!("{} messages", FIRST_VERSION_MESSAGES + written)), "{told}");
    assert!(!told.contains("without a checksum"), "{told}");
    let server = Server::start(&data, &[]).await;
    assert_eq!(server.all().await.len(), FIRST_VERSION_MESSAGES + written);
    server.stop().await;
}
