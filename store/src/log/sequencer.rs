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

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use eventodb_schema::Timestamp;
use eventodb_schema::message::{Expected, Message, NewMessage};
use eventodb_schema::reply::Appended;
use eventodb_schema::request::Append;
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use futures_util::future::{BoxFuture, FutureExt as _, MaybeDone, join, maybe_done};
use lru::LruCache;
use tokio::time::Instant;
use uuid::Uuid;

use super::queue::{Done, Pending, Work};
use super::{Entry, Log};
use crate::backend::{AppendError, Batch, Fenced, Head, Lineage};
use crate::error::{Conflict, Error, Result};

/// How long an unknown outcome is tried to be settled before its callers are told so.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// The first pause between two attempts to settle it; later ones are longer.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);
/// Batches that one turn commits before it lets other logs' turns run.
const BATCHES_PER_TURN: usize = 64;

/// What only a turn touches.
pub(super) struct Sequencer {
    versions: Versions,
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

/// The last position of recently written streams; the longest unused is forgotten beyond the bound.
struct Versions {
    /// Without a bound of its own: it would make room for all of it at once, in every log.
    cache: LruCache<Arc<str>, i64>,
    most: usize,
}

impl Versions {
    fn new(most: usize) -> Self {
        Self { cache: LruCache::unbounded(), most }
    }

    fn get(&mut self, stream: &Arc<str>) -> Option<i64> {
        self.cache.get(stream).copied()
    }

    fn put(&mut self, stream: &Arc<str>, version: i64) {
        match self.cache.get_mut(stream) {
            Some(known) => *known = version,
            None => {
                self.cache.push(stream.clone(), version);
                if self.cache.len() > self.most {
                    self.cache.pop_lru();
                }
            }
        }
    }

    fn clear(&mut self) {
        self.cache = LruCache::unbounded();
    }
}

/// What was decided about one append.
enum Verdict {
    /// It is in the batch, or was written before.
    Accepted(Done),
    Refused(Error),
}

/// A decided batch, with one verdict for each that waits.
struct Decided {
    batch: Arc<Batch>,
    verdicts: Vec<Verdict>,
    /// The versions of all streams that were looked at, once the batch is committed; of its open streams
    /// they count from the end that is there before.
    versions: HashMap<Arc<str>, i64>,
    /// Where in the batch an id that somebody gave stands.
    given: HashMap<Uuid, usize>,
}

/// A batch that is under way, for those who wait for it.
struct Sent<'a> {
    pending: Vec<Pending>,
    decided: Decided,
    outcome: MaybeDone<BoxFuture<'a, Outcome>>,
}

type Outcome = Result<Vec<Arc<Entry>>, AppendError>;

impl Verdict {
    /// With the positions that the append found: `entries` are those of the batch.
    fn found(mut self, batch: &Batch, entries: &[Arc<Entry>]) -> Self {
        let position = |global_position: i64| {
            let at = usize::try_from(global_position - batch.after.position - 1).ok()?;
            Some(entries.get(at)?.message().position)
        };
        if let (Self::Accepted(Done::Appended(results)), false) = (&mut self, batch.open.is_empty()) {
            for result in results {
                // What was written before is in no batch, and known.
                result.first_position = position(result.first_global_position).unwrap_or(result.first_position);
                result.last_position = position(result.last_global_position).unwrap_or(result.last_position);
            }
        }
        self
    }
}

/// The streams of which something depends on the version: what is expected, what was written before under
/// the same id, what is imported. After an unknown outcome each append may have been written before.
fn decisive(pending: &[Pending], uncertain: bool) -> impl Iterator<Item = &Arc<str>> {
    pending.iter().flat_map(move |pending| {
        let (entries, checks, records) = match &pending.work {
            Work::Append(append, _) => (&*append.entries, &*append.checks, &[][..]),
            Work::Import(records) => (&[][..], &[][..], &**records),
        };
        let has_ids = uncertain || entries.iter().flat_map(|entry| &entry.messages).any(|message| message.id.is_some());
        let entries = entries.iter().filter(move |entry| has_ids || entry.expected != Expected::Any);
        let entries = entries.map(|entry| &entry.stream);
        entries.chain(checks.iter().map(|check| &check.stream)).chain(records.iter().map(|record| &record.stream))
    })
}

