//! `eventodb migrate --check`: what a migration would do, which it does not do.

use std::process::Stdio;

use eventodb_testing::postgres;
use serde_json::{Value, json};

use crate::support::{eventodb, started};

/// Ends with the documented code, and says the same on both backends.
fn is_refused_as_newer(arguments: &[&str]) {
    let output = eventodb(arguments).output().expect("ran");
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    let line = told.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(64), "{arguments:?}: {told}");
    assert!(line.contains("schema") && line.contains("needs a newer version of this program: "), "{line}");
    assert!(line.contains(eventodb_protocol::VERSION), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_version_has_one_exit_code_and_one_wording() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let [data, copy] = [&data, &copy].map(|path| path.to_str().expect("a temporary folder's name"));
    let mut serve = eventodb(&["serve", "--port", "0", "--data-dir", data]);
    serve.stderr(Stdio::null());
    drop(started(serve));
    let registry = rusqlite::Connection::open(format!("{data}/registry.db")).expect("it is there");
    registry.pragma_update(None, "user_version", 99).expect("it is ours");
    drop(registry);
    is_refused_as_newer(&["serve", "--port", "0", "--data-dir", data]);
    is_refused_as_newer(&["backup", "--data-dir", data, "--output", copy]);
    is_refused_as_newer(&["verify", data]);
    is_refused_as_newer(&["repair", "--data-dir", data]);
    is_refused_as_newer(&["token", "list", "--data-dir", data]);
    let url = postgres::database().await;
    printed(&["migrate", "--db-url", &url]);
    postgres::run(&url, "INSERT INTO eventodb.migrations VALUES (1000, '99.0.0', now())").await;
    is_refused_as_newer(&["serve", "--port", "0", "--db-url", &url]);
    is_refused_as_newer(&["migrate", "--db-url", &url]);
    is_refused_as_newer(&["token", "list", "--db-url", &url]);
}

fn printed(arguments: &[&str]) -> String {
    let output = eventodb(arguments).output().expect("ran");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_the_steps_and_the_time_and_changes_nothing() {
    let url = postgres::database().await;
    let check = ["migrate", "--check", "--db-url", &url];
    let json = || -> Value { serde_json::from_str(&printed(&[&check[..], &["--json"]].concat())).expect("JSON") };
    let new = json();
    assert_eq!((&new["toMigrate"], &new["schemas"][0]["done"]), (&json!(1), &Value::Null));
    assert!(printed(&check).contains("not made, "), "{}", printed(&check));
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'eventodb%'";
    let session = postgres::connect(&url).await;
    let count = session.query_one(schemas, &[]).await.expect("good SQL").get::<_, i64>(0);
    assert_eq!(count, 0, "nothing was made");

    assert_eq!(printed(&["migrate", "--json", "--db-url", &url]), "{\"upToDate\":true}\n");
    let mut serve = eventodb(&["serve", "--port", "0", "--test-mode", "--db-url", &url]);
    serve.stderr(Stdio::null());
    let (running, address) = started(serve);
    printed(&["write", "a-1", "T", "--url", &address]);
    drop(running);
    let current = json();
    assert_eq!((&current["toMigrate"], &current["statements"]), (&json!(0), &json!(0)));
    assert!(current["schemas"].as_array().is_some_and(|schemas| schemas.len() >= 2), "{current}");
    assert!(printed(&check).contains("nothing would be done"));

    // As an earlier version left it.
    postgres::run(&url, "DELETE FROM eventodb_1.migrations WHERE version > 8").await;
    let old = json();
    let log = old["schemas"].as_array().expect("a list").iter().find(|state| state["schema"] == "eventodb_1");
    let log = log.expect("it is listed");
    assert_eq!((&old["toMigrate"], &log["done"], &log["oldestVersion"]), (&json!(1), &json!(8), &json!("0.1.0")));
    assert!(old["statements"].as_u64() > Some(5) && old["estimateMs"].is_u64(), "{old}");
    let told = printed(&check);
    for words in ["8 of ", "1 schemas would be migrated", "about ", "no", "reads messages", "THEN"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    postgres::run(&url, "INSERT INTO eventodb_1.migrations VALUES (1000, '99.0.0', now())").await;
    assert!(printed(&check).contains("needs version 99.0.0 or newer"));
}
