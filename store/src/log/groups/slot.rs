//! One group on this server: the calls that wait for a decision, and what is known of the group.
//!
//! Calls that wait are decided together, one after another in memory, and stored by one commit. Their replies come after
//! it. What is known here saves reading the group's rows again; it is never decided on without asking whether it still
//! holds.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::decider::Decider;
use crate::error::{Error, Result};
use crate::groups::{Allowed, Group, MemberId, Moment, Refusal};
use crate::log::known::KnownGroup;

/// The longest time that a timer sleeps, in milliseconds, where the clock of the database may jump.
const LONGEST_SLEEP_MS: i64 = 5_000;
/// How long what is over waits after a decision that failed, in milliseconds.
const AFTER_FAILURE_MS: i64 = 1_000;
/// Calls that are decided together, at most.
const TOGETHER: usize = 256;

/// One group as this server knows it.
pub(super) struct Slot {
    pub(super) known: Arc<KnownGroup>,
    queue: Mutex<Vec<Box<dyn Job>>>,
    is_running: AtomicBool,
    /// Whether it is among those that are decided together soon.
    is_listed: AtomicBool,
    /// When the next timer ends, by the clock of the database.
    armed: AtomicI64,
    /// What each member was told last of what it owns.
    told: Mutex<HashMap<MemberId, u64>>,
}

/// A group and the moment behind a decision.
#[derive(Clone)]
pub(super) struct Decided {
    pub(super) group: Arc<Group>,
    pub(super) at: Arc<Moment>,
}

/// A call that waits for a decision.
pub(super) trait Job: Send {
    /// The member's id or the instance that the call names.
    fn gone(&self) -> &[Arc<str>];

    /// Decides. It may be called again, on another state of the group.
    fn decide(&mut self, group: &mut Group, at: &mut Moment);

    /// All calls are decided that are decided together, and now it is stored. What comes of it may be prepared, but
    /// nobody may learn of it yet.
    fn foresee(&mut self, group: &Group, at: &Arc<Moment>);

    /// Whether it was decided that the member has no right to this any more.
    fn is_fenced(&self) -> bool;

    /// Answers, once the decision is stored or cannot be.
    fn finish(self: Box<Self>, stored: Result<Decided>);
}

/// A call as a function.
struct Call<T, F> {
    allowed: Allowed,
    /// Whether it met a group that it may not touch.
    is_other: bool,
    gone: Vec<Arc<str>>,
    token: Option<String>,
    decide: F,
    decided: Option<Result<T, Refusal>>,
    /// Is told what is being stored.
    ahead: Option<oneshot::Sender<Decided>>,
    answer: oneshot::Sender<Result<(T, Decided)>>,
}

impl<T: Send, F: FnMut(&mut Group, &mut Moment) -> Result<T, Refusal> + Send> Job for Call<T, F> {
    fn gone(&self) -> &[Arc<str>] {
        &self.gone
    }

    fn decide(&mut self, group: &mut Group, at: &mut Moment) {
        self.is_other = !self.allowed.allows(group.definition());
        if self.is_other {
            return;
        }
        at.token.clone_from(&self.token);
        self.decided = Some((self.decide)(group, at));
    }

    fn foresee(&mut self, group: &Group, at: &Arc<Moment>) {
        if let (Some(Ok(_)), Some(ahead)) = (&self.decided, self.ahead.take()) {
            // It fails if nobody waits any more.
            let _ = ahead.send(Decided { group: Arc::new(group.clone()), at: Arc::clone(at) });
        }
    }

    fn is_fenced(&self) -> bool {
        matches!(self.decided, Some(Err(Refusal::Fenced { .. })))
    }

    fn finish(self: Box<Self>, stored: Result<Decided>) {
        let Self { decided, answer, is_other, .. } = *self;
        let outcome = stored.and_then(|stored| {
            if is_other {
                return Err(Error::GroupNotFound);
            }
            let decided = decided.expect("what is stored was decided");
            decided.map(|result| (result, stored)).map_err(Error::Group)
        });
        // A caller that went away needs no answer; what was decided stands.
        let _ = answer.send(outcome);
    }
}

