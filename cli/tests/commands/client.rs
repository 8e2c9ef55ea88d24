//! The client's commands against the real server, each as a person would type it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::hostile::{answering, reply};
use crate::support::{Server, eventodb};

#[test]
fn messages_are_written_and_read() {
    let server = Server::start();
    let written = server.json(&["write", "account-1", "Deposited", r#"{"amount":1.10}"#, "--json"]);
    assert_eq!((&written["position"], &written["globalPosition"]), (&Value::from(0), &Value::from(1)));
    server.prints(&["write", "account-1", "Closed", "--expected-version", "0", "--metadata", r#"{"by":"me"}"#]);
    let refused = server.run(&["write", "account-1", "Closed", "--expected-version", "noStream"], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stream is at version 1"));
    let lines = server.prints(&["read", "--category", "account", "--json"]);
    assert_eq!(lines.lines().count(), 2);
    assert!(lines.contains(r#""data":{"amount":1.10}"#), "{lines}");
    assert!(server.prints(&["read", "account-1", "--backward", "-n", "1"]).contains("Closed"));
    let id = written["id"].as_str().expect("an id");
    assert!(server.prints(&["read", "--id", id]).contains("Deposited"));
    let missing = server.run(&["read", "--id", "00000000-0000-0000-0000-000000000000"], "");
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("there is no message with the id"));
    assert_eq!(server.prints(&["read", "--since", "2026-01-01"]).lines().count(), 2);
    assert_eq!(server.prints(&["read", "account-1", "--since", "9999-01-01T00:00:00Z"]), "");
    assert!(server.prints(&["ns", "categories"]).contains("account"));
}

#[test]
fn a_namespace_is_changed_and_what_is_left_out_stays() {
    let server = Server::start();
    server.prints(&["ns", "create", "shop", "--description", "the shop"]);
    let shown = server.prints(&["ns", "update", "shop", "--protected", "true", "--quota-messages", "5"]);
    for line in ["description:   the shop", "protected:     yes", "most messages: 5", "most bytes:    none"] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert_eq!(server.run(&["ns", "delete", "shop", "--yes"], "").status.code(), Some(1), "it is protected");
    let quota =
        |arguments: &[&str]| server.json(&[&["ns", "update", "shop", "--json"], arguments].concat())["quota"].clone();
    let both = serde_json::json!({ "messages": 5, "bytes": 1_000_000 });
    assert_eq!(quota(&["--quota-bytes", "1000000"]), both, "the other bound stays");
    assert_eq!(quota(&["--description", "", "--protected", "false"]), both);
    assert_eq!(quota(&["--quota-messages", "none"]), serde_json::json!({ "messages": null, "bytes": 1_000_000 }));
    server.prints(&["write", "a-1", "T"]);
    assert!(server.prints(&["ns", "update", "--description", "mine"]).contains("namespace:     default"));
    for (arguments, told) in [
        (&["ns", "update", "shop"][..], "--protected"),
        (
            &["ns", "update", "shop", "--quota-bytes", "much"],
            "expected a whole number from 0 on, such as 1000000, or none",
        ),
    ] {
        let output = server.run(arguments, "");
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), line.lines().count()), (Some(64), 1), "{line}");
        assert!(line.contains(told), "{line}");
    }
    server.prints(&["ns", "delete", "shop", "--yes"]);
}

#[test]
fn a_token_may_stand_before_and_behind_a_subcommand() {
    let server = Server::start();
    let created = server.json(&["ns", "create", "mine", "--json"]);
    let token = created["token"].as_str().expect("a token");
    server.prints(&["write", "a-1", "T", "--token", token]);
    for arguments in
        [["ns", "--token", token, "info", "mine", "--json"], ["ns", "info", "mine", "--json", "--token", token]]
    {
        assert_eq!(server.json(&arguments)["messageCount"], 1);
    }
}

#[test]
fn a_token_may_stand_in_a_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    let created = server.json(&["ns", "create", "mine", "--json"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{}\nof the shop\n", created["token"].as_str().expect("a token"))).expect("written");
    let file = file.to_str().expect("UTF-8");
    let other = format!("ns_b3RoZXI_{}", "0".repeat(64));
    for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true)] {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).expect("the file is ours");
        let output = eventodb(&["write", "a-1", "T", "--token-file", file])
            .envs([("EVENTODB_URL", server.url.as_str()), ("EVENTODB_TOKEN", other.as_str())])
            .output()
            .expect("ran");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert_eq!(told.contains("every user of this machine may read"), warned, "{mode:o}: {told}");
    }
    let mine = server.json(&["ns", "info", "mine", "--json", "--token-file", file]);
    assert_eq!(mine["messageCount"], 3, "the file wins over the variable");
    let missing = server.run(&["read", "a-1", "--token-file", "/no/such/file"], "");
    assert_eq!(missing.status.code(), Some(64));
    let told = String::from_utf8_lossy(&missing.stderr);
    assert!(told.contains("--token-file: cannot read \"/no/such/file\""), "{told}");
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_token() {
    let token = format!("ns_ZGVmYXVsdA_{}", "5".repeat(64));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, format!("\u{feff}{token}\r\n")).expect("written");
    let url = answering(move |head, stream| match head.contains(&format!("authorization: Bearer {token}\r\n")) {
        true => reply(stream, 200, "[]"),
        false => reply(stream, 401, "{}"),
    });
    let output = eventodb(&["ns", "list", "--url", &url, "--token-file"]).arg(&file).output().expect("ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Answers every call with this refusal, and probes well. It goes on until the tests end.
fn refusing(status: u16, code: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_until(b'\n', &mut head).is_ok_and(|read| read > 0) {}
            let (status, body) = match head.starts_with(b"POST") {
                true => (status, format!(r#"{{"error":{{"code":"{code}","message":"the reason"}}}}"#)),
                false => (200, "{}".to_owned()),
            };
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} X\r\nretry-after: 60\r\nconnection: close\r\ncontent-length: {length}");
            // A command that was killed takes no answer.
            let _ = write!(stream.get_mut(), "{head}\r\n\r\n{body}");
        }
    });
    url
}

#[test]
fn refusals_have_exit_codes_of_their_own() {
    for (status, code, exit, words) in [
        (401, "AUTH_REQUIRED", 64, "no token: the reason"),
        (403, "AUTH_UNAUTHORIZED", 77, "not allowed: the reason"),
        (429, "RATE_LIMITED", 75, "rate limited: the reason"),
    ] {
        let url = refusing(status, code);
        for arguments in [&["read", "a-1"][..], &["write", "a-1", "T"], &["ns", "list"]] {
            let output = eventodb(arguments).env("EVENTODB_URL", &url).output().expect("ran");
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {told}");
            assert!(told.contains(words), "{arguments:?}: {told}");
        }
    }
}

#[test]
fn wrong_usage_is_64() {
    for arguments in [
        &["read", "a-1", "--category", "b"][..],
        &["read", "a-1", "--since", "yesterday"],
        &["read", "a-1", "--since", "2026-01-01", "--from", "3"],
        &["read", "a-1", "--id", "00000000-0000-0000-0000-000000000000"],
        &["tail", "--since", "2026-01-01", "--lines", "3"],
        &["read", "a-1", "--member", "3", "--size", "4"],
        &["read", "--category", "a", "--member", "4", "--size", "4"],
        &["read", "a-1", "--url", "localhost:8080"],
        &["read", "a-1", "--token", "a\nb"],
        &["write"],
        &["write", "a-1", "T", "[1]"],
        &["write", "a-1", "T", "{}", "--metadata", "x"],
        &["ns", "delete", "x"],
        &["consume", "--name", "x"],
        &["export", "--since", "x"],
        &["serve", "--writer-threads", "1025"],
        &["serve", "--readers", "1025"],
        &["export", "--categories", "a,"],
        &["read", "--category", "a,,b"],
        &["read", "--category", ""],
        &["read", "--category", "a, b"],
        &["tail", "--type", ""],
        &["consume", "--name", "", "--", "cat"],
    ] {
        let output = eventodb(arguments).output().expect("ran");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), told.lines().count()), (Some(64), 1), "{arguments:?}: {told}");
    }
}

