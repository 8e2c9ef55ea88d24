//! Groups that are kept when another log takes the place of theirs.

use std::sync::Arc;

use super::Groups;
use crate::error::{Error, Result};
use crate::groups::{AuditEntry, Change, Changes, Group, Version};
use crate::log::known::stamp;
use crate::storage::groups::GroupStorage;

/// Entries of an audit that are copied at once.
const ENTRIES: usize = 100;

impl Groups {
    /// Whether the namespace has groups.
    ///
    /// # Errors
    /// As [`GroupStorage::names`].
    pub(crate) async fn are_there(&self) -> Result<bool> {
        Ok(!self.decider.base.groups.storage.names().await?.is_empty())
    }

    /// Takes over the groups of a log whose place this one is to take. That one changes no more.
    ///
    /// # Errors
    /// As [`GroupStorage::change`], and [`Error::Unavailable`] if this log has such a group.
    pub(crate) async fn keep_all_of(&self, replaced: &Self) -> Result<()> {
        let groups = &replaced.decider.base.groups;
        for name in groups.storage.names().await? {
            let known = groups.get(&name);
            // Decisions that began before changes were refused have ended then.
            let _turn = known.turn.lock().await;
            self.keep(&name, &*groups.storage).await?;
        }
        Ok(())
    }

    async fn keep(&self, name: &Arc<str>, replaced: &dyn GroupStorage) -> Result<()> {
        let Some((stored, last_epoch)) = replaced.last(name).await? else { return Ok(()) };
        let looked = self.decider.ask(name).await?;
        let mut at = self.decider.base.groups.moment(&looked);
        let before = at.last_epoch;
        at.last_epoch = before.max(last_epoch);
        let mut group = Group::keep(stored, &mut at);
        let mut version = self.store(Change::new(name, None, stamp(), &group, before, &at)).await?;
        group.settle();
        let mut below = i64::MAX;
        loop {
            let mut entries = replaced.audit(name, below, ENTRIES).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            below = last.id;
            entries.reverse();
            version = self.record(name, version, &group, entries, &at).await?;
        }
    }

    /// Adds entries to the audit of a group that was kept.
    async fn record(
        &self,
        name: &Arc<str>,
        version: Version,
        group: &Group,
        audit: Vec<AuditEntry>,
        at: &crate::groups::Moment,
    ) -> Result<Version> {
        let change = Change::new(name, Some(version), stamp(), group, at.last_epoch, at);
        let changes = Changes { audit, ..group.changes() };
        self.store(Change { changes, ..change }).await
    }

    async fn store(&self, change: Change) -> Result<Version> {
        let stored = self.decider.base.groups.storage.change(change).await?;
        stored.ok_or_else(|| Error::unavailable("a log that is being filled has groups of its own"))
    }
}
