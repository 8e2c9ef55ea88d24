//! TLS, with certificates made for the test.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::fixture::settings;
use crate::postgres::{OpenError, Postgres, Url, UrlError};
use crate::storage::Backend as _;
use eventodb_testing::postgres::{self, Server};

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("there is randomness"))
        .expect("good parameters")
}

/// A server that has a certificate for `localhost` from this authority.
async fn server(authority: &CertifiedIssuer<'static, KeyPair>) -> Server {
    let server = Server::start(&[]);
    let key = KeyPair::generate().expect("there is randomness");
    let parameters = CertificateParams::new(vec!["localhost".to_owned()]).expect("a good name");
    let certificate = parameters.signed_by(&key, authority).expect("good parameters");
    let data = server.folder().join("data");
    for (name, text) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
        let path = data.join(name);
        std::fs::write(&path, text).expect("the folder is ours");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    }
    // The files go to the account that PostgreSQL runs as.
    drop(postgres::unprivileged(Command::new("true"), &data));
    let session = postgres::connect(&server.url("postgres")).await;
    session.batch_execute("ALTER SYSTEM SET ssl = on").await.expect("a superuser may");
    server.stop("fast");
    server.start_again();
    server
}

#[tokio::test]
async fn certificates_are_checked_as_far_as_the_mode_says() {
    let (trusted, other) = (authority(), authority());
    let server = server(&trusted).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (root, wrong) = (folder.path().join("root.pem"), folder.path().join("wrong.pem"));
    std::fs::write(&root, trusted.pem()).expect("it is ours");
    std::fs::write(&wrong, other.pem()).expect("it is ours");
    let (root, wrong) = (root.to_string_lossy().into_owned(), wrong.to_string_lossy().into_owned());
    let url = |host: &str, mode: &str, root: &str| {
        let url = server.url("postgres").replace("127.0.0.1", host);
        let root = if root.is_empty() { String::new() } else { format!("&sslrootcert={root}") };
        format!("{url}?sslmode={mode}{root}")
    };
    for (host, mode, root, encrypted) in [
        ("127.0.0.1", "disable", "", false),
        ("127.0.0.1", "prefer", "", true),
        ("127.0.0.1", "require", "", true),
        ("127.0.0.1", "require&channel_binding=require", "", true),
        ("127.0.0.1", "verify-ca", &*root, true),
        ("localhost", "verify-full", &*root, true),
    ] {
        let backend = Postgres::open(settings(&url(host, mode, root))).await.unwrap_or_else(|e| panic!("{mode}: {e}"));
        let mut connection = backend.shared.readers.get().await.expect("it is free");
        let mut found = None;
        let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        connection.for_each_of_texts(&[ssl.to_owned()], |row| found = Some(row.get(0))).await.expect("it answers");
        drop(connection);
        assert_eq!(found, Some(encrypted), "{mode}");
        backend.close().await;
        // As the client's read model connects.
        let at: Url = url(host, mode, root).parse().expect("a good URL");
        let (client, driver) = at.connect().await.unwrap_or_else(|e| panic!("{mode}: {e}"));
        tokio::spawn(driver);
        assert_eq!(client.query_one(ssl, &[]).await.expect("it answers").get::<_, bool>(0), encrypted, "{mode}");
    }
    for (host, mode, root) in [
        ("127.0.0.1", "verify-full", &*root),
        ("localhost", "verify-full", &*wrong),
        ("localhost", "verify-ca", &*wrong),
        ("localhost", "require", &*wrong),
    ] {
        let error = Postgres::open(settings(&url(host, mode, root))).await.expect_err(mode);
        assert!(matches!(error, OpenError::Tls { .. }), "{mode}: {error:?}");
        let at: Url = url(host, mode, root).parse().expect("a good URL");
        assert!(at.connect().await.is_err(), "{mode}");
    }
    let missing = url("localhost", "verify-full", "/none/such.pem").parse::<Url>();
    assert!(matches!(missing, Err(UrlError::Certificates(..))));
}
