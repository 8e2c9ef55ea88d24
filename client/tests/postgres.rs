//! The read model in PostgreSQL, on the server that `EVENTODB_TEST_PG_URL` names.

use async_trait::async_trait;
use deadpool_postgres::{Hook, HookError, Manager, Pool, PoolError};
use eventodb_client::checkpoint::{CheckpointError, PostgresHandler, PostgresReadModel, PostgresUrl};
use eventodb_client::worker::{Consumer as _, Failure, HandlerError};
use eventodb_client::{Client, Message, StreamQuery};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::NoTls;
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

/// The server of the tests.
fn url() -> String {
    std::env::var("EVENTODB_TEST_PG_URL").expect("EVENTODB_TEST_PG_URL must name a PostgreSQL server")
}

/// A service's pool of at most one session.
fn pool_of_one() -> Pool {
    let manager = Manager::new(url().parse().expect("a configuration"), NoTls);
    Pool::builder(manager).max_size(1).build().expect("a pool without time limits")
}

/// A new table, which is also the consumer's name, and a session to look into it.
async fn table() -> (String, tokio_postgres::Client) {
    let (connection, driver) = tokio_postgres::connect(&url(), NoTls).await.expect("connected");
    tokio::spawn(driver);
    let name = format!("seen_{}", Uuid::now_v7().simple());
    connection.batch_execute(&format!("CREATE TABLE {name} (position bigint)")).await.expect("created");
    (name, connection)
}

/// `model` makes a worker's read model with this name and handler.
async fn effects_and_position_are_saved_together(model: impl Fn(String, Noting) -> PostgresReadModel<Noting>) {
    let (name, connection) = table().await;
    let model = || model(name.clone(), Noting { table: name.clone() });
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

#[tokio::test]
async fn effects_and_position_are_saved_together_and_a_second_worker_is_told() {
    let at: PostgresUrl = url().parse().expect("a PostgreSQL URL");
    effects_and_position_are_saved_together(|name, noting| PostgresReadModel::new(at.clone(), name, noting)).await;
}

#[tokio::test]
async fn effects_and_position_are_saved_together_over_a_pool() {
    let pool = pool_of_one();
    effects_and_position_are_saved_together(|name, noting| PostgresReadModel::with_pool(pool.clone(), name, noting))
        .await;
}

#[tokio::test]
async fn a_worker_leaves_its_pool_to_others() {
    let (name, _) = table().await;
    let (pool, messages, stop) = (pool_of_one(), messages().await, CancellationToken::new());
    let session = async || {
        let pooled = pool.get().await.expect("a session");
        let row = pooled.query_one("SELECT pg_backend_pid(), txid_current_if_assigned() IS NULL", &[]);
        let row = row.await.expect("an answer");
        assert!(row.get::<_, bool>(1), "a transaction of the worker is open");
        row.get::<_, i32>(0)
    };
    let before = session().await;
    let mut model = PostgresReadModel::with_pool(pool.clone(), name.clone(), Noting { table: name });
    model.load().await.expect("loaded");
    assert_eq!(model.handle(&messages[..1], &stop).await.count, 1);
    let beside = session().await;
    assert_ne!(beside, before, "the worker has the first session");
    drop(model);
    assert_eq!(session().await, beside, "the worker's session came back");
}

#[tokio::test]
async fn workers_may_make_the_checkpoints_table_at_once() {
    for _ in 0..4 {
        let (name, connection) = table().await;
        connection.batch_execute(&format!("CREATE SCHEMA {name}")).await.expect("created");
        let manager = Manager::new(url().parse().expect("a configuration"), NoTls);
        let search = format!("SET search_path TO {name}");
        let of_schema = Hook::async_fn(move |client, _| {
            let search = search.clone();
            Box::pin(async move { client.batch_execute(&search).await.map_err(HookError::Backend) })
        });
        let pool = Pool::builder(manager).post_create(of_schema).build().expect("a pool without time limits");
        let starts: Vec<_> = (0..8)
            .map(|number| {
                let noting = Noting { table: name.clone() };
                let mut model = PostgresReadModel::with_pool(pool.clone(), format!("consumer {number}"), noting);
                tokio::spawn(async move { model.load().await })
            })
            .collect();
        for start in starts {
            assert_eq!(start.await.expect("no panic").expect("loaded"), None);
        }
    }
}

#[tokio::test]
async fn a_pool_that_gives_no_session_fails_the_load_with_its_reason() {
    let pool = pool_of_one();
    pool.close();
    let mut model = PostgresReadModel::with_pool(pool, "nobody", Noting { table: "none".to_owned() });
    let Err(CheckpointError::Failed { what, source }) = model.load().await else { panic!("the pool is closed") };
    assert_eq!(what, "cannot get a session from the pool");
    assert!(source.is::<PoolError>(), "{source:?}");
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
