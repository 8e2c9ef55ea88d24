//! The steps of a walk: index entries are taken from the index and from the memtable, brought in order, and followed to
//! their rows.

use std::collections::{VecDeque, vec_deque};
use std::rc::Rc;

use eventodb_protocol::Direction;
use rusqlite::types::Value;

use super::super::checksum::Stored;
use super::super::failure::ReadError;
use super::super::runs;
use super::{Walk, message, row_at};
use crate::model::{Axis, Rows, Slice};

/// One step of a walk: its position on the walk's axis, and its row in the log.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) at: i64,
    pub(super) global_position: i64,
}

/// Runs of one stream or category from the index, in the order asked for.
pub(super) struct Runs<'a> {
    /// The stream or category.
    pub(super) id: i64,
    pub(super) rows: rusqlite::Rows<'a>,
    /// The floor of the memtable: from there on its entries are used.
    pub(super) floor: i64,
    /// The lowest and the highest position wanted on the walk's axis.
    pub(super) bounds: (i64, i64),
}

/// The steps of a walk that may match, as far as the walk came.
pub(super) struct Steps {
    steps: Vec<Step>,
    /// Position on the axis up to which every entry was looked at; `None` if the walk came to its end.
    pub(super) cut: Option<i64>,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self { steps: Vec::new(), cut: None }
    }
}

impl Walk<'_> {
    /// The entries of runs; `look` tells the step of one, and whether it may match.
    pub(super) fn gather<P: runs::Entry>(
        &self,
        runs: Runs<'_>,
        look: impl Fn(P) -> (Step, bool),
    ) -> rusqlite::Result<Steps> {
        let Runs { id, mut rows, floor, bounds: (low, high) } = runs;
        let forward = self.select.direction == Direction::Forward;
        let mut steps = Steps::new();
        let mut examined = 0;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            entries.clear();
            runs::unpack(id, row, &mut entries)?;
            if forward {
                entries.reverse();
            }
            for &entry in &entries {
                let (step, may_match) = look(entry);
                // From the floor on the memtable has the entries; above the head none are wanted.
                let is_above = step.at > high || step.global_position >= floor.min(self.select.head.saturating_add(1));
                let is_below = step.at < low;
                if is_above || is_below {
                    if is_above == forward {
                        return Ok(steps);
                    }
                    continue;
                }
                examined += 1;
                if may_match {
                    steps.steps.push(step);
                }
                if steps.steps.len() == self.select.rows || examined == self.examined {
                    steps.cut = Some(step.at);
                    return Ok(steps);
                }
            }
        }
        Ok(steps)
    }

    /// The entries within the bounds; `at` tells the position of one on the axis, and they ascend by it.
    pub(super) fn within<'p, P>(&self, entries: &'p VecDeque<P>, at: impl Fn(&P) -> i64) -> vec_deque::Iter<'p, P> {
        let (low, high) = self.bounds();
        let start = entries.partition_point(|entry| at(entry) < low);
        let end = entries.partition_point(|entry| at(entry) <= high);
        entries.range(start..end.max(start))
    }

    /// Steps in the order asked for, at most a slice of them; `entries` ascend.
    pub(super) fn first_of(&self, entries: impl DoubleEndedIterator<Item = Step>) -> Steps {
        let visible = |step: &Step| step.global_position <= self.select.head;
        let most = self.select.rows;
        let steps: Vec<Step> = match self.select.direction {
            Direction::Forward => entries.filter(visible).take(most).collect(),
            Direction::Backward => entries.rev().filter(visible).take(most).collect(),
        };
        let cut = (steps.len() == most).then(|| steps.last().map(|step| step.at)).flatten();
        Steps { steps, cut }
    }

    /// Merges several walks: in order, and only as far as all of them came.
    pub(super) fn merge(&self, walks: Vec<Steps>) -> Steps {
        let forward = self.select.direction == Direction::Forward;
        let cuts = walks.iter().filter_map(|walk| walk.cut);
        let cut = if forward { cuts.min() } else { cuts.max() };
        let mut steps: Vec<Step> = walks.into_iter().flat_map(|walk| walk.steps).collect();
        steps.retain(|step| cut.is_none_or(|cut| if forward { step.at <= cut } else { step.at >= cut }));
        if forward {
            steps.sort_unstable_by_key(|step| step.at);
        } else {
            steps.sort_unstable_by_key(|step| std::cmp::Reverse(step.at));
        }
        Steps { steps, cut }
    }

    /// The rows of the steps from the index, and of those from the memtable, which lie above.
    pub(super) fn join(&self, indexed: Steps, recent: Steps) -> Result<Slice, ReadError> {
        let (first, second) = match self.select.direction {
            Direction::Forward => (indexed, recent),
            Direction::Backward => (recent, indexed),
        };
        let (steps, cut) = match first.cut {
            Some(cut) => (first.steps, Some(cut)),
            None => ([first.steps, second.steps].concat(), second.cut),
        };
        // One statement for all rows, because beginning a statement costs more than finding a row.
        let mut statement = self.connection.prepare_cached(include_str!("../sql/messages.sql"))?;
        let positions: Vec<Value> = steps.iter().map(|step| step.global_position.into()).collect();
        let mut found = statement.query([Rc::new(positions)])?;
        let (mut rows, mut last) = (Rows::default(), None);
        let barrier = self.barrier();
        for step in steps {
            if let Some(barrier) = barrier
                && self.lies_beyond(step.global_position, barrier)
            {
                return self.ending_before(barrier, rows, last);
            }
            let sound =
                row_at(&self.checker, step.global_position, found.next(), |stored| self.take(stored, &mut rows))?;
            if sound.is_none() {
                return self.ending_before(step.global_position, rows, last);
            }
            last = Some(step.at);
            if self.is_full(&rows) {
                return Ok(Slice { rows, covered: step.at });
            }
        }
        match (barrier, cut) {
            (None, _) => Ok(Slice { rows, covered: cut.unwrap_or(self.select.to) }),
            // The query ended before it.
            (Some(barrier), Some(cut)) if self.select.axis == Axis::Global && !self.lies_beyond(cut, barrier) => {
                Ok(Slice { rows, covered: cut })
            }
            (Some(barrier), _) => self.ending_before(barrier, rows, last),
        }
    }

    /// Takes the row that a step led to, if it is wanted.
    fn take(&self, stored: &Stored<'_>, rows: &mut Rows) -> rusqlite::Result<()> {
        let stream = stored.stream()?;
        // An index that leads to another stream's message is as damaged as one that leads to none.
        if !self.select.filter.scope.contains(stream) {
            return Err(rusqlite::Error::QueryReturnedNoRows);
        }
        if self.wanted.confirms(stored)? {
            rows.push(message(stored, stream, self.select.columns)?);
        }
        Ok(())
    }

    /// The first damaged message on the way whose stream is not known: it may be any stream's.
    fn barrier(&self) -> Option<i64> {
        let (low, high) = match self.select.axis {
            Axis::Global => self.bounds(),
            Axis::Stream => (0, self.select.head),
        };
        let mut within = self.unplaced.iter().copied().filter(|at| (low..=high).contains(at));
        if self.is_forward() { within.next() } else { within.next_back() }
    }

    fn lies_beyond(&self, at: i64, barrier: i64) -> bool {
        if self.is_forward() { at > barrier } else { at < barrier }
    }
}
