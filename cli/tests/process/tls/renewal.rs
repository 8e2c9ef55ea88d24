//! The certificate is replaced while the server runs, and only by one that can be used.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::process::Command;

use super::*;
use crate::server::{BINARY, PATIENCE};

impl Secured {
    /// The certificate that a new client is shown.
    async fn shown(&self) -> CertificateDer<'static> {
        let stream = open(&self.server.address, self.authority.client(&[], None)).await.expect("the server is trusted");
        stream.get_ref().1.peer_certificates().expect("the server has one")[0].clone().into_owned()
    }

    /// Waits until new clients are shown this certificate.
    async fn shows(&self, issued: &Issued) {
        let deadline = Instant::now() + PATIENCE;
        while self.shown().await != issued.certificate {
            assert!(Instant::now() < deadline, "the old certificate stays");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_after_sighup() {
    let secured = Secured::start(&[]).await;
    let mut old = secured.connect().await;
    let new = secured.authority.issue(Valid::Long);
    assert_ne!(secured.shown().await, new.certificate);
    new.write(secured.directory.path());
    secured.server.signal(Signal::HUP);
    secured.shows(&new).await;
    let answer = old.call(&json!(["sys.version"])).await;
    assert_eq!(answer.expect("a connection keeps what it began with").0, 200);
    secured.server.stop().await;
}

/// Kubernetes mounts the files as links into a directory, which is itself a link that is exchanged.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_noticed_behind_exchanged_links() {
    use std::os::unix::fs::symlink;
    let (authority, directory) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
    let at = |name: &str| directory.path().join(name);
    let publish = |version: &str| {
        std::fs::create_dir(at(version)).expect("the folder is ours");
        let issued = authority.issue(Valid::Long);
        issued.write(&at(version));
        symlink(version, at("..data_tmp")).expect("the folder is ours");
        std::fs::rename(at("..data_tmp"), at("..data")).expect("the folder is ours");
        issued
    };
    publish("..1");
    let files = ["tls.crt", "tls.key"].map(|name| {
        symlink(PathBuf::from("..data").join(name), at(name)).expect("the folder is ours");
        at(name)
    });
    let server = serve(directory.path(), &files, &[]).await;
    let new = publish("..2");
    let secured = Secured { server, authority, directory };
    secured.shows(&new).await;
    secured.server.stop().await;
}

/// Clients connect and call without a pause while the certificate changes. Nobody is refused.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_without_a_failed_request() {
    let secured = Secured::start(&[]).await;
    let (config, is_over) = (secured.authority.client(&["http/1.1"], None), Arc::new(AtomicBool::new(false)));
    let calls = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (address, config) = (secured.server.address.clone(), Arc::clone(&config));
            let (calls, is_over) = (Arc::clone(&calls), Arc::clone(&is_over));
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let mut http = connect(&address, Arc::clone(&config)).await.expect("the server is trusted");
                    let write = json!(["stream.write", "a-1", { "type": "T", "data": {} }]);
                    assert_eq!(http.call(&write).await.expect("the server answers").0, 200);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..5 {
        let new = secured.authority.issue(Valid::Long);
        new.write(secured.directory.path());
        secured.server.signal(Signal::HUP);
        secured.shows(&new).await;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no request failed");
    }
    assert!(calls.load(Ordering::Relaxed) > 0);
    secured.server.stop().await;
}

/// A server whose log goes into a file.
async fn logged(directory: &Path, [certificate, key]: &[PathBuf; 2]) -> Server {
    let log = std::fs::File::create(directory.join("log")).expect("the folder is ours");
    let mut command = Command::new(BINARY);
    command.args(["serve", "--port", "0", "--log-level", "warn", "--token", TOKEN]);
    command.arg("--data-dir").arg(directory.join("data"));
    command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key).stderr(log);
    Server::launch(command).await
}

