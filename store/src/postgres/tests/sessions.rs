//! What holds in every session, and how many there are.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::{Scope, Token};
use futures_util::future::{join_all, poll_immediate};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::fixture::{Fixture, open_store, select, settings};
use crate::Error;
use crate::conformance::support::{PATIENCE, all, namespace, write};
use crate::postgres::connection::Connection;
use crate::postgres::pool::Pool;
use crate::postgres::statement::PING;
use crate::storage::Backend as _;
use eventodb_testing::postgres::{self, Server};

/// Writes down what the session of an append says.
const WATCH: &str = "
    CREATE TABLE said (setting text);
    CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO public.said VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
    CREATE TRIGGER say AFTER INSERT ON {log}.messages EXECUTE FUNCTION say();";

#[tokio::test]
async fn commits_are_at_least_synchronous_whatever_the_role_says() {
    for prepare in [true, false] {
        let mut fixture = Fixture::with(|settings| settings.prepare = prepare).await;
        fixture.sql(WATCH).await;
        for (role, expected) in [("off", "on"), ("local", "on"), ("on", "on"), ("remote_apply", "remote_apply")] {
            let alter = format!(
                "DO $$ BEGIN EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I SET synchronous_commit = {role}', \
                 current_database()); END $$; \
                 TRUNCATE said"
            );
            fixture.sql(&alter).await;
            fixture.backend.close().await;
            fixture = Fixture::at(fixture.url, |settings| settings.prepare = prepare).await;
            fixture.write(&[("a-1", "A")]).await;
            let same = format!("SELECT count(*) FROM said WHERE setting = '{expected}'");
            assert_eq!(fixture.number(&same).await, 1, "{role}, prepare {prepare}");
        }
    }
}

#[tokio::test]
async fn reads_cannot_starve_appends() {
    let fixture = Fixture::with(|settings| {
        settings.pool_max = 2;
        settings.acquire_timeout = Duration::from_millis(50);
    })
    .await;
    let readers = &fixture.backend.shared.readers;
    let held = (readers.get().await.expect("one is free"), readers.get().await.expect("another is free"));
    assert!(matches!(fixture.storage.read(&select(Scope::All)).await, Err(Error::Unavailable(_))));
    fixture.write(&[("a-1", "A")]).await;
    drop(held);
    fixture.read(select(Scope::All)).await;
}

#[tokio::test]
async fn a_read_that_is_given_up_leaves_no_connection_in_doubt() {
    let fixture = Fixture::with(|settings| settings.pool_max = 1).await;
    let sleeping = async {
        let mut connection = fixture.backend.shared.readers.get().await.expect("it is free");
        connection.for_each_of_texts(&["SELECT pg_sleep(60)".to_owned()], |_| {}).await
    };
    let sleeps = async {
        while fixture.number("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'").await == 0 {}
    };
    tokio::select! {
        outcome = sleeping => panic!("{outcome:?}"),
        () = sleeps => {}
    }
    // Were it used again, this would wait for the end of what was given up.
    fixture.read(select(Scope::All)).await;
}

/// The process of PostgreSQL that serves a session.
async fn process(connection: &mut Connection) -> i32 {
    let mut process = 0;
    let text = ["SELECT pg_backend_pid()".to_owned()];
    connection.for_each_of_texts(&text, |row| process = row.get(0)).await.expect("it answers");
    process
}

#[tokio::test]
async fn a_session_serves_the_next_caller_after_a_short_read_that_was_given_up() {
    let fixture = Fixture::with(|settings| settings.pool_max = 1).await;
    let readers = &fixture.backend.shared.readers;
    let serves_again = async || {
        let mut connection = readers.get().await.expect("it is free");
        let before = process(&mut connection).await;
        let text = ["SELECT 1".to_owned()];
        assert!(poll_immediate(connection.for_each_of_texts(&text, |_| {})).await.is_none(), "it cannot have answered");
        drop(connection);
        before == process(&mut readers.get().await.expect("it is free")).await
    };
    // A busy machine may be slower than a session is waited for.
    let tried = async { while !serves_again().await {} };
    timeout(PATIENCE, tried).await.expect("it is not closed each time");
}

#[tokio::test]
async fn no_caller_gets_a_session_within_a_transaction_that_was_given_up() {
    let fixture = Fixture::with(|settings| settings.pool_max = 1).await;
    let readers = &fixture.backend.shared.readers;
    let text = ["SELECT 1".to_owned()];
    for given_up_at in ["its beginning", "a statement", "the end of a statement"] {
        let mut connection = readers.get().await.expect("it is free");
        let before = process(&mut connection).await;
        match given_up_at {
            "its beginning" => assert!(poll_immediate(connection.begin()).await.is_none(), "it cannot have answered"),
            "a statement" => {
                connection.begin().await.expect("it begins");
                let statement = connection.for_each_of_texts(&text, |_| {});
                assert!(poll_immediate(statement).await.is_none(), "it cannot have answered");
            }
            _ => {
                connection.begin().await.expect("it begins");
                connection.for_each_of_texts(&text, |_| {}).await.expect("it answers");
            }
        }
        drop(connection);
        let after = process(&mut readers.get().await.expect("it is free")).await;
        assert_ne!(after, before, "given up at {given_up_at}");
    }
}

