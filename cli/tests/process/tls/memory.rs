//! The memory of TLS: what a connection takes, and that handshakes which are never finished stay within the budget.

use std::net::Ipv4Addr;

use eventodb_store::testing::tell;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use super::*;
use crate::memory::{may_open, resident};

const MIB: u64 = 1024 * 1024;
/// An address that the honest client alone comes from.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

/// What a client says first. The handshake goes on with the server's reply, which takes it the most memory.
fn greeting(secured: &Secured) -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let config = secured.authority.client(&["http/1.1"], None);
    let mut client = rustls::ClientConnection::new(config, name).expect("a good configuration");
    let mut greeting = Vec::new();
    client.write_tls(&mut greeting).expect("a buffer takes it");
    greeting
}

async fn connect_from(source: Ipv4Addr, secured: &Secured) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(secured.server.address.parse().expect("an address")).await
}

/// Writes from an address of its own, over a new connection.
async fn write(secured: &Secured, position: i64) {
    let answered = tokio::time::timeout(crate::server::PATIENCE, async {
        let stream = connect_from(ELSEWHERE, secured).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(secured.authority.client(&["http/1.1"], None)).connect(name, stream).await?;
        let message = json!({ "type": "T", "data": {} });
        let call = json!(["stream.write", "a-1", message, { "expectedVersion": position - 1 }]);
        Http::over(Connection::over(stream), TOKEN).call(&call).await
    });
    let (status, reply) = answered.await.expect("an answer comes").expect("the server serves");
    assert_eq!(status, 200, "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_unfinished_handshakes_stay_within_the_budget() {
    const CONNECTIONS: usize = 5_000;
    const BUDGET: u64 = 256 * MIB;
    if !may_open(CONNECTIONS as u64 + 200) {
        tell("NOT TESTED: more open files than this system allows a process");
        return;
    }
    let secured = Secured::start(&["--memory-budget", &BUDGET.to_string()]).await;
    for position in 0..20 {
        write(&secured, position).await;
    }
    let (greeting, before) = (greeting(&secured), resident(secured.server.pid));
    let (mut open, mut most) = (Vec::new(), before);
    for number in 0..CONNECTIONS {
        // A connection for which there is no place is closed.
        if let Ok(mut stream) = connect_from(Ipv4Addr::LOCALHOST, &secured).await {
            let _ = stream.write_all(&greeting).await;
            open.push(stream);
        }
        if number % 500 == 499 {
            write(&secured, 20 + number as i64 / 500).await;
            most = most.max(resident(secured.server.pid));
        }
    }
    tell(&format!("{} unfinished handshakes: {} MiB before, {} MiB at most", open.len(), before / MIB, most / MIB));
    assert!(open.len() > CONNECTIONS / 2, "{} connected", open.len());
    assert!(most <= before + BUDGET / 10 * 11, "{} MiB", most / MIB);
    drop(open);
    secured.server.stop().await;
}

/// What the server counts for a connection with TLS: 32 KiB and 64 KiB more.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_takes_less_than_it_is_counted_with() {
    const CONNECTIONS: u64 = 400;
    const COUNTED: u64 = 96 * 1024;
    let secured = Secured::start(&[]).await;
    for position in 0..20 {
        write(&secured, position).await;
    }
    let before = resident(secured.server.pid);
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut http = secured.connect().await;
        assert_eq!(http.call(&json!(["sys.version"])).await.expect("the server answers").0, 200);
        open.push(http);
    }
    let each = resident(secured.server.pid).saturating_sub(before) / CONNECTIONS;
    tell(&format!("a connection with TLS takes {} KiB", each / 1024));
    assert!(each <= COUNTED, "{each} bytes");
    drop(open);
    secured.server.stop().await;
}
