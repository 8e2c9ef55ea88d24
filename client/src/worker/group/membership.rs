//! One membership: from a join until the worker stops or its lease ends.
//!
//! One task decides everything. Calls and handlers are tasks that report to it, so that nothing here waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::ErrorCode;
use eventodb_protocol::group::reply::{Flowing, Heartbeat, Membership as Joined, ParkAttempts};
use eventodb_protocol::group::{Epoch, Fence, Fenced};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::context::{Committed, Context, Mode};
use super::handlers::Handlers;
use super::holds::{Abort, Asked, Busy, Holds, Lists, Task};
use super::{Failing, GroupSummary, Settings, failure, is_lost};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::group::{Group, GroupPage, MemberCall, Park, Presented, ReadGroup, Settle};
use crate::retry::{Backoff, RetryPolicy};
use crate::worker::WorkerError;
use crate::worker::consumer::HandlerError;
use crate::worker::observer::{Lag, Reaction};

/// How long a stream waits if no more streams may be parked.
const PARK_FULL_WAIT: Duration = Duration::from_secs(1);
/// How long a read waits that is to end the worker if nothing comes, while something is in hand.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(super) struct Membership<'a, M> {
    client: &'a Client,
    /// By a client that sends each call once.
    group: &'a Group,
    handlers: Arc<Handlers<M>>,
    settings: &'a Settings,
    summary: &'a mut GroupSummary,
    member: String,
    holds: Holds,
    events: JoinSet<Event>,
    read: Option<Reading>,
    /// How many reads were sent.
    reads: u64,
    heartbeat: Option<Asked>,
    /// When the last read or heartbeat began.
    called: Instant,
    /// When a checkpoint was sent last.
    saved: Instant,
    /// No read or heartbeat begins before, after one has failed.
    not_before: Instant,
    backoff: Backoff,
    /// How many handlers run.
    running: usize,
    /// How many things are under way that no read may accompany: their streams could flow again, and what a read had
    /// withheld of them would be missing.
    quiet: usize,
    /// How many calls about streams are under way.
    calls: usize,
    /// No more messages are begun that need not be.
    is_stopping: bool,
    /// Nothing at all is begun any more, because a message failed.
    is_giving_up: bool,
    failed: Option<WorkerError>,
    /// Tells handlers that fail not to try again.
    no_more_tries: CancellationToken,
}

/// A read that is under way.
struct Reading {
    number: u64,
    asked: Asked,
    task: AbortHandle,
}

/// How a membership ended.
pub(super) enum End {
    Stopped,
    /// The worker joins again.
    Lost,
    Failed(WorkerError),
}

/// What a task reports.
enum Event {
    /// The reply to the read of this number.
    Read(u64, Result<GroupPage>),
    Heartbeat(Result<Heartbeat>),
    Handled(Task, Outcome),
    Parked(Task, Result<ParkAttempts>),
    Settled(Settled, Result<Flowing>),
}

/// What came of a handler.
enum Outcome {
    Done,
    Committed(Committed),
    Failed(HandlerError),
    /// It failed, and would be called again if the worker were not stopping.
    GivenBack(HandlerError),
    /// Its partition was given up.
    Aborted,
}

struct Settled {
    partition: u32,
    epoch: Epoch,
    stream: String,
    position: i64,
    /// The retry that this is about.
    task: Option<Task>,
}

impl<'a, M: Mode> Membership<'a, M> {
    pub(super) fn new(
        client: &'a Client,
        group: &'a Group,
        handlers: Arc<Handlers<M>>,
        settings: &'a Settings,
        summary: &'a mut GroupSummary,
        started: Instant,
        joined: &Joined,
    ) -> Self {
        let mut holds = Holds::new(started);
        holds.take_lists(started, &lists_of(joined));
        Self {
            client,
            group,
            handlers,
            settings,
            summary,
            member: joined.member.clone(),
            holds,
            events: JoinSet::new(),
            read: None,
            reads: 0,
            heartbeat: None,
            called: started,
            saved: started,
            not_before: started,
            backoff: RetryPolicy { first: Duration::from_millis(50), ..RetryPolicy::forever() }.start(),
            running: 0,
            quiet: 0,
            calls: 0,
            is_stopping: false,
            is_giving_up: false,
            failed: None,
            no_more_tries: CancellationToken::new(),
        }
    }