/// A wrong variable of `serve` stops the server from starting. Other commands ignore it.
#[test]
fn variables_of_the_server_do_not_disturb_other_commands() {
    let server = Server::start();
    for (name, value) in [("EVENTODB_PORT", "x"), ("EVENTODB_TEST_MODE", "maybe"), ("EVENTODB_LOG_LEVEL", "loud")] {
        for arguments in [&["version"][..], &["help"], &["completions", "bash"], &["man"], &["ns", "list"]] {
            let output = eventodb(arguments).env(name, value).env("EVENTODB_URL", &server.url).output().expect("ran");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && told.is_empty(), "{name}={value} {arguments:?}: {told}");
        }
        for arguments in [&["serve"][..], &[]] {
            let output = eventodb(arguments).env(name, value).output().expect("ran");
            assert_eq!(output.status.code(), Some(64), "{name}={value} {arguments:?}");
        }
    }
}

#[test]
fn lines_are_appended_and_bad_ones_named() {
    let server = Server::start();
    let lines: String = (0..2500)
        .map(|n| format!("{{\"stream\":\"s-{}\",\"type\":\"T\",\"data\":{{\"n\":{n}}}}}\n", n % 150))
        .collect();
    let output = server.run(&["append", "--json"], &lines);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), r#"{"failed":0,"written":2500}"#);
    let output = server.run(&["append"], "{\"stream\":\"s-1\",\"type\":\"T\",\"data\":[]}\n\nnonsense\n");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("line 1:") && told.contains("line 3:"), "{told}");
    assert_eq!(server.json(&["ns", "info", "--json"])["messageCount"], 2500);
}

