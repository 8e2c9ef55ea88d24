//! `eventodb status`: what it tells of a server that is up, that refuses writes, or that is not there.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::{Server, eventodb, started};

/// The URL of an address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

/// The exit code, what is printed, and what is on standard error.
fn outcome(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = eventodb(arguments).output().expect("ran");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_server_that_is_up_tells_what_it_is_and_how_far_its_groups_are() {
    let server = Server::start();
    for stream in ["account-1", "account-2", "other-1"] {
        server.prints(&["write", stream, "T"]);
    }
    server.prints(&["group", "create", "mailer", "--category", "account", "--start", "beginning"]);
    let status = server.json(&["status", "--json"]);
    let told = |name: &str| &status[name];
    assert_eq!([told("up"), told("ready")], [&json!(true), &json!(true)]);
    assert_eq!((told("version"), told("backend")), (&json!(env!("CARGO_PKG_VERSION")), &json!("sqlite")));
    assert_eq!((told("head"), told("degraded")), (&json!(3), &json!([])));
    assert_eq!(told("groups"), &json!([{"group": "mailer", "messages": 2, "atLeast": false, "parked": 0}]));
    let lines = server.prints(&["status"]);
    for words in ["up ", &server.url, "backend     sqlite", "writes      taken", "mailer: 2 messages behind"] {
        assert!(lines.contains(words), "{lines}");
    }
    assert_eq!(outcome(&["status", "--live", "--url", &server.url]), (Some(0), String::new(), String::new()));
}

#[test]
fn a_server_that_refuses_writes_is_up_and_the_exit_code_says_so() {
    let (_running, url) = started(eventodb(&["serve", "--test-mode", "--read-only", "--port", "0"]));
    let (code, printed, _) = outcome(&["status", "--url", &url, "--json"]);
    let status: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((code, &status["ready"], &status["degraded"][0]["code"]), (Some(1), &json!(true), &json!("READ_ONLY")));
    assert!(outcome(&["status", "--url", &url]).1.contains("READ_ONLY"));
    // A restart would not help it.
    assert_eq!(outcome(&["status", "--live", "--url", &url]).0, Some(0));
}

#[test]
fn a_server_that_is_not_there_is_told_from_one_that_is() {
    let url = nobody();
    let (code, printed, told) = outcome(&["status", "--url", &url]);
    assert_eq!((code, &*told), (Some(69), ""));
    assert!(printed.starts_with("DOWN") && printed.contains(&url) && printed.contains("cannot connect"), "{printed}");
    let (code, printed, _) = outcome(&["status", "--url", &url, "--json"]);
    let status: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((code, &status["up"]), (Some(69), &json!(false)));
    // Docker knows 0 and 1 only.
    let (code, printed, told) = outcome(&["status", "--live", "--url", &url]);
    assert_eq!((code, &*printed), (Some(1), ""));
    assert!(told.contains("cannot connect"), "{told}");
    assert_eq!(outcome(&["status", "--live", "--url", "nonsense"]).0, Some(64));
}
