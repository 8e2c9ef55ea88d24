//! Lines that client commands print on standard error when they wait, repeat, skip and park; and a consumer group whose
//! size changes.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Running, eventodb, started};

/// A server in test mode on a directory, at a port.
struct Server {
    _running: Running,
    url: String,
}

impl Server {
    fn start(directory: &Path, port: &str) -> Self {
        let mut command = eventodb(&["serve", "--test-mode", "--port", port, "--log-level", "error"]);
        command.args([
            "--db-url",
            "sqlite://test.db",
            "--data-dir",
            directory.to_str().expect("a temporary folder's name"),
        ]);
        let (running, url) = started(command);
        Self { _running: running, url }
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } =
            eventodb(arguments).env("EVENTODB_URL", &self.url).output().expect("ran");
        (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"))
    }

    fn prints(&self, arguments: &[&str]) -> String {
        let (code, printed, told) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {told}");
        printed
    }
}

#[test]
fn what_is_retried_skipped_and_parked_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), "0");
    server.prints(&["write", "c-1", "Deposited"]);
    let consume = |name: &str, more: &[&str]| {
        let first = ["consume", "--name", name, "-c", "c", "--until-caught-up"];
        server.run(&[&first[..], more, &["--", "false"]].concat())
    };
    let (code, _, told) = consume("skips", &["--on-error", "skip", "--retry-seconds", "1"]);
    assert_eq!(code, Some(0), "{told}");
    let place = "cannot handle Deposited at 0 of c-1 (global position 1): false ended with exit status: 1";
    assert!(told.contains(&format!("{place}; trying again")), "{told}");
    assert!(told.contains(&format!("{place}; SKIPPED")), "{told}");
    let (code, _, told) = consume("parks", &["--on-error", "park:parked-1", "--retry-seconds", "0"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("{place}; PARKED")), "{told}");
    let (code, _, told) = consume("stops", &["--retry-seconds", "0"]);
    assert_eq!((code, told.lines().count()), (Some(1), 1), "{told}");
}

#[test]
fn a_consumer_tells_programs_what_it_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), "0");
    server.prints(&["write", "c-1", "Deposited"]);
    server.prints(&["write", "c-1", "Broken"]);
    // `cat` prints the message, which must not be among the events.
    let script = "input=$(cat); echo \"$input\"; case $input in *Broken*) exit 1;; esac";
    let told = |arguments: &[&str]| {
        let (code, printed, told) = server.run(&[arguments, &["--json", "--", "sh", "-c", script]].concat());
        let events = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>();
        assert!(told.contains("\"type\":\"Deposited\""), "what a command prints goes to standard error: {told}");
        (code, events)
    };
    let about = |event: &str, kind: &str, position: u64| json!({ "event": event, "stream": "c-1", "type": kind, "position": position, "globalPosition": position + 1 });
    let handled = about("handled", "Deposited", 0);
    let failing = |event: &str| {
        let mut about = about(event, "Broken", 1);
        about["error"] = "sh ended with exit status: 1".into();
        about
    };
    let first = ["consume", "--name", "x", "-c", "c", "--until-caught-up", "--retry-seconds", "0"];
    let (code, events) = told(&[&first[..], &["--on-error", "skip"]].concat());
    assert_eq!(code, Some(0), "{events:?}");
    let expected = [
        json!({ "event": "started", "name": "x" }),
        handled.clone(),
        failing("skipped"),
        json!({ "event": "saved", "globalPosition": events[3]["globalPosition"] }),
        json!({ "event": "stopped", "handled": 1, "error": null }),
    ];
    assert_eq!(events, expected);
    assert!(events[3]["globalPosition"].as_u64() >= Some(2), "{events:?}");

    let first = ["consume", "g", "--create", "-c", "c", "--retry-seconds", "0"];
    let (code, events) = told(&[&first[..], &["--on-error", "stop"]].concat());
    assert_eq!(code, Some(1), "{events:?}");
    assert_eq!(events.first(), Some(&json!({ "event": "started", "group": "g" })));
    assert!(events.contains(&handled) && events.contains(&failing("failed")), "{events:?}");
    let last = events.last().expect("there are events");
    assert_eq!((&last["event"], &last["handled"]), (&json!("stopped"), &json!(1)));
    assert!(last["error"].as_str().is_some_and(|error| error.contains("exit status: 1")), "{last}");
}

#[test]
fn a_checkpoint_above_the_head_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), "0");
    server.prints(&["write", "c-1", "T"]);
    let file = folder.path().join("checkpoint");
    std::fs::write(&file, "20\n").expect("written");
    let consume = ["consume", "--name", "x", "-c", "c", "--checkpoint-file", file.to_str().expect("UTF-8")];
    let words = "the checkpoint 20 is above the head 1: the namespace was restored or replaced";
    let (code, printed, told) = server.run(&[&consume[..], &["--until-caught-up", "--", "cat"]].concat());
    assert_eq!((code, printed.as_str()), (Some(1), ""), "{told}");
    assert!(told.contains(words) && told.contains("begin with a new checkpoint"), "{told}");

    let mut command = eventodb(&[&consume[..], &["--json", "--", "cat"]].concat());
    command.env("EVENTODB_URL", &server.url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    let mut printed = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut told = BufReader::new(child.stderr.take().expect("its errors")).lines();
    let _running = Running(child);
    assert!(told.any(|line| line.expect("UTF-8").contains(words)));
    let expected = json!({ "event": "ahead", "globalPosition": 20, "head": 1 });
    assert!(printed.any(|line| serde_json::from_str::<Value>(&line.expect("UTF-8")).expect("JSON") == expected));
}