    pub(super) async fn run(mut self, stop: &CancellationToken) -> End {
        loop {
            let now = Instant::now();
            if now >= self.holds.lease_end() {
                return End::Lost;
            }
            self.holds.expire(now);
            self.advance(now);
            if self.is_finished() {
                self.leave().await;
                return self.failed.map_or(End::Stopped, End::Failed);
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
            let Some(task) = self.holds.next(M::ONE_AT_A_TIME) else { break };
            self.handle(task);
        }
        if !self.is_giving_up {
            self.settle_drained();
        }
        self.start_read(now);
        self.start_heartbeat(now);
    }

    fn stop(&mut self) {
        self.is_stopping = true;
        self.no_more_tries.cancel();
        self.drop_read();
        self.holds.cut();
    }

    /// Ends the worker as soon as the handlers that run have ended. The messages that they leave come again.
    fn give_up(&mut self, failed: Option<WorkerError>) {
        self.stop();
        self.is_giving_up = true;
        self.failed = self.failed.take().or(failed);
    }

    fn is_finished(&self) -> bool {
        let is_done = if self.is_giving_up { self.calls == 0 } else { self.holds.is_idle() };
        self.is_stopping && self.running == 0 && is_done
    }

    fn wake(&self, now: Instant) -> Instant {
        let call = (self.called + self.interval()).max(self.not_before);
        let may_call = self.heartbeat.is_none();
        let save = (may_call && self.has_unsaved()).then(|| self.saved + self.settings.checkpoint_every);
        let times = [Some(self.holds.lease_end()), self.holds.next_deadline(), save, Some(self.not_before)];
        let later = times.into_iter().flatten().filter(|time| *time > now);
        later.chain(may_call.then_some(call)).min().unwrap_or_else(|| self.holds.lease_end())
    }

    /// How often the member calls.
    fn interval(&self) -> Duration {
        self.holds.session() / 3
    }

    // ---- reads and heartbeats

    fn start_read(&mut self, now: Instant) {
        let room = self.settings.page.saturating_sub(self.holds.in_hand());
        let may = self.read.is_none() && !self.is_stopping && self.quiet == 0;
        if !may || room == 0 || now < self.not_before {
            return;
        }
        let heartbeat = self.member_call(now);
        let wait = match self.settings.until_caught_up {
            true if self.holds.is_idle() && self.holds.has_partitions() => Duration::ZERO,
            true => LOOK_AGAIN,
            false => self.interval(),
        };
        let after = self.holds.after();
        let read = ReadGroup {
            heartbeat: MemberCall { wait_ms: u64::try_from(wait.as_millis()).unwrap_or(0), ..heartbeat },
            batch_size: u32::try_from(room).ok(),
            partitions: None,
            after: after.clone(),
        };
        let asked = Asked { started: now, checkpoints: read.heartbeat.checkpoints.clone(), after, parked: Vec::new() };
        let (group, member) = (self.group.clone(), self.member.clone());
        self.reads += 1;
        let number = self.reads;
        let task = self.events.spawn(async move { Event::Read(number, group.read(&member, &read).await) });
        self.read = Some(Reading { number, asked, task });
    }

    /// Gives up the read that is under way: its reply would not count.
    fn drop_read(&mut self) {
        if let Some(reading) = self.read.take() {
            reading.task.abort();
        }
    }

    /// A heartbeat is due if nothing else has called for a while, and if there is something to tell while a read waits.
    fn start_heartbeat(&mut self, now: Instant) {
        if self.heartbeat.is_some() || now < self.not_before {
            return;
        }
        let is_silent = now >= self.called + self.interval();
        let is_late = now >= self.saved + self.settings.checkpoint_every || self.holds.in_hand() == 0;
        if is_silent || self.holds.can_release() || is_late && self.has_unsaved() {
            let call = self.member_call(now);
            let checkpoints = call.checkpoints.clone();
            self.heartbeat = Some(Asked { started: now, checkpoints, after: BTreeMap::new(), parked: Vec::new() });
            let (group, member) = (self.group.clone(), self.member.clone());
            self.events.spawn(async move { Event::Heartbeat(group.heartbeat(&member, &call).await) });
        }
    }

    /// Whether there is something to store that is not under way.
    fn has_unsaved(&self) -> bool {
        let sent = |number: &u32, presented: &Presented| {
            let asked = self.read.iter().map(|reading| &reading.asked).chain(&self.heartbeat);
            asked.filter_map(|asked| asked.checkpoints.get(number)).any(|sent| sent.position >= presented.position)
        };
        self.holds.checkpoints().iter().any(|(number, presented)| !sent(number, presented))
    }

    fn member_call(&mut self, now: Instant) -> MemberCall {
        (self.called, self.saved) = (now, now);
        MemberCall { checkpoints: self.holds.checkpoints(), released: self.holds.release(), wait_ms: 0 }
    }

    /// Takes the membership in the reply to a call, or what its failure means.
    fn answered(&mut self, asked: &Asked, reply: Result<(Lists<'_>, &[u32]), Error>) -> Result<bool, End> {
        match reply {
            Ok((lists, fenced)) => {
                if self.backoff.failures() > 0 {
                    self.backoff.reset();
                    self.settings.observer.reconnected();
                }
                let counts = self.holds.take_lists(asked.started, &lists);
                self.holds.stored(asked, fenced);
                for presented in asked.checkpoints.values() {
                    self.settings.observer.saved(presented.position);
                }
                Ok(counts)
            }
            Err(error) if error.is_transient() => {
                let wait = self.backoff.next_wait(error.retry_after()).unwrap_or_default();
                self.not_before = Instant::now() + wait.min(self.interval());
                self.settings.observer.disconnected(&error);
                Ok(false)
            }
            Err(error) => Err(ending(error)),
        }
    }

    // ---- messages

    fn handle(&mut self, task: Task) {
        let context = Context::new(self.client, self.group.name(), &task);
        if M::ONE_AT_A_TIME && task.retry.is_some() {
            self.quiet += 1;
            self.drop_read();
        }
        let policy = match (self.settings.failing, task.retry) {
            (Failing::Retry, _) => RetryPolicy::forever(),
            (_, None) => self.settings.retry,
            // It was tried before, and its stream waits.
            (_, Some(_)) => RetryPolicy::none(),
        };
        let (handlers, observer) = (Arc::clone(&self.handlers), Arc::clone(&self.settings.observer));
        let (tried, no_more_tries) = (task.clone(), self.no_more_tries.clone());
        let handler = tokio::spawn(async move {
            let mut backoff = policy.start();
            loop {
                let result = handlers.handle(tried.message.clone(), context.clone()).await;
                let error = match (context.committed(), result) {
                    (Some(committed), _) => return Outcome::Committed(committed),
                    (None, Ok(())) => return Outcome::Done,
                    (None, Err(error)) => error,
                };
                let Some(wait) = backoff.next_wait(None) else { return Outcome::Failed(error) };
                observer.failed(&tried.message, &error, Reaction::Retried);
                tokio::select! {
                    () = no_more_tries.cancelled() => return Outcome::GivenBack(error),
                    () = tokio::time::sleep(wait) => {}
                }
            }
        });
        self.running += 1;
        self.holds.begin(&task, Busy::Handler(Abort(handler.abort_handle())));
        self.events.spawn(async move {
            let outcome = match handler.await {
                Ok(outcome) => outcome,
                Err(error) if error.is_panic() => Outcome::Failed("the handler panicked".into()),
                Err(_) => Outcome::Aborted,
            };
            Event::Handled(task, outcome)
        });
    }

    fn take(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Read(number, result) => self.take_read(number, result),
            Event::Heartbeat(result) => {
                let asked = self.heartbeat.take()?;
                let lists = match &result {
                    Ok(beat) => Ok((lists_of(&beat.membership), &beat.fenced[..])),
                    Err(error) => Err(error.clone()),
                };
                self.answered(&asked, lists).err()
            }
            Event::Handled(task, outcome) => {
                self.running -= 1;
                if M::ONE_AT_A_TIME && task.retry.is_some() {
                    self.quiet -= 1;
                }
                self.take_outcome(task, outcome)
            }
            Event::Parked(task, result) => self.take_parked(&task, result),
            Event::Settled(settled, result) => self.take_settled(&settled, result),
        }
    }

    fn take_read(&mut self, number: u64, result: Result<GroupPage>) -> Option<End> {
        // The reply to a read that was given up changes nothing.
        let Reading { asked, .. } = self.read.take_if(|reading| reading.number == number)?;
        let page = match result {
            Ok(page) => page,
            Err(error) => return self.answered(&asked, Err(error)).err(),
        };
        let lists = Lists {
            generation: page.generation,
            session_ms: page.session_ms,
            assigned: &page.assigned,
            revoking: &page.revoking,
        };
        match self.answered(&asked, Ok((lists, &page.fenced))) {
            Ok(true) => {
                let is_empty = page.messages.is_empty() && page.retries.is_empty() && page.drained.is_empty();
                self.holds.take_page(&asked, page);
                let is_caught_up = is_empty && self.running == 0 && self.holds.is_idle() && self.holds.has_partitions();
                if is_caught_up && self.settings.until_caught_up {
                    self.stop();
                }
                None
            }
            Ok(false) => None,
            Err(end) => Some(end),
        }
    }

    fn take_outcome(&mut self, task: Task, outcome: Outcome) -> Option<End> {
        match outcome {
            Outcome::Aborted => {}
            Outcome::Done if task.retry.is_some() => {
                self.count(&task);
                let (partition, epoch, position) = (task.partition, task.epoch, task.position());
                let (stream, rev) = (task.stream().to_owned(), task.retry.map(|(_, rev)| rev));
                self.holds.begin(&task, Busy::Call);
                self.settle(Settled { partition, epoch, stream, position, task: Some(task) }, rev);
            }
            Outcome::Done => {
                self.holds.finished(&task);
                self.count(&task);
            }
            Outcome::Committed(Committed::Done) => {
                self.holds.committed(&task);
                self.count(&task);
            }
            Outcome::Committed(Committed::Fenced(fenced)) => return self.fenced(&task, fenced),
            Outcome::Failed(error) => self.take_failure(task, error),
            Outcome::GivenBack(error) => {
                self.settings.observer.failed(&task.message, &error, Reaction::Stopped);
                self.give_up(None);
            }
        }
        None
    }

    fn count(&mut self, task: &Task) {
        self.summary.messages += 1;
        let behind = u64::try_from(self.holds.read_to() - task.position()).unwrap_or(0);
        let age = match task.message.time() {
            Ok(time) if behind > 0 => eventodb_protocol::Timestamp::now().as_micros().saturating_sub(time.as_micros()),
            _ => 0,
        };
        let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
        self.settings.observer.handled(1, Lag { messages: behind, age });
    }

    fn take_failure(&mut self, task: Task, error: HandlerError) {
        let observer = Arc::clone(&self.settings.observer);
        match self.settings.failing {
            Failing::Park { first, longest, tries } => {
                observer.failed(&task.message, &error, Reaction::Parked);
                let attempt = task.retry.map_or(1, |(attempt, _)| attempt);
                let failures = u32::try_from(attempt - 1).unwrap_or(u32::MAX);
                let wait = RetryPolicy { first, longest, give_up_after: Duration::MAX }.ceiling(failures);
                let is_last = attempt >= i64::from(tries);
                self.park(task, attempt, reason_of(&error), (!is_last).then_some(wait));
            }
            // With `Retry` only a handler that panicked is not called again.
            Failing::Retry | Failing::Stop => {
                observer.failed(&task.message, &error, Reaction::Stopped);
                self.give_up(Some(WorkerError::Handler {
                    stream: task.stream().to_owned(),
                    position: task.message.position(),
                    global_position: task.position(),
                    kind: task.message.kind().to_owned(),
                    source: error,
                }));
            }
        }
    }

    // ---- calls about streams

    fn park(&mut self, task: Task, attempt: i64, reason: String, wait: Option<Duration>) {
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
        let (group, member) = (self.group.clone(), self.member.clone());
        self.events.spawn(async move {
            let result = until_answered(|| {
                let (group, member, park) = (group.clone(), member.clone(), park.clone());
                async move { group.park(&member, &park).await }
            })
            .await;
            if matches!(result, Err(Error::Refused { code: ErrorCode::ParkFull, .. })) {
                tokio::time::sleep(PARK_FULL_WAIT).await;
            }
            Event::Parked(task, result)
        });
    }

    fn take_parked(&mut self, task: &Task, result: Result<ParkAttempts>) -> Option<End> {
        self.calls -= 1;
        match result {
            Ok(_) => {
                self.summary.parked += 1;
                self.holds.parked(task);
                if let Some(reading) = &mut self.read {
                    reading.asked.parked.push((task.epoch, task.stream().to_owned(), task.position()));
                }
                None
            }
            Err(Error::Fenced { fenced, .. }) => self.fenced(task, fenced),
            Err(Error::Refused { code: ErrorCode::ParkFull, .. }) => {
                self.holds.postponed(task);
                if self.is_stopping {
                    // There may never be room. Whoever gets the partition next tries the message.
                    self.give_up(None);
                }
                None
            }
            Err(error) => Some(ending(error)),
        }
    }

    fn settle_drained(&mut self) {
        for (epoch, read_to, drained) in self.holds.take_drained() {
            let settled = Settled {
                partition: drained.partition,
                epoch,
                stream: drained.stream,
                position: drained.position,
                task: None,
            };
            self.settle_to(settled, read_to, Some(drained.rev));
        }
    }

    fn settle(&mut self, settled: Settled, rev: Option<i64>) {
        if let Some(read_to) = self.holds.read_to_of(settled.partition, settled.epoch) {
            self.settle_to(settled, read_to, rev);
        }
    }

    fn settle_to(&mut self, settled: Settled, read_to: i64, rev: Option<i64>) {
        let settle = Settle {
            partition: settled.partition,
            epoch: settled.epoch,
            stream: settled.stream.clone(),
            position: settled.position,
            read_to: Some(read_to),
            rev,
        };
        (self.quiet, self.calls) = (self.quiet + 1, self.calls + 1);
        self.drop_read();
        let (group, member) = (self.group.clone(), self.member.clone());
        self.events.spawn(async move {
            let result = until_answered(|| {
                let (group, member, settle) = (group.clone(), member.clone(), settle.clone());
                async move { group.handled(&member, &settle).await }
            });
            Event::Settled(settled, result.await)
        });
    }

    fn take_settled(&mut self, settled: &Settled, result: Result<Flowing>) -> Option<End> {
        (self.quiet, self.calls) = (self.quiet - 1, self.calls - 1);
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
    fn fenced(&mut self, task: &Task, fenced: Fenced) -> Option<End> {
        match fenced.reason {
            Fence::Epoch => self.holds.fence(task.partition, task.epoch),
            Fence::Handled => self.holds.dropped(task),
            Fence::Parked => self.holds.parked(task),
            Fence::Lease | Fence::Unknown | Fence::Replaced => {
                return Some(ending(Error::Fenced { fenced, message: fenced.reason.to_string() }));
            }
        }
        None
    }

    /// Gives everything back at once. If the server does not answer, the lease ends by itself.
    async fn leave(&mut self) {
        let call = MemberCall { checkpoints: self.holds.checkpoints(), ..MemberCall::default() };
        let retry = RetryPolicy::default().give_up_after(self.interval());
        let group = self.client.with_retry_policy(retry).group(self.group.name());
        if let Err(error) = group.leave(&self.member, &call).await {
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

/// An error and its causes in one line, for whoever looks at what is parked.
fn reason_of(error: &HandlerError) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

/// Repeats a call until there is an answer to it. The membership ends it if the lease ends before.
async fn until_answered<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    let mut backoff = RetryPolicy::forever().start();
    loop {
        let error = match call().await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        let wait = backoff.next_wait(error.retry_after()).filter(|_| error.is_transient());
        let Some(wait) = wait else { return Err(error) };
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_message_has_the_causes_of_its_failure() {
        #[derive(Debug, thiserror::Error)]
        #[error("the mail was not sent")]
        struct NotSent(#[source] std::io::Error);
        let error: HandlerError = Box::new(NotSent(std::io::Error::other("the disk is full")));
        assert_eq!(reason_of(&error), "the mail was not sent: the disk is full");
    }
}
