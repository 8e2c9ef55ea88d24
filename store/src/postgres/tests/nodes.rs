//! Logs at several nodes: each is used where it is, and followed where it moves to.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use eventodb_protocol::Token;
use eventodb_protocol::message::Expected;
use eventodb_testing::nodes::{Database, Nodes};
use eventodb_testing::postgres::{connect, run};
use eventodb_testing::proxy::{Faults, Hold, Proxy};
use futures_util::future::{join, poll_immediate};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::fixture::{new_namespace, open_store, settings};
use super::pair::{tail, take_until};
use crate::conformance::support::{PATIENCE, all, message, namespace, write, write_expecting};
use crate::log::Log;
use crate::model::Incarnation;
use crate::postgres::{Postgres, Settings};
use crate::storage::Backend as _;
use crate::testing::tell;
use crate::{Error, EventStore};

const WRITERS: usize = 8;
/// How often a log moves while it is written to, unless `EVENTODB_TEST_NODES` tells another number.
const MOVES: usize = 4;

fn near_settings(database: &Database) -> Settings {
    Settings { stand_in: true, ..settings(&database.home) }
}

async fn server(database: &Database) -> Arc<EventStore> {
    open_store(near_settings(database), crate::Settings::default()).await
}

/// A new namespace, and its log.
async fn create(server: &EventStore, name: &str) -> Arc<Log> {
    server.create(namespace(name, &Token::generate(name))).await.expect("the name is free");
    server.log(name).await.expect("it was just created")
}

fn number(log: &Log) -> i64 {
    log.namespace().incarnation.0
}

/// Writes until it is told to stop; returns the marks of what was acknowledged, with their global positions.
async fn write_until(log: Arc<Log>, writer: usize, stop: Arc<AtomicBool>) -> Vec<(String, i64)> {
    let mut written = Vec::new();
    while !stop.load(SeqCst) {
        let mark = format!("{writer}/{}", written.len());
        let stream = format!("w-{}", (writer + written.len()) % 5);
        let outcome = write_expecting(&log, &stream, Expected::Any, message(&mark)).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("{mark}: {error:?}"));
        written.push((mark, outcome.first_global_position));
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_moves_under_writes_loses_nothing() {
    let database = Nodes::shared().database().await;
    let servers = [server(&database).await, server(&database).await];
    let first = create(&servers[0], "moving").await;
    let log = number(&first);
    let logs = [first, servers[1].log("moving").await.expect("it lives")];
    let (stop, all_written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (total, last) = watch::channel(0);
    let subscribers: Vec<_> = logs.iter().map(|log| tokio::spawn(take_until(log.clone(), last.clone()))).collect();
    let reader = tokio::spawn(tail(logs[1].clone(), all_written.clone()));
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write_until(logs[writer % 2].clone(), writer, stop.clone()))).collect();
    let moves = std::env::var("EVENTODB_TEST_NODES").map_or(MOVES, |moves| moves.parse().expect("a number"));
    for at in 0..moves {
        let before = logs[0].head();
        if at % 2 == 0 {
            database.move_away(log).await
        } else {
            database.move_home(log).await
        }
        let goes_on = async {
            while logs[0].head() < before + 50 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, goes_on).await.expect("writes go on");
    }
    if moves.is_multiple_of(2) {
        database.move_away(log).await;
    }
    stop.store(true, SeqCst);
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        for (mark, position) in writer.await.expect("no write fails") {
            assert!(acknowledged.insert(position, mark).is_none(), "{position} was given twice");
        }
    }
    all_written.store(true, SeqCst);
    total.send_replace(acknowledged.len() as i64);
    tell(&format!("{} messages while the log moved {} times", acknowledged.len(), moves / 2 * 2 + 1));
    let seen = reader.await.expect("no read fails");
    for subscriber in subscribers {
        assert_eq!(subscriber.await.expect("no subscription ends").len(), acknowledged.len());
    }
    let marks: Vec<&str> = seen.iter().map(|message| &*message.kind).collect();
    let expected: Vec<&str> = acknowledged.values().map(String::as_str).collect();
    assert_eq!(marks, expected, "what was acknowledged is there, at its place, and nothing else");
    assert!(!Database::has(&database.home, log).await, "it was not made anew where it was");
    for server in servers {
        server.close().await;
    }
}

