//! The sequencer: gathers the appends that wait, decides them in order, and commits them as one
//! batch, so that commit order is position order.
//!
//! One turn runs at a time. Within it nothing is guessed: a refusal is answered only once the head
//! that it was decided on is known to have been current, and an append whose outcome is unknown is
//! settled by a fence before anything else is decided.
//!
//! Where the storage takes it, the version of a stream that is not remembered is left open, if nothing
//! is to be decided by it: the append finds it. Positions count from there until it has.
//!
//! Where the storage takes it, a batch is sent while the one before it is under way, once as many
//! appends wait as that one has: so the database need not wait for us. It is decided as if the one
//! ahead of it succeeded, and names it as the one that it follows, so that it fails where that one
//! does; both are then decided again, in order.
//!
//! Where other servers write to the same log, what waits is decided once it is this server's turn to
//! append, if the storage has servers take turns; what the others write meanwhile is shown.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, MaybeDone, join, maybe_done};
use tokio::time::Instant;

use super::Log;
use super::decision::{Decided, Verdict, decisive, found};
use super::queue::Pending;
use super::versions::Versions;
use crate::error::{Error, Result};
use crate::model::Entry;
use crate::model::{Batch, Head, Lineage};
use crate::seldom::OUTAGE;
use crate::storage::{AppendError, Fenced};

/// How long an unknown outcome is tried to be settled before its callers are told so.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// The first pause between two attempts to settle it; later ones are longer.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);
/// The pause after a turn that panicked.
const AFTER_A_PANIC: Duration = Duration::from_millis(100);
/// Batches that one turn commits before it lets other logs' turns run.
const BATCHES_PER_TURN: usize = 64;

/// What only a turn touches.
pub(super) struct Sequencer {
    pub(super) versions: Versions,
    /// Batches whose outcome is unknown, each followed by the next; nothing is decided before it is known.
    unsettled: VecDeque<Arc<Batch>>,
}

impl Sequencer {
    pub(super) fn new(version_cache: usize) -> Self {
        Self { versions: Versions::new(version_cache), unsettled: VecDeque::new() }
    }

    fn forget(&mut self) {
        self.versions.clear();
    }
}

/// A batch that is under way, for those who wait for it.
struct Sent<'a> {
    pending: Vec<Pending>,
    decided: Decided,
    outcome: MaybeDone<BoxFuture<'a, Outcome>>,
}

type Outcome = Result<Vec<Arc<Entry>>, AppendError>;

impl Log {
    /// Has a turn run if there is work and none runs yet.
    pub(super) fn schedule(self: &Arc<Self>) {
        if self.begin_turn() {
            self.storage.spawn(Box::pin(self.clone().turn()));
        }
    }

    /// A turn that panics, which is a fault of this program, costs its callers their answers and nobody the log.
    async fn turn(self: Arc<Self>) {
        if AssertUnwindSafe(self.take_turn()).catch_unwind().await.is_err() {
            tracing::error!(namespace = %self.namespace.name, "a turn of the sequencer panicked: what it did is looked up");
            self.sequencer.lock().await.forget();
            self.suspicious.store(true, SeqCst);
            tokio::time::sleep(AFTER_A_PANIC).await;
        }
        if self.queue.is_empty() {
            self.storage.rest();
        }
        self.end_turn();
        if !self.queue.is_empty() || self.is_behind() {
            self.schedule();
        }
    }

    /// Commits what waits, batch by batch.
    async fn take_turn(&self) {
        let mut sequencer = self.sequencer.lock().await;
        let mut ahead: Option<Sent<'_>> = None;
        for _ in 0..BATCHES_PER_TURN {
            if let Some(first) = ahead.take() {
                ahead = self.gather_behind(&mut sequencer, first).await;
            }
            if ahead.is_none() {
                self.prepare(&mut sequencer).await;
            }
            let pending = self.queue.take(self.settings.batch_messages, self.settings.batch_bytes);
            if pending.is_empty() {
                break;
            }
            let sent = match ahead.take() {
                None => self.send(&mut sequencer, pending, None).await,
                Some(first) => self.send_behind(&mut sequencer, first, pending).await,
            };
            match sent {
                Ok(sent) => ahead = Some(sent),
                Err(pending) => self.commit(&mut sequencer, pending, None).await,
            }
        }
        if let Some(last) = ahead {
            self.finish(&mut sequencer, last).await;
        }
    }

