//! What a store does by itself: it tidies, looks at clocks, tests itself, and sees what other servers did.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{EventStore, self_test, tokens, watch};
use crate::error::Chain;
use crate::log::Log;
use crate::storage::Hint;

/// How often it is looked for logs whose last time lies ahead of the clock.
const WARN_OF_TIMES: Duration = Duration::from_hours(1);

/// Starts all tasks. They end with the store.
pub(super) fn start(store: &Arc<EventStore>) {
    let (weak, stop) = (|| Arc::downgrade(store), || store.stop.clone());
    tokio::spawn(self_test::run(weak(), stop()));
    tokio::spawn(watch::run(weak(), stop()));
    tokio::spawn(look_at_times(weak(), stop()));
    tokio::spawn(tidy(weak(), stop()));
    tokio::spawn(clean_up(weak(), stop()));
    tokio::spawn(tokens::end_in_time(weak(), stop()));
    tokio::spawn(tokens::note_uses(weak(), stop()));
    if store.backend.is_shared() {
        tokio::spawn(keep_up(weak(), stop()));
        tokio::spawn(tokens::watch(weak(), stop()));
    }
    if let Some(hints) = store.backend.hints() {
        tokio::spawn(take_hints(weak(), hints, stop()));
    }
}

/// Looks after the start, and every hour, for logs whose last time lies ahead of the clock. The backend notices then which
/// logs have lost their ends.
async fn look_at_times(store: Weak<EventStore>, stop: CancellationToken) {
    loop {
        let Some(store) = store.upgrade() else { return };
        let Some(looked) = stop.run_until_cancelled(store.leapt.look(&*store.backend)).await else { return };
        if let Err(error) = looked {
            tracing::debug!(error = %Chain(&error), "cannot look for times ahead of the clock");
        }
        drop(store);
        if stop.run_until_cancelled(tokio::time::sleep(WARN_OF_TIMES)).await.is_none() {
            return;
        }
    }
}

/// The store after one more interval of the poll; `None` if it has stopped.
async fn after_the_interval(store: &Weak<EventStore>, stop: &CancellationToken) -> Option<Arc<EventStore>> {
    let interval = store.upgrade()?.settings.poll_interval;
    stop.run_until_cancelled(tokio::time::sleep(interval)).await?;
    store.upgrade()
}

/// Tidies the registry. That waits for no drop of a storage.
async fn tidy(store: Weak<EventStore>, stop: CancellationToken) {
    while let Some(store) = after_the_interval(&store, &stop).await {
        let Some(tidied) = stop.run_until_cancelled(store.backend.tidy()).await else { return };
        if let Err(error) = tidied {
            tracing::debug!(error = %Chain(&error), "cannot tidy the registry now");
        }
    }
}

/// Drops the storage of deleted namespaces, from the start on. A drop may take long, and holds up nothing else here.
async fn clean_up(store: Weak<EventStore>, stop: CancellationToken) {
    let mut next = store.upgrade();
    while let Some(cleaned) = next.take() {
        let Some(purged) = stop.run_until_cancelled(cleaned.backend.purge()).await else { return };
        if let Err(error) = purged {
            tracing::debug!(error = %Chain(&error), "the storage of deleted namespaces stays for now");
        }
        drop(cleaned);
        next = after_the_interval(&store, &stop).await;
    }
}

/// Polls a shared backend.
async fn keep_up(store: Weak<EventStore>, stop: CancellationToken) {
    while let Some(store) = after_the_interval(&store, &stop).await {
        if let Err(error) = store.poll().await {
            tracing::debug!(error = %Chain(&error), "cannot see what other servers did");
        }
    }
}

/// Passes the backend's hints of other servers' work on to the logs.
async fn take_hints(store: Weak<EventStore>, mut hints: tokio::sync::mpsc::Receiver<Hint>, stop: CancellationToken) {
    while let Some(Some(hint)) = stop.run_until_cancelled(hints.recv()).await {
        let Some(store) = store.upgrade() else { return };
        store.figures.hints.increment();
        let with = |incarnation, act: &dyn Fn(&Arc<Log>)| {
            let logs = store.logs.read();
            logs.values().filter(|log| log.namespace().incarnation == incarnation).for_each(act);
            Ok(())
        };
        let outcome = match hint {
            Hint::Written(incarnation, position) => with(incarnation, &|log| log.writer.hint(position)),
            Hint::Group(incarnation, group) => with(incarnation, &|log| log.groups().hint(group)),
            Hint::Wanted(incarnation, group) => with(incarnation, &|log| log.groups().give_way(group)),
            Hint::Registry => {
                store.refused.forget();
                store.refresh().await
            }
            Hint::All => {
                store.refused.forget();
                store.poll().await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(error = %Chain(&error), "cannot see what other servers did");
        }
    }
}
