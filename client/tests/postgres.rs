//! The read model in PostgreSQL, on the server that `EVENTODB_TEST_PG_URL` names.

use async_trait::async_trait;
use eventodb_client::checkpoint::{CheckpointError, PostgresHandler, PostgresReadModel, PostgresUrl};
use eventodb_client::worker::{Consumer as _, Failure, HandlerError};
use eventodb_client::{Client, Message, StreamQuery};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Records positions in a table of its own, and fails at position 2.
struct Noting {
    table: String,
}

#[async_trait]
impl PostgresHandler for Noting {
    async fn handle(&mut self, connection: &tokio_postgres::Client, message: &Message) -> Result<(), HandlerError> {
        let insert = format!("INSERT INTO {} VALUES ($1)", self.table);
        connection.execute(&insert, &[&message.position()]).await?;
        if message.position() == 2 { Err("not this one".into()) } else { Ok(()) }
    }
}

/// Four messages, as a server would send them.
async fn messages() -> Vec<Message> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let _ = stream.read(&mut [0; 4096]).await.expect("a request");
        let rows: Vec<_> = (0..4)
            .map(|n| {
                json!([Uuid::from_u128(n).to_string(), "T", n as i64, n as i64 + 1, {}, null, "2026-01-01T00:00:00Z"])
            })
            .collect();
        let body = json!(rows).to_string();
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(reply.as_bytes()).await.expect("sent");
    });
    let page = Client::new(&url, None).expect("a URL").get("a-1", &StreamQuery::new()).await.expect("a page");
    server.await.expect("served");
    page.messages
}

#[tokio::test]
async fn effects_and_position_are_saved_together_and_a_second_worker_is_told() {
    let url = std::env::var("EVENTODB_TEST_PG_URL").expect("EVENTODB_TEST_PG_URL must name a PostgreSQL server");
    let at: PostgresUrl = url.parse().expect("a PostgreSQL URL");
    let (connection, driver) = at.connect().await.expect("connected");
    tokio::spawn(driver);
    let name = format!("seen_{}", Uuid::now_v7().simple());
    connection.batch_execute(&format!("CREATE TABLE {name} (position bigint)")).await.expect("created");
    let model = || PostgresReadModel::new(at.clone(), name.clone(), Noting { table: name.clone() });
    let (messages, stop) = (messages().await, CancellationToken::new());

    let mut first = model();
    assert_eq!(first.load().await.expect("loaded"), None);
    assert!(matches!(model().load().await, Err(CheckpointError::Taken(_))));
    let handled = first.handle(&messages, &stop).await;
    assert_eq!(handled.count, 2);
    assert!(matches!(handled.failure, Some(Failure::Message(_))));
    first.save(2).await.expect("saved");
    assert_eq!(first.handle(&messages[3..], &stop).await.count, 1);
    drop(first);

    let rows = connection.query(&format!("SELECT position FROM {name} ORDER BY 1"), &[]).await.expect("rows");
    assert_eq!(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [0, 1]);
    let mut second = model();
    assert_eq!(second.load().await.expect("the lock comes free"), Some(2));
}

/// The first bytes that a server gets which offers TLS, and the bytes after its answer.
async fn greeting(mode: &str) -> [u8; 9] {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let place = listener.local_addr().expect("bound");
    let url: PostgresUrl = format!("postgres://u:p@{place}/d?sslmode={mode}").parse().expect("a PostgreSQL URL");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut greeting = [0; 9];
        stream.read_exact(&mut greeting[..8]).await.expect("a request for TLS, or the start of a session");
        stream.write_all(b"S").await.expect("sent");
        stream.read_exact(&mut greeting[8..]).await.expect("more");
        greeting
    });
    let mut model = PostgresReadModel::new(url, "x", Noting { table: "none".to_owned() });
    let failed = model.load().await;
    assert!(matches!(failed, Err(CheckpointError::Failed { .. })), "{failed:?}");
    server.await.expect("asked")
}

#[tokio::test]
async fn a_read_model_asks_for_tls_as_its_url_says() {
    // The request for TLS, and the record of a handshake.
    const ENCRYPTED: [u8; 9] = [0, 0, 0, 8, 4, 210, 22, 47, 22];
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let mode = if mode.starts_with("verify") { format!("{mode}&sslrootcert=system") } else { mode.to_owned() };
        assert_eq!(greeting(&mode).await, ENCRYPTED, "{mode}");
    }
    assert_ne!(greeting("disable").await[..8], ENCRYPTED[..8]);
}
