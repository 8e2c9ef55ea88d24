//! Transactions of others that are left open, and a namespace that is stuck: they hold up nobody else.

use std::sync::Arc;
use std::time::Instant;

use eventodb_protocol::Token;
use futures_util::future::join_all;
use tokio_postgres::Client;

use super::pair::Pair;
use crate::conformance::support::{PATIENCE, all, namespace, write};
use crate::log::Log;
use crate::postgres::Settings;
use crate::testing::tell;
use eventodb_testing::postgres;

/// A session that has begun a transaction, done this in it, and then nothing more.
async fn idle(url: &str, statements: &str) -> Client {
    let session = postgres::connect(url).await;
    session.batch_execute(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {statements}")).await.expect("good SQL");
    session
}

/// Returns once this many statements wait for locks.
async fn until_wait(url: &str, wanted: i64) {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let session = postgres::connect(url).await;
    let waiting = async { while session.query_one(waits, &[]).await.expect("good SQL").get::<_, i64>(0) < wanted {} };
    tokio::time::timeout(PATIENCE, waiting).await.expect("they wait for the locks");
}

/// Connections for appends in the tests of what uses them up.
const FOR_APPENDS: usize = 2;

/// Two servers with so few connections for appends.
async fn with_few_for_appends() -> Pair {
    Pair::with(crate::Settings::default(), |backend: &mut Settings| backend.sequencer_connections = FOR_APPENDS).await
}

/// The log of another namespace, as the first server has it.
async fn another(pair: &Pair, name: &str) -> Arc<Log> {
    pair.servers[0].create(namespace(name, &Token::generate(name))).await.expect("the name is free");
    pair.servers[0].log(name).await.expect("it was just created")
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
    until_wait(&pair.url, 1).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn reads_use_up_no_connection_for_appends() {
    let pair = with_few_for_appends().await;
    let [stuck, _] = pair.logs().await;
    let other = another(&pair, "other").await;
    write(&stuck, "a-1", "T").await;
    write(&other, "b-1", "T").await;
    // Nobody can look for a stream in the first one.
    let locking = format!("LOCK TABLE eventodb_{}.messages", stuck.namespace().incarnation.0);
    let lock = idle(&pair.url, &locking).await;
    let looks = (0..4 * FOR_APPENDS).map(|at| {
        let stuck = Arc::clone(&stuck);
        tokio::spawn(async move { stuck.version(&format!("none-{at}")).await })
    });
    let looks: Vec<_> = looks.collect();
    until_wait(&pair.url, FOR_APPENDS as i64).await;
    write(&other, "b-1", "T").await;
    assert_eq!(all(&other).await.len(), 2);
    assert_eq!(all(&stuck).await.len(), 1, "what is in memory is read");
    assert!(looks.iter().all(|look| !look.is_finished()), "they were stuck all the time");
    lock.batch_execute("ROLLBACK").await.expect("it is open");
    for look in tokio::time::timeout(PATIENCE, join_all(looks)).await.expect("they go on") {
        assert_eq!(look.expect("a reader does not panic").expect("it answers"), None);
    }
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_wait_for_no_append() {
    let pair = with_few_for_appends().await;
    let other = another(&pair, "other").await;
    write(&other, "b-1", "T").await;
    // A namespace that only the second server has used.
    let [first, second] = &pair.servers;
    second.create(namespace("new", &Token::generate("new"))).await.expect("the name is free");
    write(&second.log("new").await.expect("it was just created"), "c-1", "T").await;
    let mut stuck = Vec::new();
    for at in 0..FOR_APPENDS {
        let log = another(&pair, &format!("stuck{at}")).await;
        write(&log, "a-1", "T").await;
        stuck.push(log);
    }
    // Nobody can append to these.
    let lock =
        |log: &Arc<Log>| format!("LOCK TABLE eventodb_{}.messages IN EXCLUSIVE MODE", log.namespace().incarnation.0);
    let lock = idle(&pair.url, &stuck.iter().map(lock).collect::<Vec<_>>().join("; ")).await;
    let writing = stuck.iter().cloned().map(|log| tokio::spawn(async move { write(&log, "a-1", "T").await }));
    let writing: Vec<_> = writing.collect();
    until_wait(&pair.url, FOR_APPENDS as i64).await;
    assert_eq!(all(&other).await.len(), 1);
    assert_eq!(all(&stuck[0]).await.len(), 1, "a namespace that takes no appends is read");
    assert_eq!(other.version("b-1").await.expect("it answers"), Some(0));
    assert_eq!(other.version("none-1").await.expect("it answers"), None);
    let new = first.log("new").await.expect("it is opened meanwhile");
    assert_eq!(all(&new).await.len(), 1);
    assert!(writing.iter().all(|writing| !writing.is_finished()), "they were stuck all the time");
    lock.batch_execute("ROLLBACK").await.expect("it is open");
    let written = tokio::time::timeout(PATIENCE, join_all(writing)).await.expect("they go on");
    assert!(written.iter().all(Result::is_ok), "a writer does not panic");
    pair.close().await;
}
