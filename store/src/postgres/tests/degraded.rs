//! Degradations that the store reports before a namespace is used: the database refuses writes, or the time of a log's
//! last message lies ahead of the clock.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::Token;
use tokio::time::{Instant, sleep};

use super::fixture::{open_store, settings};
use crate::conformance::support::{namespace, write};
use crate::{EventStore, Settings};
use eventodb_testing::postgres;
use eventodb_testing::proxy::{Hold, Proxy};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the store reports exactly these codes.
async fn told(store: &EventStore, wanted: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let codes: Vec<_> = store.degraded().into_iter().map(|degraded| degraded.code).collect();
        if codes == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{codes:?} is told");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A database of a store with one message, closed again.
async fn prepared() -> String {
    let url = postgres::database().await;
    let store = open_store(settings(&url), Settings::default()).await;
    store.create(namespace("shop", &Token::generate("shop"))).await.expect("the name is free");
    write(&store.log("shop").await.expect("it lives"), "a-1", "T").await;
    store.close().await;
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_fails_each_write_is_told_without_one() {
    let url = prepared().await;
    postgres::run(
        &url,
        "CREATE FUNCTION public.no_room() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$;
         CREATE TRIGGER no_room BEFORE UPDATE ON eventodb.migrations FOR EACH STATEMENT EXECUTE FUNCTION public.no_room()",
    )
    .await;
    let store = open_store(settings(&url), Settings::default()).await;
    told(&store, &["SELF_TEST_FAILED"]).await;
    store.ping().await.expect("reads are answered");
    postgres::run(&url, "DROP TRIGGER no_room ON eventodb.migrations").await;
    told(&store, &[]).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_is_told_while_its_connections_stay_open() {
    let url = prepared().await;
    let proxy = Proxy::to_database(&url, 0).await;
    let testing = Settings { self_test: Some(Arc::new(true.into())), ..Settings::default() };
    let store = open_store(settings(&proxy.database_url(&url)), testing).await;
    while store.self_tests().passed.get() == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    told(&store, &[]).await;
    proxy.hold(Hold { requests: true, replies: true });
    told(&store, &["SELF_TEST_FAILED"]).await;
    proxy.hold(Hold::default());
    told(&store, &[]).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_time_ahead_of_the_clock_is_told_before_its_namespace_is_used() {
    let url = prepared().await;
    postgres::run(&url, "UPDATE eventodb_1.batches SET time = time + interval '100 years'").await;
    let store = open_store(settings(&url), Settings::default()).await;
    told(&store, &["CLOCK_BEHIND"]).await;
    store.delete("shop").await.expect("it lives");
    told(&store, &[]).await;
    store.close().await;
}
