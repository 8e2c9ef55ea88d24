//! One membership: from a join until the worker stops or its lease ends.
//!
//! One task decides everything. Calls and handlers are tasks that report to it, so that nothing here waits for them.

mod calls;
mod handling;
mod streams;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::group::reply::{Flowing, GroupStatus, Heartbeat, Membership as Joined, ParkAttempts};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::calls::{Beat, Reading, Way};
use self::handling::{Outcome, PutOff};
use self::streams::Settled;
use super::context::Mode;
use super::handlers::Handlers;
use super::holds::{Holds, Lists, Task};
use super::{GroupSummary, Settings, failure, is_lost};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::group::{Group, GroupPage, MemberCall};
use crate::retry::RetryPolicy;
use crate::worker::WorkerError;

pub(super) struct Membership<'a, M> {
    client: &'a Client,
    groups: &'a Groups,
    handlers: Arc<Handlers<M>>,
    settings: &'a Settings,
    summary: &'a mut GroupSummary,
    member: String,
    holds: Holds,
    events: JoinSet<Event>,
    read: Option<Reading>,
    reads: Way,
    /// Heartbeats that are under way.
    beats: Vec<Beat>,
    heartbeats: Way,
    /// When a heartbeat is due at the latest.
    next_beat: Instant,
    /// How many reads and heartbeats were sent.
    sent: u64,
    /// When a checkpoint was sent last.
    saved: Instant,
    /// How many handlers run.
    running: usize,
    /// Messages whose handler failed and is called again.
    put_off: Vec<PutOff>,
    /// By partition, how many things are under way that no read of it may accompany: their streams could flow again, and
    /// what a read had withheld of them would be missing.
    quiet: HashMap<u32, usize>,
    /// Calls about streams that wait for the end of a read.
    unsent: Vec<Settled>,
    /// How many calls about streams are under way.
    calls: usize,
    /// The head that was told when there seemed to be nothing more to handle. A worker that ends once it has caught up ends
    /// when it has read to there.
    caught_up_at: Option<i64>,
    /// No more messages are begun that need not be.
    is_stopping: bool,
    /// Nothing at all is begun any more, because a message failed.
    is_giving_up: bool,
    failed: Option<WorkerError>,
    /// Cancelled when everything is given up at once.
    over: CancellationToken,
    /// A read was answered.
    has_read: bool,
}

/// The group, by clients that send each call once.
pub(super) struct Groups {
    /// For all calls but heartbeats.
    pub(super) calls: Group,
    /// For heartbeats, over connections of their own: neither a busy pool nor a connection that hangs delays them.
    pub(super) heartbeats: Group,
}

/// How a membership ended.
pub(super) enum End {
    Stopped,
    /// The lease has ended, and the worker joins again.
    Lost,
    /// The server does not accept what it has told itself: it has lost its newest rows. The worker leaves and joins again.
    Refused,
    /// Nobody knows whether a commit or a park will still arrive. The worker leaves and joins again: the new epochs refuse it.
    Open,
    Failed(WorkerError),
}

/// What a task reports.
enum Event {
    /// The reply to the read of this number.
    Read(u64, Result<GroupPage>),
    /// The reply to the heartbeat of this number.
    Heartbeat(u64, Result<Heartbeat>),
    Handled(PutOff, Outcome),
    /// What came of a park, and whether an earlier attempt of it may still arrive.
    Parked(Task, Result<ParkAttempts>, bool),
    Settled(Settled, Result<Flowing>),
    /// Where the group stands: asked when there seems to be nothing more to handle; and whether the page before went on.
    Status(Result<GroupStatus>, bool),
}

