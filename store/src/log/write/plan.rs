//! Planning a batch: what becomes of each append, in order, on the versions and ids that are there and on what stands
//! before it in the same batch.
//!
//! **Invariants**
//! - A refused append takes no position and harms no neighbour.
//! - A version or an id that an append's fate depends on was read after the known head was, or is the sequencer's own.

use std::sync::Arc;

use eventodb_protocol::limits::POSITION_MAX;
use eventodb_protocol::message::{Expected, Message, NewMessage};
use eventodb_protocol::reply::Appended;
use eventodb_protocol::request::{Append, Check};
use eventodb_protocol::{Condition, Timestamp};
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use uuid::Uuid;

use super::super::base::Base;
use super::conditions::{Recent, Sight};
use super::deeds::{Acting, ActingGroups, Deed};
use super::queue::{Done, Pending};
use super::quota::Room;
use super::versions::Versions;
use super::work::Work;
use crate::error::{Conflict, Error, QuotaOf, Result};
use crate::model::{Batch, Entry, Head};

/// What becomes of one append.
pub(super) enum Verdict {
    /// It is in the batch.
    Accepted(Done),
    /// It was written before, and this is its result.
    Repeated(Done),
    Refused(Error),
    /// Its conditions, or what it does to a group, are to be looked up once more.
    Outrun,
}

/// What a batch will do: its messages, and one verdict for each append that waits.
pub(super) struct Plan {
    pub(super) batch: Arc<Batch>,
    verdicts: Vec<Verdict>,
    /// The versions of all streams that were looked at, once the batch is committed. Those of open streams count from
    /// the end that the append will find.
    versions: HashMap<Arc<str>, i64>,
    /// Where in the batch an id stands that a client gave.
    given: HashMap<Uuid, usize>,
    /// The groups on which appends act.
    acting: Vec<Acting>,
}

impl Plan {
    /// Whether there is nothing to commit: all is refused, or was written before.
    pub(super) fn is_empty(&self) -> bool {
        self.batch.messages.is_empty()
    }

    /// Whether it changes groups.
    pub(super) fn acts(&self) -> bool {
        !self.acting.is_empty()
    }

    /// How many appends it is for.
    pub(super) fn appends(&self) -> usize {
        self.verdicts.len()
    }

    /// The verdicts, if there is nothing to commit.
    pub(super) fn into_verdicts(self) -> Vec<Verdict> {
        self.verdicts
    }

    /// The verdicts once the batch is committed as `entries`.
    pub(super) fn into_committed(self, entries: &[Arc<Entry>]) -> Vec<Verdict> {
        let Self { batch, verdicts, acting, .. } = self;
        acting.into_iter().for_each(Acting::landed);
        verdicts.into_iter().map(|verdict| verdict.found(&batch, entries)).collect()
    }

    /// Whether nothing that waits depends on a version that the append of this plan is yet to find.
    pub(super) fn can_be_followed_by(&self, pending: &[Pending]) -> bool {
        // A group is looked at only when nothing is under way that acts on one.
        self.acting.is_empty()
            && pending.iter().all(|pending| pending.work.form().is_none())
            && !decisive(pending, false).any(|stream| self.batch.open.contains(stream))
    }
}

impl Verdict {
    /// The same with the positions that the append found: `entries` are the batch's messages.
    fn found(mut self, batch: &Batch, entries: &[Arc<Entry>]) -> Self {
        let position = |global_position: i64| {
            let at = global_position.checked_sub(batch.after.position)?.checked_sub(1)?;
            let at = usize::try_from(at).ok()?;
            Some(entries.get(at)?.message().position)
        };
        if let (Self::Accepted(Done::Appended(results)) | Self::Repeated(Done::Appended(results)), false) =
            (&mut self, batch.open.is_empty())
        {
            for result in results {
                // What was written before is in no batch, and known.
                result.first_position = position(result.first_global_position).unwrap_or(result.first_position);
                result.last_position = position(result.last_global_position).unwrap_or(result.last_position);
            }
        }
        self
    }
}

/// The streams whose version decides something: an expectation, a repeated id, an import. After an unknown outcome each
/// append may be a repeated one.
fn decisive(pending: &[Pending], uncertain: bool) -> impl Iterator<Item = &Arc<str>> {
    pending.iter().flat_map(move |pending| {
        let (append, records) = match &pending.work {
            Work::Append(new) => (Some(&new.append), &[][..]),
            Work::Import(records) => (None, &**records),
        };
        let entries = append.map_or(&[][..], |append| &append.entries);
        let has_ids = uncertain || entries.iter().flat_map(|entry| &entry.messages).any(|message| message.id.is_some());
        let entries = entries.iter().filter(move |entry| has_ids || entry.expected != Expected::Any);
        let entries = entries.map(|entry| &entry.stream);
        let checked = append.into_iter().flat_map(Append::checked_streams);
        entries.chain(checked).chain(records.iter().map(|record| &record.stream))
    })
}