#[test]
fn a_line_with_an_unknown_member_is_not_appended() {
    let server = Server::start();
    for (member, value) in [("metadat", "{}"), ("Metadata", "{}"), ("expectedVersion", "9"), ("Id", "\"x\"")] {
        let line = format!("{{\"stream\":\"s-1\",\"type\":\"T\",\"data\":{{}},\"{member}\":{value}}}\n");
        let output = server.run(&["append"], &line);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{member}: {told}");
        assert!(told.contains("line 1:") && told.contains(&format!("`{member}`")), "{told}");
    }
    server.prints(&["write", "s-1", "T", "{}", "--metadata", r#"{"by":"me"}"#]);
    for lines in [server.prints(&["export"]), server.prints(&["read", "--json"])] {
        let other = Server::start();
        let output = other.run(&["append"], &lines);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(other.json(&["read", "--json"])["metadata"], serde_json::json!({ "by": "me" }));
    }
}

#[test]
fn what_is_exported_can_be_imported() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (plain, gzip, again) = (path("plain"), path("gzip"), path("again"));
    let (source, target) = (Server::start(), Server::start());
    let lines: String =
        (0..3000).map(|n| format!("{{\"stream\":\"s-1\",\"type\":\"T\",\"data\":{{\"n\":{n}.0}}}}\n")).collect();
    assert!(source.run(&["append"], &lines).status.success());
    source.prints(&["export", "--output", &plain]);
    source.prints(&["export", "--output", &gzip, "--gzip"]);
    target.prints(&["import", "--input", &gzip]);
    target.prints(&["import", "--input", &plain, "--resume"]);
    assert_eq!(target.run(&["import", "--input", &plain], "").status.code(), Some(1));
    // Cut within a line, as an interruption leaves it.
    let whole = std::fs::read(&plain).expect("exported");
    std::fs::write(&again, &whole[..whole.len() / 2]).expect("written");
    target.prints(&["export", "--output", &again, "--resume"]);
    assert!(std::fs::read(&again).expect("exported") == whole);
}

#[test]
fn a_command_is_run_for_each_message_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let seen = folder.path().join("seen");
    let server = Server::start();
    for kind in ["A", "B"] {
        server.prints(&["write", "c-1", kind]);
    }
    let script = format!("cat >> {}", seen.display());
    let consume = ["consume", "--name", "x", "--category", "c", "--until-caught-up", "--", "sh", "-c", &script];
    server.prints(&consume);
    assert_eq!(count(&seen), 2);
    server.prints(&["write", "c-1", "C"]);
    server.prints(&consume);
    assert_eq!(count(&seen), 3);
    assert!(server.prints(&["read", "c:position-x", "--json"]).contains(r#""position":"#));
}

fn count(path: &Path) -> usize {
    std::fs::read_to_string(path).expect("written").lines().count()
}

#[test]
fn completions_and_the_manual_name_the_commands() {
    let prints = |arguments: &[&str]| {
        let output = eventodb(arguments).output().expect("ran");
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    for shell in ["bash", "zsh", "fish"] {
        let completions = prints(&["completions", shell]);
        for word in ["serve", "consume", "export", "checkpoint-every", "categories"] {
            assert!(completions.contains(word), "{shell}: {word}");
        }
    }
    let manual = prints(&["man"]);
    for section in ["EVENTODB SERVE", "EVENTODB CONSUME", "EVENTODB NS CREATE", "EVENTODB TOKEN ROTATE", "EXIT CODES"] {
        assert!(manual.contains(&format!(".SH \"{section}\"\n")), "{section}");
    }
    for text in [manual, prints(&["--help"])] {
        assert!(text.contains("0 done, 1 refused or failed, 64 wrong usage"));
    }
}

#[test]
fn each_command_has_a_page_of_the_manual() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("man1");
    let write = || eventodb(&["man", "--out"]).arg(&out).output().expect("ran");
    assert!(write().status.success() && write().status.success(), "pages of an earlier run are replaced");
    let page = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_else(|_| panic!("{name}"));
    for (name, words) in [
        ("eventodb.1", "eventodb\\-serve(1)"),
        ("eventodb-serve.1", "\\-\\-data\\-dir"),
        ("eventodb-token-create.1", ".SH EXAMPLES\n.nf\neventodb token create"),
        ("eventodb-status.1", ".SH NOTES\nExit codes of this command"),
    ] {
        let page = page(name);
        assert!(page.contains(words) && page.contains(".SH \"EXIT CODES\""), "{name}: {page}");
    }
    assert!(!page("eventodb.1").contains("data\\-dir"), "the flags of `serve` are on its page");
    assert!(!out.join("eventodb-consume-guard.1").exists() && !out.join("eventodb-help.1").exists());
}

/// The lines of a running command, as it prints them.
fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().expect("its output")).lines().map(|line| line.expect("UTF-8"))
}