/// A batch waits where the log was, and the next one is sent behind it to where the log has moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_a_move_has_overtaken_is_sent_behind_the_next_one() {
    let database = Nodes::shared().database().await;
    let server = server(&database).await;
    let log = create(&server, "moving").await;
    write(&log, "a-1", "T").await;
    let mut first = pin!(write_expecting(&log, "a-1", Expected::Any, message("T")));
    let mut second = pin!(write_expecting(&log, "b-1", Expected::Any, message("T")));
    let home = connect(&database.home).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%append%'";
    let overtake = async {
        assert!(poll_immediate(&mut first).await.is_none(), "it waits for the move");
        while home.query_one(waiting, &[]).await.expect("good SQL").get::<_, i64>(0) == 0 {}
        database.note_away([number(&log)]).await;
        while log.node().is_none() {
            tokio::task::yield_now().await;
        }
        assert!(poll_immediate(&mut second).await.is_none(), "no node has answered");
        while log.has_waiting() {
            tokio::task::yield_now().await;
        }
    };
    let overtake = async { timeout(PATIENCE, overtake).await.expect("one after the other comes") };
    database.move_away_behind(number(&log), overtake).await;
    let both = timeout(PATIENCE, join(first, second)).await.expect("neither waits for the other for ever");
    assert!(matches!(both, (Ok(_), Ok(_))), "{both:?}");
    assert_eq!(all(&log).await.len(), 3);
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_stops_its_own_logs_alone() {
    let nodes = Nodes::start();
    let database = nodes.database().await;
    let server = server(&database).await;
    let (near, far) = (create(&server, "near").await, create(&server, "far").await);
    write(&far, "a-1", "Before").await;
    database.move_away(number(&far)).await;
    write(&far, "a-1", "There").await;
    // A subscriber, so that the poll asks the node as well.
    let (_total, last) = watch::channel(0);
    let _subscriber = tokio::spawn(take_until(far.clone(), last));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write_until(near.clone(), 0, stop.clone()));

    let pid = nodes.away.pid().to_string();
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().expect("there is kill");
    assert!(killed.success());
    let died = Instant::now();
    // The sessions outlive the process that listens by a moment.
    let is_dead = async { while far.version("a-1").await.is_ok() {} };
    timeout(PATIENCE, is_dead).await.expect("they end by themselves");
    for _ in 0..5 {
        let refused = far.version("a-1").await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    tell(&format!("5 reads were refused in {:?}", died.elapsed()));
    let refused = write_expecting(&far, "a-1", Expected::Any, message("Lost")).await;
    assert!(matches!(refused, Err(Error::Unavailable(_) | Error::Unknown(_))), "{refused:?}");
    tell(&format!("a write was refused after {:?}", died.elapsed()));
    assert!(matches!(server.list().await, Err(Error::Unavailable(_))), "counts are exact or not told");
    server.ping().await.expect("home answers");
    assert!(server.degraded().is_empty(), "{:?}", server.degraded());
    let before = near.head();
    write(&near, "b-1", "Meanwhile").await;
    assert!(near.head() > before);
    tell(&format!("home was asked after {:?}", died.elapsed()));
    nodes.away.revive();
    tell(&format!("the node was started again after {:?}", died.elapsed()));
    let is_back = async {
        while write_expecting(&far, "a-1", Expected::Any, message("After")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, is_back).await.expect("it comes back by itself");
    tell(&format!("it was written to again after {:?}", died.elapsed()));
    stop.store(true, SeqCst);
    let written = writer.await.expect("no write of the other log fails").len();
    tell(&format!("{written} messages to the other log meanwhile"));
    let kinds: Vec<Box<str>> = all(&far).await.into_iter().map(|message| message.kind.as_ref().into()).collect();
    assert_eq!(kinds[..2], ["Before".into(), "There".into()]);
    assert_eq!(server.list().await.expect("all answer").len(), 2);
    server.close().await;
}

/// Its machine takes packets and answers none. What waits for it uses up nothing that others need.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_holds_up_its_own_logs_alone() {
    let database = Nodes::shared().database().await;
    let proxy = Proxy::to_database(&database.away, 0).await;
    let maker = server(&database).await;
    create(&maker, "near").await;
    let made = create(&maker, "far").await;
    let log = number(&made);
    database.move_away(log).await;
    let (host, port) = proxy.address().rsplit_once(':').expect("HOST:PORT");
    database.note_at([log], host, port.parse().expect("a port")).await;
    maker.close().await;
    // No call gives up before the end.
    let settings = Settings {
        acquire_timeout: PATIENCE,
        connect_timeout: PATIENCE,
        statement_timeout: PATIENCE,
        ..near_settings(&database)
    };
    let server = open_store(settings.clone(), crate::Settings::default()).await;
    let (near, far) = (server.log("near").await.expect("it lives"), server.log("far").await.expect("it lives"));
    write(&near, "a-1", "T").await;
    write(&far, "a-1", "T").await;
    let read = |log: &Arc<Log>| {
        let log = log.clone();
        async move { log.counts().await }
    };
    proxy.hold(Hold { requests: true, replies: true });
    let waiting: Vec<_> = (0..4 * settings.pool_max).map(|_| tokio::spawn(read(&far))).collect();
    let writing = tokio::spawn({
        let far = far.clone();
        async move { write_expecting(&far, "a-1", Expected::Any, message("T")).await }
    });
    proxy.until_held().await;
    for _ in 0..20 {
        read(&near).await.expect("home answers");
        write(&near, "a-1", "T").await;
    }
    assert!(!waiting.iter().any(tokio::task::JoinHandle::is_finished), "all of them wait meanwhile");
    proxy.hold(Hold::default());
    for read in waiting {
        read.await.expect("no panic").expect("it was only slow");
    }
    writing.await.expect("no panic").expect("it was only slow");
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_asked_for_one_drop_in_a_round() {
    let database = Nodes::shared().database().await;
    let proxy = Proxy::to_database(&database.away, 0).await;
    let maker = server(&database).await;
    let mut far = Vec::new();
    for name in ["a", "b", "c"] {
        far.push(number(&*create(&maker, name).await));
    }
    let near = number(&*create(&maker, "near").await);
    for log in &far {
        database.move_away(*log).await;
    }
    let (host, port) = proxy.address().rsplit_once(':').expect("HOST:PORT");
    database.note_at(far.clone(), host, port.parse().expect("a port")).await;
    maker.close().await;
    let limit = Duration::from_secs(1);
    let settings = Settings { statement_timeout: limit, acquire_timeout: limit, ..near_settings(&database) };
    let backend = Postgres::open(settings).await.expect("the database is fine");
    let opened = backend.open(Incarnation(far[0])).await.expect("it lives");
    opened.storage.head().await.expect("the node answers");
    // Home asks the node, as a coordinator does, and waits in vain.
    let refuse = format!(
        "CREATE SEQUENCE public.asked;
         CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF current_query() ~ 'eventodb_({}) CASCADE' THEN
                 PERFORM nextval('public.asked');
                 RAISE EXCEPTION 'the node is silent' USING ERRCODE = '08006';
             END IF;
         END $$;
         CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION public.refuse();
         UPDATE eventodb.namespaces SET deleted_at = now() - interval '1 minute'",
        far.iter().map(i64::to_string).collect::<Vec<_>>().join("|")
    );
    run(&database.home, &refuse).await;
    proxy.hold(Hold { requests: true, replies: true });
    backend.purge().await.expect("home answers");
    let home = connect(&database.home).await;
    let asked = home.query_one("SELECT last_value FROM public.asked", &[]).await.expect("good SQL");
    assert_eq!(asked.get::<_, i64>(0), 1);
    let left = home.query("SELECT incarnation FROM eventodb.namespaces ORDER BY 1", &[]).await.expect("good SQL");
    assert_eq!(left.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), far, "they stay for now");
    assert!(!Database::has(&database.home, near).await, "what is at home is gone");
    proxy.hold(Hold::default());
    backend.close().await;
}