/// Everything that a plan is made on.
pub(super) struct Planner<'a> {
    pub(super) base: &'a Base,
    pub(super) versions: &'a mut Versions,
    /// The head that this server knows.
    pub(super) known: Head,
    /// The plan whose batch is under way; the new batch follows that one.
    pub(super) ahead: Option<&'a Plan>,
    /// Whether each append may have been written before, because the outcome of an earlier attempt is unknown.
    pub(super) is_uncertain: bool,
    /// How much the batch may bring.
    pub(super) room: Room,
    /// Whether the append finds versions that nothing depends on.
    pub(super) finds_versions: bool,
}

impl Planner<'_> {
    /// Decides each append in order.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the fate of an append depends on a damaged message; any other error is the storage's and
    /// meets all of them.
    pub(super) async fn plan(mut self, pending: &[Pending]) -> Result<Plan> {
        let after = self.ahead.map_or(self.known, |ahead| ahead.batch.head());
        let (versions, open) = self.versions_of(pending).await?;
        let stored = self.known_ids(pending).await?;
        let recent = self.recent(pending).await?;
        let groups = Acting::all(self.base, pending).await;
        let clock = self.base.groups.test_time();
        let mut draft = Draft {
            next: after.position.saturating_add(1),
            room: self.room,
            versions,
            open,
            stored,
            recent,
            groups,
            time: clock.unwrap_or_default(),
            given: HashMap::new(),
            messages: Vec::new(),
            starts_stream: Vec::new(),
        };
        let mut keep_times = clock.is_some();
        let verdicts = pending
            .iter()
            .map(|pending| match &pending.work {
                Work::Append(new) => draft.append(&new.append, &new.ids, new.sight.as_deref(), new.deed.as_deref()),
                Work::Import(records) => {
                    keep_times = true;
                    draft.import(records)
                }
            })
            .collect();
        let Draft { messages, starts_stream, open, versions, given, groups, .. } = draft;
        let acting = Acting::of(groups);
        let changes = acting.iter().map(Acting::change).collect();
        let batch = Batch { id: Uuid::new_v4(), after, messages, starts_stream, open, keep_times, groups: changes };
        Ok(Plan { batch: Arc::new(batch), verdicts, versions, given, acting })
    }

    /// The versions of all streams that are written or expected something of, and which of them are open. Those
    /// that are not remembered and may not stay open are fetched in one query.
    async fn versions_of(&mut self, pending: &[Pending]) -> Result<(HashMap<Arc<str>, i64>, HashSet<Arc<str>>)> {
        let mut versions = HashMap::new();
        let mut unknown = HashSet::new();
        let figures = &self.base.figures.appends;
        let mut want = |stream: &Arc<str>| {
            if versions.contains_key(stream) {
                return;
            }
            let known = match self.ahead {
                Some(ahead) if ahead.batch.open.contains(stream) => None,
                Some(ahead) => ahead.versions.get(stream).copied().or_else(|| self.versions.get(stream)),
                None => self.versions.get(stream),
            };
            match known {
                Some(_) => figures.version_hits.increment(),
                None => {
                    figures.version_misses.increment();
                    unknown.insert(stream.clone());
                }
            }
            versions.insert(stream.clone(), known.unwrap_or(-1));
        };
        for pending in pending {
            match &pending.work {
                Work::Append(new) => {
                    new.append.entries.iter().for_each(|entry| want(&entry.stream));
                    new.append.checked_streams().for_each(&mut want);
                }
                Work::Import(records) => records.iter().for_each(|record| want(&record.stream)),
            }
        }
        let missing: Vec<Arc<str>> = match self.finds_versions {
            true => decisive(pending, self.is_uncertain).filter_map(|stream| unknown.take(stream)).collect(),
            false => unknown.drain().collect(),
        };
        if !missing.is_empty() {
            let fetched = self.base.storage.versions(&missing).await.map_err(|error| match error {
                // The log takes no writes.
                Error::Damaged(_) => Error::unavailable(error),
                error => error,
            })?;
            versions.extend(missing.into_iter().zip(fetched));
        }
        Ok((versions, unknown))
    }

    /// The messages that already have one of the ids that clients gave; after an unknown outcome, one of all ids.
    async fn known_ids(&self, pending: &[Pending]) -> Result<HashMap<Uuid, Message>> {
        let mut ids = Vec::new();
        for pending in pending {
            match &pending.work {
                Work::Append(new) => {
                    let messages = new.append.entries.iter().flat_map(|entry| &entry.messages);
                    let given = messages.zip(&new.ids).filter(|(message, _)| self.is_uncertain || message.id.is_some());
                    ids.extend(given.map(|(_, id)| *id));
                }
                Work::Import(records) => ids.extend(records.iter().map(|record| record.id)),
            }
        }
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let found = self.base.storage.find(&ids).await?;
        let mut known: HashMap<Uuid, Message> = found.into_iter().map(|message| (message.id, message)).collect();
        if let Some(ahead) = self.ahead {
            let places = ids.iter().filter_map(|id| Some((*id, *ahead.given.get(id)?)));
            known.extend(places.map(|(id, at)| (id, ahead.batch.messages[at].clone())));
        }
        Ok(known)
    }

    /// The messages above those that the conditions of these appends were looked up for, up to the ones that the new batch
    /// follows; `None` if none has conditions.
    async fn recent(&self, pending: &[Pending]) -> Result<Option<Recent>> {
        let sights = pending.iter().filter_map(|pending| pending.work.sight());
        if sights.clone().next().is_none() {
            return Ok(None);
        }
        let mut recent = Recent::above(self.base, sights).await?;
        let under_way = self.ahead.into_iter().flat_map(|ahead| &ahead.batch.messages);
        under_way.for_each(|message| recent.note(message));
        Ok(Some(recent))
    }
}

