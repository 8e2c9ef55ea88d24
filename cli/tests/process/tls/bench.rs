//! The load generator measures a server that speaks TLS.

use std::path::Path;

use tokio::process::Command;

use super::*;
use crate::server::BINARY;

async fn bench(url: &str, authority: &Path) -> std::process::Output {
    let mut command = Command::new(BINARY);
    command.args(["bench", "sys-version", "write", "stream-get", "catch-up-sse", "--url", url, "--token", TOKEN]);
    command.args(["--count", "20", "--connections", "2", "--rounds", "1", "--preload", "100", "--warm-up", "0"]);
    command.arg("--ca-file").arg(authority).output().await.expect("the binary starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls_is_measured() {
    let secured = Secured::start(&[]).await;
    let path = |name: &str| secured.directory.path().join(name);
    let (trusted, stranger) = (path("ca.pem"), path("stranger.pem"));
    std::fs::write(&trusted, secured.authority.pem()).expect("the folder is ours");
    std::fs::write(&stranger, Authority::new().pem()).expect("the folder is ours");
    let (_, port) = secured.server.address.rsplit_once(':').expect("an address has a port");
    let url = format!("https://localhost:{port}");
    let measured = bench(&url, &trusted).await;
    let table = String::from_utf8_lossy(&measured.stdout);
    assert!(measured.status.success() && table.contains("write@2") && table.contains("catch-up-sse"), "{measured:?}");
    let refused = bench(&url, &stranger).await;
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("no TLS with the server"), "{told}");
    secured.server.stop().await;
}
