//! TLS: what the server speaks over it, how its certificate is replaced, and whom it refuses.

mod bench;
mod clients;
mod memory;
mod proxies;
mod refusals;
mod renewal;
mod rolling;
mod speech;
mod warning;

use std::io::Result;
use std::path::Path;
use std::sync::Arc;

use eventodb_testing::http::Connection;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::{Authority, Issued, Valid};
use super::http::Http;
use super::server::{Server, TOKEN};

/// A server with a certificate, and who trusts it.
struct Secured {
    server: Server,
    authority: Authority,
    directory: tempfile::TempDir,
}

impl Secured {
    async fn start(flags: &[&str]) -> Self {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
        let files = authority.issue(Valid::Long).write(directory.path());
        let server = serve(directory.path(), &files, flags).await;
        Self { server, authority, directory }
    }

    /// A client that speaks HTTP/1.1.
    async fn connect(&self) -> Http<TlsStream<TcpStream>> {
        connect(&self.server.address, self.authority.client(&["http/1.1"], None)).await.expect("the server is trusted")
    }
}

/// Starts a server with these files of a certificate and its key.
async fn serve(directory: &Path, [certificate, key]: &[std::path::PathBuf; 2], flags: &[&str]) -> Server {
    let name = |file: &Path| file.to_str().expect("a temporary file's name").to_owned();
    let (certificate, key) = (name(certificate), name(key));
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    Server::start(&directory.join("data"), &[&tls, flags].concat()).await
}

async fn open(address: &str, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(address).await?;
    // Without it a frame that follows another waits for 40 ms.
    stream.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, stream).await
}

async fn connect(address: &str, config: Arc<ClientConfig>) -> Result<Http<TlsStream<TcpStream>>> {
    Ok(Http::over(Connection::over(open(address, config).await?), TOKEN))
}

/// Imports this number of messages into the stream `i-1`, each of more than 100 bytes.
async fn import(http: &mut Http<TlsStream<TcpStream>>, messages: usize) {
    let record = |number: usize| {
        let record = json!({
            "id": uuid::Uuid::now_v7(), "stream": "i-1", "type": "T", "pos": number, "gpos": 1000 + number,
            "data": { "x": "x".repeat(100) }, "meta": null, "time": "2026-01-02T03:04:05.678Z",
        });
        format!("{record}\n")
    };
    let records: String = (0..messages).map(record).collect();
    let length = format!("Content-Length: {}\r\n", records.len());
    let head = eventodb_testing::http::head("POST", "/import", Some(TOKEN), &length);
    http.send(&[head.as_bytes(), records.as_bytes()].concat()).await.expect("the server reads");
    let reply = http.connection.reply().await.expect("the server answers").text();
    assert!(reply.contains(&format!(r#""done":true,"imported":{messages}"#)), "{reply}");
}