#[tokio::test]
async fn a_session_that_is_opened_for_a_caller_who_leaves_serves_the_next() {
    let url = postgres::database().await;
    let mut named = settings(&(url.clone() + "?application_name=early"));
    named.pool_max = 1;
    let pool = Pool::new(&Arc::new(named), 0, 1);
    assert!(poll_immediate(pool.get()).await.is_none(), "none was open");
    let session = postgres::connect(&url).await;
    let opened = async {
        loop {
            let text = "SELECT pid FROM pg_stat_activity WHERE application_name = 'early' AND state = 'idle'";
            if let Some(row) = session.query_opt(text, &[]).await.expect("good SQL") {
                break row.get::<_, i32>(0);
            }
        }
    };
    let opened = timeout(PATIENCE, opened).await.expect("it is opened to its end");
    assert_eq!(process(&mut pool.get().await.expect("it is open")).await, opened);
}

#[tokio::test]
async fn prepared_statements_are_bounded_in_each_session() {
    let fixture = Fixture::with(|settings| settings.pool_max = 1).await;
    let mut connection = fixture.backend.shared.readers.get().await.expect("it is free");
    for log in 1..=150 {
        // Statements on other schemas, where there are any, are others.
        let statement = PING.on(crate::model::Incarnation(log));
        connection.query(statement, &[]).await.expect("it answers");
    }
    let mut prepared = 0i64;
    let count = ["SELECT count(*) FROM pg_prepared_statements".to_owned()];
    connection.for_each_of_texts(&count, |row| prepared = row.get(0)).await.expect("it answers");
    assert!((90..=101).contains(&prepared), "{prepared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_at_a_slow_registry_hold_up_neither_readers_nor_probes() {
    let url = postgres::database().await;
    let mut few = settings(&url);
    // The server's own looks at the registry wait, too, each in a session.
    (few.pool_max, few.acquire_timeout) = (6, Duration::from_secs(1));
    // So few messages in memory that a reader needs a session.
    let server = open_store(few, crate::Settings { tail_messages: 1, ..crate::Settings::default() }).await;
    let token = Token::generate("shop");
    server.create(namespace("shop", &token)).await.expect("the name is free");
    let log = server.authorize(&token).await.expect("it answers").expect("it is the token").log().clone();
    for _ in 0..3 {
        write(&log, "a-1", "T").await;
    }
    let slow = postgres::connect(&url).await;
    slow.batch_execute("BEGIN; LOCK TABLE eventodb.namespaces").await.expect("good SQL");
    let strangers: Vec<_> = (0..40)
        .map(|_| {
            let (server, bad) = (server.clone(), Token::generate("shop"));
            tokio::spawn(async move { server.authorize(&bad).await.map(|log| log.is_some()) })
        })
        .collect();
    // All of them wait for one query, or for two.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let session = postgres::connect(&url).await;
    while session.query_one(waits, &[]).await.expect("good SQL").get::<_, i64>(0) < 1 {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        let known = server.authorize(&token).await.expect("it is known").expect("it is the token").log().clone();
        assert_eq!(all(&known).await.len(), 3);
        server.ping().await.expect("a probe has a session of its own");
    }
    slow.batch_execute("ROLLBACK").await.expect("it is open");
    for stranger in strangers {
        let opened = stranger.await.expect("it does not panic");
        assert!(matches!(opened, Ok(false) | Err(Error::Unavailable(_))), "{opened:?}");
    }
    server.close().await;
}

/// Somebody else takes every slot that is left, and what the server gives up.
async fn take_all_slots(url: &str) -> Vec<(tokio_postgres::Client, JoinHandle<Result<(), tokio_postgres::Error>>)> {
    let mut strangers = Vec::new();
    while let Ok((client, driver)) = tokio_postgres::connect(url, tokio_postgres::NoTls).await {
        strangers.push((client, tokio::spawn(driver)));
    }
    strangers
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_wait_for_a_session_that_exists_where_no_more_can_be_opened() {
    let server = Server::start(&["max_connections=20"]);
    let url = server.url("postgres");
    let fixture = Fixture::at(url.clone(), |_| {}).await;
    fixture.write(&[("a-1", "A")]).await;
    let strangers = take_all_slots(&url).await;
    let reads: Vec<_> = (0..180)
        .map(|_| {
            let storage = fixture.storage.clone();
            tokio::spawn(async move { storage.read(&select(Scope::All)).await.map(|slice| slice.rows.len()) })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.expect("it does not panic").expect("a session is at hand"), 1);
    }
    drop(strangers);
    fixture.backend.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_has_no_session_borrows_some_where_no_more_can_be_opened() {
    let server = Server::start(&["max_connections=20"]);
    let url = server.url("postgres");
    let settings = Arc::new(settings(&url));
    let lender = Arc::new(Pool::new(&settings, 1, 2));
    lender.fill().await.expect("a slot is free");
    let [alone, borrowing] = [Pool::new(&settings, 0, 3), Pool::new(&settings, 0, 3).borrowing(&lender)].map(Arc::new);
    let strangers = take_all_slots(&url).await;
    assert!(alone.get().await.is_err(), "it has no session, and nobody lends it one");
    let lent = process(&mut lender.get().await.expect("it has one")).await;
    for _ in 0..2 {
        let calls = (0..20).map(|_| {
            let borrowing = Arc::clone(&borrowing);
            tokio::spawn(async move { process(&mut borrowing.get().await.expect("one is lent")).await })
        });
        for call in join_all(calls).await {
            assert_eq!(call.expect("it does not panic"), lent);
        }
    }
    drop(strangers);
    let own = async {
        loop {
            borrowing.shrink();
            let mut connection = borrowing.get().await.expect("one is lent, or opened");
            if process(&mut connection).await != lent {
                return;
            }
        }
    };
    timeout(PATIENCE, own).await.expect("it opens one of its own again");
}
