//! Looks whether other servers have changed the groups that somebody waits for, in case a hint was lost: one question
//! about all of them, however many calls wait.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::decider::Decider;

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
        let (mut waited_for, mut known) = (groups.waited_for(), Vec::new());
        if waited_for.is_empty() {
            self.watch.0.store(false, SeqCst);
            // Somebody may have come before that.
            waited_for = groups.waited_for();
            if waited_for.is_empty() || self.watch.0.swap(true, SeqCst) {
                return false;
            }
        }
        for (group, version) in &waited_for {
            known.push((Arc::clone(&group.name), *version));
        }
        match groups.storage.changed(&known).await {
            Ok(changed) => {
                let changed = waited_for.iter().filter(|(group, _)| changed.contains(&group.name));
                changed.for_each(|(group, _)| group.wake());
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
