//! `group.reset`: partitions begin anew somewhere else.
//!
//! A reset is planned first, then told or carried out. The plan is offered the messages of the log, and counts those that
//! are handled again or skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eventodb_protocol::group::partition_of;
use eventodb_protocol::group::reply::{PartitionReset, Reset};
use eventodb_protocol::limits::COUNTED;
use serde_json::json;

use super::carried::{Carried, Void};
use super::group::{Group, Moment};
use super::parked::Parked;
use super::refusal::Refusal;

/// Where partitions begin anew.
#[derive(Clone, Copy, Debug)]
pub enum ResetPoint<'a> {
    /// Above this position.
    Position(i64),
    /// Where another group is.
    Group(&'a Group),
}

/// A reset that is not carried out yet.
#[derive(Clone, Debug)]
pub struct ResetPlan {
    /// By partition, how many messages it handles again or skips.
    messages: BTreeMap<u32, usize>,
    to: i64,
    before: Group,
    after: Group,
}

impl Group {
    /// What a reset of these partitions (`None`: of all) would do.
    ///
    /// # Errors
    /// `Resizing`; `Invalid` if a partition does not exist, the position is above the head, or the other group reads
    /// something else.
    pub fn plan_reset(&self, chosen: Option<&[u32]>, to: ResetPoint<'_>, at: &Moment) -> Result<ResetPlan, Refusal> {
        if self.settings.resizing_to.is_some() {
            return Err(Refusal::Resizing);
        }
        let count = self.partitions.count();
        let chosen: BTreeSet<u32> =
            chosen.map_or_else(|| (0..count).collect(), |given| given.iter().copied().collect());
        if let Some(unknown) = chosen.iter().find(|partition| **partition >= count) {
            return Err(Refusal::Invalid(format!("partitions must be below {count}, got {unknown}")));
        }
        let (to, source) = match to {
            ResetPoint::Position(position) => (position, None),
            ResetPoint::Group(source) => (source.lowest_checkpoint(), Some(source)),
        };
        if to > at.head {
            return Err(Refusal::above_head("to", to, at.head));
        }
        let reads_the_same = |source: &Group| {
            (&source.definition.categories, &source.definition.types)
                == (&self.definition.categories, &self.definition.types)
        };
        if source.is_some_and(|source| !reads_the_same(source)) {
            return Err(Refusal::Invalid(
                "to.group must be a group that reads the same categories and types".to_owned(),
            ));
        }
        let mut after = self.clone();
        after.begin_anew(&chosen, to, source, at);
        let messages = chosen.into_iter().map(|partition| (partition, 0)).collect();
        Ok(ResetPlan { messages, to, before: self.clone(), after })
    }

    /// Carries a plan out that was made of this group as it is. The reply is [`ResetPlan::reply`].
    pub fn carry_out(&mut self, plan: ResetPlan, at: &mut Moment) {
        let chosen: Vec<u32> = plan.messages.keys().copied().collect();
        *self = plan.after;
        self.record(at, "reset", json!({ "to": plan.to, "partitions": chosen }));
        self.begin_epochs(&chosen, at);
        self.settings.generation += 1;
        self.forget_carried();
    }

    fn lowest_checkpoint(&self) -> i64 {
        self.partitions.checkpoints().into_iter().min().unwrap_or_default()
    }

    /// The position up to which everything is handled, and the one above which nothing is.
    fn handled_range(&self) -> (i64, i64) {
        let parked: Vec<i64> = self.park.iter().map(|(_, parked)| parked.handled).collect();
        let carried = self.carried.iter().flat_map(|carried| carried.checkpoints.iter().copied());
        let checkpoints = self.partitions.checkpoints();
        let lowest = checkpoints.iter().copied().chain(parked.iter().copied()).min();
        let highest = checkpoints.iter().copied().chain(parked).chain(carried).max();
        (lowest.unwrap_or_default(), highest.unwrap_or_default())
    }

    /// Sets the checkpoints of the chosen partitions. Nothing that was carried over applies to them any more, also not
    /// after a later resize. Of another group, its checkpoints are carried over and its parked streams come parked.
    fn begin_anew(&mut self, chosen: &BTreeSet<u32>, to: i64, source: Option<&Group>, at: &Moment) {
        let count = self.partitions.count();
        for &partition in chosen {
            self.partitions.set_checkpoint(partition, to, at.now);
        }
        self.carried.make_void(count, chosen);
        let is_inside = |stream: &str| chosen.contains(&partition_of(stream, count));
        let released = self.park.iter().filter(|(_, parked)| source.is_some() || parked.handled >= to);
        let released: Vec<Arc<str>> = released.map(|(stream, _)| stream.clone()).filter(|s| is_inside(s)).collect();
        for stream in released {
            self.park.remove(&stream);
        }
        let Some(source) = source else { return };
        let others: BTreeSet<u32> = (0..count).filter(|partition| !chosen.contains(partition)).collect();
        let checkpoints = Carried { checkpoints: source.partitions.checkpoints(), void: Void::new() };
        for mut layer in source.carried.iter().cloned().chain([checkpoints]) {
            layer.make_void(count, &others);
            self.carried.add(layer);
        }
        for (stream, parked) in source.park.iter().filter(|(stream, _)| is_inside(stream)) {
            let due = if parked.is_out { Some(at.now) } else { parked.due };
            let rev = self.next_rev();
            self.park.add(stream.clone(), Parked { due, rev, is_out: false, ..parked.clone() });
        }
    }
}

impl ResetPlan {
    /// The positions above and up to which messages are handled again or skipped.
    pub fn range(&self) -> (i64, i64) {
        let ends = [&self.before, &self.after].map(Group::handled_range);
        (ends[0].0.min(ends[1].0), ends[0].1.max(ends[1].1))
    }

    /// Takes the counts of another plan of the same reset.
    #[must_use]
    pub fn counted_by(mut self, counted: &Self) -> Self {
        for (partition, count) in &mut self.messages {
            *count = counted.messages.get(partition).copied().unwrap_or_default();
        }
        self
    }

    /// Counts a message of the log. The plan is offered all of them, or as many as the caller can afford.
    pub fn offer(&mut self, position: i64, stream: &str, kind: &str) {
        if !self.before.definition.reads(stream, kind) {
            return;
        }
        let Some(count) = self.messages.get_mut(&self.before.partition_of(stream)) else { return };
        let is_handled = |group: &Group| group.is_handled(stream, position);
        if *count < COUNTED && is_handled(&self.before) != is_handled(&self.after) {
            *count += 1;
        }
    }

    /// Whether counting on would change nothing.
    pub fn is_counted(&self) -> bool {
        self.messages.values().all(|count| *count >= COUNTED)
    }

    /// What it does.
    pub fn reply(&self) -> Reset {
        let row = |(&partition, &messages): (&u32, &usize)| PartitionReset {
            partition,
            from: self.before.partitions.at(partition).checkpoint,
            to: self.to,
            messages,
        };
        Reset { partitions: self.messages.iter().map(row).collect() }
    }
}