#[test]
fn a_lost_server_and_its_return_are_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), "0");
    let port = server.url.rsplit_once(':').expect("a port").1.to_owned();
    server.prints(&["write", "c-1", "T"]);
    let follow = |arguments: &[&str]| {
        let mut command = eventodb(arguments);
        command.env("EVENTODB_URL", &server.url).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let printed = BufReader::new(child.stdout.take().expect("its output")).lines();
        let told = BufReader::new(child.stderr.take().expect("its errors")).lines();
        let (mut printed, told) = (printed.map(|line| line.expect("UTF-8")), told.map(|line| line.expect("UTF-8")));
        assert!(printed.any(|line| line.contains("c-1")), "it has begun");
        (Running(child), printed, told)
    };
    let mut followers = [follow(&["tail"]), follow(&["consume", "--name", "x", "-c", "c", "--", "cat"])];
    drop(server);
    for (_, _, told) in &mut followers {
        assert!(told.any(|line| line.contains("trying again")));
    }
    let server = Server::start(folder.path(), &port);
    for (_, _, told) in &mut followers {
        assert!(told.any(|line| line.contains("the server answers again")));
    }
    server.prints(&["write", "c-2", "T"]);
    for (_, printed, _) in &mut followers {
        assert!(printed.any(|line| line.contains("c-2")));
    }
}

#[test]
fn a_wrong_url_is_told_after_one_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(connection);
        }
    });
    for arguments in [
        &["write", "a-1", "T"][..],
        &["read"],
        &["append", "--input", "/dev/null"],
        &["consume", "--name", "x", "--", "true"],
        &["export"],
    ] {
        let output = eventodb(arguments).env("EVENTODB_URL", &url).output().expect("ran");
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(attempts.swap(0, Ordering::Relaxed), 1, "{arguments:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_waited_for_with_a_word() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let mut command = eventodb(&["write", "a-1", "T", "--url", &url]);
    let mut child = Running(command.stderr(Stdio::piped()).spawn().expect("started"));
    let told =
        BufReader::new(child.0.stderr.take().expect("its errors")).lines().next().expect("a line").expect("UTF-8");
    assert_eq!(told, format!("eventodb: waiting for {url}, for up to 10 s"));
}

/// Two members, then three: each new member begins after the smaller checkpoint of the old ones.
#[test]
fn a_group_of_another_size_goes_on_behind_the_smallest_checkpoint_of_the_old_members() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"), "0");
    let positions = |lines: &str| -> Vec<u64> {
        let messages = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a message"));
        messages.map(|message| message["globalPosition"].as_u64().expect("a position")).collect()
    };
    let fill = || {
        for stream in 0..15 {
            server.prints(&["write", &format!("g-{stream}"), "T"]);
        }
    };
    let member = |number: usize, size: usize| {
        let (number, size) = (number.to_string(), size.to_string());
        let group = ["--member", &number, "--size", &size];
        let consume = ["consume", "--name", "x", "-c", "g", "--until-caught-up"];
        let (code, printed, told) = server.run(&[&consume[..], &group, &["--", "cat"]].concat());
        assert_eq!(code, Some(0), "{told}");
        (positions(&printed), told)
    };
    fill();
    member(0, 2);
    fill();
    member(1, 2);
    let last = server.prints(&["read", "g:position-x-0-2", "--backward", "-n", "1", "--json"]);
    let last: Value = serde_json::from_str(&last).expect("a message");
    let smallest = last["data"]["position"].as_u64().expect("member 0 has come less far");

    let mut again = Vec::new();
    for number in 0..3 {
        let (handled, told) = member(number, 3);
        let warning = format!(
            "x ran with 2 members before, and runs with 3 members now: it begins behind global position {smallest},"
        );
        assert!(told.contains(&warning), "{told}");
        again.extend(handled);
    }
    again.sort_unstable();
    let mut wanted = positions(&server.prints(&["read", "-c", "g", "--json"]));
    wanted.retain(|position| *position > smallest);
    assert_eq!(wanted.len(), 15);
    assert_eq!(again, wanted, "what both had handled is not handled again, and nothing is left out");
    assert!((0..3).all(|number| member(number, 3) == (Vec::new(), String::new())), "the new size goes on by itself");
}

#[test]
fn control_characters_in_data_do_not_reach_a_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"), "0");
    let data = "{\"text\":\"\u{9b}31mred\"}";
    server.prints(&["write", "a-1", "T", data]);
    assert!(server.prints(&["read", "a-1"]).contains('\u{9b}'), "a program gets what was written");
    for more in ["", "--json"] {
        let line = format!("{} read a-1 {more} --url {}", env!("CARGO_BIN_EXE_eventodb"), server.url);
        let shown =
            Command::new("script").args(["-qec", &line, "/dev/null"]).output().expect("util-linux is installed");
        let shown = String::from_utf8(shown.stdout).expect("UTF-8");
        assert!(shown.contains(r"\u009b31mred") && !shown.contains('\u{9b}'), "{shown:?}");
    }
}