/// Waits until the log has this text, this number of times.
async fn tells(directory: &Path, text: &str, times: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = std::fs::read_to_string(directory.join("log")).expect("the server has made it");
        if log.matches(text).count() >= times {
            return;
        }
        assert!(Instant::now() < deadline, "no {text:?} in {log}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_leave_the_old_certificate() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
    let old = authority.issue(Valid::Long);
    let files = old.write(directory.path());
    let server = logged(directory.path(), &files).await;
    let secured = Secured { server, authority, directory };
    let path = secured.directory.path();
    let [certificate, key] = &files;

    let faults: [(&str, &dyn Fn()); 5] = [
        ("cannot be used with the key", &|| {
            let stranger = secured.authority.issue(Valid::Long);
            std::fs::write(key, stranger.key.serialize_pem()).expect("the folder is ours");
        }),
        ("must hold certificates in PEM", &|| std::fs::write(certificate, "garbage").expect("the folder is ours")),
        ("must hold a private key in PEM", &|| std::fs::write(key, "garbage").expect("the folder is ours")),
        ("is expired", &|| _ = secured.authority.issue(Valid::UntilYesterday).write(path)),
        ("cannot read", &|| std::fs::remove_file(key).expect("the folder is ours")),
    ];
    for (told, spoil) in faults {
        old.write(path);
        spoil();
        secured.server.signal(Signal::HUP);
        tells(path, told, 1).await;
        assert_eq!(secured.shown().await, old.certificate, "{told}");
    }
    tells(path, "the new files of TLS cannot be used", faults.len()).await;
    let log = std::fs::read_to_string(path.join("log")).expect("the server has made it");
    assert!(!log.contains("PRIVATE KEY"), "{log}");

    let new = secured.authority.issue(Valid::Long);
    new.write(path);
    secured.shows(&new).await;
    secured.server.stop().await;
}

/// A server that does not start helps nobody: a client may still be told to accept what it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_with_an_expired_certificate_and_tells_so() {
    for (valid, told) in [(Valid::UntilYesterday, "is expired"), (Valid::ThreeDays, "expires soon")] {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
        let server = logged(directory.path(), &authority.issue(valid).write(directory.path())).await;
        tells(directory.path(), told, 1).await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_start_on_files_that_cannot_be_used() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
    let [certificate, key] = authority.issue(Valid::Long).write(directory.path());
    let stranger = directory.path().join("stranger.key");
    std::fs::write(&stranger, authority.issue(Valid::Long).key.serialize_pem()).expect("the folder is ours");
    let missing = directory.path().join("missing");
    for (certificate, key, flag, told) in [
        (&certificate, Some(&stranger), "--tls-cert", "cannot be used with the key"),
        (&missing, Some(&key), "--tls-cert", "cannot read"),
        (&key, Some(&key), "--tls-cert", "must hold certificates in PEM"),
        (&certificate, Some(&certificate), "--tls-key", "must hold a private key in PEM"),
        (&certificate, None, "--tls-key", "is missing"),
    ] {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--port", "0", "--data-dir"]).arg(directory.path().join("data"));
        command
            .arg("--tls-cert")
            .arg(certificate)
            .args(key.map(|key| ["--tls-key".as_ref(), key.as_os_str()]).iter().flatten());
        let output = command.stdin(Stdio::null()).output().await.expect("the binary starts");
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!((output.status.code(), error.lines().count()), (Some(64), 1), "{error}");
        assert!(error.contains(flag) && error.contains(told), "{error}");
    }
    let mut command = Command::new(BINARY);
    command.args(["serve", "--port", "0", "--data-dir"]).arg(directory.path().join("data"));
    command.arg("--tls-cert").arg(&certificate).arg("--tls-key").arg(&key).arg("--tls-client-ca").arg(&key);
    let output = command.stdin(Stdio::null()).output().await.expect("the binary starts");
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(
        output.status.code() == Some(64)
            && error.contains("--tls-client-ca: ")
            && error.contains("must hold certificates"),
        "{error}"
    );
}

/// A metric without labels.
async fn metric(secured: &Secured, name: &str) -> f64 {
    let mut http = secured.connect().await;
    let head = eventodb_testing::http::head("GET", "/metrics", Some(TOKEN), "");
    http.send(head.as_bytes()).await.expect("the server reads");
    let text = http.connection.reply().await.expect("the server answers").text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not in {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_certificate_in_use_and_the_room_on_the_disk_are_metrics() {
    const DAY: f64 = 86_400.0;
    let (authority, directory) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
    let files = authority.issue(Valid::ThreeDays).write(directory.path());
    let server = serve(directory.path(), &files, &[]).await;
    let secured = Secured { server, authority, directory };
    let days = async || {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later").as_secs_f64();
        (metric(&secured, "eventodb_tls_certificate_end_timestamp_seconds").await - now) / DAY
    };
    let left = days().await;
    assert!((2.9..=3.0).contains(&left), "{left}");
    let new = secured.authority.issue(Valid::Long);
    new.write(secured.directory.path());
    secured.server.signal(Signal::HUP);
    secured.shows(&new).await;
    let left = days().await;
    assert!(left > 99.0, "{left}");
    let free = metric(&secured, "eventodb_disk_free_bytes").await;
    let disk = rustix::fs::statvfs(secured.directory.path()).expect("it is there");
    assert!(free > 0.0 && free <= (disk.f_blocks * disk.f_frsize) as f64, "{free}");
    secured.server.stop().await;
}
