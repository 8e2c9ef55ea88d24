//! Clients that do not speak TLS as they should cost nobody else anything.

use std::process::Stdio;
use std::time::{Duration, Instant};

use eventodb_testing::ports;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::*;
use crate::server::PATIENCE;

/// Sends bytes on a new connection and reads until it ends.
async fn answer_to(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(bytes).await.expect("the server reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it ends without a reset");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_text_is_told_that_the_port_speaks_tls() {
    let secured = Secured::start(&[]).await;
    let request = eventodb_testing::http::call(Some(TOKEN), r#"["sys.version"]"#);
    let answer = tokio::spawn({
        let address = secured.server.address.clone();
        async move { answer_to(&address, request.as_bytes()).await }
    });
    let answer = String::from_utf8(answer.await.expect("no panic")).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    assert!(body.contains("This port speaks TLS"), "{body}");
    secured.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_answered_with_an_alert() {
    let secured = Secured::start(&[]).await;
    for garbage in [&[0; 64][..], b"\x16\x03\x01\x00\x05hello", b"\x80\x2e\x01\x03\x01"] {
        let mut stream = TcpStream::connect(&secured.server.address).await.expect("the server listens");
        stream.write_all(garbage).await.expect("the server reads");
        stream.shutdown().await.expect("the connection is there");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it ends without a reset");
        // An alert is a record of type 21. Where the record is not whole there is none.
        assert!(answer.first().is_none_or(|kind| *kind == 21), "{garbage:?}: {answer:?}");
    }
    secured.server.stop().await;
}

/// Half a greeting, a whole one and then nothing, or not a byte: each is cut after the time for a head, and the honest do
/// not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_stands_still_is_cut() {
    let secured = Secured::start(&["--head-timeout-ms", "1000", "--max-connections", "310"]).await;
    let mut greeting = Vec::new();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client =
        rustls::ClientConnection::new(secured.authority.client(&["h2"], None), name).expect("a good configuration");
    client.write_tls(&mut greeting).expect("a buffer takes it");
    let start = Instant::now();
    let mut stalled = Vec::new();
    for bytes in [&greeting[..greeting.len() / 2], &greeting, b""] {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(&secured.server.address).await.expect("the server listens");
            stream.write_all(bytes).await.expect("the server reads");
            stalled.push(stream);
        }
    }
    let mut http = secured.connect().await;
    assert_eq!(http.call(&json!(["sys.version"])).await.expect("the server answers").0, 200);
    for mut stream in stalled {
        // The end may be a reset: bytes of the greeting may be unread.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it is cut");
    }
    assert!(start.elapsed().as_millis() >= 1000);
    assert_eq!(http.call(&json!(["sys.version"])).await.expect("the server answers").0, 200);
    secured.server.stop().await;
}

/// TLS takes more than the client has room for. The server sees all the same that nothing is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_cut() {
    let secured = Secured::start(&["--stall-timeout-ms", "1000"]).await;
    let mut writer = secured.connect().await;
    let write = json!(["stream.write", "a-1", { "type": "T", "data": { "x": "x".repeat(900_000) } }]);
    for _ in 0..16 {
        assert_eq!(writer.call(&write).await.expect("the server answers").0, 200);
    }
    let mut lazy = secured.connect().await;
    let read = eventodb_testing::http::call(Some(TOKEN), r#"["stream.get","a-1"]"#);
    lazy.send(read.as_bytes()).await.expect("the server reads");
    let deadline = Instant::now() + PATIENCE;
    while writer.call(&json!(["sys.health"])).await.expect("the server answers").1["connections"] != 1 {
        assert!(Instant::now() < deadline, "it is never cut");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(lazy.connection.reply().await.is_err(), "what is there has no end");
    secured.server.stop().await;
}

/// Whether `openssl s_client` completes a handshake with these options.
async fn shakes(port: &str, options: &[&str]) -> bool {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-brief"]).args(options);
    let output = command.stdin(Stdio::null()).output().await.expect("openssl starts");
    output.status.success()
}

/// Versions before 1.2 that a server speaks, by openssl with all that it can do.
async fn old_versions(port: &str) -> Vec<&'static str> {
    let mut spoken = Vec::new();
    for version in ["-tls1", "-tls1_1"] {
        if shakes(port, &[version, "-cipher", "DEFAULT@SECLEVEL=0"]).await {
            spoken.push(version);
        }
    }
    spoken
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_weak_ciphers_and_renegotiation_are_refused() {
    let secured = Secured::start(&[]).await;
    let (_, port) = secured.server.address.rsplit_once(':').expect("an address has a port");
    assert_eq!(old_versions(port).await, [""; 0]);
    assert!(shakes(port, &["-tls1_2"]).await && shakes(port, &["-tls1_3"]).await);
    for cipher in ["aNULL", "eNULL", "RC4", "3DES", "kRSA", "CBC", "SHA1", "SHA256:!AESGCM:!CHACHA20"] {
        let weak = format!("{cipher}@SECLEVEL=0");
        assert!(!shakes(port, &["-tls1_2", "-cipher", &weak]).await, "{cipher}");
    }

    // `R` has openssl ask for a renegotiation, which ends the connection before the next line is sent.
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &secured.server.address, "-tls1_2"]);
    let mut client =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    client.stdin.as_mut().expect("it is piped").write_all(b"R\n").await.expect("openssl reads");
    let output = tokio::time::timeout(PATIENCE, client.wait_with_output()).await.expect("it ends").expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("no renegotiation") || !output.status.success(), "{told}");
    secured.server.stop().await;
}

/// The check above finds what it looks for.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_for_old_versions_finds_one() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let [certificate, key] = Authority::new().issue(Valid::Long).write(directory.path());
    let port = ports::free().expect("a free port").to_string();
    let mut command = Command::new("openssl");
    command.args([
        "s_server",
        "-tls1_1",
        "-quiet",
        "-cipher",
        "DEFAULT@SECLEVEL=0",
        "-accept",
        &format!("127.0.0.1:{port}"),
    ]);
    command.arg("-cert").arg(certificate).arg("-key").arg(key).kill_on_drop(true);
    let _server = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let deadline = Instant::now() + PATIENCE;
    while old_versions(&port).await != ["-tls1_1"] {
        assert!(Instant::now() < deadline, "it is not found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
