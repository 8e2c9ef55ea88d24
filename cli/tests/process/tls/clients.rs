//! Client certificates: with `--tls-client-ca` nobody speaks HTTP without one.

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::*;
use crate::server::BINARY;

/// The server's error to a client that connects with this certificate and calls.
async fn refusal(secured: &Secured, own: Option<&Issued>) -> String {
    let config = secured.authority.client(&["http/1.1"], own);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_client_needs_a_certificate_of_the_clients_authority() {
    let (clients, strangers) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().expect("a temporary folder");
    let file = directory.path().join("clients.pem");
    std::fs::write(&file, clients.pem()).expect("the folder is ours");
    let secured = Secured::start(&["--tls-client-ca", file.to_str().expect("a temporary file's name")]).await;

    let own = clients.issue(Valid::Long);
    let config = secured.authority.client(&["http/1.1"], Some(&own));
    let mut http = connect(&secured.server.address, config).await.expect("the client is trusted");
    assert_eq!(http.call(&json!(["sys.version"])).await.expect("the server answers").0, 200);

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
    let deadline = std::time::Instant::now() + crate::server::PATIENCE;
    let other = strangers.issue(Valid::Long);
    loop {
        let config = secured.authority.client(&["http/1.1"], Some(&other));
        if let Ok(mut http) = connect(&secured.server.address, config).await
            && http.call(&json!(["sys.version"])).await.is_ok()
        {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the old authority stays");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(refusal(&secured, Some(&own)).await.contains("UnknownCA"));
    secured.server.stop().await;
}
