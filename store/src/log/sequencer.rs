//! The sequencer: gathers the appends that wait, decides them in order, and commits them as one
//! batch, so that commit order is position order.
//!
//! One turn runs at a time. Within it nothing is guessed: a refusal is answered only once the head
//! that it was decided on is known to have been current, and an append whose outcome is unknown is
//! settled by a fence before anything else is appended.

use std::sync::Arc;
use std::time::Duration;

use eventodb_schema::Timestamp;
use eventodb_schema::message::{Message, NewMessage};
use eventodb_schema::reply::Appended;
use eventodb_schema::request::Append;
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
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
    /// A batch whose outcome is unknown; nothing is appended before it is known.
    unsettled: Option<Batch>,
}

impl Sequencer {
    pub(super) fn new(version_cache: usize) -> Self {
        Self { versions: Versions::new(version_cache), unsettled: None }
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
    messages: Vec<Message>,
    starts_stream: Vec<bool>,
    keep_times: bool,
    verdicts: Vec<Verdict>,
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
        for _ in 0..BATCHES_PER_TURN {
            if let Err(error) = self.follow_wanted(&mut sequencer).await {
                tracing::warn!(namespace = %self.namespace.name, %error, "cannot follow the log");
                self.following_failed();
            }
            let pending = self.queue.take(self.settings.batch_messages, self.settings.batch_bytes);
            if pending.is_empty() {
                break;
            }
            self.commit(&mut sequencer, pending).await;
        }
        drop(sequencer);
        self.end_turn();
        if !self.queue.is_empty() || self.is_behind() {
            self.schedule();
        }
    }

    /// Commits what waits as one batch and answers everybody.
    async fn commit(&self, sequencer: &mut Sequencer, pending: Vec<Pending>) {
        match self.try_commit(sequencer, &pending).await {
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
                    Box::pin(self.commit(sequencer, vec![one])).await;
                }
            }
            Err(error) => pending.into_iter().for_each(|pending| pending.answer(Err(error.clone()))),
        }
    }

    async fn try_commit(&self, sequencer: &mut Sequencer, pending: &[Pending]) -> Result<Vec<Verdict>> {
        self.settle(sequencer).await?;
        let mut uncertain = false;
        loop {
            if self.is_closed() {
                return Err(Error::Closed);
            }
            let decided = self.decide(sequencer, pending, uncertain).await?;
            if decided.messages.is_empty() {
                if self.is_confirmed(sequencer).await? {
                    return Ok(decided.verdicts);
                }
                continue;
            }
            let batch = Batch {
                id: Uuid::new_v4(),
                after: self.known(),
                messages: decided.messages,
                starts_stream: decided.starts_stream,
                keep_times: decided.keep_times,
            };
            self.pauses.at("before append").await;
            match self.storage.append(&batch).await {
                Ok(entries) => {
                    self.committed(sequencer, &batch, &entries);
                    return Ok(decided.verdicts);
                }
                Err(AppendError::Behind) => self.follow(sequencer).await?,
                Err(AppendError::Unknown(cause)) => {
                    tracing::warn!(namespace = %self.namespace.name, %cause, "the outcome of an append is unknown");
                    sequencer.forget();
                    sequencer.unsettled = Some(batch);
                    if self.settle(sequencer).await? {
                        return Ok(decided.verdicts);
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

    /// Finds out what became of the batch whose outcome is unknown, if there is one. Says whether
    /// it was committed.
    async fn settle(&self, sequencer: &mut Sequencer) -> Result<bool> {
        let Some(batch) = sequencer.unsettled.take() else { return Ok(false) };
        let deadline = Instant::now() + SETTLE_WITHIN;
        let mut pause = SETTLE_PAUSE;
        loop {
            match self.storage.fence(&batch).await {
                Ok(Fenced::Committed(entries)) => {
                    self.committed(sequencer, &batch, &entries);
                    return Ok(true);
                }
                Ok(Fenced::NotCommitted) => {
                    self.follow(sequencer).await?;
                    return Ok(false);
                }
                Err(Error::Closed) => {
                    self.close();
                    return Err(Error::Closed);
                }
                Err(error) if Instant::now() >= deadline => {
                    sequencer.unsettled = Some(batch);
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
        let mut head = Head { batch: batch.after.batch + 1, id: batch.id, ..batch.after };
        if let Some(last) = entries.last() {
            head.position = last.message().global_position;
            if !batch.keep_times {
                head.time = last.message().time;
            }
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

    /// Decides each append in order, on the versions and ids that are there and on what stands
    /// before it in the batch.
    async fn decide(&self, sequencer: &mut Sequencer, pending: &[Pending], uncertain: bool) -> Result<Decided> {
        let versions = self.versions_of(sequencer, pending).await?;
        let stored = self.known_ids(pending, uncertain).await?;
        let mut decision = Decision {
            next: self.known().position + 1,
            versions,
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
        let Decision { messages, starts_stream, .. } = decision;
        Ok(Decided { messages, starts_stream, keep_times, verdicts })
    }

    /// The versions of all streams that are written or expected something of; those that are not
    /// remembered are fetched in one query.
    async fn versions_of(&self, sequencer: &mut Sequencer, pending: &[Pending]) -> Result<HashMap<Arc<str>, i64>> {
        let mut versions = HashMap::new();
        let mut missing = Vec::new();
        let mut want = |stream: &Arc<str>| {
            if versions.contains_key(stream) {
                return;
            }
            let known = sequencer.versions.get(stream);
            if known.is_none() {
                missing.push(stream.clone());
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
        if !missing.is_empty() {
            let fetched = self.storage.versions(&missing).await?;
            versions.extend(missing.into_iter().zip(fetched));
        }
        Ok(versions)
    }

    /// The messages that already have one of the ids that clients gave; after an unknown outcome,
    /// of all ids.
    async fn known_ids(&self, pending: &[Pending], uncertain: bool) -> Result<HashMap<Uuid, Message>> {
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
        Ok(found.into_iter().map(|message| (message.id, message)).collect())
    }
}

/// A batch under decision.
struct Decision {
    /// The next global position.
    next: i64,
    /// The version of each stream, what stands in the batch included.
    versions: HashMap<Arc<str>, i64>,
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
        self.starts_stream.push(*version == -1);
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

/// An id that a client gave to two messages of one append.
fn given_twice(append: &Append) -> Option<Uuid> {
    let mut seen = HashSet::new();
    let messages = append.entries.iter().flat_map(|entry| &entry.messages);
    messages.filter_map(|message| message.id).find(|id| !seen.insert(*id))
}
