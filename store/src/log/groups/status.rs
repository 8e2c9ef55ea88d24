//! `group.status` and `group.wait`.

use std::ops::ControlFlow;
use std::time::Duration;

use eventodb_protocol::Scope;
use eventodb_protocol::group::reply::{GroupStatus, Waited};
use eventodb_protocol::request::group::Wait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lookup::{filter, scope};
use super::{Decided, Groups, LOOK_AGAIN, Named};
use crate::error::{Error, Result};
use crate::figures::GroupSample;
use crate::groups::Group;
use crate::log::read::{Met, Scan};
use crate::model::Columns;

/// Messages that are counted for one status, at most.
const LOOKED_AT: usize = 1_000_000;
/// The same for metrics.
const SAMPLED: usize = 20_000;
/// As many of them a damaged one counts for, because the log is searched anew behind it.
const DAMAGED_COUNTS: usize = 1_000;

impl Groups {
    /// `group.status`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn status(&self, group: impl Into<Named>) -> Result<GroupStatus> {
        self.status_within(group, LOOKED_AT).await
    }

    /// What metrics tell of each of the groups, in the order of their names: of the first `most`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub(crate) async fn sample(&self, most: usize) -> Result<Vec<GroupSample>> {
        let mut samples = Vec::new();
        for name in self.decider.base.groups.storage.names().await?.into_iter().take(most) {
            match self.status_within(&*name, SAMPLED).await {
                Ok(status) => samples.push(GroupSample::of(&self.decider.base.namespace, name, &status)),
                Err(Error::GroupNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(samples)
    }

    /// The status, for which at most `most` messages are counted, or about so many.
    async fn status_within(&self, group: impl Into<Named>, most: usize) -> Result<GroupStatus> {
        let Decided { group, at } = self.now(&self.slot(group)).await?;
        let reader = &self.decider.reader;
        reader.show(at.head).await?;
        let mut waiting = group.waits();
        let scan = scan_of(&group, scope(group.definition()), waiting.begins_above(), at.head);
        let mut looked = 0;
        reader
            .scan_all(&scan, |found| {
                match found {
                    Met::Message(message) => {
                        looked += 1;
                        waiting.offer(message.global_position, message.stream, message.kind);
                    }
                    Met::Damaged(position) => {
                        looked += DAMAGED_COUNTS;
                        waiting.met_damaged(position);
                    }
                }
                let is_over = looked >= most || waiting.is_counted();
                if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .await?;
        for position in waiting.oldest() {
            if let Some(message) = self.decider.message_at(position).await? {
                waiting.was_written(position, message.time.as_micros() / 1000);
            }
        }
        Ok(waiting.status(&at))
    }

    /// `group.wait`. Once `stop` is cancelled, it waits no longer.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn wait(&self, group: impl Into<Named>, wait: Wait, stop: &CancellationToken) -> Result<Waited> {
        let slot = self.slot(group);
        let window = &self.decider.base.window;
        let deadline = Instant::now() + Duration::from_millis(u64::try_from(wait.timeout_ms).unwrap_or_default());
        let mut changes = self.changes(&slot);
        loop {
            let decided = self.now(&slot).await?;
            let waited = self.look_how_far(&decided, &wait).await?;
            if waited.reached || stop.is_cancelled() || Instant::now() >= deadline {
                return Ok(waited);
            }
            let poll = deadline.min(Instant::now() + LOOK_AGAIN);
            let is_ahead = decided.at.head < wait.position;
            tokio::select! {
                _ = changes.changed() => {}
                _ = window.shows(wait.position), if is_ahead => {}
                () = tokio::time::sleep_until(poll) => {}
                () = stop.cancelled() => {}
                () = window.closed() => return Err(Error::Closed),
            }
        }
    }

    /// How far the group is, as it is now.
    async fn look_how_far(&self, decided: &Decided, wait: &Wait) -> Result<Waited> {
        let Decided { group, at } = decided;
        let reader = &self.decider.reader;
        reader.show(at.head).await?;
        let scope = wait.stream.as_deref().map_or_else(|| scope(group.definition()), |name| Scope::Stream(name.into()));
        let scan = scan_of(group, scope, group.waits().begins_above(), wait.position.min(at.head));
        let mut is_waiting = false;
        let scanned = reader
            .scan(&scan, |message| {
                is_waiting = group.keeps_waiting(wait, message.global_position, message.stream, message.kind);
                if is_waiting { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .await?;
        let left = self.decider.all_left(group.definition(), &group.wait_spans(wait)).await?;
        // A message that cannot be read may wait.
        Ok(group.waited(wait, is_waiting || scanned.damaged.is_some(), &left, at))
    }
}

/// What the group reads of a scope between two positions, without its content.
fn scan_of(group: &Group, scope: Scope, above: i64, upto: i64) -> Scan {
    let filter = filter(group.definition(), scope);
    Scan { filter, above, upto, columns: Columns::Positions, rows: usize::MAX }
}