impl<'a, M: Mode> Membership<'a, M> {
    pub(super) fn new(
        client: &'a Client,
        groups: &'a Groups,
        handlers: Arc<Handlers<M>>,
        settings: &'a Settings,
        summary: &'a mut GroupSummary,
        started: Instant,
        joined: &Joined,
    ) -> Self {
        let mut holds = Holds::new(started);
        holds.take_lists(started, &lists_of(joined));
        let next_beat = started + holds.session() / 3;
        Self {
            client,
            groups,
            handlers,
            settings,
            summary,
            member: joined.member.clone(),
            holds,
            events: JoinSet::new(),
            read: None,
            reads: Way::new(started),
            beats: Vec::new(),
            heartbeats: Way::new(started),
            next_beat,
            sent: 0,
            saved: started,
            running: 0,
            put_off: Vec::new(),
            quiet: HashMap::new(),
            unsent: Vec::new(),
            calls: 0,
            caught_up_at: None,
            is_stopping: false,
            is_giving_up: false,
            failed: None,
            over: CancellationToken::new(),
            has_read: false,
        }
    }

    /// Runs until it ends. An old membership that nobody may act for any more is left by a task among `leaving`.
    pub(super) async fn run(mut self, stop: &CancellationToken, leaving: &mut JoinSet<()>) -> End {
        let end = self.until_end(stop).await;
        let call = match end {
            End::Refused => MemberCall::default(),
            _ => self.checkpoint_call(),
        };
        match &end {
            End::Stopped => self.leave(call).await,
            End::Lost => {
                if self.abandon(stop).await {
                    self.leave_behind(call, leaving);
                }
            }
            // There is no membership any more that could be left.
            End::Failed(WorkerError::Duplicate(_)) => {
                self.abandon(stop).await;
            }
            End::Refused | End::Open | End::Failed(_) => {
                if self.abandon(stop).await && Instant::now() < self.holds.lease_end() {
                    self.leave(call).await;
                }
            }
        }
        end
    }

