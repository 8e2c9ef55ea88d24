//! The calls of operators about a group as a whole.

use std::ops::ControlFlow;
use std::sync::Arc;

use eventodb_protocol::Timestamp;
use eventodb_protocol::group::reply::{Audited, GroupDeleted, GroupListed, GroupSummary, Reset};
use eventodb_protocol::request::group::{AuditPage, CreateGroup, ResetGroup, ResetTo, ResizeGroup, UpdateGroup};

use super::lookup::{filter, scope};
use super::{Decided, Groups, Named};
use crate::error::{Error, Result};
use crate::groups::{Change, Group, Moment, Refusal, ResetPlan, ResetPoint};
use crate::log::known;
use crate::log::read::{Met, Scan};
use crate::model::Columns;
use crate::storage::groups::Found;

/// Attempts at a call that another change of the group comes before.
const ATTEMPTS: u32 = 100;

impl Groups {
    /// `group.create`.
    ///
    /// # Errors
    /// As [`Self::definition`], but for an unknown group.
    pub async fn create(&self, group: impl Into<Named>, new: CreateGroup) -> Result<GroupSummary> {
        let slot = self.slot(group);
        for attempt in 0..ATTEMPTS {
            // Nothing begins while another log takes this one's place.
            let turn = slot.known.turn.lock().await;
            let looked = self.decider.ask(&slot.known.name).await?;
            let mut at = self.decider.base.groups.moment(&looked);
            if let Found::Changed(_, stored) = looked.group {
                return Group::load(*stored).create_again(&new, &at).map_err(Error::Group);
            }
            let others = self.decider.base.groups.storage.names().await?.len();
            let before = at.last_epoch;
            let created = Group::create(&slot.known.name, &new, others, &mut at).map_err(Error::Group)?;
            let summary = created.summary(&at);
            let change = Change::new(&slot.known.name, None, known::stamp(), &created, before, &at);
            if self.decider.base.groups.storage.change(change).await?.is_some() {
                slot.known.forget();
                return Ok(summary);
            }
            drop(turn);
            self.decider.pause(attempt).await;
        }
        Err(Error::unavailable("other calls create and delete the group all the time"))
    }

