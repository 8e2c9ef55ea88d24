//! Consumer groups that the server keeps: the calls on them.
//!
//! The rules are [`crate::groups`]. Here a call gets the state on which it is decided, what the decision has to know of
//! the log, and its commit.
//!
//! **Invariants**
//! - A decision is stored only if the group is as it was when it was decided. A server's memory spares reading a group
//!   again, and proves nothing.
//! - A reply comes after the commit of its decision. What it takes from the log may be read meanwhile.
//! - Several calls may be decided in one commit. What a decision hands out, and the reply around it, stand on one state of
//!   the group: that behind the decision, or behind the last one of the commit.
//! - No lock is held while the log is read: what was asked is asked again by the decision, and if the question has
//!   changed, so is the answer.
//!
//! | file | what it has |
//! |---|---|
//! | `named` | which group a call means |
//! | `slot` | one group on this server: calls that wait, and what is known of it |
//! | `decider` | loading, deciding, storing |
//! | `renewals` | heartbeats of many groups, decided and stored together |
//! | `lookup` | what decisions ask of the log |
//! | `members` | join, heartbeat, leave |
//! | `reading` | `group.read` |
//! | `parking` | park, handled, parked, retry, skip |
//! | `managing` | the calls of operators |
//! | `keeping` | groups that outlive their log |
//! | `status` | status and wait |
//! | `watch` | sees what other servers do to groups that somebody waits for |

mod decider;
mod keeping;
mod lookup;
mod managing;
mod members;
mod named;
mod parking;
mod reading;
mod renewals;
mod slot;
mod status;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::decider::Decider;
use self::named::Target;
use self::renewals::Renewals;
use self::slot::{Decided, Slot};
use self::watch::Watch;
use super::base::Base;
use super::known::KnownGroup;
use super::read::Reader;
use super::write::Writer;
use crate::error::Result;
use crate::groups::Definition;
use crate::storage::groups::GroupTag;

pub use named::Named;

/// How often somebody who waits looks at the group, in case it was not woken.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// For how long a server that is asked to decides nothing about a group: the other one has to ask the database twice.
const GIVE_WAY: Duration = Duration::from_millis(100);
/// For how long a group ignores such requests after one of which nobody made use.
const IN_VAIN: Duration = Duration::from_secs(1);
/// Groups of which something is known, at most, unless members of more are alive.
const KNOWN: usize = 1_000;

/// The groups of one log.
pub struct Groups {
    decider: Arc<Decider>,
    slots: Mutex<HashMap<Arc<str>, Arc<Slot>>>,
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Groups").field("namespace", &self.decider.base.namespace).finish_non_exhaustive()
    }
}

impl Groups {
    pub(super) fn new(base: Arc<Base>, reader: Arc<Reader>, writer: Arc<Writer>) -> Self {
        let (watch, renewals) = (Watch::default(), Renewals::default());
        Self { decider: Arc::new(Decider { base, reader, writer, watch, renewals }), slots: Mutex::default() }
    }

    /// What never changes about a group.
    ///
    /// # Errors
    /// [`crate::Error::GroupNotFound`], [`crate::Error::Closed`], [`crate::Error::Replacing`],
    /// [`crate::Error::Unavailable`], [`crate::Error::Failed`]; so for all methods here. What a group refuses is
    /// [`crate::Error::Group`]. After [`crate::Error::Unknown`] the call may have happened, and may be repeated.
    pub async fn definition(&self, group: impl Into<Named>) -> Result<Arc<Definition>> {
        let group = group.into();
        let slot = self.slot(&group);
        match slot.known.last_seen().filter(|seen| slot.allowed.allows(seen.definition())) {
            Some(seen) => Ok(Arc::clone(seen.definition())),
            None => self.definition_now(group).await,
        }
    }

    /// As [`Groups::definition`], of the group that there is at the time of the call. What this server remembers may be of one
    /// that was deleted since, through another server.
    ///
    /// # Errors
    /// As above.
    pub async fn definition_now(&self, group: impl Into<Named>) -> Result<Arc<Definition>> {
        Ok(Arc::clone(self.now(&self.slot(group)).await?.group.definition()))
    }

