//! Files that commands write and read: names that end with `.gz`, nothing that is overwritten without a word, JSON for programs.

use std::io::Read as _;

use serde_json::json;

use crate::support::{Server, eventodb};

#[test]
fn a_name_that_ends_with_gz_means_gzip_and_no_file_is_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (plain, packed) = (path("all.ndjson"), path("all.ndjson.gz"));
    let server = Server::start();
    server.prints(&["write", "account-1", "Opened"]);
    let exported = server.json(&["export", "-o", &packed, "--json"]);
    assert_eq!(exported, json!({ "exported": 1, "head": 1 }));
    assert!(std::fs::read(&packed).expect("there").starts_with(&[0x1f, 0x8b]), "it is gzip");
    server.prints(&["export", "-o", &plain]);
    assert!(std::fs::read(&plain).expect("there").starts_with(b"{"));

    server.prints(&["write", "account-1", "Closed"]);
    let before = std::fs::read(&plain).expect("there");
    let refused = server.run(&["export", "-o", &plain], "");
    assert_eq!(refused.status.code(), Some(73));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--force"));
    assert_eq!(std::fs::read(&plain).expect("there"), before);
    server.prints(&["export", "-o", &plain, "--force"]);
    assert!(std::fs::read(&plain).expect("there").len() > before.len());
    server.prints(&["export", "-o", "/dev/null"]);

    let target = Server::start();
    assert_eq!(target.json(&["import", "-i", &packed, "--json"]), json!({ "imported": 1, "skipped": 0 }));
    assert_eq!(target.json(&["read", "account-1", "--json"])["type"], "Opened");
}

/// Lines of the export format, all in one stream.
fn records(count: usize, data: &str) -> String {
    let record = |at| {
        let id = uuid::Uuid::new_v4();
        let place = format!(r#""pos":{at},"gpos":{},"time":"2026-01-01T00:00:00Z""#, at + 1);
        format!("{{\"id\":\"{id}\",\"stream\":\"a-1\",\"type\":\"T\",\"data\":{data},\"meta\":null,{place}}}\n")
    };
    (0..count).map(record).collect()
}

#[test]
fn an_export_is_not_resumed_in_another_history() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (file, older) = (path("all.ndjson"), path("older.ndjson"));
    let server = Server::start();
    assert!(server.run(&["import"], &records(20, "{}")).status.success());
    server.prints(&["export", "-o", &file]);
    server.prints(&["export", "-o", &file, "--resume"]);
    let exported = std::fs::read_to_string(&file).expect("there");
    let head: String = exported.split_inclusive('\n').take(10).collect();
    std::fs::write(&older, head).expect("written");
    let refused = || {
        let ended = server.run(&["export", "-o", &file, "--resume"], "");
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{told}");
        assert!(told.contains("global position 20") && told.contains("restored or replaced"), "{told}");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), exported, "the output is as it was");
    };

    server.prints(&["import", "--force", "--yes", "-i", &older]);
    refused();
    let lines = "{\"stream\":\"a-1\",\"type\":\"T\",\"data\":{}}\n".repeat(20);
    assert!(server.run(&["append"], &lines).status.success());
    refused();
    server.prints(&["export", "-o", &older, "--resume"]);
    assert_eq!(std::fs::read_to_string(&older).expect("there").lines().count(), 30, "this one is of its history");
}

