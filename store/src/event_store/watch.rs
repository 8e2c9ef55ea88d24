//! The watch over what waits: appends that no batch takes, and pokes that are not handed out. It looks at each open log, and
//! writes to none.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::EventStore;
use crate::degraded::Degraded;
use crate::log::Log;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(5);
/// What has waited for this long is stuck.
const TOO_LONG: Duration = Duration::from_secs(10);

/// What the last look has found.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Logs whose appends are stuck.
    appends: AtomicUsize,
    /// Subscriptions whose pokes are stuck.
    pokes: AtomicUsize,
}

impl Watch {
    pub(super) fn degraded(&self) -> impl Iterator<Item = Degraded> {
        let appends = match self.appends.load(Relaxed) {
            0 => None,
            1 => Some("the writes to one namespace have waited for more than 10 s".to_owned()),
            many => Some(format!("the writes to {many} namespaces have waited for more than 10 s")),
        };
        let pokes = match self.pokes.load(Relaxed) {
            0 => None,
            1 => Some("the pokes of one subscription have waited for more than 10 s".to_owned()),
            many => Some(format!("the pokes of {many} subscriptions have waited for more than 10 s")),
        };
        let reason = |code| move |message| Degraded::new(code, message);
        appends.map(reason("WRITES_STUCK")).into_iter().chain(pokes.map(reason("POKES_STUCK")))
    }

    /// Looks at these logs.
    fn look(&self, logs: &[Arc<Log>], now: Instant) {
        let is_stuck = |log: &&Arc<Log>| log.writer.waits_for() >= TOO_LONG;
        self.appends.store(logs.iter().filter(is_stuck).count(), Relaxed);
        self.pokes.store(logs.iter().map(|log| log.stuck_subscriptions(TOO_LONG, now)).sum(), Relaxed);
    }
}

/// Looks until it is told to stop, or the store is gone.
pub(super) async fn run(store: Weak<EventStore>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        let Some(store) = store.upgrade() else { return };
        let logs: Vec<Arc<Log>> = store.logs.read().values().cloned().collect();
        store.watch.look(&logs, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use eventodb_protocol::Token;
    use eventodb_protocol::message::Expected;

    use super::*;
    use crate::conformance::support::{append, entry, message, namespace};
    use crate::settings::Settings;
    use crate::sqlite::{self, Location, Sqlite};

    async fn store() -> Arc<EventStore> {
        let backend = Sqlite::open(Location::Memory, sqlite::Settings::default()).expect("memory is there");
        let settings = Settings { self_test: Some(Arc::new(true.into())), ..Settings::default() };
        EventStore::open(backend, settings).await.expect("it opens")
    }

    /// The log of the store's own tests, once one has succeeded.
    async fn own(store: &EventStore) -> Arc<Log> {
        until(|| store.self_tests().passed.get() > 0).await;
        store.self_test.trial.opened().expect("it was used")
    }

    async fn until(is_so: impl Fn() -> bool) {
        let wait = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it comes to be");
    }

    /// Waits until exactly these codes are told.
    async fn told(store: &EventStore, wanted: &[&str]) {
        let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
        until(|| store.degraded().iter().map(|reason| reason.code).collect::<BTreeSet<_>>() == wanted).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sequencers_that_stand_still_are_told_until_they_go_on() {
        let store = store().await;
        store.create(namespace("shop", &Token::generate("shop"))).await.expect("the name is free");
        let (own, shop) = (own(&store).await, store.log("shop").await.expect("it lives"));
        told(&store, &[]).await;
        let held = (own.writer.hold().await, shop.writer.hold().await);
        let writer = Arc::clone(&shop);
        let write =
            tokio::spawn(
                async move { writer.append(append(vec![entry("a-1", Expected::Any, vec![message("T")])])).await },
            );
        told(&store, &["SELF_TEST_FAILED", "WRITES_STUCK"]).await;
        drop(held);
        write.await.expect("no panic").expect("it is written");
        told(&store, &[]).await;
        assert!(store.self_tests().failed.get() >= 1 && store.self_tests().passed.get() >= 1);
    }
}