#[test]
fn tail_follows_what_is_written() {
    let server = Server::start();
    for kind in ["A", "B", "C"] {
        server.prints(&["write", "t-1", kind]);
    }
    let tail = |arguments: &[&str]| {
        let arguments = [&["tail"], arguments].concat();
        let mut command = eventodb(&arguments);
        command.env("EVENTODB_URL", &server.url).stdout(Stdio::piped()).spawn().expect("started")
    };
    let mut by_category = tail(&["--category", "t", "-n", "2", "--json"]);
    let mut by_stream = tail(&["t-1"]);
    let mut by_type = tail(&["--type", "D", "--from", "1"]);
    let (mut category, mut stream, mut kind) = (lines(&mut by_category), lines(&mut by_stream), lines(&mut by_type));
    let types = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["type"].as_str().map(str::to_owned);
    assert_eq!(category.next().and_then(|line| types(&line)).as_deref(), Some("B"));
    assert_eq!(category.next().and_then(|line| types(&line)).as_deref(), Some("C"));
    server.prints(&["write", "other-1", "D"]);
    assert!(kind.next().expect("a line").contains("other-1@0 D"));
    server.prints(&["write", "t-1", "D", r#"{"n":1}"#]);
    assert_eq!(category.next().and_then(|line| types(&line)).as_deref(), Some("D"));
    assert!(kind.next().expect("a line").ends_with(r#" t-1@3 D {"n":1}"#));
    server.prints(&["write", "t-1", "E"]);
    assert!(stream.any(|line| line.contains("t-1@4 E")));
    for tail in [&mut by_category, &mut by_stream, &mut by_type] {
        interrupt(tail);
        assert!(tail.wait().expect("ended").success(), "Ctrl-C is how one ends it");
    }
}

fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
}

/// A command says that the server cannot be reached, and does not wait in silence.
#[test]
fn tail_tells_of_a_server_that_is_not_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let tail = |arguments: &[&str]| {
        let mut command = eventodb(&["tail"]);
        command.args(arguments).args(["--url", &url]).stderr(Stdio::piped()).spawn().expect("started")
    };
    for tail in [tail(&[]), tail(&["--from", "1"])] {
        let output = tail.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(69));
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot connect"));
    }
}
