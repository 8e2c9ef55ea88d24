//! Looks whether other servers have changed the groups that somebody waits for, in case a hint was lost: one question
//! about all of them, however many calls wait.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::decider::Decider;
use crate::log::known::KnownGroup;
use crate::storage::groups::Compared;

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(250);

/// Whether the groups of one log are watched.
#[derive(Debug, Default)]
pub(super) struct Watch(AtomicBool);

impl Decider {
    /// Wakes whoever waits for a group, from now on and as long as somebody does, if another server has changed it. The
    /// caller has asked to be woken before.
    pub(super) fn watch(self: &Arc<Self>) {
        if self.base.is_shared && !self.watch.0.swap(true, SeqCst) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Whether to go on.
    async fn look_at_all(&self) -> bool {
        let groups = &self.base.groups;
        let mut waited_for = groups.waited_for();
        if waited_for.is_empty() {
            self.watch.0.store(false, SeqCst);
            // Somebody may have come before that.
            waited_for = groups.waited_for();
            if waited_for.is_empty() || self.watch.0.swap(true, SeqCst) {
                return false;
            }
        }
        // A group of which nothing is known is being asked about by whoever waits for it.
        let version = |group: &Arc<KnownGroup>| Some((Arc::clone(&group.name), group.seen()?.0));
        let known: Vec<_> = waited_for.iter().filter_map(version).collect();
        if known.is_empty() {
            return true;
        }
        match groups.storage.compare(&known, None).await {
            Ok(Compared { changed, .. }) => {
                waited_for.iter().filter(|group| changed.contains(&group.name)).for_each(|group| group.wake())
            }
            Err(error) => tracing::debug!(namespace = %self.base.namespace, %error, "cannot look at groups"),
        }
        true
    }
}

async fn watch(decider: Weak<Decider>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(decider) = decider.upgrade() else { return };
        if decider.base.window.is_closed() || !decider.look_at_all().await {
            return;
        }
    }
}
