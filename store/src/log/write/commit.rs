//! Committing what waits, batch by batch: plan, submit, land.
//!
//! **Invariants**
//! - Commit order is position order: a batch is planned on the known head, or on the batch that it is sent behind, and
//!   names that one as the batch that it follows. It happens only if that one did.
//! - Nothing is guessed. A batch whose outcome is unknown is settled before anything else is planned, and a refusal is
//!   answered only once the head that it was decided on is known to have been current.
//! - One batch that the database rejects costs only the append that is at fault: each append is tried alone then.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use eventodb_protocol::reply::Quota;
use futures_util::future::{Either, FutureExt as _, MaybeDone, maybe_done, select};
use tokio::time::Instant;

use super::super::base::Base;
use super::follow::Follower;
use super::plan::{Plan, Planner, Verdict};
use super::queue::{Pending, Queue};
use super::quota::Usage;
use super::versions::Versions;
use crate::error::{Cause, Chain, Error, Result};
use crate::groups::Refusal;
use crate::model::{Batch, Entry};
use crate::seldom::{Due, outage};
use crate::storage::{AppendError, Appender, Outcome, Settled, Submitted};

/// How long it is tried to settle an unknown outcome before its callers are told that it is unknown.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// The first pause between two attempts to settle it, and the longest; each is twice the one before.
const SETTLE_PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How often a batch that acts on groups loses its race before what acts on groups goes round.
const OVERTAKEN: u32 = 3;
/// Batches that one run commits before it lets other logs' runs have the thread.
const BATCHES_PER_RUN: usize = 64;

/// Takes appends out of the queue and commits them. One run at a time has it.
pub(super) struct Sequencer {
    base: Arc<Base>,
    appender: Box<dyn Appender>,
    follower: Arc<Follower>,
    versions: Versions,
    usage: Usage,
    /// Batches whose outcome is unknown, each followed by the next.
    unsettled: VecDeque<Arc<Batch>>,
    /// Tells the queue that there are such batches, and that nothing else is appended before they are settled.
    is_settling: Arc<AtomicBool>,
    /// When a batch was last found committed.
    committed: std::time::Instant,
}

/// A batch that is submitted, and the appends that wait for it.
struct UnderWay {
    pending: Vec<Pending>,
    plan: Plan,
    outcome: MaybeDone<Submitted>,
}

/// Why no append of a batch has a verdict.
enum Failure {
    /// It meets all of them.
    All(Error),
    /// One of them is at fault. Which one shows if each is tried alone.
    One(Error),
    /// Nothing was written, because groups on which some of them act are changed by others all the time.
    Overtaken,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::All(error)
    }
}

impl Failure {
    /// A batch could not be planned.
    fn of_plan(error: Error) -> Self {
        match error {
            // The message whose id one of the appends repeats is damaged.
            Error::Damaged(_) => Self::One(error),
            error => Self::All(error),
        }
    }
}

/// How often and for how long a batch has been tried.
struct Attempts {
    deadline: Instant,
    pause: Duration,
    /// Whether each append may have been written by an earlier attempt, or is to be decided on versions that are known.
    is_uncertain: bool,
    /// How often a change of a group, or another batch, was before one that acts on groups.
    overtaken: u32,
}

impl Attempts {
    fn new() -> Self {
        Self { deadline: Instant::now() + SETTLE_WITHIN, pause: SETTLE_PAUSES.0, is_uncertain: false, overtaken: 0 }
    }

    /// Whether those that act on groups have to go round, so that the others of the batch need not wait for them. What
    /// may be written already is decided here.
    ///
    /// # Errors
    /// [`Failure::Overtaken`]; [`Error::Unknown`] if it is not decided in time.
    async fn overtaken(&mut self) -> Result<(), Failure> {
        self.overtaken += 1;
        if self.is_uncertain && self.is_over() {
            return Err(Error::unknown("others change a group all the time").into());
        }
        if !self.is_uncertain && self.overtaken >= OVERTAKEN {
            return Err(Failure::Overtaken);
        }
        if self.is_uncertain {
            self.pause().await;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(SETTLE_PAUSES.1);
    }
}

impl Sequencer {
    pub(super) fn new(
        base: Arc<Base>,
        appender: Box<dyn Appender>,
        follower: Arc<Follower>,
        is_settling: Arc<AtomicBool>,
    ) -> Self {
        let versions = Versions::new(base.settings.version_cache);
        Self {
            base,
            appender,
            follower,
            versions,
            usage: Usage::default(),
            unsettled: VecDeque::new(),
            committed: std::time::Instant::now(),
            is_settling,
        }
    }

