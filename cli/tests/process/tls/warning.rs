//! The warning about clear text on an address that other machines reach. The server listens there in a network of its own,
//! which nobody else reaches.

use std::process::Stdio;

use eventodb_store::testing::tell;
use tokio::process::Command;

use super::*;
use crate::server::BINARY;

/// Whether a server on this host logs the warning.
async fn warns(host: &str, has_tls: bool) -> bool {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let log = directory.path().join("log");
    let mut command = Command::new("unshare");
    command.args(["--net", BINARY, "serve", "--host", host, "--port", "0", "--log-level", "warn"]);
    command.args(["--token", TOKEN, "--data-dir"]).arg(directory.path().join("data"));
    if has_tls {
        let [certificate, key] = Authority::new().issue(Valid::Long).write(directory.path());
        command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
    }
    command.stderr(std::fs::File::create(&log).expect("the folder is ours"));
    Server::launch(command).await.stop().await;
    let log = std::fs::read_to_string(log).expect("the server has written it");
    log.contains("cross the network in clear text")
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_text_beyond_this_machine_is_warned_about() {
    let mut command = Command::new("unshare");
    let can = command.args(["--net", "true"]).stderr(Stdio::null()).status().await;
    if !can.is_ok_and(|status| status.success()) {
        tell("NOT TESTED: a network of its own cannot be made here; run this test as root");
        return;
    }
    for host in ["0.0.0.0", "::"] {
        assert!(warns(host, false).await, "{host}");
        assert!(!warns(host, true).await, "{host} with TLS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_text_on_this_machine_is_not_warned_about() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let log = directory.path().join("log");
    let mut command = Command::new(BINARY);
    command.args(["serve", "--port", "0", "--token", TOKEN, "--data-dir"]).arg(directory.path().join("data"));
    command.stderr(std::fs::File::create(&log).expect("the folder is ours"));
    Server::launch(command).await.stop().await;
    let log = std::fs::read_to_string(log).expect("the server has written it");
    assert!(log.contains("ready") && !log.contains("clear text"), "{log}");
}