/// A batch while it is planned.
struct Draft {
    /// The next global position; above [`POSITION_MAX`] if none is left.
    next: i64,
    room: Room,
    /// The version of each stream, what stands in the batch included.
    versions: HashMap<Arc<str>, i64>,
    /// Streams whose versions count from -1 at an end that is to be found.
    open: HashSet<Arc<str>>,
    /// Messages of the storage that have one of the ids.
    stored: HashMap<Uuid, Message>,
    /// What conditions are decided on, if there are some. What stands in the batch is included.
    recent: Option<Recent>,
    /// The groups on which appends act.
    groups: ActingGroups,
    /// The time of messages, if a test gives it.
    time: Timestamp,
    /// Where in `messages` an id stands that a client gave; one that was made here cannot come twice.
    given: HashMap<Uuid, usize>,
    messages: Vec<Message>,
    starts_stream: Vec<bool>,
}

impl Draft {
    fn append(&mut self, append: &Append, ids: &[Uuid], sight: Option<&Sight>, deed: Option<&Deed>) -> Verdict {
        if let Some(known) = ids.iter().find(|id| self.known(id).is_some()) {
            return match self.repeated(append, ids) {
                Some(done) => Verdict::Repeated(Done::Appended(done)),
                None => Verdict::Refused(Error::IdConflict(*known)),
            };
        }
        if let Some(twice) = given_twice(append) {
            return Verdict::Refused(Error::IdConflict(twice));
        }
        let sight = sight.zip(self.recent.as_ref());
        if sight.is_some_and(|(sight, recent)| sight.is_outrun(recent)) {
            return Verdict::Outrun;
        }
        let conflicts = self.conflicts(append, sight);
        if !conflicts.is_empty() {
            return Verdict::Refused(Error::of_conflicts(conflicts));
        }
        if let Some(full) = self.full(append) {
            return Verdict::Refused(full);
        }
        let room = self.room;
        let acted = match self.take_room(append.len(), || append.size()) {
            Ok(()) => self.act(append, deed),
            Err(over) => Err(over),
        };
        if !matches!(acted, Ok(true)) {
            self.room = room;
            return acted.map_or_else(Verdict::Refused, |_| Verdict::Outrun);
        }
        Verdict::Accepted(Done::Appended(self.accept_all(append, ids)))
    }

    /// Does what an append does to a group. `Ok(false)` if the log has to be asked first, or others have the group's turn.
    fn act(&mut self, append: &Append, deed: Option<&Deed>) -> Result<bool> {
        let (Some(form), Some(deed)) = (&append.group, deed) else { return Ok(true) };
        match self.groups.get_mut(&*form.group) {
            Some(Ok(Some(acting))) => acting.act(form, deed),
            Some(Ok(None)) => Ok(false),
            Some(Err(error)) => Err(error.clone()),
            None => Err(Error::GroupNotFound),
        }
    }

    fn accept_all(&mut self, append: &Append, ids: &[Uuid]) -> Vec<Appended> {
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
        accepted.collect()
    }

