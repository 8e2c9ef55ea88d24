//! Transactions of others that are left open, and a namespace that is stuck: they hold up nobody else.

use std::time::Instant;

use eventodb_protocol::Token;
use tokio_postgres::Client;

use super::pair::Pair;
use crate::conformance::support::{PATIENCE, all, namespace, write};
use crate::postgres::Settings;
use crate::testing::tell;
use eventodb_testing::postgres;

/// A session that has begun a transaction, done this in it, and then nothing more.
async fn idle(url: &str, statements: &str) -> Client {
    let session = postgres::connect(url).await;
    session.batch_execute(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {statements}")).await.expect("good SQL");
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_left_open_stall_nobody() {
    // Counts are folded and batches pruned all the time.
    let pair = Pair::with(crate::Settings::default(), |backend: &mut Settings| backend.fold_messages = 10).await;
    let [first, second] = pair.logs().await;
    write(&first, "a-1", "T").await;
    let schema = format!("eventodb_{}", first.namespace().incarnation.0);
    let elsewhere = postgres::create_database(&pair.url, "ENCODING 'UTF8'").await;
    let writes = "CREATE TABLE others (n int); INSERT INTO others VALUES (1)";
    let open = [
        idle(&pair.url, &format!("SELECT count(*) FROM {schema}.messages; SELECT count(*) FROM {schema}.batches"))
            .await,
        idle(&pair.url, writes).await,
        idle(&elsewhere, writes).await,
        // One that has only a number, as a long one of somebody else's program.
        idle(&pair.url, "SELECT pg_current_xact_id()").await,
    ];
    let started = Instant::now();
    for at in 0..200 {
        write(if at % 2 == 0 { &first } else { &second }, &format!("a-{}", at % 7), "T").await;
    }
    assert_eq!(all(&second).await.len(), 201);
    assert_eq!(all(&first).await.len(), 201, "what is committed is seen at once");
    assert_eq!(first.counts().await.expect("it answers").messages, 201);
    tell(&format!("200 writes in turns beside four open transactions: {:?}", started.elapsed()));
    for session in open {
        session.batch_execute("ROLLBACK").await.expect("it was open all the time");
    }
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_waits_for_no_other() {
    let pair = Pair::new().await;
    let [stuck, _] = pair.logs().await;
    let [server, _] = &pair.servers;
    server.create(namespace("other", &Token::generate("other"))).await.expect("the name is free");
    let other = server.log("other").await.expect("it was just created");
    // Nobody can append to the first one.
    let locking = format!("LOCK TABLE eventodb_{}.batches", stuck.namespace().incarnation.0);
    let lock = idle(&pair.url, &locking).await;
    let writing = {
        let stuck = stuck.clone();
        tokio::spawn(async move { write(&stuck, "a-1", "T").await })
    };
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let session = postgres::connect(&pair.url).await;
    while session.query_one(waits, &[]).await.expect("good SQL").get::<_, i64>(0) == 0 {}
    let started = Instant::now();
    for _ in 0..100 {
        write(&other, "b-1", "T").await;
    }
    assert_eq!(all(&other).await.len(), 100);
    tell(&format!("100 writes beside a namespace that is stuck: {:?}", started.elapsed()));
    assert!(!writing.is_finished(), "it was stuck all the time");
    lock.batch_execute("ROLLBACK").await.expect("it is open");
    tokio::time::timeout(PATIENCE, writing).await.expect("it goes on").expect("a writer does not panic");
    pair.close().await;
}
