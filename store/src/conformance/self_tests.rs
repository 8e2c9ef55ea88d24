//! The servers' tests of themselves.

use std::sync::Arc;

use eventodb_protocol::Timestamp;

use super::appends::record;
use super::support::World;
use crate::EventStore;
use crate::error::Error;
use crate::log::Log;
use crate::model::Namespace;

/// The log after one more test.
async fn tested(store: &EventStore) -> Arc<Log> {
    store.test_itself().await.expect("nothing is in the way")
}

async fn streams(log: &Log) -> u64 {
    log.counts().await.expect("the storage answers").streams
}

pub(super) async fn servers_share_one_log_that_no_client_sees(world: &mut World) {
    let log = tested(&world.store).await;
    let again = tested(&world.store).await;
    assert!(Arc::ptr_eq(&log, &again) && log.head() == 2);
    assert_eq!(streams(&log).await, 1, "a server has one stream");
    if let Some(second) = world.second().await {
        let seen = tested(&second).await;
        assert_eq!((seen.namespace().incarnation, seen.head()), (log.namespace().incarnation, 3));
        assert_eq!(tested(&world.store).await.head(), 4);
        assert_eq!(streams(&seen).await, 2);
        second.close().await;
    }
    let by_name = world.store.log(Namespace::OF_SELF_TESTS).await;
    assert!(matches!(by_name, Err(Error::NamespaceNotFound)), "a token of test mode may have any name: {by_name:?}");
    assert!(world.store.list().await.expect("the registry answers").is_empty());
    assert!(world.store.sample().heads.is_empty());
    assert_eq!(world.store.figures().appends.messages.get(), 0, "clients' messages are counted alone");
}

pub(super) async fn their_log_begins_anew_once_it_is_long(world: &mut World) {
    let second = world.second().await;
    let old = tested(&world.store).await;
    if let Some(second) = &second {
        tested(second).await;
    }
    old.import(vec![record("server-gone", 0, 10_000, Timestamp::now())]).await.expect("the position is free");
    tested(&world.store).await;
    assert!(old.is_closed());
    for store in [Some(&world.store), second.as_ref()].into_iter().flatten() {
        let new = tested(store).await;
        assert_ne!(new.namespace().incarnation, old.namespace().incarnation);
        assert!(new.head() <= 2);
    }
    if let Some(second) = second {
        second.close().await;
    }
}
