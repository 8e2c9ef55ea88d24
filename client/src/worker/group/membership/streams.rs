//! Calls about one stream: it is parked, or messages of it are handled that were parked.

use std::time::Duration;

use eventodb_protocol::ErrorCode;
use eventodb_protocol::group::reply::{Flowing, ParkAttempts};
use eventodb_protocol::group::{Epoch, Fence, Fenced};
use tokio::time::Instant;

use super::{End, Event, Membership, ending, until_answered};
use crate::error::{Error, Result};
use crate::group::{Park, Settle};
use crate::worker::group::context::Mode;
use crate::worker::group::holds::{Busy, Task};

/// How long a stream waits if no more streams may be parked.
const PARK_FULL_WAIT: Duration = Duration::from_secs(1);
/// How long a read may take that a call about a stream waits for.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// What `group.handled` was called about.
pub(super) struct Settled {
    partition: u32,
    epoch: Epoch,
    stream: String,
    position: i64,
    rev: Option<i64>,
    /// The retry that this is about.
    task: Option<Task>,
}

impl<M: Mode> Membership<'_, M> {
    pub(super) fn park(&mut self, task: Task, attempt: i64, reason: String, wait: Option<Duration>) {
        let park = Park {
            partition: task.partition,
            epoch: task.epoch,
            position: task.position(),
            attempt: Some(attempt),
            reason,
            retry_in_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        };
        self.holds.begin(&task, Busy::Call);
        self.calls += 1;
        let (group, member) = (self.groups.calls.clone(), self.member.clone());
        self.events.spawn(async move {
            let (result, is_open) = until_answered(|| {
                let (group, member, park) = (group.clone(), member.clone(), park.clone());
                async move { group.park(&member, &park).await }
            })
            .await;
            if is_park_full(&result) && !is_open {
                tokio::time::sleep(PARK_FULL_WAIT).await;
            }
            Event::Parked(task, result, is_open)
        });
    }

    pub(super) fn take_parked(&mut self, task: &Task, result: Result<ParkAttempts>, is_open: bool) -> Option<End> {
        self.calls -= 1;
        match result {
            Ok(_) => {
                self.summary.parked += 1;
                self.drop_parked(task);
                None
            }
            Err(Error::Fenced { fenced, .. }) => self.fenced(task, fenced),
            Err(_) if is_park_full(&result) => {
                self.holds.postponed(task);
                if self.is_stopping {
                    // There may never be room. Whoever gets the partition next tries the message.
                    self.give_up(None);
                    return None;
                }
                // A park that arrives after the message was handled would park the stream before it.
                is_open.then_some(End::Open)
            }
            Err(error) => Some(ending(error)),
        }
    }

    /// Gives up what comes of a parked stream, also from the read that is under way.
    fn drop_parked(&mut self, task: &Task) {
        self.holds.parked(task);
        self.read_overlaps_park((task.epoch, task.stream().to_owned(), task.position()));
    }

    pub(super) fn settle_drained(&mut self) {
        for (epoch, drained) in self.holds.take_drained() {
            let settled = Settled {
                partition: drained.partition,
                epoch,
                stream: drained.stream,
                position: drained.position,
                rev: Some(drained.rev),
                task: None,
            };
            self.settle(settled);
        }
    }

    /// A retry is handled.
    pub(super) fn settle_task(&mut self, task: Task) {
        let (partition, epoch, position) = (task.partition, task.epoch, task.position());
        let (stream, rev) = (task.stream().to_owned(), task.retry.map(|(_, rev)| rev));
        self.holds.begin(&task, Busy::Call);
        self.settle(Settled { partition, epoch, stream, position, rev, task: Some(task) });
    }

    /// Nothing is read of its partition any more, and the call is made when the read that is under way has ended.
    fn settle(&mut self, settled: Settled) {
        self.calls += 1;
        self.hush(settled.partition);
        self.unsent.push(settled);
    }

    /// Makes calls that wait for no read. A read that hangs is given up.
    pub(super) fn send_settled(&mut self, now: Instant) {
        if self.settled_waits_until().is_some_and(|until| until <= now) {
            self.drop_read();
        }
        for settled in std::mem::take(&mut self.unsent) {
            match (self.read_of(settled.partition), self.holds.read_to_of(settled.partition, settled.epoch)) {
                (Some(_), _) => self.unsent.push(settled),
                (None, Some(read_to)) => self.send(settled, read_to),
                (None, None) => self.unsettled(settled.partition),
            }
        }
    }

    /// Until when a call waits for the read that is under way.
    pub(super) fn settled_waits_until(&self) -> Option<Instant> {
        let began = self.unsent.iter().filter_map(|settled| self.read_of(settled.partition)).min();
        began.map(|began| began + READ_LIMIT)
    }

    fn unsettled(&mut self, partition: u32) {
        self.calls -= 1;
        self.unhush(partition);
    }

    fn send(&mut self, settled: Settled, read_to: i64) {
        let settle = Settle {
            partition: settled.partition,
            epoch: settled.epoch,
            stream: settled.stream.clone(),
            position: settled.position,
            read_to: Some(read_to),
            rev: settled.rev,
        };
        let (group, member) = (self.groups.calls.clone(), self.member.clone());
        self.events.spawn(async move {
            let result = until_answered(|| {
                let (group, member, settle) = (group.clone(), member.clone(), settle.clone());
                async move { group.handled(&member, &settle).await }
            });
            Event::Settled(settled, result.await.0)
        });
    }

    pub(super) fn take_settled(&mut self, settled: &Settled, result: Result<Flowing>) -> Option<End> {
        self.unsettled(settled.partition);
        let Settled { partition, epoch, stream, position, .. } = settled;
        match result {
            Ok(reply) => {
                self.holds.settled(*partition, *epoch, stream, *position, reply);
                None
            }
            Err(Error::Fenced { fenced, .. }) => match &settled.task {
                Some(task) => self.fenced(task, fenced),
                None if fenced.reason == Fence::Epoch => {
                    self.holds.fence(*partition, *epoch);
                    None
                }
                None => Some(ending(Error::Fenced { fenced, message: String::new() })),
            },
            Err(error) => Some(ending(error)),
        }
    }

    /// What was done about a message stands on something that does not hold any more.
    pub(super) fn fenced(&mut self, task: &Task, fenced: Fenced) -> Option<End> {
        match fenced.reason {
            Fence::Epoch => self.holds.fence(task.partition, task.epoch),
            Fence::Handled => self.holds.dropped(task),
            Fence::Parked => self.drop_parked(task),
            Fence::Lease | Fence::Unknown | Fence::Replaced => {
                return Some(ending(Error::Fenced { fenced, message: fenced.reason.to_string() }));
            }
        }
        None
    }
}

fn is_park_full<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Refused { code: ErrorCode::ParkFull, .. }))
}
