//! A database that takes no writes: reads are served, writes are certainly not done.

use eventodb_protocol::Token;
use eventodb_protocol::message::Expected;

use super::fixture::{open_store, settings};
use crate::conformance::support::{all, message, namespace, write, write_expecting};
use crate::{Error, EventStore, Settings};
use eventodb_testing::postgres::{self, Server};

/// A store that holds one message, and has been closed.
async fn prepared(url: &str) {
    let store = open_store(settings(url), Settings::default()).await;
    store.create(namespace("shop", &Token::generate("shop"))).await.expect("the name is free");
    write(&store.log("shop").await.expect("it lives"), "a-1", "T").await;
    store.close().await;
}

async fn is_read_and_not_written(store: &EventStore) {
    let log = store.log("shop").await.expect("it is there to be read");
    assert_eq!(all(&log).await.len(), 1);
    for _ in 0..3 {
        let refused = write_expecting(&log, "a-1", Expected::Any, message("T")).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "certainly not written: {refused:?}");
    }
    assert_eq!(all(&log).await.len(), 1);
    store.ping().await.expect("reads are answered");
    let codes: Vec<_> = store.degraded().into_iter().map(|degraded| degraded.code).collect();
    assert_eq!(codes, ["READ_ONLY"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_served_and_written_once_it_may_be() {
    let url = postgres::database().await;
    prepared(&url).await;
    let (_, database) = url.rsplit_once('/').expect("it names a database");
    postgres::run(&url, &format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await;
    let store = open_store(settings(&url), Settings::default()).await;
    assert_eq!(store.degraded().len(), 1, "it is known from the start on");
    is_read_and_not_written(&store).await;
    let elsewhere = postgres::with_database(&url, "postgres");
    postgres::run(&elsewhere, &format!("ALTER DATABASE {database} RESET default_transaction_read_only")).await;
    store.ping().await.expect("it answers");
    assert_eq!(store.degraded(), []);
    let log = store.log("shop").await.expect("it lives");
    while let Err(error) = write_expecting(&log, "a-1", Expected::Any, message("T")).await {
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
    }
    assert_eq!(all(&log).await.len(), 2);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_standby_is_served() {
    let server = Server::start(&["hot_standby=on"]);
    let url = server.url("postgres");
    prepared(&url).await;
    server.stop("fast");
    std::fs::write(server.folder().join("data/standby.signal"), "").expect("the folder is ours");
    server.start_again();
    let store = open_store(settings(&url), Settings::default()).await;
    is_read_and_not_written(&store).await;
    store.close().await;
}
