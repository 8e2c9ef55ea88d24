//! The calls of members about their membership.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::group::reply::{Assigned, Heartbeat, Membership, Revoking};
use eventodb_protocol::request::group::{Join, Leave, MemberCall};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::slot::Slot;
use super::{Decided, Groups, Named};
use crate::error::{Error, Result};
use crate::groups::{Group, Moment};

impl Groups {
    /// `group.join`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn join(&self, group: impl Into<Named>, join: Join) -> Result<Membership> {
        let slot = self.slot(group);
        let named = join.instance.iter().map(|instance| instance.to_string().into()).collect();
        let id: Arc<str> = Uuid::now_v7().to_string().into();
        let decide = move |group: &mut Group, at: &mut Moment| group.join(&join, Arc::clone(&id), at);
        let membership = slot.decide_for(&self.decider, named, None, decide).await?.0;
        slot.tell(&membership.member, told(&membership.assigned, &membership.revoking));
        Ok(membership)
    }

    /// `group.leave`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn leave(&self, group: impl Into<Named>, member: &str, leave: Leave) -> Result<()> {
        let member: Arc<str> = member.into();
        let named = vec![Arc::clone(&member)];
        let decide = move |group: &mut Group, at: &mut Moment| group.leave(&member, &leave, at);
        self.slot(group).decide_for(&self.decider, named, None, decide).await.map(|_| ())
    }

    /// `group.heartbeat`. Once `stop` is cancelled, it waits no longer.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn heartbeat(
        &self,
        group: impl Into<Named>,
        member: &str,
        call: MemberCall,
        stop: &CancellationToken,
    ) -> Result<Heartbeat> {
        let slot = self.slot(group);
        let id: Arc<str> = member.into();
        let mut changes = self.changes(&slot);
        let (wait, named) = (call.wait_ms, Arc::clone(&id));
        let only_renews = call.checkpoints.is_empty() && call.released.is_empty() && !self.has_news(&slot, member);
        let decide = move |group: &mut Group, at: &mut Moment| group.heartbeat(&id, &call, at);
        let (mut reply, Decided { group, at: _ }) = match only_renews {
            true => slot.decide_soon(&self.decider, named, decide).await?,
            false => slot.decide_for(&self.decider, vec![named], None, decide).await?,
        };
        let deadline = Instant::now() + wait_of(wait, &group);
        // Thousands of calls may wait: none of them keeps a state of the group.
        drop(group);
        let fenced = reply.fenced.clone();
        loop {
            let now = told(&reply.membership.assigned, &reply.membership.revoking);
            let is_over = wait == 0 || stop.is_cancelled() || Instant::now() >= deadline;
            if is_over || !fenced.is_empty() || slot.is_news(member, now) {
                slot.tell(member, now);
                return Ok(reply);
            }
            let is_over = tokio::select! {
                biased;
                _ = changes.changed() => false,
                () = self.decider.base.window.closed() => return Err(Error::Closed),
                () = tokio::time::sleep_until(deadline) => true,
                () = stop.cancelled() => true,
            };
            if is_over && reply.membership.revoking.is_empty() {
                // It was decided when the call came, and nobody has heard of a change since.
                return Ok(reply);
            }
            let (id, fenced) = (Arc::<str>::from(member), fenced.clone());
            let decide = move |group: &mut Group, at: &mut Moment| group.look_again(&id, fenced.clone(), at);
            reply = slot.decide_for(&self.decider, vec![member.into()], None, decide).await?.0;
        }
    }

    /// Whether a member of the group, as it was last seen, would learn of something that it was not told.
    pub(super) fn has_news(&self, slot: &Slot, member: &str) -> bool {
        let Some(group) = slot.known.last_seen() else { return true };
        let at = Moment::of(self.decider.base.groups.about_now(), 0);
        let again = group.look_again(member, Vec::new(), &at);
        again.map_or(true, |again| slot.is_news(member, told(&again.membership.assigned, &again.membership.revoking)))
    }
}

/// How long a member's call may wait.
pub(super) fn wait_of(wait_ms: i64, group: &Group) -> Duration {
    Duration::from_millis(u64::try_from(wait_ms.min(group.session_ms() / 3)).unwrap_or_default())
}

/// A number for what a member owns, by which a change is noticed.
pub(super) fn told(assigned: &[Assigned], revoking: &[Revoking]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    for Assigned { partition, epoch, .. } in assigned {
        (partition, epoch, true).hash(&mut hasher);
    }
    for Revoking { partition, epoch, .. } in revoking {
        (partition, epoch, false).hash(&mut hasher);
    }
    hasher.finish()
}
