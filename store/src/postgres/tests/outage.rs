//! Connections that break or stall, and a database that goes away.

use std::time::Duration;

use eventodb_protocol::Scope;

use super::fixture::{Fixture, positions, select};
use crate::Error;
use crate::storage::{AppendError, Backend as _, Settled};
use eventodb_testing::postgres::{self, Server};
use eventodb_testing::proxy::{Hold, Proxy};

const REQUESTS: Hold = Hold { requests: true, replies: false };
/// Ends all other sessions with the database.
const END_SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                            WHERE pid <> pg_backend_pid() AND datname = current_database()";
const REPLIES: Hold = Hold { requests: false, replies: true };

/// A server behind a relay, which waits for nothing long.
async fn relayed() -> (Proxy, Fixture, Fixture) {
    let direct = Fixture::new().await;
    let proxy = Proxy::to_database(&direct.url, 0).await;
    let relayed = Fixture::at(proxy.database_url(&direct.url), |settings| {
        settings.statement_timeout = Duration::from_millis(200);
        settings.connect_timeout = Duration::from_millis(500);
        settings.listen_url = Some(direct.url.parse().expect("a good URL"));
    })
    .await;
    (proxy, relayed, direct)
}

fn set_read_only(to: &str) -> String {
    let alter = format!("ALTER DATABASE %I SET default_transaction_read_only = {to}");
    format!("DO $$ BEGIN EXECUTE format('{alter}', current_database()); END $$")
}

#[tokio::test]
async fn a_lost_reply_leaves_a_batch_that_the_fence_finds() {
    let (proxy, relayed, _direct) = relayed().await;
    relayed.write(&[("a-1", "A")]).await;
    let batch = relayed.batch(&[("a-1", "B")]).await;
    proxy.hold(REPLIES);
    assert!(matches!(relayed.append(&batch).await, Err(AppendError::Unknown(_))));
    assert!(matches!(relayed.settle(&batch).await, Err(Error::Unavailable(_))));
    proxy.hold(Hold::default());
    assert!(matches!(relayed.settle(&batch).await, Ok(Settled::Committed(entries)) if entries.len() == 1));
    assert_eq!(positions(&relayed.read(select(Scope::All)).await), [1, 2]);
}

#[tokio::test]
async fn a_statement_that_arrives_after_the_fence_does_nothing() {
    let (proxy, relayed, direct) = relayed().await;
    relayed.write(&[("a-1", "A")]).await;
    let batch = relayed.batch(&[("a-1", "B")]).await;
    proxy.hold(REQUESTS);
    assert!(matches!(relayed.append(&batch).await, Err(AppendError::Unknown(_))));
    proxy.until_held().await;
    // The fence comes another way.
    assert!(matches!(direct.settle(&batch).await, Ok(Settled::NotCommitted)));
    let commits = "SELECT count(*) FROM {log}.batches";
    let before = direct.number(commits).await;
    proxy.hold(Hold::default());
    // The delayed statement has run once its session has ended.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'relayed' AND state = 'active' \
                    AND datname = current_database()";
    while direct.number(sessions).await > 0 {}
    relayed.storage.head().await.expect("it recovers");
    assert_eq!(direct.number(commits).await, before);
    assert_eq!(positions(&direct.read(select(Scope::All)).await), [1]);
}