impl Log {
    /// Has a turn run if there is work and none runs yet.
    pub(super) fn schedule(self: &Arc<Self>) {
        if self.begin_turn() {
            self.storage.spawn(Box::pin(self.clone().turn()));
        }
    }

    async fn turn(self: Arc<Self>) {
        let mut sequencer = self.sequencer.lock().await;
        let mut ahead: Option<Sent<'_>> = None;
        for _ in 0..BATCHES_PER_TURN {
            if let Some(first) = ahead.take() {
                ahead = self.gather_behind(&mut sequencer, first).await;
            }
            if ahead.is_none()
                && let Err(error) = self.follow_wanted(&mut sequencer).await
            {
                tracing::warn!(namespace = %self.namespace.name, %error, "cannot follow the log");
                self.following_failed();
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
        drop(sequencer);
        self.end_turn();
        if !self.queue.is_empty() || self.is_behind() {
            self.schedule();
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
            Err(Error::Failed(cause)) if pending.len() > 1 => {
                tracing::warn!(namespace = %self.namespace.name, %cause, "a batch was rejected: trying its appends one by one");
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
                Err(AppendError::Behind) => self.follow(sequencer).await?,
                Err(AppendError::Unknown(cause)) => {
                    tracing::warn!(namespace = %self.namespace.name, %cause, "the outcome of an append is unknown");
                    sequencer.forget();
                    sequencer.unsettled.push_back(Arc::clone(&batch));
                    if let Some(entries) = self.settle(sequencer).await? {
                        return Ok(found(verdicts, &batch, &entries));
                    }
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

    /// Brings the log up to what other servers are known to have written.
    async fn follow_wanted(&self, sequencer: &mut Sequencer) -> Result<()> {
        if self.is_behind() { self.follow(sequencer).await } else { Ok(()) }
    }

    /// Reads what other servers wrote after the known head.
    async fn follow(&self, sequencer: &mut Sequencer) -> Result<()> {
        let known = self.known();
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
        self.following_succeeded();
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

    /// Decides each append in order, on the versions and ids that are there, with those of the batch
    /// ahead, and on what stands before it in its own batch.
    async fn decide(
        &self,
        sequencer: &mut Sequencer,
        pending: &[Pending],
        ahead: Option<&Decided>,
        uncertain: bool,
    ) -> Result<Decided> {
        let after = ahead.map_or_else(|| self.known(), |ahead| ahead.batch.head());
        let (versions, open) = self.versions_of(sequencer, pending, ahead, uncertain).await?;
        let stored = self.known_ids(pending, ahead, uncertain).await?;
        let mut decision = Decision {
            next: after.position + 1,
            versions,
            open,
            stored,
            batched: HashMap::new(),
            messages: Vec::new(),
            starts_stream: Vec::new(),
        };
        let mut keep_times = false;
        let verdicts = pending
            .iter()
            .map(|pending| match &pending.work {
                Work::Append(append, ids) => decision.append(append, ids),
                Work::Import(records) => {
                    keep_times = true;
                    decision.import(records)
                }
            })
            .collect();
        let Decision { messages, starts_stream, open, versions, batched: given, .. } = decision;
        let batch = Batch { id: Uuid::new_v4(), after, messages, starts_stream, open, keep_times };
        Ok(Decided { batch: Arc::new(batch), verdicts, versions, given })
    }

    /// The versions of all streams that are written or expected something of, and which of them are open. Those
    /// that are not remembered and may not stay open are fetched in one query.
    async fn versions_of(
        &self,
        sequencer: &mut Sequencer,
        pending: &[Pending],
        ahead: Option<&Decided>,
        uncertain: bool,
    ) -> Result<(HashMap<Arc<str>, i64>, HashSet<Arc<str>>)> {
        let mut versions = HashMap::new();
        let mut unknown = HashSet::new();
        let mut want = |stream: &Arc<str>| {
            if versions.contains_key(stream) {
                return;
            }
            let known = match ahead {
                Some(ahead) if ahead.batch.open.contains(stream) => None,
                Some(ahead) => ahead.versions.get(stream).copied().or_else(|| sequencer.versions.get(stream)),
                None => sequencer.versions.get(stream),
            };
            if known.is_none() {
                unknown.insert(stream.clone());
            }
            versions.insert(stream.clone(), known.unwrap_or(-1));
        };
        for pending in pending {
            match &pending.work {
                Work::Append(append, _) => {
                    append.entries.iter().for_each(|entry| want(&entry.stream));
                    append.checks.iter().for_each(|check| want(&check.stream));
                }
                Work::Import(records) => records.iter().for_each(|record| want(&record.stream)),
            }
        }
        let missing: Vec<Arc<str>> = match self.storage.finds_versions() {
            true => decisive(pending, uncertain).filter_map(|stream| unknown.take(stream)).collect(),
            false => unknown.drain().collect(),
        };
        if !missing.is_empty() {
            let fetched = self.storage.versions(&missing).await?;
            versions.extend(missing.into_iter().zip(fetched));
        }
        Ok((versions, unknown))
    }

    /// The messages that already have one of the ids that clients gave; after an unknown outcome,
    /// of all ids.
    async fn known_ids(
        &self,
        pending: &[Pending],
        ahead: Option<&Decided>,
        uncertain: bool,
    ) -> Result<HashMap<Uuid, Message>> {
        let mut ids = Vec::new();
        for pending in pending {
            match &pending.work {
                Work::Append(append, all) => {
                    let messages = append.entries.iter().flat_map(|entry| &entry.messages);
                    let given = messages.zip(all).filter(|(message, _)| uncertain || message.id.is_some());
                    ids.extend(given.map(|(_, id)| *id));
                }
                Work::Import(records) => ids.extend(records.iter().map(|record| record.id)),
            }
        }
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let found = self.storage.find(&ids).await?;
        let mut known: HashMap<Uuid, Message> = found.into_iter().map(|message| (message.id, message)).collect();
        if let Some(ahead) = ahead {
            let places = ids.iter().filter_map(|id| Some((*id, *ahead.given.get(id)?)));
            known.extend(places.map(|(id, at)| (id, ahead.batch.messages[at].clone())));
        }
        Ok(known)
    }
}

/// A batch under decision.
struct Decision {
    /// The next global position.
    next: i64,
    /// The version of each stream, what stands in the batch included.
    versions: HashMap<Arc<str>, i64>,
    /// Streams whose versions count from -1 at an end that is to be found.
    open: HashSet<Arc<str>>,
    /// Messages of the storage that have one of the ids.
    stored: HashMap<Uuid, Message>,
    /// Where in `messages` an id that somebody gave stands; one made here cannot come twice.
    batched: HashMap<Uuid, usize>,
    messages: Vec<Message>,
    starts_stream: Vec<bool>,
}

impl Decision {
    fn append(&mut self, append: &Append, ids: &[Uuid]) -> Verdict {
        if let Some(known) = ids.iter().find(|id| self.known(id).is_some()) {
            return match self.repeated(append, ids) {
                Some(done) => Verdict::Accepted(Done::Appended(done)),
                None => Verdict::Refused(Error::IdConflict(*known)),
            };
        }
        if let Some(twice) = given_twice(append) {
            return Verdict::Refused(Error::IdConflict(twice));
        }
        let conflicts = self.conflicts(append);
        if !conflicts.is_empty() {
            return Verdict::Refused(Error::VersionConflict(conflicts));
        }
        let mut ids = ids.iter();
        let accepted = append.entries.iter().map(|entry| {
            let first = (self.versions[&entry.stream] + 1, self.next);
            for message in &entry.messages {
                let id = *ids.next().expect("an append has an id for each message");
                self.accept(&entry.stream, message, id);
            }
            Appended {
                first_position: first.0,
                last_position: self.versions[&entry.stream],
                first_global_position: first.1,
                last_global_position: self.next - 1,
            }
        });
        let accepted = accepted.collect();
        Verdict::Accepted(Done::Appended(accepted))
    }

    /// The message that has this id, in the storage or in the batch.
    fn known(&self, id: &Uuid) -> Option<&Message> {
        let batched = self.batched.get(id).map(|at| &self.messages[*at]);
        batched.or_else(|| self.stored.get(id))
    }

    /// Every expectation that does not hold.
    fn conflicts(&self, append: &Append) -> Vec<Conflict> {
        let entries = append.entries.iter().map(|entry| (&entry.stream, entry.expected));
        let checks = append.checks.iter().map(|check| (&check.stream, check.expected));
        let failed = entries.chain(checks).filter_map(|(stream, expected)| {
            let actual = self.versions[stream];
            (!expected.admits(actual)).then(|| Conflict { stream: stream.clone(), expected, actual })
        });
        failed.collect()
    }

    fn accept(&mut self, stream: &Arc<str>, message: &NewMessage, id: Uuid) {
        let version = self.versions.get_mut(stream).expect("the version of each stream was fetched");
        self.starts_stream.push(*version == -1 && !self.open.contains(stream));
        *version += 1;
        if message.id.is_some() {
            self.batched.insert(id, self.messages.len());
        }
        self.messages.push(Message {
            id,
            stream: stream.clone(),
            kind: message.kind.clone(),
            position: *version,
            global_position: self.next,
            data: message.data.clone(),
            metadata: message.metadata.clone(),
            time: Timestamp::default(),
        });
        self.next += 1;
    }

    /// The original result of an append that was written before: every id is known, with the same
    /// content, and each entry's messages follow each other, in the stream and in the namespace.
    fn repeated(&self, append: &Append, ids: &[Uuid]) -> Option<Vec<Appended>> {
        let mut ids = ids.iter();
        let mut after: Option<i64> = None;
        let mut results = Vec::with_capacity(append.entries.len());
        for entry in &append.entries {
            let mut result: Option<Appended> = None;
            for message in &entry.messages {
                let written = self.known(ids.next()?)?;
                let same = written.stream == entry.stream
                    && written.kind == message.kind
                    && written.data == message.data
                    && written.metadata == message.metadata;
                let in_order = after.is_none_or(|after| written.global_position == after + 1)
                    && result.is_none_or(|result| written.position == result.last_position + 1);
                if !same || !in_order {
                    return None;
                }
                after = Some(written.global_position);
                let (position, global_position) = (written.position, written.global_position);
                let result = result.get_or_insert(Appended {
                    first_position: position,
                    last_position: position,
                    first_global_position: global_position,
                    last_global_position: global_position,
                });
                (result.last_position, result.last_global_position) = (position, global_position);
            }
            results.push(result?);
        }
        Some(results)
    }

    /// Records keep their positions; each must lie above what is there.
    fn import(&mut self, records: &[Message]) -> Verdict {
        for (at, record) in records.iter().enumerate() {
            let known = self.known(&record.id).is_some();
            let version = self.versions.get_mut(&record.stream).expect("the version of each stream was fetched");
            let fits = record.global_position >= self.next && record.position > *version;
            if known || !fits {
                self.messages.clear();
                self.batched.clear();
                self.starts_stream.clear();
                return Verdict::Refused(Error::PositionExists(at));
            }
            self.starts_stream.push(*version == -1);
            *version = record.position;
            self.next = record.global_position + 1;
            self.batched.insert(record.id, self.messages.len());
            self.messages.push(record.clone());
        }
        Verdict::Accepted(Done::Imported(self.next - 1))
    }
}

/// Verdicts on a batch that is committed.
fn found(verdicts: Vec<Verdict>, batch: &Batch, entries: &[Arc<Entry>]) -> Vec<Verdict> {
    verdicts.into_iter().map(|verdict| verdict.found(batch, entries)).collect()
}

/// An id that a client gave to two messages of one append.
fn given_twice(append: &Append) -> Option<Uuid> {
    let mut seen = HashSet::new();
    let messages = append.entries.iter().flat_map(|entry| &entry.messages);
    messages.filter_map(|message| message.id).find(|id| !seen.insert(*id))
}
