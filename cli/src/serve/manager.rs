//! What a service manager is told of the server, by the protocol of sd_notify(3): that it starts, is ready, makes
//! progress, and stops. Without `NOTIFY_SOCKET` in the environment nobody is told anything.

use std::sync::Arc;
use std::time::Duration;

use eventodb_server::Stop;
use eventodb_store::EventStore;
use sd_notify::NotifyState;
use tokio::task::JoinHandle;

/// How often the manager is told that the server still starts: opening a store takes as long as its files are large.
const STARTING_EVERY: Duration = Duration::from_secs(10);
/// For how much longer the manager then waits.
const STARTING_FOR: Duration = Duration::from_secs(60);

/// How long the end of the process waits until the manager has been told of it.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Does a part of the start that may take long. The manager gives it more time for as long as the runtime makes
/// progress.
pub(super) async fn starting<T>(part: impl Future<Output = T>) -> T {
    let more = u32::try_from(STARTING_FOR.as_micros()).expect("a minute");
    let mut part = std::pin::pin!(part);
    loop {
        match tokio::time::timeout(STARTING_EVERY, &mut part).await {
            Ok(outcome) => return outcome,
            Err(_) => drop(tokio::spawn(tell(NotifyState::ExtendTimeoutUsec(more), None))),
        }
    }
}

/// What the manager is told while the server serves.
pub(super) struct Told(JoinHandle<()>);

impl Told {
    /// Tells that the server serves, and later that it begins to stop. Feeds the watchdog meanwhile, if there is one.
    ///
    /// The watchdog is fed while the runtime and the threads that commit make progress. Whether writes succeed does not
    /// matter: a new process would find the same full disk or the same lost database, and reads would end for it.
    pub(super) fn serving(url: &str, stop: &Stop, store: &Arc<EventStore>) -> Self {
        let (status, soft, store) = (format!("serves at {url}"), stop.soft.clone(), Arc::clone(store));
        Self(tokio::spawn(async move {
            tell(NotifyState::Ready, Some(status)).await;
            if let Some(patience) = sd_notify::watchdog_enabled() {
                let fed = || tell(NotifyState::Watchdog, None);
                tokio::spawn(feed(patience, async move || store.beat().await, fed));
            }
            soft.cancelled().await;
            tell(NotifyState::Stopping, Some("finishes what was begun".to_owned())).await;
        }))
    }

    /// The server has stopped. Waits for a moment until the manager has been told.
    pub(super) async fn stopped(self) {
        let _ = tokio::time::timeout(LAST_WORD, self.0).await;
    }
}

/// Feeds a watchdog that waits for so long: after each beat, and four times within its patience. It goes on until the
/// process ends, so that a server that is stuck while it stops is noticed as well.
async fn feed<F: Future<Output = ()>>(patience: Duration, beat: impl AsyncFn(), fed: impl Fn() -> F) {
    let mut times = tokio::time::interval((patience / 4).max(Duration::from_millis(1)));
    times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        beat().await;
        fed().await;
    }
}

/// Tells the manager a state. This waits while the manager reads nothing and its socket is full, so that a thread for
/// blocking calls does it. A manager that cannot be told notices by itself what it then does not hear.
async fn tell(state: NotifyState<'static>, status: Option<String>) {
    let told = tokio::task::spawn_blocking(move || {
        let mut states = vec![state];
        states.extend(status.as_deref().map(NotifyState::Status));
        sd_notify::notify(&states)
    });
    if let Ok(Err(error)) = told.await {
        tracing::warn!(error = %error, "cannot tell the service manager");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc::channel;

    use eventodb_store::Settings;
    use eventodb_store::sqlite::{self, Location, Sqlite};

    use super::*;

    /// A watchdog with this patience.
    const PATIENCE: Duration = Duration::from_millis(40);

    /// How often a watchdog has been fed.
    #[derive(Clone, Default)]
    struct Fed(Arc<AtomicUsize>);

    impl Fed {
        async fn feed(self) {
            self.0.fetch_add(1, SeqCst);
        }

        fn wait_for_more(&self) {
            let before = self.0.load(SeqCst);
            while self.0.load(SeqCst) < before + 2 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }

        /// Whether it is fed within ten times its patience.
        fn goes_on(&self) -> bool {
            std::thread::sleep(PATIENCE);
            let before = self.0.load(SeqCst);
            std::thread::sleep(PATIENCE * 10);
            self.0.load(SeqCst) > before
        }
    }

    #[test]
    fn the_watchdog_is_not_fed_by_a_runtime_that_is_stuck() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let fed = Fed::default();
        runtime.spawn({
            let fed = fed.clone();
            feed(PATIENCE, async || (), move || fed.clone().feed())
        });
        fed.wait_for_more();
        let ends = [channel::<()>(), channel::<()>()].map(|(end, is_over)| {
            runtime.spawn(async move { while is_over.recv().is_ok() {} });
            end
        });
        assert!(!fed.goes_on());
        drop(ends);
        fed.wait_for_more();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_watchdog_is_fed_while_a_store_is_open() {
        let backend = Sqlite::open(Location::Memory, sqlite::Settings::default()).expect("memory is there");
        let store = EventStore::open(backend, Settings::default()).await.expect("it opens");
        let fed = Fed::default();
        let feeder = tokio::spawn({
            let (fed, store) = (fed.clone(), Arc::clone(&store));
            feed(PATIENCE, async move || store.beat().await, move || fed.clone().feed())
        });
        tokio::task::spawn_blocking(move || fed.wait_for_more()).await.expect("it is fed");
        feeder.abort();
        store.close().await;
    }
}