#[tokio::test]
async fn a_connection_cut_during_the_append_is_settled() {
    let (proxy, relayed, direct) = relayed().await;
    for hold in [REQUESTS, REPLIES] {
        // The statement is prepared then.
        relayed.write(&[("b-1", "B")]).await;
        let batch = relayed.batch(&[("a-1", "A")]).await;
        proxy.hold(hold);
        let append = async { relayed.append(&batch).await };
        let is_written = async {
            while direct.storage.find(&[batch.messages[0].id]).await.expect("it answers").is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let cut = async {
            proxy.until_held().await;
            if hold == REPLIES {
                // What is held may be the reply to the notification of the write before.
                tokio::time::timeout(Duration::from_secs(10), is_written).await.expect("it is written");
            }
            proxy.cut_all();
        };
        let (outcome, ()) = tokio::join!(append, cut);
        assert!(matches!(outcome, Err(AppendError::Unknown(_))), "{outcome:?}");
        proxy.hold(Hold::default());
        let fenced = relayed.settle(&batch).await.expect("it recovers");
        let found = direct.storage.find(&[batch.messages[0].id]).await.expect("it answers");
        assert_eq!(matches!(fenced, Settled::Committed(_)), !found.is_empty());
        assert_eq!(found.len(), usize::from(hold == REPLIES));
    }
}

#[tokio::test]
async fn a_dead_connection_in_the_pool_costs_a_reader_nothing() {
    let fixture = Fixture::new().await;
    fixture.write(&[("a-1", "A")]).await;
    fixture.read(select(Scope::All)).await;
    fixture.sql(END_SESSIONS).await;
    assert_eq!(positions(&fixture.read(select(Scope::All)).await), [1]);
}

#[tokio::test]
async fn a_cancelled_statement_is_certainly_not_written() {
    let fixture = Fixture::with(|settings| settings.statement_timeout = Duration::from_millis(200)).await;
    let batch = fixture.batch(&[("a-1", "A")]).await;
    let stuck = postgres::connect(&fixture.url).await;
    let lock = format!("BEGIN; LOCK TABLE eventodb_{}.messages", fixture.log.0);
    stuck.batch_execute(&lock).await.expect("good SQL");
    let outcome = fixture.append(&batch).await;
    assert!(matches!(outcome, Err(AppendError::Unavailable(_))), "{outcome:?}");
    stuck.batch_execute("ROLLBACK").await.expect("it is open");
    fixture.append(&batch).await.expect("nothing is in the way");
}

#[tokio::test]
async fn a_read_only_database_refuses_appends_and_is_followed_back() {
    let fixture = Fixture::new().await;
    let batch = fixture.batch(&[("a-1", "A")]).await;
    fixture.sql(&set_read_only("on")).await;
    fixture.sql(END_SESSIONS).await;
    let mut outcome = fixture.append(&batch).await;
    // The first attempt may meet the connection that was ended.
    if matches!(outcome, Err(AppendError::Unknown(_))) {
        outcome = fixture.append(&batch).await;
    }
    assert!(matches!(outcome, Err(AppendError::Unavailable(_))), "{outcome:?}");
    let administrator = postgres::connect(&fixture.url).await;
    administrator.batch_execute("SET default_transaction_read_only = off").await.expect("it may");
    administrator.batch_execute(&set_read_only("off")).await.expect("it may");
    fixture.append(&batch).await.expect("it may be written again");
}

#[tokio::test]
async fn a_database_that_crashes_and_comes_back_is_used_again() {
    let server = Server::start(&[]);
    let url = postgres::create_database(&server.url("postgres"), "ENCODING 'UTF8'").await;
    let fixture = Fixture::at(url, |settings| settings.connect_timeout = Duration::from_secs(1)).await;
    let written = fixture.write(&[("a-1", "A")]).await;
    let next = fixture.batch(&[("a-1", "B")]).await;
    server.stop("immediate");
    let outcome = fixture.append(&next).await;
    assert!(matches!(outcome, Err(AppendError::Unavailable(_) | AppendError::Unknown(_))), "{outcome:?}");
    assert!(matches!(fixture.storage.read(&select(Scope::All)).await, Err(Error::Unavailable(_))));
    assert!(matches!(fixture.backend.ping().await, Err(Error::Unavailable(_))));
    assert!(matches!(fixture.backend.namespace("test").await, Err(Error::Unavailable(_))));
    server.start_again();
    assert!(matches!(fixture.settle(&written).await, Ok(Settled::Committed(_))));
    assert!(matches!(fixture.settle(&next).await, Ok(Settled::NotCommitted)));
    fixture.write(&[("a-1", "B")]).await;
    assert_eq!(positions(&fixture.read(select(Scope::All)).await), [1, 2]);
}