    async fn until_end(&mut self, stop: &CancellationToken) -> End {
        if stop.is_cancelled() {
            self.stop();
        }
        loop {
            let now = Instant::now();
            if now >= self.holds.lease_end() {
                return self.failed.take().map_or(End::Lost, End::Failed);
            }
            self.holds.expire(now);
            self.advance(now);
            if self.is_finished() {
                return self.failed.take().map_or(End::Stopped, End::Failed);
            }
            let wake = self.wake(now);
            let event = tokio::select! {
                Some(event) = self.events.join_next() => Some(event),
                () = stop.cancelled(), if !self.is_stopping => None,
                () = sleep_until(wake) => continue,
            };
            let end = match event {
                None => {
                    self.stop();
                    None
                }
                Some(Ok(event)) => self.take(event),
                Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // A read that is not wanted any more.
                Some(Err(_)) => None,
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Begins all that can be begun.
    fn advance(&mut self, now: Instant) {
        while self.running < self.settings.concurrency && !self.is_giving_up {
            let Some(next) = self.next_try(now) else { break };
            self.handle(next);
        }
        if !self.is_giving_up {
            self.settle_drained();
        }
        self.send_settled(now);
        self.start_read(now);
        self.start_heartbeat(now);
    }

    fn take(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Read(number, result) => self.take_read(number, result),
            Event::Heartbeat(number, result) => self.take_heartbeat(number, result),
            Event::Handled(tried, outcome) => self.take_outcome(tried, outcome),
            Event::Parked(task, result, is_open) => self.take_parked(&task, result, is_open),
            Event::Settled(settled, result) => self.take_settled(&settled, result),
            Event::Status(result, went_on) => self.take_status(result, went_on),
        }
    }

    fn stop(&mut self) {
        self.is_stopping = true;
        self.drop_read();
        self.holds.cut();
        self.give_back_what_is_put_off();
    }

    /// Ends the worker as soon as the handlers that run have ended. The messages that they leave come again.
    fn give_up(&mut self, failed: Option<WorkerError>) {
        self.is_giving_up = true;
        self.failed = self.failed.take().or(failed);
        self.stop();
    }

    fn is_finished(&self) -> bool {
        let is_done = if self.is_giving_up { self.calls == 0 } else { self.holds.is_idle() };
        self.is_stopping && self.running == 0 && is_done
    }

    fn wake(&self, now: Instant) -> Instant {
        let save = (self.beats.is_empty() && self.has_unsaved()).then(|| self.saved + self.settings.checkpoint_every);
        let tries = self.put_off.iter().map(|put_off| put_off.due).min();
        let read = self.settled_waits_until();
        let times = [self.holds.next_deadline(), save, tries, Some(self.reads.not_before), self.beat_due(), read];
        let later = times.into_iter().flatten().filter(|time| *time > now);
        later.chain([self.holds.lease_end()]).min().unwrap_or(now)
    }

    /// How often the member calls.
    fn interval(&self) -> Duration {
        self.holds.session() / 3
    }

    fn checkpoint_call(&self) -> MemberCall {
        MemberCall { checkpoints: self.holds.checkpoints(), ..MemberCall::default() }
    }

    /// Ends all handlers. Returns whether they have ended: until then nobody else may act. A handler that
    /// blocks its thread is waited for in any case, because the worker may get the same stream back; but not after a stop.
    async fn abandon(&mut self, stop: &CancellationToken) -> bool {
        self.over.cancel();
        self.drop_read();
        self.holds.drop_all();
        while self.running > 0 {
            let event = tokio::select! {
                Some(event) = self.events.join_next() => event,
                () = stop.cancelled(), if !self.is_stopping => break,
            };
            if let Ok(Event::Handled(..)) = event {
                self.running -= 1;
            }
        }
        self.running == 0
    }

    /// Leaves when the server answers again: it may answer heartbeats that have waited since, and each would renew the lease.
    fn leave_behind(&self, call: MemberCall, leaving: &mut JoinSet<()>) {
        let (group, member) = (self.groups.calls.clone(), self.member.clone());
        leaving.spawn(async move { drop(until_answered(|| group.leave(&member, &call)).await) });
    }

    /// Gives everything back at once. If the server does not answer, the lease ends by itself.
    async fn leave(&self, call: MemberCall) {
        let retry = RetryPolicy::default().give_up_after(self.interval());
        let group = self.client.with_retry_policy(retry).group(self.groups.calls.name());
        let left = tokio::time::timeout(self.holds.session(), group.leave(&self.member, &call)).await;
        if let Ok(Err(error)) = left {
            tracing::warn!(%error, "cannot leave the group");
        }
    }
}

fn lists_of(joined: &Joined) -> Lists<'_> {
    Lists {
        generation: joined.generation,
        session_ms: joined.session_ms,
        assigned: &joined.assigned,
        revoking: &joined.revoking,
    }
}

/// How a membership ends with an error that does not pass.
fn ending(error: Error) -> End {
    if is_lost(&error) { End::Lost } else { End::Failed(failure(error)) }
}

/// How a membership ends whose read or heartbeat fails for good. What a server refuses that was read before is lost there.
fn ending_of_read(error: Error, has_read: bool) -> End {
    if has_read && matches!(error, Error::InvalidRequest { .. }) {
        tracing::warn!(%error, "the server does not know what was read");
        return End::Refused;
    }
    ending(error)
}

/// Repeats a call until there is an answer to it. The membership ends it if the lease ends before. Also tells whether an
/// attempt before was not answered, so that it may still arrive.
pub(super) async fn until_answered<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> (Result<T>, bool) {
    let (mut backoff, mut is_open) = (RetryPolicy::forever().start(), false);
    loop {
        let error = match call().await {
            Ok(reply) => return (Ok(reply), is_open),
            Err(error) => error,
        };
        let wait = backoff.next_wait(error.retry_after()).filter(|_| error.is_transient());
        let Some(wait) = wait else { return (Err(error), is_open) };
        is_open |= !error.is_certainly_not_done();
        tokio::time::sleep(wait).await;
    }
}