    /// The message that has this id, in the storage or in the batch.
    fn known(&self, id: &Uuid) -> Option<&Message> {
        let given = self.given.get(id).map(|at| &self.messages[*at]);
        given.or_else(|| self.stored.get(id))
    }

    /// Every expectation and every condition that does not hold.
    fn conflicts(&self, append: &Append, sight: Option<(&Sight, &Recent)>) -> Vec<Conflict> {
        let entries = append.entries.iter().map(|entry| self.version_conflict(None, &entry.stream, entry.expected));
        let mut found = sight.into_iter().flat_map(|(sight, recent)| sight.found(recent));
        let checks = append.checks.iter().enumerate().map(|(at, check)| match check {
            Check::Version { stream, expected } => self.version_conflict(Some(at), stream, *expected),
            Check::Condition(condition) => self.condition_conflict(at, condition, found.next().flatten()),
        });
        entries.chain(checks).flatten().collect()
    }

    fn version_conflict(&self, check: Option<usize>, stream: &Arc<str>, expected: Expected) -> Option<Conflict> {
        let actual = self.versions[stream];
        (!expected.admits(actual)).then(|| Conflict::Version { check, stream: Arc::clone(stream), expected, actual })
    }

    /// A condition does not hold if a message matches, nor if its position lies above the head: its caller has seen what is
    /// not there any more.
    fn condition_conflict(&self, check: usize, condition: &Condition, found: Option<i64>) -> Option<Conflict> {
        let head = self.next - 1;
        let is_ahead = condition.after.is_some_and(|after| after > head);
        (found.is_some() || is_ahead).then(|| Conflict::Condition { check, condition: condition.clone(), found, head })
    }

    /// The error, if the log or a stream has fewer positions left than an append needs. The append looks at those of an
    /// open stream.
    fn full(&self, append: &Append) -> Option<Error> {
        if left_from(self.next) < append.len() {
            return Some(Error::Full(None));
        }
        let next = |stream| self.versions[stream].saturating_add(1);
        let full = append.entries.iter().find(|entry| left_from(next(&entry.stream)) < entry.messages.len());
        full.map(|entry| Error::Full(Some(entry.stream.clone())))
    }

    /// Takes the quota's room for these messages. Their bytes are counted only if there is a quota of bytes.
    fn take_room(&mut self, messages: usize, bytes: impl FnOnce() -> usize) -> Result<()> {
        let left = self.room.messages.checked_sub(messages as u64).ok_or(Error::OverQuota(QuotaOf::Messages))?;
        if self.room.bytes != u64::MAX {
            self.room.bytes = self.room.bytes.checked_sub(bytes() as u64).ok_or(Error::OverQuota(QuotaOf::Bytes))?;
        }
        self.room.messages = left;
        Ok(())
    }

    fn accept(&mut self, stream: &Arc<str>, message: &NewMessage, id: Uuid) {
        let version = self.versions.get_mut(stream).expect("the version of each stream was fetched");
        self.starts_stream.push(*version == -1 && !self.open.contains(stream));
        *version += 1;
        if message.id.is_some() {
            self.given.insert(id, self.messages.len());
        }
        let message = Message {
            id,
            stream: stream.clone(),
            kind: message.kind.clone(),
            position: *version,
            global_position: self.next,
            data: message.data.clone(),
            metadata: message.metadata.clone(),
            time: self.time,
        };
        if let Some(recent) = &mut self.recent {
            recent.note(&message);
        }
        self.messages.push(message);
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

    /// Takes everything out again.
    fn clear(&mut self) {
        self.messages.clear();
        self.given.clear();
        self.starts_stream.clear();
    }

    /// Records keep their positions; each must lie above everything that is there.
    fn import(&mut self, records: &[Message]) -> Verdict {
        if let Some(beyond) = records.iter().find(|record| record.position.max(record.global_position) > POSITION_MAX) {
            return Verdict::Refused(Error::Full(Some(beyond.stream.clone())));
        }
        for (at, record) in records.iter().enumerate() {
            let known = self.known(&record.id).is_some();
            let version = self.versions.get_mut(&record.stream).expect("the version of each stream was fetched");
            let fits = record.global_position >= self.next && record.position > *version;
            if known || !fits {
                self.clear();
                return Verdict::Refused(Error::PositionExists(at));
            }
            self.starts_stream.push(*version == -1);
            *version = record.position;
            self.next = record.global_position + 1;
            self.given.insert(record.id, self.messages.len());
            self.messages.push(record.clone());
        }
        if let Err(over) = self.take_room(records.len(), || records.iter().map(Message::size).sum()) {
            self.clear();
            return Verdict::Refused(over);
        }
        Verdict::Accepted(Done::Imported(self.next - 1))
    }
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
