//! Client certificates: with `--tls-client-ca` nobody speaks HTTP without one.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::*;
use crate::server::{BINARY, PATIENCE};

/// The server's error to a client that connects with this certificate and calls.
async fn refusal(secured: &Secured, own: Option<&Issued>) -> String {
    refusal_of(secured, secured.authority.client(&["http/1.1"], own)).await
}

/// The same for a client with this configuration, which keeps the sessions of earlier connections.
async fn refusal_of(secured: &Secured, config: Arc<ClientConfig>) -> String {
    // In TLS 1.3 a client is done before the server has looked at its certificate.
    let mut http = match connect(&secured.server.address, config).await {
        Ok(http) => http,
        Err(error) => return error.to_string(),
    };
    // An error means that the connection is closed already.
    let _ = http.send(eventodb_testing::http::call(Some(TOKEN), r#"["sys.version"]"#).as_bytes()).await;
    let mut answer = Vec::new();
    let error = http.connection.stream.read_to_end(&mut answer).await.expect_err("it is refused");
    assert!(answer.is_empty(), "not a byte of HTTP");
    error.to_string()
}

/// Whether the server answers a client with this configuration.
async fn calls(secured: &Secured, config: &Arc<ClientConfig>) -> bool {
    let Ok(mut http) = connect(&secured.server.address, Arc::clone(config)).await else { return false };
    http.call(&json!(["sys.version"])).await.is_ok_and(|(status, _)| status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_needs_a_certificate_of_the_clients_authority() {
    let (clients, strangers) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().expect("a temporary folder");
    let file = directory.path().join("clients.pem");
    std::fs::write(&file, clients.pem()).expect("the folder is ours");
    let secured = Secured::start(&["--tls-client-ca", file.to_str().expect("a temporary file's name")]).await;

    let own = clients.issue(Valid::Long);
    let config = secured.authority.client(&["http/1.1"], Some(&own));
    assert!(calls(&secured, &config).await, "the client is trusted");

    for (own, alert) in [
        (None, "CertificateRequired"),
        (Some(strangers.issue(Valid::Long)), "UnknownCA"),
        (Some(clients.issue(Valid::UntilYesterday)), "CertificateExpired"),
    ] {
        let refused = refusal(&secured, own.as_ref()).await;
        assert!(refused.contains(alert), "{refused}");
    }

    // The commands show one too.
    let folder = directory.path().join("own");
    std::fs::create_dir(&folder).expect("the folder is ours");
    let [certificate, key] = own.write(&folder);
    let trusted = directory.path().join("ca.pem");
    std::fs::write(&trusted, secured.authority.pem()).expect("the folder is ours");
    let (_, port) = secured.server.address.rsplit_once(':').expect("an address has a port");
    let mut command = Command::new(BINARY);
    command.args(["write", "a-1", "T", "--token", TOKEN, "--url", &format!("https://localhost:{port}")]);
    command.arg("--ca-file").arg(&trusted);
    let refused = command.output().await.expect("the binary starts");
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
    let written = command.output().await.expect("the binary starts");
    assert!(written.status.success(), "{written:?}");

    // The authority is replaced like the certificate, and an earlier session does not get past the new one.
    std::fs::write(&file, strangers.pem()).expect("the folder is ours");
    secured.server.signal(rustix::process::Signal::HUP);
    let deadline = Instant::now() + PATIENCE;
    let other = secured.authority.client(&["http/1.1"], Some(&strangers.issue(Valid::Long)));
    while !calls(&secured, &other).await {
        assert!(Instant::now() < deadline, "the old authority stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refusal_of(&secured, config).await.contains("UnknownCA"));
    secured.server.stop().await;
}

/// A session that is resumed shows no certificate: without another one it would never end.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_does_not_live_on_in_a_session() {
    let clients = Authority::new();
    let directory = tempfile::tempdir().expect("a temporary folder");
    let file = directory.path().join("clients.pem");
    std::fs::write(&file, clients.pem()).expect("the folder is ours");
    let secured = Secured::start(&["--tls-client-ca", file.to_str().expect("a temporary file's name")]).await;
    // On a busy machine it may have expired before it is used.
    let mut time = Duration::from_secs(1);
    let (own, config) = loop {
        time *= 2;
        let own = clients.issue(Valid::Briefly(time));
        let config = secured.authority.client(&["http/1.1"], Some(&own));
        if calls(&secured, &config).await && calls(&secured, &config).await {
            break (own, config);
        }
    };
    let deadline = Instant::now() + time + PATIENCE;
    while calls(&secured, &secured.authority.client(&["http/1.1"], Some(&own))).await {
        assert!(Instant::now() < deadline, "it never expires");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!calls(&secured, &config).await, "an earlier session is resumed");
    assert!(refusal_of(&secured, config).await.contains("CertificateExpired"));
    secured.server.stop().await;
}