/// A server finds no schema, and is about to make one; another server makes it meanwhile, and it is moved.
#[tokio::test]
async fn a_log_that_was_made_and_moved_meanwhile_is_not_made_anew() {
    let database = Nodes::shared().database().await;
    let (slow, fast) = (open(&database).await, open(&database).await);
    let log = slow.create(&new_namespace("test")).await.expect("the name is free").incarnation;
    let holder = connect(&database.home).await;
    let lock = include_str!("../sql/migration_lock.sql");
    holder.batch_execute(&format!("BEGIN; {lock}")).await.expect("nobody has it");
    let opening = tokio::spawn({
        let slow = slow.clone();
        // It does not wait for long.
        async move {
            loop {
                match slow.open(log).await {
                    Err(Error::Unavailable(_)) => {}
                    opened => return opened,
                }
            }
        }
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while holder.query_one(waiting, &[]).await.expect("good SQL").get::<_, i64>(0) == 0 {}
    // Made at the other node while the first server waits; the same statements, as there is no registry.
    for step in eventodb_schema::POSTGRES_LOG {
        let schema = format!("eventodb_{}", log.0);
        let made = format!("CREATE SCHEMA IF NOT EXISTS {schema}; {}", step.sql.replace("{log}", &schema));
        connect(&database.away).await.batch_execute(&made).await.expect("good SQL");
    }
    let version = include_str!("../sql/migrations.sql").replace("{log}", &format!("eventodb_{}", log.0));
    let steps = eventodb_schema::POSTGRES_LOG.len();
    let done = format!("{version}; INSERT INTO eventodb_{}.migrations VALUES ({steps}, '0.1.0', now())", log.0);
    connect(&database.away).await.batch_execute(&done).await.expect("good SQL");
    database.note_away([log.0]).await;
    holder.batch_execute("ROLLBACK").await.expect("it is open");
    opening.await.expect("it does not panic").expect("it finds the log where it is");
    fast.open(log).await.expect("it finds the log where it is");
    assert!(!Database::has(&database.home, log.0).await);
    slow.close().await;
    fast.close().await;
}

/// A server has found the schema at home, and waits for its tables while they move away.
#[tokio::test]
async fn a_log_that_moves_away_while_it_is_opened_is_found_where_it_is() {
    let database = Nodes::shared().database().await;
    let (maker, opener) = (open(&database).await, open(&database).await);
    let log = maker.create(&new_namespace("test")).await.expect("the name is free").incarnation;
    maker.open(log).await.expect("it was just created");
    let (begin, begun) = tokio::sync::oneshot::channel();
    let opening = tokio::spawn(async move {
        begun.await.expect("the move begins");
        opener.open(log).await.map(|_| opener)
    });
    let meanwhile = async {
        begin.send(()).expect("it waits");
        let session = connect(&database.home).await;
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND NOT granted
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        while session.query_one(waiting, &[]).await.expect("good SQL").get::<_, i64>(0) == 0 {}
    };
    database.move_away_behind(log.0, meanwhile).await;
    let opener = opening.await.expect("it does not panic").expect("it finds the log where it is");
    opener.close().await;
    maker.close().await;
}

async fn open(database: &Database) -> Arc<Postgres> {
    Postgres::open(near_settings(database)).await.expect("the database is fine")
}

#[tokio::test]
async fn a_node_whose_name_means_nothing_here_is_used_by_way_of_home() {
    let database = Nodes::shared().database().await;
    let server = server(&database).await;
    let log = create(&server, "test").await;
    // Home leads there, as a coordinator does. Nobody listens on the port of discarded packets.
    database.note_at([number(&log)], "127.0.0.1", 9).await;
    let again = open_store(near_settings(&database), crate::Settings::default()).await;
    let log = again.log("test").await.expect("it is reached by home");
    write(&log, "a-1", "T").await;
    assert_eq!(all(&log).await.len(), 1);
    server.close().await;
    again.close().await;
}

/// A new log that home leads to, after its place was noted by `note`, is opened and written to.
async fn write_by_home(database: &Database, log: &Arc<Log>) {
    let server = server(database).await;
    let again = server.log("test").await.expect("it is reached by home");
    write(&again, "a-1", "T").await;
    assert_eq!(all(&again).await.len(), 1);
    assert_eq!(all(log).await.len(), 1);
    server.close().await;
}

#[tokio::test]
async fn a_server_that_is_not_the_node_that_was_meant_is_not_used() {
    let database = Nodes::shared().database().await;
    let server = server(&database).await;
    let log = create(&server, "test").await;
    database.note_behind_away([number(&log)]).await;
    write_by_home(&database, &log).await;
    server.close().await;
}

/// A PostgreSQL that has no slot left, whoever asks; its port.
async fn full() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 1024];
            // The request for TLS has 8 bytes.
            while let Ok(8) = socket.read(&mut request).await {
                _ = socket.write_all(b"N").await;
            }
            _ = socket.write_all(b"E\0\0\0\x2bSFATAL\0VFATAL\0C53300\0Mno slot is left\0\0").await;
        }
    });
    port
}