#[test]
fn an_export_of_messages_that_are_replaced_meanwhile_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new.ndjson");
    let server = Server::start();
    let data = |which: &str| format!(r#"{{"which":"{which}","padding":"{}"}}"#, "x".repeat(2000));
    assert!(server.run(&["import"], &records(6000, &data("old"))).status.success());
    std::fs::write(&path, records(6000, &data("new"))).expect("written");
    let mut export = eventodb(&["export"]);
    export.env("EVENTODB_URL", &server.url).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut export = export.spawn().expect("started");
    // It has begun, and waits for its reader.
    let mut output = export.stdout.take().expect("its output");
    output.read_exact(&mut [0; 1000]).expect("some of it");
    server.prints(&["import", "--force", "--yes", "-i", path.to_str().expect("UTF-8")]);
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the rest of it");
    let ended = export.wait_with_output().expect("ended");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("restored or replaced"), "{told}");
    assert!(!rest.contains(r#""which":"new""#), "nothing of the new messages is among the old ones");
}

#[test]
fn a_read_that_finds_nothing_tells_of_a_name_that_is_near() {
    let server = Server::start();
    for stream in ["account-1", "account-2", "order-1"] {
        server.prints(&["write", stream, "T"]);
    }
    let told = |arguments: &[&str]| {
        let output = server.run(arguments, "");
        assert!(output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    assert!(told(&["read", "acount-1"]).contains("there is no stream \"acount-1\"; did you mean \"account-1\"?"));
    assert!(told(&["read", "--category", "orders"]).contains("did you mean \"order\"?"));
    for nothing in [&["read", "zebra-1"][..], &["read", "--category", "zebra"], &["read", "account-1", "--from", "9"]] {
        assert_eq!(told(nothing), "", "{nothing:?}");
    }
}

#[test]
fn what_commands_tell_is_json_for_programs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let data = path("data");
    let mut serve = eventodb(&["serve", "--port", "0", "--data-dir", &data]);
    serve.stderr(std::process::Stdio::null());
    drop(crate::support::started(serve));
    let json = |arguments: &[&str]| -> serde_json::Value {
        let output = eventodb(arguments).output().expect("ran");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    assert_eq!(json(&["version", "--json"])["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json(&["config", "check", "--json"]), json!({ "errors": [], "warnings": [] }));
    assert_eq!(json(&["verify", &data, "--json"])["isBackup"], json!(false));
    assert_eq!(json(&["backup", "--data-dir", &data, "-o", &path("copy"), "--json"])["format"], json!(1));
    assert_eq!(json(&["repair", "--data-dir", &data, "--json"])[0]["isUsable"], json!(true));
    let script = json(&["completions", "bash", "--json"]);
    assert_eq!(script["shell"], "bash");
    assert!(script["script"].as_str().is_some_and(|script| script.contains("_eventodb")));
    assert!(json(&["man", "--json"])["page"].as_str().is_some_and(|page| page.starts_with(".ie")));
    let written = json(&["man", "--out", &path("man1"), "--json"]);
    let files = std::fs::read_dir(path("man1")).expect("there").count();
    assert_eq!(written["written"].as_array().map(Vec::len), Some(files));
    assert!(written["written"].as_array().is_some_and(|files| files.contains(&json!(path("man1/eventodb-serve.1")))));
}

#[test]
fn a_repair_tells_what_it_would_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("UTF-8");
    let mut serve =
        eventodb(&["serve", "--port", "0", "--data-dir", data, "--test-mode", "--db-url", "sqlite://store"]);
    serve.stderr(std::process::Stdio::null());
    let (running, url) = crate::support::started(serve);
    assert!(eventodb(&["write", "a-1", "T", "--url", &url]).output().expect("ran").status.success());
    drop(running);
    let store = folder.path().join("store");
    let index = store.join("1.index.db");
    for beside in ["1.index.db-wal", "1.index.db-shm"] {
        let _ = std::fs::remove_file(store.join(beside));
    }
    std::fs::write(&index, [b'x'; 4096]).expect("the folder is ours");
    let repair = |more: &[&str]| {
        let output = eventodb(&[&["repair", "--data-dir", store.to_str().expect("UTF-8")], more].concat())
            .output()
            .expect("ran");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let told = repair(&["--dry-run"]);
    for words in ["1.index.db", "to be repaired", "would be done: built anew", "nothing was changed"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(std::fs::read(&index).expect("there"), [b'x'; 4096], "nothing is changed");
    assert!(repair(&[]).contains("    done: built anew from the log"));
    assert_eq!(repair(&["--dry-run"]).matches("sound").count(), 3);
}

/// What a command prints on a terminal.
fn on_terminal(arguments: &str, variables: &[(&str, &str)]) -> String {
    let mut script = std::process::Command::new("script");
    let line = format!("exec {} {arguments}", env!("CARGO_BIN_EXE_eventodb"));
    script.args(["-qec", &line, "/dev/null"]).env_remove("NO_COLOR").envs(variables.iter().copied());
    String::from_utf8(script.output().expect("util-linux is installed").stdout).expect("UTF-8")
}

#[test]
fn there_is_colour_on_a_terminal_alone_and_none_if_that_is_wished() {
    let server = Server::start();
    server.prints(&["write", "a-1", "T"]);
    let read = format!("read a-1 --url {}", server.url);
    assert!(on_terminal(&read, &[]).contains("\x1b[1mT\x1b[0m"));
    assert!(!on_terminal(&read, &[("NO_COLOR", "1")]).contains('\x1b'));
    assert!(!server.prints(&["read", "a-1"]).contains('\x1b'));
    let doctor = "doctor --test-mode --host 0.0.0.0";
    assert!(on_terminal(doctor, &[]).contains("\x1b[31mERROR\x1b[0m SETTING_WRONG"));
    assert!(on_terminal(doctor, &[("NO_COLOR", "1")]).contains("ERROR SETTING_WRONG"));
}
