//! `eventodb context`: a file of its owner's, and what takes precedence over it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::{eventodb, started};

const TOKEN: &str = "ns_ZGVmYXVsdA_0123456789abcdef02468ace13579bdffdb97531eca86420f0e1d2c3b4a59687";

/// Runs a command whose contexts are below a folder: its exit code, what it printed, what it told.
fn ran(home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = eventodb(arguments);
    command.env("XDG_CONFIG_HOME", home).envs(variables.iter().copied());
    let Output { status, stdout, stderr } = command.output().expect("ran");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"))
}

fn server() -> (crate::support::Running, String) {
    let mut serve = eventodb(&["serve", "--port", "0", "--db-url", "sqlite://:memory:", "--token", TOKEN]);
    serve.stderr(Stdio::null());
    started(serve)
}

#[test]
fn a_context_names_a_server_and_its_token() {
    let home = tempfile::tempdir().expect("a folder");
    let ran = |arguments: &[&str], variables: &[(&str, &str)]| ran(home.path(), arguments, variables);
    let (_running, url) = server();
    assert_eq!(ran(&["context", "list", "--json"], &[]).1, "[]\n");
    let added = ran(&["context", "add", "prod", "--url", &url, "--token", TOKEN], &[]);
    assert_eq!((added.0, &*added.1), (Some(0), "the context prod is used\n"), "{}", added.2);
    let file = home.path().join("eventodb/contexts.json");
    assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(ran(&["ns", "list"], &[]).0, Some(0), "the first one is used at once");
    assert_eq!(ran(&["token", "list"], &[]).0, Some(0), "by all commands for servers");
    let store = [("EVENTODB_DATA_DIR", home.path().to_str().expect("its name"))];
    let (code, _, told) = ran(&["token", "list"], &store);
    assert!(code == Some(64) && told.contains("there is no store"), "a variable names a store: {told}");

    let token = home.path().join("token");
    std::fs::write(&token, TOKEN).expect("the folder is ours");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    let token = token.to_str().expect("its name");
    assert_eq!(ran(&["context", "add", "file", "--url", &url, "--token-file", token], &[]).0, Some(0));
    assert_eq!(ran(&["context", "add", "nobody", "--url", "http://127.0.0.1:1"], &[]).0, Some(0));
    let (_, listed, _) = ran(&["context", "list", "--json"], &[]);
    assert!(!listed.contains("ns_"), "a list has no token: {listed}");
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed.iter().map(|each| &each["name"]).collect::<Vec<_>>(), ["file", "nobody", "prod"]);
    assert_eq!(listed[2]["current"], json!(true));

    assert_eq!(ran(&["ns", "list", "--context", "file"], &[]).0, Some(0));
    assert_eq!(ran(&["ns", "list"], &[("EVENTODB_CONTEXT", "nobody")]).0, Some(69));
    assert_eq!(ran(&["context", "use", "nobody"], &[]).0, Some(0));
    assert_eq!(ran(&["ns", "list"], &[]).0, Some(69));
    assert_eq!(ran(&["context", "use", "prod"], &[]).0, Some(0));
    let (code, _, told) = ran(&["context", "use", "prodd"], &[]);
    assert_eq!(code, Some(64));
    assert!(told.contains("did you mean prod?"), "{told}");
    assert_eq!(ran(&["context", "add", "prod", "--url", &url], &[]).0, Some(1), "nothing is replaced without a word");
    assert_eq!(ran(&["context", "add", "prod", "--url", &url, "--force"], &[]).0, Some(0));
    assert_eq!(ran(&["ns", "list"], &[]).0, Some(64), "the token was replaced too");
    assert_eq!(ran(&["context", "remove", "prod"], &[]).1, "no context is used\n");
}