    /// Commits what waits in the queue, batch by batch.
    pub(super) async fn run(&mut self, queue: &Queue) {
        let mut ahead: Option<UnderWay> = None;
        for _ in 0..BATCHES_PER_RUN {
            if let Some(first) = ahead.take() {
                ahead = self.gather_behind(queue, first).await;
            }
            if ahead.is_none() {
                self.prepare(queue).await;
            }
            let pending = queue.take(self.base.settings.batch_messages, self.base.settings.batch_bytes);
            if pending.is_empty() {
                break;
            }
            ahead = match ahead {
                None => self.start(pending).await,
                Some(first) => self.start_behind(first, pending).await,
            };
        }
        if let Some(last) = ahead {
            self.land(last).await;
        }
    }

    /// Drops what is remembered, because it may be wrong.
    pub(super) fn forget(&mut self) {
        self.versions.clear();
    }

    /// Before something is planned: waits for this server's turn to append, and follows other servers.
    async fn prepare(&mut self, queue: &Queue) {
        let turn = if queue.is_empty() { None } else { self.appender.lead() };
        if turn.is_some() {
            self.base.figures.appends.turns.increment();
        }
        if turn.is_none() && !self.follower.is_behind() {
            return;
        }
        if let Err(error) = self.follower.catch_up(turn, &mut self.versions).await {
            if let Some(Due { held_back }) = outage("follow") {
                tracing::warn!(namespace = %self.base.namespace, error = %Chain(&error), held_back, "cannot follow the log");
            }
            self.follower.gave_up();
        }
    }

    /// Waits until a batch has an outcome, which is answered, or until as many appends wait as it has. It comes back if
    /// it is still under way.
    async fn gather_behind(&mut self, queue: &Queue, mut first: UnderWay) -> Option<UnderWay> {
        if self.appender.abilities().takes_batch_behind {
            tokio::select! {
                biased;
                () = &mut first.outcome => {}
                () = queue.holds(first.pending.len()) => return Some(first),
            }
        }
        self.land(first).await;
        None
    }

    /// Submits what waits as one batch. What cannot be submitted so simply is committed.
    async fn start(&mut self, pending: Vec<Pending>) -> Option<UnderWay> {
        match self.submit(pending, None).await {
            Ok(started) => Some(started),
            Err(pending) => {
                self.commit(pending).await;
                None
            }
        }
    }

    /// Submits what waits behind a batch that is under way, which lands then.
    async fn start_behind(&mut self, mut first: UnderWay, pending: Vec<Pending>) -> Option<UnderWay> {
        let mut second = {
            let submitting = pin!(self.submit(pending, Some(&first.plan)));
            match select(submitting, &mut first.outcome).await {
                Either::Left((second, _)) => second,
                Either::Right(((), submitting)) => submitting.await,
            }
        };
        if let Ok(second) = &mut second {
            // The second goes on while the first is waited for: it may have what the first needs. Where the log has
            // moved under the first, that one lines up for a connection there behind the second.
            select(&mut first.outcome, &mut second.outcome).await;
            (&mut first.outcome).await;
            if matches!(first.outcome, MaybeDone::Done(Err(_))) {
                // It fails too. Its outcome may be needed to find out what became of the first.
                (&mut second.outcome).await;
            }
        }
        self.land(first).await;
        match second {
            Ok(second) => Some(second),
            Err(pending) => {
                self.commit(pending).await;
                None
            }
        }
    }

