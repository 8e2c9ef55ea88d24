//! `eventodb token`: in the store itself, through a server, and which of store and server a command line means.

use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{eventodb, started};

const FIRST: &str = "ns_ZGVmYXVsdA_1111111111111111111111111111111111111111111111111111111111111111";

/// Runs a command: its exit code, what it printed, what it told.
fn ran(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = eventodb(arguments).output().expect("ran");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"))
}

fn printed(arguments: &[&str]) -> String {
    let (code, printed, told) = ran(arguments);
    assert_eq!(code, Some(0), "{told}");
    printed
}

fn listed(store: &[&str]) -> Vec<Value> {
    serde_json::from_str(&printed(&[&["token", "list", "--json"], store].concat())).expect("a list")
}

/// A store that a server has made and left.
fn store() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("its name").to_owned();
    let mut server = eventodb(&["serve", "--port", "0", "--data-dir", &path, "--token", FIRST]);
    server.stderr(Stdio::null());
    drop(started(server));
    (folder, path)
}

#[test]
fn tokens_are_changed_in_the_store_itself() {
    let (_folder, path) = store();
    let store = ["--data-dir", path.as_str()];
    let create = ["token", "create", "--rights", "read,write", "--categories", "order*,account"];
    let limited =
        printed(&[&create[..], &["--description", "till", "--expires-at", "2999-01-01T00:00:00Z"], &store].concat());
    assert!(limited.trim().starts_with("ns_ZGVmYXVsdA_"));
    let tokens = listed(&store);
    assert_eq!(tokens[1]["rights"], serde_json::json!(["read", "write"]));
    assert_eq!(tokens[1]["categories"], serde_json::json!(["account", "order*"]));
    assert_eq!(tokens[1]["expiresAt"], "2999-01-01T00:00:00.000000Z");
    assert!(!format!("{tokens:?}").contains("ns_"), "a list has no token");
    assert!(printed(&[&["token", "list"], &store[..]].concat()).contains("till"));

    let id = |at: usize| tokens[at]["id"].as_str().expect("an id").to_owned();
    let past = ["token", "create", "--rights", "read", "--expires-at", "2000-01-01T00:00:00Z"];
    assert_eq!(ran(&[&past[..], &store].concat()).0, Some(64), "it would open nothing");
    let (code, _, told) = ran(&[&["token", "revoke", &id(0)], &store[..]].concat());
    assert_eq!((code, told.contains("the last token of default")), (Some(1), true), "{told}");
    for _ in 0..2 {
        printed(&[&["token", "revoke", &id(1)], &store[..]].concat());
    }
    printed(&[&["token", "create", "--rights", "read"], &store[..]].concat());
    let (code, rotated, told) = ran(&[&["token", "rotate", "--namespace", "default"], &store[..]].concat());
    assert_eq!(code, Some(0), "{told}");
    let audited: serde_json::Value = serde_json::from_str(&told).expect("a line of the audit");
    assert_eq!([&audited["target"], &audited["act"], &audited["outcome"]], ["audit", "token.rotate", "done"]);
    assert!(!told.contains("ns_"), "{told}");
    let left: Vec<_> = listed(&store).into_iter().map(|token| token["rights"].clone()).collect();
    assert_eq!(left, [serde_json::json!(["read"]), serde_json::json!(["read", "write", "consume", "admin"])]);

    let serve = ["serve", "--port", "0", "--data-dir", &path, "--token"];
    assert_eq!(ran(&[&serve[..], &[FIRST]].concat()).0, Some(64), "it has ended");
    let mut server = eventodb(&[&serve[..], &[rotated.trim()]].concat());
    server.stderr(Stdio::null());
    drop(started(server));
}

#[test]
fn a_token_in_place_of_a_namespace_is_not_shown() {
    let (_folder, path) = store();
    for arguments in [
        &["token", "rotate", FIRST][..],
        &["token", "rotate", "--namespace", FIRST],
        &["token", "list", "--namespace", FIRST],
        &["token", "create", "--rights", "read", "--namespace", FIRST],
        &["token", "revoke", FIRST],
    ] {
        let (code, printed, told) = ran(&[arguments, &["--data-dir", &path]].concat());
        assert!(code != Some(0) && !format!("{printed}{told}").contains(FIRST), "{arguments:?}: {told}");
    }
    let (_, _, told) = ran(&["token", "rotate", FIRST, "--data-dir", &path]);
    assert!(told.contains("there is no namespace (a token)"), "{told}");
}

#[test]
fn what_is_typed_says_whether_a_server_is_asked() {
    let (_folder, path) = store();
    let nowhere = "http://127.0.0.1:1";
    let of = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut command = eventodb(&[&["token", "list"], flags].concat());
        command.envs(variables.iter().copied()).output().expect("ran").status.code()
    };
    assert_eq!(of(&[], &["--data-dir", &path]), Some(0));
    assert_eq!(of(&[("EVENTODB_URL", nowhere)], &["--data-dir", &path]), Some(0));
    assert_eq!(of(&[("EVENTODB_DATA_DIR", &path)], &[]), Some(0));
    assert_eq!(of(&[("EVENTODB_DATA_DIR", &path)], &["--url", nowhere]), Some(69));
    assert_eq!(of(&[("EVENTODB_DATA_DIR", &path), ("EVENTODB_URL", nowhere)], &[]), Some(69));
    assert_eq!(of(&[], &["--data-dir", &path, "--url", nowhere]), Some(64));
}

#[test]
fn tokens_are_changed_through_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("its name").to_owned();
    let mut server = eventodb(&["serve", "--port", "0", "--data-dir", &path, "--token", FIRST]);
    server.stderr(Stdio::null());
    let (_server, url) = started(server);
    let with =
        |token: &str, arguments: &[&str]| ran(&[&["token"], arguments, &["--url", &url, "--token", token]].concat());
    let by = |token: &str, arguments: &[&str]| {
        let (code, printed, told) = with(token, arguments);
        assert_eq!(code, Some(0), "{told}");
        printed.trim().to_owned()
    };
    let list = || -> Vec<Value> { serde_json::from_str(&by(FIRST, &["list", "--json"])).expect("a list") };
    let reader = by(FIRST, &["create", "--rights", "read", "--categories", "account", "--description", "for reports"]);
    let tokens = list();
    assert_eq!((&tokens[1]["description"], &tokens[1]["categories"][0]), (&"for reports".into(), &"account".into()));
    assert_eq!(with(&reader, &["list"]).0, Some(77), "it has not the right");

    let id = tokens[1]["id"].as_str().expect("an id");
    let rotated = by(FIRST, &["rotate", id, "--grace-ms", "0"]);
    let (code, _, told) = with(&reader, &["list"]);
    assert_eq!(code, Some(77), "{told}");
    let id = list()[1]["id"].as_str().expect("an id").to_owned();
    assert!(by(FIRST, &["revoke", &id]).starts_with(&id));
    assert_eq!((list().len(), rotated.starts_with("ns_")), (1, true));
    assert_eq!(with(FIRST, &["revoke", "01a2236d-bd8f-7740-b06a-e8f5df111812"]).0, Some(1), "there is none");
    // One's own, which goes on for its grace.
    let next = by(FIRST, &["rotate"]);
    assert_eq!(list().len(), 2);
    by(&next, &["list"]);
    assert_eq!(with(FIRST, &["rotate", "--namespace", "default"]).0, Some(64));
}