#[test]
fn a_flag_and_a_variable_take_precedence_and_get_no_token_of_a_context() {
    let home = tempfile::tempdir().expect("a folder");
    let ran = |arguments: &[&str], variables: &[(&str, &str)]| ran(home.path(), arguments, variables);
    let (_running, url) = server();
    assert_eq!(ran(&["context", "add", "prod", "--url", &url, "--token", TOKEN], &[]).0, Some(0));
    // The same server, named otherwise: the context's token is for the context's server only.
    assert_eq!(ran(&["ns", "list", "--url", &url], &[]).0, Some(64));
    assert_eq!(ran(&["ns", "list"], &[("EVENTODB_URL", &url)]).0, Some(64));
    assert_eq!(ran(&["ns", "list"], &[("EVENTODB_URL", &url), ("EVENTODB_TOKEN", TOKEN)]).0, Some(0));
    assert_eq!(ran(&["ns", "list", "--context", "prod"], &[("EVENTODB_URL", "http://127.0.0.1:1")]).0, Some(0));
    assert_eq!(ran(&["ns", "list", "--context", "prod", "--url", &url], &[]).0, Some(64));
    let wrong = TOKEN.replace("0123", "3210");
    assert_eq!(ran(&["ns", "list", "--token", &wrong], &[]).0, Some(77), "a token that is given takes precedence");
}

#[test]
fn a_url_with_a_secret_is_refused_and_not_shown() {
    let home = tempfile::tempdir().expect("a folder");
    let ran = |arguments: &[&str], variables: &[(&str, &str)]| ran(home.path(), arguments, variables);
    let query = format!("http://127.0.0.1:1/?token={TOKEN}");
    for url in [&*query, "https://me:hunter2@127.0.0.1:1", "http://127.0.0.1:1/#hunter2", TOKEN] {
        for (arguments, variables) in [
            (vec!["token", "list", "--url", url], vec![]),
            (vec!["ns", "list"], vec![("EVENTODB_URL", url)]),
            (vec!["status", "--url", url], vec![]),
            (vec!["context", "add", "prod", "--url", url], vec![]),
        ] {
            let (code, printed, told) = ran(&arguments, &variables);
            assert_eq!((code, &*printed), (Some(64), ""), "{told}");
            assert!(!told.contains("hunter2") && !told.contains(TOKEN), "{arguments:?}: {told}");
        }
    }
    let (_, _, told) = ran(&["token", "list", "--url", &query], &[]);
    assert!(told.contains(r#""http://127.0.0.1:1/…" is no URL of a server: it must have no user"#), "{told}");
    let (_, help, _) = ran(&["ns", "list", "--help"], &[("EVENTODB_URL", "https://me:hunter2@127.0.0.1:1")]);
    assert!(help.contains("EVENTODB_URL") && !help.contains("hunter2"), "{help}");
    assert_eq!(ran(&["context", "list", "--json"], &[]).1, "[]\n", "nothing was kept");

    let kept = json!({"contexts": {"old": {"url": "https://me:hunter2@db1:1/"}}});
    std::fs::create_dir_all(home.path().join("eventodb")).expect("the folder is ours");
    std::fs::write(home.path().join("eventodb/contexts.json"), kept.to_string()).expect("the folder is ours");
    for arguments in [&["context", "list"][..], &["context", "list", "--json"]] {
        let (_, listed, _) = ran(arguments, &[]);
        assert!(listed.contains("https://…@db1:1") && !listed.contains("hunter2"), "{listed}");
    }
}

#[test]
fn a_token_in_place_of_a_name_is_not_shown() {
    let home = tempfile::tempdir().expect("a folder");
    for arguments in [
        &["context", "use", TOKEN][..],
        &["context", "remove", TOKEN],
        &["context", "add", TOKEN, "--url", "http://127.0.0.1:1"],
        &["ns", "list", "--context", TOKEN],
    ] {
        let (code, _, told) = ran(home.path(), arguments, &[]);
        assert_eq!(code, Some(64), "{told}");
        assert!(!told.contains(TOKEN), "{arguments:?}: {told}");
    }
    assert!(ran(home.path(), &["context", "use", TOKEN], &[]).2.contains("there is no context \"(a token)\""));
}