    /// Submits what waits as one batch, behind the plan whose batch is under way. The appends come back if something
    /// has to be found out first, or if there is nothing to write.
    async fn submit(&mut self, pending: Vec<Pending>, ahead: Option<&Plan>) -> Result<UnderWay, Vec<Pending>> {
        if self.base.window.is_closed() || !self.unsettled.is_empty() {
            return Err(pending);
        }
        // Read once: whether the appends fit behind a batch, and how much room there is, must be answers about the same.
        let quota = *self.base.quota.read();
        if let Some(ahead) = ahead
            && (self.follower.is_behind() || !ahead.can_be_followed_by(&pending) || !self.fits(quota, ahead, &pending))
        {
            return Err(pending);
        }
        let plan = match self.plan(quota, &pending, ahead, false).await {
            Ok(plan) if !plan.is_empty() => plan,
            _ => return Err(pending),
        };
        self.base.pauses.at("before append").await;
        let mut outcome = maybe_done(self.send(&plan.batch));
        // A future does nothing before it is polled: this sends the batch.
        let _ = (&mut outcome).now_or_never();
        Ok(UnderWay { pending, plan, outcome })
    }

    /// Submits a batch, and counts how long it takes if it is committed.
    fn send(&mut self, batch: &Arc<Batch>) -> Submitted {
        let (figures, submitted) = (Arc::clone(&self.base.figures), std::time::Instant::now());
        let outcome = self.appender.submit(Arc::clone(batch));
        Box::pin(async move {
            let outcome = outcome.await;
            if outcome.is_ok() {
                let now = std::time::Instant::now();
                figures.appends.commit.observe(now.saturating_duration_since(submitted), now);
            }
            outcome
        })
    }

    async fn plan(
        &mut self,
        quota: Quota,
        pending: &[Pending],
        ahead: Option<&Plan>,
        is_uncertain: bool,
    ) -> Result<Plan> {
        let known = self.follower.head();
        let after = ahead.map_or(known.position, |ahead| ahead.batch.head().position);
        let room = self.usage.room(quota, after, pending, &*self.base.storage).await?;
        let planner = Planner {
            room,
            base: &self.base,
            versions: &mut self.versions,
            known,
            ahead,
            is_uncertain,
            finds_versions: self.appender.abilities().finds_versions,
        };
        let plan = planner.plan(pending).await?;
        if quota.bytes.is_some() {
            self.usage.plan(plan.batch.messages.iter().map(|message| message.size() as u64).sum());
        }
        Ok(plan)
    }

    /// Whether what waits surely fits into the quota behind the batch of a plan. Otherwise that has to land first, so that
    /// the messages can be counted.
    fn fits(&self, quota: Quota, ahead: &Plan, pending: &[Pending]) -> bool {
        self.usage.fits(quota, ahead.batch.head().position, pending)
    }

    /// Waits for the outcome of a batch that is under way, and answers everybody.
    async fn land(&mut self, mut under_way: UnderWay) {
        (&mut under_way.outcome).await;
        let outcome = Pin::new(&mut under_way.outcome).take_output().expect("it was waited for, and is taken once");
        let UnderWay { pending, plan, .. } = under_way;
        let verdicts = self.try_to_land(&pending, plan, outcome).await;
        self.answer(pending, verdicts).await;
    }

    async fn try_to_land(
        &mut self,
        pending: &[Pending],
        plan: Plan,
        outcome: Outcome,
    ) -> Result<Vec<Verdict>, Failure> {
        if let Err(error) = self.settle().await {
            // What was sent behind a batch whose outcome is unknown is as unknown.
            self.unsettled.push_back(plan.batch);
            return Err(error.into());
        }
        let mut attempts = Attempts::new();
        match self.conclude(plan, outcome, &mut attempts).await? {
            Some(verdicts) => Ok(verdicts),
            None => self.try_to_commit(pending, attempts).await,
        }
    }