#[tokio::test]
async fn a_node_without_a_free_slot_is_used_by_way_of_home() {
    let database = Nodes::shared().database().await;
    let server = server(&database).await;
    let log = create(&server, "test").await;
    database.note_at([number(&log)], "127.0.0.1", full().await).await;
    write_by_home(&database, &log).await;
    server.close().await;
}

/// Writes until one is acknowledged after `condition` holds.
async fn write_until_it_holds(log: &Arc<Log>, condition: impl Fn() -> bool) {
    let holds = async {
        loop {
            let written = write_expecting(log, "a-1", Expected::Any, message("T")).await.is_ok();
            if written && condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, holds).await.expect("it comes about");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_reached_any_more_is_used_by_way_of_home_until_it_is() {
    let database = Nodes::shared().database().await;
    let maker = server(&database).await;
    let made = create(&maker, "test").await;
    let proxy = Proxy::to_database(&database.home, 0).await;
    let (host, port) = proxy.address().rsplit_once(':').expect("HOST:PORT");
    database.note_home_at([number(&made)], host, port.parse().expect("a port")).await;
    let server = server(&database).await;
    let log = server.log("test").await.expect("it lives");
    let before = proxy.passed().0;
    write(&log, "a-1", "T").await;
    assert!(proxy.passed().0 > before, "it is used directly");
    proxy.faults(Faults { cut: 1.0, ..Faults::default() });
    // Nothing comes through any more.
    proxy.cut_all();
    write_until_it_holds(&log, || true).await;
    proxy.faults(Faults::default());
    let before = proxy.passed().0;
    // More than what looks whether it is there.
    write_until_it_holds(&log, || proxy.passed().0 > before + 20_000).await;
    server.close().await;
    maker.close().await;
}

#[tokio::test]
async fn a_log_whose_schema_is_at_no_node_is_unavailable_and_not_made_anew() {
    let database = Nodes::shared().database().await;
    let backend = open(&database).await;
    let log = backend.create(&new_namespace("test")).await.expect("the name is free").incarnation;
    database.note_away([log.0]).await;
    let outcome = backend.open(log).await.map(|_| ());
    assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
    assert!(!Database::has(&database.home, log.0).await && !Database::has(&database.away, log.0).await);
    backend.delete(log).await.expect("it lives");
    let outcome = backend.open(log).await.map(|_| ());
    assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
    backend.close().await;
}