    /// Sends what waits behind a batch that is under way, and finishes that one. What cannot be sent comes back.
    async fn send_behind<'a>(
        &'a self,
        sequencer: &mut Sequencer,
        mut first: Sent<'a>,
        pending: Vec<Pending>,
    ) -> Result<Sent<'a>, Vec<Pending>> {
        let sending = self.send(sequencer, pending, Some(&first.decided));
        let (mut sent, ()) = join(sending, &mut first.outcome).await;
        if let (Ok(second), MaybeDone::Done(Err(_))) = (&mut sent, &first.outcome) {
            // It fails too. What it holds may be needed to find out what became of the first.
            (&mut second.outcome).await;
        }
        self.finish(sequencer, first).await;
        sent
    }

    /// Sends what waits as one batch, behind the one ahead. What cannot be sent like that comes back:
    /// where something is to be found out first, or there is nothing to write.
    async fn send<'a>(
        &'a self,
        sequencer: &mut Sequencer,
        pending: Vec<Pending>,
        ahead: Option<&Decided>,
    ) -> Result<Sent<'a>, Vec<Pending>> {
        if self.is_closed() || !sequencer.unsettled.is_empty() || (ahead.is_some() && self.is_behind()) {
            return Err(pending);
        }
        // What such a version is shows only once the batch ahead is committed.
        if let Some(ahead) = ahead
            && decisive(&pending, false).any(|stream| ahead.batch.open.contains(stream))
        {
            return Err(pending);
        }
        let decided = match self.decide(sequencer, &pending, ahead, false).await {
            Ok(decided) if !decided.batch.messages.is_empty() => decided,
            _ => return Err(pending),
        };
        self.pauses.at("before append").await;
        let batch = Arc::clone(&decided.batch);
        let mut outcome = maybe_done(async move { self.storage.append(&batch).await }.boxed());
        // A future does nothing before it is polled: this sends it.
        let _ = (&mut outcome).now_or_never();
        Ok(Sent { pending, decided, outcome })
    }

    /// Waits until a batch is answered, or as many appends wait as it has. It comes back if it is still under way.
    async fn gather_behind<'a>(&'a self, sequencer: &mut Sequencer, mut sent: Sent<'a>) -> Option<Sent<'a>> {
        if self.storage.appends_ahead() {
            tokio::select! {
                biased;
                () = &mut sent.outcome => {}
                () = self.queue.holds(sent.pending.len()) => return Some(sent),
            }
        }
        self.finish(sequencer, sent).await;
        None
    }

    /// Waits for the outcome of a batch that is under way, and answers everybody.
    async fn finish(&self, sequencer: &mut Sequencer, mut sent: Sent<'_>) {
        (&mut sent.outcome).await;
        let outcome = Pin::new(&mut sent.outcome).take_output().expect("it was waited for, and is taken once");
        self.commit(sequencer, sent.pending, Some((sent.decided, outcome))).await;
    }

    /// Commits what waits as one batch, if it is not decided and sent already, and answers everybody.
    async fn commit(&self, sequencer: &mut Sequencer, pending: Vec<Pending>, sent: Option<(Decided, Outcome)>) {
        match self.try_commit(sequencer, &pending, sent).await {
            Ok(verdicts) => {
                for (pending, verdict) in pending.into_iter().zip(verdicts) {
                    pending.answer(match verdict {
                        Verdict::Accepted(done) => Ok(done),
                        Verdict::Refused(error) => Err(error),
                    });
                }
            }
            // One of them is at fault: each on its own, only that one fails.
            Err(error @ (Error::Failed(_) | Error::Damaged(_))) if pending.len() > 1 => {
                tracing::warn!(namespace = %self.namespace.name, %error, "a batch was rejected: trying its appends one by one");
                for one in pending {
                    Box::pin(self.commit(sequencer, vec![one], None)).await;
                }
            }
            Err(error) => pending.into_iter().for_each(|pending| pending.answer(Err(error.clone()))),
        }
    }

    async fn try_commit(
        &self,
        sequencer: &mut Sequencer,
        pending: &[Pending],
        mut sent: Option<(Decided, Outcome)>,
    ) -> Result<Vec<Verdict>> {
        if let Err(error) = self.settle(sequencer).await {
            // What was sent behind a batch whose outcome is unknown is as unknown.
            sequencer.unsettled.extend(sent.map(|(decided, _)| decided.batch));
            return Err(error);
        }
        let mut uncertain = false;
        let (deadline, mut pause) = (Instant::now() + SETTLE_WITHIN, SETTLE_PAUSE);
        loop {
            let (Decided { batch, verdicts, .. }, outcome) = match sent.take() {
                Some(sent) => sent,
                None if self.is_closed() => return Err(Error::Closed),
                None => {
                    let decided = self.decide(sequencer, pending, None, uncertain).await?;
                    if decided.batch.messages.is_empty() {
                        if self.is_confirmed(sequencer).await? {
                            return Ok(decided.verdicts);
                        }
                        continue;
                    }
                    self.pauses.at("before append").await;
                    let outcome = self.storage.append(&decided.batch).await;
                    (decided, outcome)
                }
            };
            match outcome {
                Ok(entries) => {
                    self.committed(sequencer, &batch, &entries);
                    return Ok(found(verdicts, &batch, &entries));
                }
                Err(AppendError::Behind) => self.catch_up(sequencer, self.storage.turn_to_append()).await?,
                Err(AppendError::Unknown(cause)) => {
                    if let Some(held_back) = OUTAGE.due("unknown outcome") {
                        let namespace = &self.namespace.name;
                        tracing::warn!(%namespace, %cause, held_back, "the outcome of an append is unknown");
                    }
                    sequencer.forget();
                    sequencer.unsettled.push_back(Arc::clone(&batch));
                    if let Some(entries) = self.settle(sequencer).await? {
                        return Ok(found(verdicts, &batch, &entries));
                    }
                    // Where a commit was not heard of it may be there after a crash until another takes its place.
                    if Instant::now() >= deadline {
                        return Err(Error::Unknown(cause));
                    }
                    if uncertain {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(Duration::from_secs(1));
                    }
                    uncertain = true;
                }
                Err(AppendError::Rejected(_)) if pending.len() == 1 && !batch.open.is_empty() => {
                    // What is wrong may show once it is decided on versions that are known.
                    sequencer.forget();
                    uncertain = true;
                }
                Err(AppendError::Rejected(cause)) => {
                    sequencer.forget();
                    return Err(Error::Failed(cause));
                }
                Err(AppendError::Unavailable(cause)) => {
                    sequencer.forget();
                    return Err(Error::Unavailable(cause));
                }
                Err(AppendError::Replacing) => {
                    sequencer.forget();
                    return Err(Error::Replacing);
                }
                Err(AppendError::Closed) => {
                    self.close();
                    return Err(Error::Closed);
                }
            }
        }
    }

    /// Finds out, in order, what became of the batches whose outcome is unknown. Returns the messages of the
    /// last of them, if it was committed.
    async fn settle(&self, sequencer: &mut Sequencer) -> Result<Option<Vec<Arc<Entry>>>> {
        let mut committed = None;
        while let Some(batch) = sequencer.unsettled.front().cloned() {
            committed = self.settle_one(sequencer, &batch).await?;
            sequencer.unsettled.pop_front();
        }
        Ok(committed)
    }

    /// Finds out whether this batch was committed, and returns its messages; if not, it never will be.
    async fn settle_one(&self, sequencer: &mut Sequencer, batch: &Batch) -> Result<Option<Vec<Arc<Entry>>>> {
        let deadline = Instant::now() + SETTLE_WITHIN;
        let mut pause = SETTLE_PAUSE;
        loop {
            match self.storage.fence(batch).await {
                Ok(Fenced::Committed(entries)) => {
                    self.committed(sequencer, batch, &entries);
                    return Ok(Some(entries));
                }
                Ok(Fenced::NotCommitted) => {
                    self.follow(sequencer).await?;
                    return Ok(None);
                }
                Err(Error::Closed) => {
                    self.close();
                    return Err(Error::Closed);
                }
                Err(error) if Instant::now() >= deadline => {
                    return Err(match error {
                        Error::Unavailable(cause) | Error::Failed(cause) => Error::Unknown(cause),
                        error => error,
                    });
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Whether what was decided on the known head holds: nobody else wrote meanwhile.
    async fn is_confirmed(&self, sequencer: &mut Sequencer) -> Result<bool> {
        if !self.shared {
            return Ok(true);
        }
        let known = self.known();
        let (head, _) = self.storage.head_since(&known).await?;
        if (head.batch, head.id) == (known.batch, known.id) {
            return Ok(true);
        }
        self.follow(sequencer).await?;
        Ok(false)
    }

    fn committed(&self, sequencer: &mut Sequencer, batch: &Batch, entries: &[Arc<Entry>]) {
        let mut head = batch.head();
        if let (Some(last), false) = (entries.last(), batch.keep_times) {
            head.time = last.message().time;
        }
        *self.known.lock() = head;
        for entry in entries {
            let message = entry.message();
            sequencer.versions.put(&message.stream, message.position);
        }
        self.publish(entries);
    }

    /// Before something is decided: waits for this server's turn to append, and follows other servers.
    async fn prepare(&self, sequencer: &mut Sequencer) {
        let turn = if self.queue.is_empty() { None } else { self.storage.turn_to_append() };
        let caught_up = match turn {
            None if !self.is_behind() => return,
            turn => self.catch_up(sequencer, turn).await,
        };
        if let Err(error) = caught_up {
            if let Some(held_back) = OUTAGE.due("follow") {
                tracing::warn!(namespace = %self.namespace.name, %error, held_back, "cannot follow the log");
            }
            self.following_failed();
        }
    }

    /// Shows what other servers write while this one waits for its turn to append, and then the rest of it.
    async fn catch_up(&self, sequencer: &mut Sequencer, turn: Option<BoxFuture<'_, ()>>) -> Result<()> {
        if let Some(mut turn) = turn {
            loop {
                tokio::select! {
                    biased;
                    () = &mut turn => break,
                    () = self.hinted.notified() => {}
                }
                if self.is_behind() {
                    self.follow(sequencer).await?;
                }
            }
        }
        // The hint of what was written last may still be on its way.
        self.follow(sequencer).await
    }

    /// Reads what other servers wrote after the known head.
    async fn follow(&self, sequencer: &mut Sequencer) -> Result<()> {
        let (known, hinted) = (self.known(), self.wanted.load(SeqCst));
        let (head, lineage) = self.storage.head_since(&known).await?;
        match lineage {
            Lineage::Diverged => {
                tracing::error!(
                    namespace = %self.namespace.name, known = known.position, found = head.position,
                    "the log lacks messages that were seen: a failover lost them, or a backup was restored"
                );
                sequencer.forget();
                self.restart(head.position);
            }
            Lineage::Forgotten => {
                sequencer.forget();
                self.skip_to(head.position);
            }
            Lineage::Follows if head.position > known.position => self.show_foreign(sequencer, &known, &head).await?,
            Lineage::Follows => {}
        }
        *self.known.lock() = head;
        self.following_succeeded(hinted, head.position);
        Ok(())
    }

    /// Shows what other servers wrote between two heads.
    async fn show_foreign(&self, sequencer: &mut Sequencer, known: &Head, head: &Head) -> Result<()> {
        match self.foreign(known.position, head.position).await? {
            Some(entries) => {
                for entry in &entries {
                    let message = entry.message();
                    sequencer.versions.put(&message.stream, message.position);
                }
                self.publish(&entries);
            }
            None => {
                sequencer.forget();
                self.skip_to(head.position);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use eventodb_protocol::message::{Expected, NewMessage};
    use eventodb_protocol::request::{Append, AppendEntry};
    use eventodb_protocol::token::Token;

    use super::super::queue::Work;
    use super::*;
    use crate::model::NewNamespace;
    use crate::sqlite::{self, Location, Sqlite};
    use crate::{EventStore, Settings};

    #[tokio::test]
    async fn a_turn_that_panics_costs_its_caller_an_answer_and_nobody_the_log() {
        let backend = Sqlite::open(Location::Memory, sqlite::Settings::default()).unwrap();
        let store = EventStore::open(backend, Settings::default()).await.unwrap();
        let name = "shop".to_owned();
        let token_hash = Token::generate(&name).hash();
        let namespace = NewNamespace { name, token_hash, description: String::new(), metadata: "{}".to_owned() };
        store.create(namespace).await.unwrap();
        let log = store.log("shop").await.unwrap();

        let message = NewMessage { id: None, kind: "Opened".into(), data: "{}".into(), metadata: None };
        let entry = AppendEntry { stream: "account-1".into(), expected: Expected::Any, messages: vec![message] };
        let append = Append { entries: vec![entry], checks: Vec::new() };
        // Without an id for its message.
        let panics = log.submit(Work::Append(append.clone(), Vec::new())).await;
        assert!(matches!(panics, Err(Error::Unknown(_))), "{panics:?}");
        let written = tokio::time::timeout(Duration::from_secs(60), log.append(append)).await.expect("the log goes on");
        assert_eq!(written.unwrap()[0].last_global_position, 1);
    }
}