    /// Commits these appends, of which nothing is written, as one batch, and answers everybody.
    async fn commit(&mut self, pending: Vec<Pending>) {
        let verdicts = match self.settle().await {
            Ok(_) => self.try_to_commit(&pending, Attempts::new()).await,
            // Unknown is what became of earlier appends. These were never submitted.
            Err(Error::Unknown(cause)) => Err(Failure::All(Error::Unavailable(cause))),
            Err(error) => Err(Failure::All(error)),
        };
        self.answer(pending, verdicts).await;
    }

    /// Plans and submits a batch of these appends until one has landed, or there is nothing to write.
    async fn try_to_commit(&mut self, pending: &[Pending], mut attempts: Attempts) -> Result<Vec<Verdict>, Failure> {
        self.settle().await?;
        loop {
            self.base.window.open_or_closed()?;
            let quota = *self.base.quota.read();
            let plan = self.plan(quota, pending, None, attempts.is_uncertain).await.map_err(Failure::of_plan)?;
            if plan.is_empty() {
                if self.follower.is_current(&mut self.versions).await? {
                    return Ok(plan.into_verdicts());
                }
                continue;
            }
            self.base.pauses.at("before append").await;
            let outcome = self.send(&plan.batch).await;
            if let Some(verdicts) = self.conclude(plan, outcome, &mut attempts).await? {
                return Ok(verdicts);
            }
        }
    }

    /// The verdicts of a batch that has an outcome; `None` if nothing of it was written and it is to be planned anew.
    async fn conclude(
        &mut self,
        plan: Plan,
        outcome: Outcome,
        attempts: &mut Attempts,
    ) -> Result<Option<Vec<Verdict>>, Failure> {
        if !matches!(outcome, Ok(_) | Err(AppendError::Behind)) {
            // What is remembered may be the reason, or wrong by now.
            self.forget();
        }
        match outcome {
            Ok(entries) => {
                self.show(&plan.batch, &entries);
                Ok(Some(plan.into_committed(&entries)))
            }
            Err(AppendError::Behind) => {
                self.base.figures.appends.lost_races.increment();
                let acts = plan.acts();
                // It holds the turns of its groups.
                drop(plan);
                self.follower.catch_up(self.appender.lead(), &mut self.versions).await?;
                if acts {
                    attempts.overtaken().await?;
                }
                Ok(None)
            }
            Err(AppendError::Unknown(cause)) => self.find_out(plan, cause, attempts).await,
            Err(AppendError::Rejected(_)) if plan.appends() == 1 && !plan.batch.open.is_empty() => {
                // What is wrong may show once it is decided on versions that are known.
                attempts.is_uncertain = true;
                Ok(None)
            }
            Err(AppendError::Rejected(cause)) => Err(Failure::One(Error::Failed(cause))),
            Err(AppendError::Unavailable(cause)) => Err(Failure::All(Error::Unavailable(cause))),
            Err(AppendError::Replacing) => Err(Failure::All(Error::Replacing)),
            Err(AppendError::Closed) => {
                self.base.window.close();
                Err(Failure::All(Error::Closed))
            }
        }
    }

    /// The verdicts of a batch whose outcome was unknown; `None` if it was not committed, and never will be.
    async fn find_out(
        &mut self,
        plan: Plan,
        cause: Cause,
        attempts: &mut Attempts,
    ) -> Result<Option<Vec<Verdict>>, Failure> {
        if let Some(Due { held_back }) = outage("unknown outcome") {
            tracing::warn!(namespace = %self.base.namespace, cause = %Chain(&*cause), held_back, "the outcome of an append is unknown");
        }
        self.base.figures.appends.unknown.increment();
        self.unsettled.push_back(Arc::clone(&plan.batch));
        if let Some(entries) = self.settle().await? {
            return Ok(Some(plan.into_committed(&entries)));
        }
        // A commit that was not heard of may be there after a crash, until another takes its place.
        if attempts.is_over() {
            return Err(Failure::All(Error::Unknown(cause)));
        }
        if attempts.is_uncertain {
            attempts.pause().await;
        }
        attempts.is_uncertain = true;
        Ok(None)
    }