/// A call, and its answer.
fn call<T: Send + 'static, F>(
    allowed: Allowed,
    gone: Vec<Arc<str>>,
    token: Option<String>,
    ahead: Option<oneshot::Sender<Decided>>,
    decide: F,
) -> (Box<dyn Job>, impl Future<Output = Result<(T, Decided)>> + Send + use<T, F>)
where
    F: FnMut(&mut Group, &mut Moment) -> Result<T, Refusal> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let call = Call { allowed, is_other: false, gone, token, decide, decided: None, ahead, answer };
    let answered = async { answered.await.map_err(|_| Error::unknown("a decision about a group was broken off"))? };
    (Box::new(call), answered)
}

impl Slot {
    pub(super) fn new(known: Arc<KnownGroup>) -> Self {
        Self {
            known,
            queue: Mutex::default(),
            is_running: AtomicBool::new(false),
            is_listed: AtomicBool::new(false),
            armed: AtomicI64::new(i64::MAX),
            told: Mutex::default(),
        }
    }

    /// Decides a call, together with others that wait; it is put in line at once. Members' ids and instances that it names
    /// are in `gone`. If the decision has to be stored, `ahead` is told of it before it is.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`], also if it may not touch the group of this name; [`Error::Group`]; those of
    /// [`crate::storage::groups::GroupStorage`].
    pub(super) fn decide<T: Send + 'static, F>(
        self: &Arc<Self>,
        decider: &Arc<Decider>,
        allowed: Allowed,
        gone: Vec<Arc<str>>,
        token: Option<String>,
        ahead: Option<oneshot::Sender<Decided>>,
        decide: F,
    ) -> impl Future<Output = Result<(T, Decided)>> + Send + use<T, F>
    where
        F: FnMut(&mut Group, &mut Moment) -> Result<T, Refusal> + Send + 'static,
    {
        let (call, answered) = call(allowed, gone, token, ahead, decide);
        self.queue.lock().push(call);
        if self.begin() {
            self.go_on(decider, Vec::new());
        }
        answered
    }

    /// The same for a heartbeat of a member with this id, which may be decided a little later, together with those of other
    /// groups.
    ///
    /// # Errors
    /// As [`Self::decide`].
    pub(super) fn decide_soon<T: Send + 'static, F>(
        self: &Arc<Self>,
        decider: &Arc<Decider>,
        allowed: Allowed,
        member: Arc<str>,
        decide: F,
    ) -> impl Future<Output = Result<(T, Decided)>> + Send + use<T, F>
    where
        F: FnMut(&mut Group, &mut Moment) -> Result<T, Refusal> + Send + 'static,
    {
        let (call, answered) = call(allowed, vec![member], None, None, decide);
        self.queue.lock().push(call);
        decider.renew_soon(self);
        answered
    }

    /// Whether a member was told something else before. It is told this now.
    pub(super) fn tell(&self, member: &str, told: u64) -> bool {
        let mut known = self.told.lock();
        match known.get_mut(member) {
            Some(before) => std::mem::replace(before, told) != told,
            None => {
                known.insert(member.into(), told);
                true
            }
        }
    }

    /// Whether a member would be told something else than before.
    pub(super) fn is_news(&self, member: &str, told: u64) -> bool {
        self.told.lock().get(member) != Some(&told)
    }

    /// Decides at once what was to be decided soon.
    pub(super) fn hurry(self: &Arc<Self>, decider: &Arc<Decider>) {
        if !self.queue.lock().is_empty() && self.begin() {
            self.go_on(decider, Vec::new());
        }
    }

    /// Puts it among those that are decided together soon. Returns whether it was not there.
    pub(super) fn list(&self) -> bool {
        !self.is_listed.swap(true, SeqCst)
    }

    /// It is among them no more: what comes from now on puts it there again.
    pub(super) fn unlist(&self) {
        self.is_listed.store(false, SeqCst);
    }

    /// The calls that wait, for the caller to decide, if there are some and nobody else does. [`Self::go_on`] ends it.
    pub(super) fn begin_with(&self) -> Option<Vec<Box<dyn Job>>> {
        (!self.queue.lock().is_empty() && self.begin()).then(|| self.take())
    }

    /// Whether the caller is to decide what waits, because nobody else does. [`Self::go_on`] ends it.
    fn begin(&self) -> bool {
        !self.is_running.swap(true, SeqCst)
    }

    /// Decides these calls, then whatever waits, for the one who has begun.
    pub(super) fn go_on(self: &Arc<Self>, decider: &Arc<Decider>, jobs: Vec<Box<dyn Job>>) {
        // A task of its own: a caller that goes away does not take the others' calls with it. What memory decides needs none.
        let mut deciding = Box::pin(Arc::clone(self).decide_all(Arc::clone(decider), jobs));
        if (&mut deciding).now_or_never().is_none() {
            tokio::spawn(deciding);
        }
    }

    async fn decide_all(self: Arc<Self>, decider: Arc<Decider>, mut jobs: Vec<Box<dyn Job>>) {
        let mut least = 0;
        loop {
            if jobs.is_empty() {
                jobs = self.take();
            }
            if jobs.is_empty() {
                self.is_running.store(false, SeqCst);
                // A call may have come before that, and have left it to this run.
                if self.queue.lock().is_empty() || !self.begin() {
                    break;
                }
                continue;
            }
            // A decision that panics costs its own calls an answer, and nobody the group.
            let deciding = decider.decide(&self, std::mem::take(&mut jobs));
            let decided = AssertUnwindSafe(deciding).catch_unwind().await;
            if decided.is_err() {
                tracing::error!(group = %self.known.name, "a decision about a group panicked");
                self.known.forget();
            }
            least = if decided.unwrap_or(false) { 0 } else { AFTER_FAILURE_MS };
        }
        self.arm(&decider, least);
    }

    /// The calls that are decided next, together.
    fn take(&self) -> Vec<Box<dyn Job>> {
        let mut queue = self.queue.lock();
        let count = queue.len().min(TOGETHER);
        queue.drain(..count).collect()
    }

    /// Sees to it that leases and deadlines end in time, if no call comes; in `least` milliseconds at the earliest.
    fn arm(self: &Arc<Self>, decider: &Arc<Decider>, least: i64) {
        let Some(end) = self.known.last_seen().and_then(|group| group.next_end()) else { return };
        let now = decider.base.groups.about_now();
        let is_steady = decider.base.groups.storage.lease_clock().is_some();
        let longest = if is_steady { end } else { now + LONGEST_SLEEP_MS };
        let end = end.min(longest).max(now + least) + 1;
        if decider.base.groups.has_test_clock() || self.armed.fetch_min(end, SeqCst) <= end {
            return;
        }
        let sleep = Duration::from_millis(u64::try_from(end - now).unwrap_or_default());
        tokio::spawn(expire_later(Arc::downgrade(self), Arc::downgrade(decider), end, sleep));
    }

    /// Drops what is kept of members that live no more.
    pub(super) fn keep_told(&self, group: &Group) {
        let mut told = self.told.lock();
        if told.len() > 2 * group.members() + 16 {
            told.retain(|member, _| group.has_member(member));
        }
    }
}

async fn expire_later(slot: Weak<Slot>, decider: Weak<Decider>, end: i64, sleep: Duration) {
    tokio::time::sleep(sleep).await;
    let (Some(slot), Some(decider)) = (slot.upgrade(), decider.upgrade()) else { return };
    // A timer that ends earlier has taken its place.
    if slot.armed.compare_exchange(end, i64::MAX, SeqCst, SeqCst).is_err() {
        return;
    }
    let next = slot.known.last_seen().and_then(|group| group.next_end());
    if next.is_some_and(|end| end <= decider.base.groups.about_now()) {
        // Each decision begins with the end of what is over, and sets the next timer.
        let _ = slot.decide(&decider, Allowed::Any, Vec::new(), None, None, |_, _| Ok(())).await;
    } else {
        slot.arm(&decider, 0);
    }
}