    /// `group.update`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn update(&self, group: impl Into<Named>, update: UpdateGroup) -> Result<GroupSummary> {
        let decide = move |group: &mut Group, at: &mut Moment| Ok(group.update(&update, at));
        Ok(self.slot(group).decide(&self.decider, decide).await?.0)
    }

    /// `group.delete`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn delete(&self, group: impl Into<Named>) -> Result<GroupDeleted> {
        let slot = self.slot(group);
        for attempt in 0..ATTEMPTS {
            let Decided { group: known, at } = self.now(&slot).await?;
            let turn = slot.known.turn.lock().await;
            self.decider.writer.may_change()?;
            let seen = slot.known.seen().filter(|(_, seen)| seen.definition() == known.definition());
            // Until its outcome is known.
            slot.known.doubt();
            if let Some((version, _)) = seen
                && self.decider.base.groups.storage.delete(&slot.known.name, version).await?
            {
                slot.known.forget();
                return Ok(known.deleted(&at));
            }
            drop(turn);
            self.decider.pause(attempt).await;
        }
        Err(Error::unavailable("the group is changed all the time"))
    }

    /// `group.list`: by name.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn list(&self) -> Result<Vec<GroupListed>> {
        let mut listed = Vec::new();
        for name in self.decider.base.groups.storage.names().await? {
            match self.now(&self.slot(&*name)).await {
                Ok(decided) => listed.push(decided.group.listed()),
                // Deleted meanwhile.
                Err(Error::GroupNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }

    /// `group.pause`. The audit names the `token`; so for the methods below.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn pause(&self, group: impl Into<Named>, token: Option<String>) -> Result<GroupSummary> {
        self.operate(group, token, |group, at| Ok(group.set_paused(true, at))).await
    }

    /// `group.resume`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn resume(&self, group: impl Into<Named>, token: Option<String>) -> Result<GroupSummary> {
        self.operate(group, token, |group, at| Ok(group.set_paused(false, at))).await
    }

    /// `group.resize`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn resize(
        &self,
        group: impl Into<Named>,
        resize: ResizeGroup,
        token: Option<String>,
    ) -> Result<GroupSummary> {
        self.operate(group, token, move |group, at| group.resize(resize, at)).await
    }

    async fn operate(
        &self,
        group: impl Into<Named>,
        token: Option<String>,
        decide: impl FnMut(&mut Group, &mut Moment) -> Result<GroupSummary, Refusal> + Send + 'static,
    ) -> Result<GroupSummary> {
        Ok(self.slot(group).decide_for(&self.decider, Vec::new(), token, decide).await?.0)
    }

    /// `group.reset`. The messages that are handled again or skipped are counted before it, as they were then.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn reset(&self, group: impl Into<Named>, reset: ResetGroup, token: Option<String>) -> Result<Reset> {
        let slot = self.slot(group);
        let decided = self.now(&slot).await?;
        let place = self.place(&reset.to).await?;
        let plan = self.count(place.plan(&decided.group, &reset, &decided.at)?, &decided).await?;
        if reset.dry_run {
            return Ok(plan.reply());
        }
        let decide = move |group: &mut Group, at: &mut Moment| {
            let now = place.plan_as(group, &reset, at)?.counted_by(&plan);
            let reply = now.reply();
            group.carry_out(now, at);
            Ok(reply)
        };
        Ok(slot.decide_for(&self.decider, Vec::new(), token, decide).await?.0)
    }

    /// Where a reset goes.
    async fn place(&self, to: &ResetTo) -> Result<Place> {
        Ok(match to {
            ResetTo::End => Place::End,
            ResetTo::Position(position) => Place::Position(*position),
            ResetTo::Time(time) => Place::Position(self.decider.reader.position_at(*time).await? - 1),
            ResetTo::Group(other) => Place::Group(self.now(&self.slot(other)).await?.group),
        })
    }

    /// Counts what a reset concerns.
    async fn count(&self, mut plan: ResetPlan, decided: &Decided) -> Result<ResetPlan> {
        let definition = decided.group.definition();
        self.decider.reader.show(decided.at.head).await?;
        let (above, upto) = plan.range();
        let scan = Scan {
            filter: filter(definition, scope(definition)),
            above,
            upto: upto.min(decided.at.head),
            columns: Columns::Positions,
            rows: usize::MAX,
        };
        self.decider
            .reader
            .scan_all(&scan, |found| {
                if let Met::Message(message) = found {
                    plan.offer(message.global_position, message.stream, message.kind);
                }
                if plan.is_counted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .await?;
        Ok(plan)
    }

    /// `group.audit`: newest first.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn audit(&self, group: impl Into<Named>, page: AuditPage) -> Result<Vec<Audited>> {
        let slot = self.slot(group);
        self.now(&slot).await?;
        let entries = self.decider.base.groups.storage.audit(&slot.known.name, page.below, page.limit).await?;
        let audited = entries.into_iter().map(|entry| Audited {
            id: entry.id,
            at: Timestamp::from_micros(entry.at.saturating_mul(1000)),
            token_id: entry.token,
            act: entry.act.into_owned(),
            details: entry.details,
        });
        Ok(audited.collect())
    }
}

/// Where a reset goes.
enum Place {
    End,
    Position(i64),
    Group(Arc<Group>),
}

impl Place {
    fn plan(&self, group: &Group, reset: &ResetGroup, at: &Moment) -> Result<ResetPlan> {
        self.plan_as(group, reset, at).map_err(Error::Group)
    }

    fn plan_as(&self, group: &Group, reset: &ResetGroup, at: &Moment) -> Result<ResetPlan, Refusal> {
        let to = match self {
            Self::End => ResetPoint::Position(at.head),
            Self::Position(position) => ResetPoint::Position(*position),
            Self::Group(source) => ResetPoint::Group(source),
        };
        group.plan_reset(reset.partitions.as_deref(), to, at)
    }
}