    /// Finds out, in order, what became of the batches whose outcome is unknown. Returns the messages of the last of
    /// them, if it was committed.
    async fn settle(&mut self) -> Result<Option<Vec<Arc<Entry>>>> {
        let mut committed = None;
        while let Some(batch) = self.unsettled.front().cloned() {
            self.is_settling.store(true, Relaxed);
            committed = self.settle_one(&batch).await?;
            self.unsettled.pop_front();
        }
        self.is_settling.store(false, Relaxed);
        Ok(committed)
    }

    /// Finds out whether this batch was committed, and shows its messages; if not, it never will be.
    async fn settle_one(&mut self, batch: &Batch) -> Result<Option<Vec<Arc<Entry>>>> {
        let mut attempts = Attempts::new();
        loop {
            match self.appender.settle(batch).await {
                Ok(Settled::Committed(entries)) => {
                    self.show(batch, &entries);
                    return Ok(Some(entries));
                }
                Ok(Settled::NotCommitted) => {
                    self.follower.follow(&mut self.versions).await?;
                    return Ok(None);
                }
                Err(Error::Closed) => {
                    self.base.window.close();
                    return Err(Error::Closed);
                }
                Err(Error::Unavailable(cause) | Error::Failed(cause)) if attempts.is_over() => {
                    return Err(Error::Unknown(cause));
                }
                Err(error) if attempts.is_over() => return Err(error),
                Err(_) => attempts.pause().await,
            }
        }
    }

    /// Shows the messages of a batch that was committed.
    fn show(&mut self, batch: &Batch, entries: &[Arc<Entry>]) {
        self.committed = std::time::Instant::now();
        self.follower.committed(batch, entries, &mut self.versions);
    }

    fn count(&self, verdict: &Verdict) {
        let figures = &self.base.figures.appends;
        match verdict {
            Verdict::Accepted(_) => figures.written.increment(),
            Verdict::Repeated(_) => figures.repeats.increment(),
            Verdict::Refused(Error::VersionConflict(_)) => figures.version_conflicts.increment(),
            Verdict::Refused(Error::ConditionFailed(_)) => figures.condition_conflicts.increment(),
            Verdict::Refused(Error::IdConflict(_)) => figures.id_conflicts.increment(),
            Verdict::Refused(Error::Group(Refusal::Fenced { .. })) => figures.fenced.increment(),
            Verdict::Refused(_) | Verdict::Outrun => {}
        }
    }

    /// Answers the appends of a batch. If one of them is at fault, each is committed alone, so that only that one
    /// fails. If groups are changed by others all the time, what acts on groups goes round, and the rest is committed.
    async fn answer(&mut self, pending: Vec<Pending>, verdicts: Result<Vec<Verdict>, Failure>) {
        match verdicts {
            Ok(verdicts) => {
                for (pending, verdict) in pending.into_iter().zip(verdicts) {
                    self.count(&verdict);
                    match verdict {
                        Verdict::Accepted(done) => {
                            pending.published(self.committed);
                            pending.answer(Ok(done));
                        }
                        Verdict::Repeated(done) => pending.answer(Ok(done)),
                        Verdict::Refused(error) => pending.answer(Err(error)),
                        Verdict::Outrun => pending.give_back(),
                    }
                }
            }
            Err(Failure::One(error)) if pending.len() > 1 => {
                tracing::warn!(namespace = %self.base.namespace, error = %Chain(&error), "a batch was rejected: trying its appends one by one");
                for one in pending {
                    Box::pin(self.commit(vec![one])).await;
                }
            }
            Err(Failure::Overtaken) => {
                let (acting, rest): (Vec<_>, Vec<_>) =
                    pending.into_iter().partition(|pending| pending.work.form().is_some());
                acting.into_iter().for_each(Pending::give_back);
                if !rest.is_empty() {
                    Box::pin(self.commit(rest)).await;
                }
            }
            Err(Failure::One(error) | Failure::All(error)) => {
                pending.into_iter().for_each(|pending| pending.answer(Err(error.clone())));
            }
        }
    }
}
