//! `https://`: the commands through a proxy that terminates TLS in front of the server, as in production.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use crate::certificates::{Authority, Valid};
use crate::server::*;

/// Forwards encrypted connections to `server`. Returns the port and the certificate of the authority.
async fn start(server: String) -> (u16, String) {
    let authority = Authority::new();
    let issued = authority.issue(Valid::Long);
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(vec![issued.certificate.clone()], issued.private_key())
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate closes the connection here.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(server).await.expect("the server listens");
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, authority.pem())
}

async fn run(arguments: &[&str], url: &str, authority: &Path) -> std::process::Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).env("EVENTODB_URL", url).env("EVENTODB_TOKEN", TOKEN).env("SSL_CERT_FILE", authority);
    command.output().await.expect("the binary starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_speak_tls_with_whom_they_trust() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&directory.path().join("data"), &[]).await;
    let (port, authority) = start(server.address.clone()).await;
    let (url, trusted) = (format!("https://localhost:{port}"), directory.path().join("ca.pem"));
    std::fs::write(&trusted, authority).expect("the folder is ours");
    let written = run(&["write", "a-1", "T", r#"{"n":1}"#], &url, &trusted).await;
    assert!(written.status.success(), "{written:?}");
    let read = run(&["read", "--category", "a", "--json"], &url, &trusted).await;
    assert!(String::from_utf8_lossy(&read.stdout).contains(r#""data":{"n":1}"#), "{read:?}");

    // A name that the certificate does not have, and an authority that has not signed it.
    let (_, stranger) = start(server.address.clone()).await;
    let untrusted = directory.path().join("stranger.pem");
    std::fs::write(&untrusted, stranger).expect("the folder is ours");
    let by_address = url.replace("localhost", "127.0.0.1");
    let write = ["write", "a-1", "T"];
    let (misnamed, mistrusted) = tokio::join!(run(&write, &by_address, &trusted), run(&write, &url, &untrusted));
    for output in [misnamed, mistrusted] {
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{told}");
        assert!(told.contains("certificate"), "{told}");
    }
    server.stop().await;
}