    /// Ends the leases and deadlines that are over, of every group by name. A server does so by its timers; a test that
    /// gives the clock calls it.
    ///
    /// # Errors
    /// As above.
    #[cfg(feature = "testing")]
    pub async fn expire(&self) -> Result<()> {
        for name in self.decider.base.groups.storage.names().await? {
            self.now(&self.slot(&*name)).await?;
        }
        Ok(())
    }

    /// Another server has changed a group, it is said: whoever waits for it looks.
    pub(crate) fn hint(&self, group: GroupTag) {
        for known in self.decider.base.groups.tagged(group) {
            known.wake();
            let slot = self.slots.lock().get(&known.name).cloned();
            if let Some(slot) = slot {
                slot.hurry(&self.decider);
            }
        }
    }

    /// A notification says that another server cannot change a group, because this one is always first. This one then
    /// decides nothing about the group for a moment. Any role of a shared database can send such notifications: a group
    /// gives way to one at a time, and ignores them for a while if nobody changed it meanwhile.
    pub(crate) fn give_way(&self, group: GroupTag) {
        for known in self.decider.base.groups.tagged(group) {
            let Some(gives_way) = known.begin_to_give_way() else { continue };
            let base = Arc::clone(&self.decider.base);
            tokio::spawn(async move {
                if !leave_alone(base, &known).await {
                    tokio::time::sleep(IN_VAIN).await;
                }
                drop(gives_way);
            });
        }
    }

    /// A call of a member whose decision panics, and may wait for those of others.
    #[cfg(test)]
    pub(crate) async fn panics_soon(&self, group: &str, member: &str) -> Result<()> {
        let decide = |_: &mut crate::groups::Group, _: &mut crate::groups::Moment| panic!("a test");
        let decided = self.slot(group).decide_soon(&self.decider, member.into(), decide).await;
        decided.map(|((), _)| ())
    }

    /// A group as it is now.
    async fn now(&self, target: &Target) -> Result<Decided> {
        let ((), decided) = target.decide(&self.decider, |_, _| Ok(())).await?;
        Ok(decided)
    }

    /// The group that is meant, on this server, whether it exists or not.
    fn slot(&self, group: impl Into<Named>) -> Target {
        let (name, allowed) = group.into().into_parts();
        Target { slot: self.slot_of(&name), allowed }
    }

    fn slot_of(&self, name: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(name) {
            return Arc::clone(slot);
        }
        if slots.len() >= KNOWN {
            // In use by nobody, and without members whose leases only memory has.
            slots.retain(|_, slot| {
                Arc::strong_count(slot) > 1 || slot.known.last_seen().is_some_and(|g| g.members() > 0)
            });
        }
        let slot = Arc::new(Slot::new(self.decider.base.groups.get(name)));
        slots.insert(Arc::clone(&slot.known.name), Arc::clone(&slot));
        slot
    }

    /// Lets nothing be decided about a group until the result is dropped.
    #[cfg(test)]
    pub(crate) async fn hold(&self, group: &str) -> impl Drop + use<> {
        Arc::clone(&self.slot_of(group).known.turn).lock_owned().await
    }

    /// Tells of what happens to a group from now on, through whatever server.
    fn changes(&self, slot: &Slot) -> tokio::sync::watch::Receiver<u64> {
        let changes = slot.known.changes();
        self.decider.watch();
        changes
    }
}

/// Decides nothing about a group for a moment. Returns whether somebody else has changed it meanwhile.
async fn leave_alone(base: Arc<Base>, known: &KnownGroup) -> bool {
    let mut changes = known.changes();
    let _turn = known.turn.lock().await;
    let before = known.seen().map(|(version, _)| version);
    // The other one tells what it has changed, unless it was nothing but leases.
    if tokio::time::timeout(GIVE_WAY, changes.changed()).await.is_ok() {
        return true;
    }
    match base.groups.look(known, Vec::new(), base.window.head()).await {
        Ok((version, _, _)) => before != Some(version),
        Err(_) => false,
    }
}
