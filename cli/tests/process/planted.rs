//! A trigger in a store's file is not run. The file may come from a backup or from another machine, and anybody may
//! have changed it.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::json;

use super::server::*;

/// Puts a trigger that writes `SELECT what` into a log that is not in use.
fn plant(log: &Path, what: &str) {
    let connection = Connection::open(log).expect("the server has ended");
    for (setting, to) in [(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true), (DbConfig::SQLITE_DBCONFIG_DQS_DML, true)] {
        connection.set_db_config(setting, to).expect("SQLite knows it");
    }
    let trigger = format!(
        "CREATE TABLE told (what TEXT); \
         CREATE TRIGGER planted AFTER INSERT ON messages BEGIN INSERT INTO told SELECT {what}; END"
    );
    connection.execute_batch(&trigger).expect("good SQL");
}

/// Writes to a log with such a trigger: the write is refused, and the trigger has not run.
async fn is_refused(what: &str) {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let write = json!(["stream.write", "s-1", { "type": "T", "data": {} }]);
    let server = Server::start(directory.path(), &[]).await;
    call(&mut server.connect().await, &write).await;
    server.stop().await;
    let log = directory.path().join("1.log.db");
    plant(&log, what);
    let server = Server::start(directory.path(), &[]).await;
    let mut http = server.connect().await;
    let (status, answer) = http.call(&write).await.expect("the server answers");
    server.stop().await;
    let connection = Connection::open(log).expect("the server has ended");
    let told: i64 = connection.query_row("SELECT count(*) FROM told", [], |row| row.get(0)).expect("good SQL");
    assert_eq!(told, 0, "the trigger has run");
    assert_ne!(status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_in_a_log_may_not_use_what_a_trusted_schema_may() {
    is_refused("file FROM pragma_database_list").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_in_double_quotes_in_a_log_is_an_error() {
    is_refused(r#""text""#).await;
}
