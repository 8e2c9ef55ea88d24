//! Messages: handlers are called, and called again.
//!
//! A handler that has failed waits for its next try without one of the places for handlers, so that messages that keep
//! failing do not hold up other streams.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{End, Event, Membership};
use crate::retry::{Backoff, RetryPolicy};
use crate::worker::WorkerError;
use crate::worker::consumer::HandlerError;
use crate::worker::group::Failing;
use crate::worker::group::context::{Committed, Context, GivenUp, Mode};
use crate::worker::group::holds::{Abort, Busy, Task};
use crate::worker::observer::{Lag, Reaction};

/// A message that a handler is called for, now or later.
pub(super) struct PutOff {
    task: Task,
    pub(super) due: Instant,
    backoff: Backoff,
    /// Why the last try failed.
    failure: Option<HandlerError>,
}

/// What came of a handler.
pub(super) enum Outcome {
    Done,
    Committed(Committed),
    Failed(HandlerError),
    /// Its partition was given up.
    Aborted,
}

impl<M: Mode> Membership<'_, M> {
    /// The next message for a handler: first what is to be tried again.
    pub(super) fn next_try(&mut self, now: Instant) -> Option<PutOff> {
        while let Some(at) = self.put_off.iter().position(|put_off| put_off.due <= now) {
            let mut next = self.put_off.swap_remove(at);
            if self.holds.has(&next.task) {
                let read_to = self.holds.read_to_of(next.task.partition, next.task.epoch);
                next.task.read_to = read_to.unwrap_or(next.task.read_to);
                return Some(next);
            }
        }
        let task = self.holds.next(M::ONE_AT_A_TIME)?;
        let policy = match (self.settings.failing, task.retry) {
            (Failing::Retry, _) => RetryPolicy::forever(),
            (_, None) => self.settings.retry,
            // It was tried before, and its stream waits.
            (_, Some(_)) => RetryPolicy::none(),
        };
        Some(PutOff { task, due: now, backoff: policy.start(), failure: None })
    }

    /// Calls a handler.
    pub(super) fn handle(&mut self, tried: PutOff) {
        if is_quiet::<M>(&tried.task) {
            self.hush(tried.task.partition);
        }
        let over = self.over.child_token();
        let context: Context<M> = Context::new(self.client, self.groups.calls.name(), &tried.task, over.clone());
        let (handlers, message) = (Arc::clone(&self.handlers), tried.task.message.clone());
        let called = context.clone();
        let handler = AbortOnDropHandle::new(tokio::spawn(async move { handlers.handle(message, called).await }));
        self.running += 1;
        self.holds.begin(&tried.task, Busy::Handler(Abort(handler.abort_handle())));
        self.events.spawn(async move {
            // An append whose handler has ended is over when this is.
            let _over = over.drop_guard();
            let result = match handler.await {
                Ok(result) => result,
                Err(error) if error.is_panic() => Err("the handler panicked".into()),
                Err(_) => return Event::Handled(tried, Outcome::Aborted),
            };
            let outcome = match (context.close().await, result) {
                (Err(GivenUp), _) => Outcome::Aborted,
                (Ok(Some(committed)), _) if committed != Committed::Open => Outcome::Committed(committed),
                (Ok(Some(committed)), _) if is_quiet::<M>(&tried.task) => Outcome::Committed(committed),
                (Ok(_), Ok(())) => Outcome::Done,
                (Ok(_), Err(error)) => Outcome::Failed(error),
            };
            Event::Handled(tried, outcome)
        });
    }

    pub(super) fn take_outcome(&mut self, tried: PutOff, outcome: Outcome) -> Option<End> {
        self.running -= 1;
        let task = &tried.task;
        self.holds.handler_ended(task);
        if is_quiet::<M>(task) {
            self.unhush(task.partition);
        }
        match outcome {
            Outcome::Aborted => {}
            Outcome::Done if task.retry.is_some() => {
                self.count(task);
                self.settle_task(tried.task);
            }
            Outcome::Done => {
                self.holds.finished(task);
                self.count(task);
            }
            Outcome::Committed(Committed::Done) => {
                self.holds.committed(task);
                self.count(task);
            }
            Outcome::Committed(Committed::Fenced(fenced)) => return self.fenced(task, fenced),
            Outcome::Committed(Committed::Open) => return Some(End::Open),
            Outcome::Failed(error) => self.take_failure(tried, error),
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

    fn take_failure(&mut self, mut tried: PutOff, error: HandlerError) {
        let Some(wait) = tried.backoff.next_wait(None) else { return self.take_last_failure(tried.task, error) };
        if !self.is_stopping {
            self.settings.observer.failed(&tried.task.message, &error, Reaction::Retried);
        }
        (tried.due, tried.failure) = (Instant::now() + wait, Some(error));
        self.put_off.push(tried);
        if self.is_stopping {
            self.give_back_what_is_put_off();
        }
    }

    /// Tries nothing again: the worker stops. The messages come again to whoever has their partitions next.
    pub(super) fn give_back_what_is_put_off(&mut self) {
        for PutOff { task, failure, .. } in std::mem::take(&mut self.put_off) {
            if let Some(error) = failure {
                self.settings.observer.failed(&task.message, &error, Reaction::Stopped);
            }
            self.is_giving_up = true;
        }
    }

    fn take_last_failure(&mut self, task: Task, error: HandlerError) {
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
            // With `Retry` a handler is called again for ever.
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
}

/// Whether no read of the partition may be under way while the handler of this message runs: it may commit that a parked
/// stream flows again.
fn is_quiet<M: Mode>(task: &Task) -> bool {
    M::ONE_AT_A_TIME && task.retry.is_some()
}

/// An error and its causes in one line, for whoever looks at what is parked.
fn reason_of(error: &HandlerError) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
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
