//! Deciding a batch: each append in order, on the versions and ids that are there and on what stands before it.

use std::sync::Arc;

use eventodb_protocol::Timestamp;
use eventodb_protocol::limits::POSITION_MAX;
use eventodb_protocol::message::{Expected, Message, NewMessage};
use eventodb_protocol::reply::Appended;
use eventodb_protocol::request::Append;
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use uuid::Uuid;

use super::Log;
use super::queue::{Done, Pending, Work};
use super::sequencer::Sequencer;
use crate::error::{Conflict, Error, Result};
use crate::model::Batch;
use crate::model::Entry;

/// What was decided about one append.
pub(super) enum Verdict {
    /// It is in the batch, or was written before.
    Accepted(Done),
    Refused(Error),
}

/// A decided batch, with one verdict for each that waits.
pub(super) struct Decided {
    pub(super) batch: Arc<Batch>,
    pub(super) verdicts: Vec<Verdict>,
    /// The versions of all streams that were looked at, once the batch is committed; of its open streams
    /// they count from the end that is there before.
    versions: HashMap<Arc<str>, i64>,
    /// Where in the batch an id that somebody gave stands.
    given: HashMap<Uuid, usize>,
}

impl Verdict {
    /// With the positions that the append found: `entries` are those of the batch.
    fn found(mut self, batch: &Batch, entries: &[Arc<Entry>]) -> Self {
        let position = |global_position: i64| {
            let at = global_position.checked_sub(batch.after.position)?.checked_sub(1)?;
            let at = usize::try_from(at).ok()?;
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
pub(super) fn decisive(pending: &[Pending], uncertain: bool) -> impl Iterator<Item = &Arc<str>> {
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
    /// Decides each append in order, on the versions and ids that are there, with those of the batch
    /// ahead, and on what stands before it in its own batch.
    pub(super) async fn decide(
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
            next: after.position.saturating_add(1),
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
            let fetched = self.storage.versions(&missing).await.map_err(|error| match error {
                // The log takes no writes.
                Error::Damaged(_) => Error::unavailable(error),
                error => error,
            })?;
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
    /// The next global position; above [`POSITION_MAX`] where none is left.
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
        if let Some(full) = self.full(append) {
            return Verdict::Refused(full);
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

    /// What has fewer positions left than an append needs. Those of an open stream the storage looks at.
    fn full(&self, append: &Append) -> Option<Error> {
        if left_from(self.next) < append.len() {
            return Some(Error::Full(None));
        }
        let next = |stream| self.versions[stream].saturating_add(1);
        let full = append.entries.iter().find(|entry| left_from(next(&entry.stream)) < entry.messages.len());
        full.map(|entry| Error::Full(Some(entry.stream.clone())))
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
                let in_order = after.is_none_or(|after| follows(after, written.global_position))
                    && result.is_none_or(|result| follows(result.last_position, written.position));
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
        if let Some(beyond) = records.iter().find(|record| record.position.max(record.global_position) > POSITION_MAX) {
            return Verdict::Refused(Error::Full(Some(beyond.stream.clone())));
        }
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
pub(super) fn found(verdicts: Vec<Verdict>, batch: &Batch, entries: &[Arc<Entry>]) -> Vec<Verdict> {
    verdicts.into_iter().map(|verdict| verdict.found(batch, entries)).collect()
}

/// How many positions there are from this one on.
fn left_from(next: i64) -> usize {
    usize::try_from(POSITION_MAX.saturating_sub(next).saturating_add(1)).unwrap_or(0)
}

/// Whether a position comes directly after another.
fn follows(before: i64, position: i64) -> bool {
    before.checked_add(1) == Some(position)
}

/// An id that a client gave to two messages of one append.
fn given_twice(append: &Append) -> Option<Uuid> {
    let mut seen = HashSet::new();
    let messages = append.entries.iter().flat_map(|entry| &entry.messages);
    messages.filter_map(|message| message.id).find(|id| !seen.insert(*id))
}
