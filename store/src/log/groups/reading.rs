//! `group.read`.
//!
//! What a read gives is decided on one state of the group, and read from the log up to the head of that moment. While it
//! waits, it looks into the log by what it last knew of the group. Once it finds something, it asks for the group as it
//! is now before it hands anything out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use eventodb_protocol::group::Epoch;
use eventodb_protocol::group::reply::GroupRead;
use eventodb_protocol::message::MessageRef;
use eventodb_protocol::request::group::{Presented, ReadGroup};
use eventodb_protocol::wire::{self, Form, Row};
use futures_util::future;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lookup::{filter, scope};
use super::members::{told, wait_of};
use super::named::Target;
use super::{Decided, Groups, LOOK_AGAIN, Named};
use crate::error::{Error, Result};
use crate::groups::{Filled, Group, HandedOut, MARKER, Marker, Moment, Page, Reading, RetryRow};
use crate::log::read::Scan;
use crate::log::window::Waiter;
use crate::model::Columns;

/// Messages that one read looks at in search of those of its partitions, at least.
const LOOKED_AT: usize = 20_000;
/// The same for each message that was asked for.
const LOOKED_AT_EACH: usize = 32;
/// The same where the page is full by then: partitions with few messages wait for the next page. So partitions stay in
/// step, and no read searches again what one before it has searched for another partition.
const LOOKED_AT_OF_FULL: usize = 1_000;

/// Bytes of text for which a read asks for room at once.
const ROOM_STEP: usize = 16 * 1024;

/// A read that is being answered.
struct Session<'a, R> {
    groups: &'a Groups,
    slot: Target,
    member: Arc<str>,
    call: ReadGroup,
    /// What the call named with another epoch than the current one.
    fenced: BTreeSet<u32>,
    /// By partition and epoch, the position up to which nothing was found.
    empty: BTreeMap<u32, (Epoch, i64)>,
    /// The partitions whose last pages ended before a message that cannot be handed out.
    held: BTreeSet<u32>,
    /// What was read while the decision was stored.
    ahead: Option<Ahead>,
    room: R,
}

/// A page that was read before the decision on which it stands was stored.
struct Ahead {
    at: Arc<Moment>,
    reading: Reading,
    found: FoundPage,
}

/// What a read has found.
struct FoundPage {
    filled: Filled<Vec<u8>>,
    /// Whether the search ended before the head.
    is_stopped: bool,
    /// The damaged message at which the read begins, if nothing else can be read.
    damaged: Option<i64>,
}

impl Groups {
    /// `group.read`. Once `stop` is cancelled, it waits no longer. Before it keeps messages, `room` is asked with at
    /// least the bytes of text that it keeps then in all.
    ///
    /// # Errors
    /// As [`Self::definition`], and [`Error::NoRoom`], [`Error::Damaged`].
    pub async fn read(
        &self,
        group: impl Into<Named>,
        member: &str,
        call: ReadGroup,
        stop: &CancellationToken,
        room: impl FnMut(usize) -> bool + Send,
    ) -> Result<GroupRead<Row>> {
        let group = group.into();
        let definition = self.definition(&group).await?;
        let slot = self.slot(&group);
        let (member, wait) = (Arc::<str>::from(member), call.heartbeat.wait_ms);
        // Registered before looking, so that nothing is missed in between.
        let changes = self.changes(&slot);
        let waiter = (wait > 0).then(|| self.decider.base.window.register(&scope(&definition)));
        let (id, first) = (Arc::clone(&member), call.clone());
        let named = vec![Arc::clone(&member)];
        let begin = move |group: &mut Group, at: &mut Moment| group.begin_read(&id, &first, at);
        let (ahead, foreseen) = oneshot::channel();
        let deciding = slot.decide_ahead(&self.decider, named, ahead, begin);
        let (slot, fenced) = (slot.clone(), BTreeSet::new());
        let (empty, held) = (BTreeMap::new(), BTreeSet::new());
        let mut session = Session { groups: self, slot, member, call, fenced, empty, held, ahead: None, room };
        let (decided, ()) = future::join(deciding, session.read_ahead(foreseen)).await;
        let (fenced, decided) = decided?;
        session.fenced = fenced;
        let deadline = Instant::now() + wait_of(wait, &decided.group);
        match waiter {
            None => Ok(session.only(decided).await?),
            Some(waiter) => session.wait(decided, &waiter, changes, deadline, stop).await,
        }
    }
}

impl<R: FnMut(usize) -> bool + Send> Session<'_, R> {
    /// Reads the page while the decision on which it stands is being stored. The log up to a head does not change, so that
    /// the page is what would be read afterwards. Nothing of it is told before the decision is stored.
    async fn read_ahead(&mut self, foreseen: oneshot::Receiver<Decided>) {
        let Ok(Decided { group, at }) = foreseen.await else { return };
        let Ok(reading) = group.look(&self.member, &self.call, &self.fenced, &at) else { return };
        if !group.retry_spans(&reading, &at).is_empty() {
            return;
        }
        // If it fails, it is read once more, and fails there.
        let found = self.fill(&group, &reading, &HandedOut::default(), at.head).await.ok();
        self.ahead = found.map(|found| Ahead { at, reading, found });
    }

    /// The reply without waiting.
    async fn only(mut self, decided: Decided) -> Result<GroupRead<Row>> {
        let (reply, _) = self.answer(decided).await?;
        self.slot.tell(&self.member, told(&reply.assigned, &reply.revoking));
        Ok(reply)
    }

    async fn wait(
        mut self,
        mut decided: Decided,
        waiter: &Waiter,
        mut changes: watch::Receiver<u64>,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> Result<GroupRead<Row>> {
        loop {
            let (reply, last) = self.answer(decided).await?;
            decided = last;
            let now = told(&reply.assigned, &reply.revoking);
            let has_something = !reply.messages.is_empty()
                || !reply.retries.is_empty()
                || !reply.drained.is_empty()
                || !reply.fenced.is_empty();
            let is_over = stop.is_cancelled() || Instant::now() >= deadline;
            if has_something || is_over || self.is_behind(&reply, &decided) || self.slot.is_news(&self.member, now) {
                self.slot.tell(&self.member, now);
                return Ok(reply);
            }
            self.pass_over(&reply);
            self.sleep(&decided, waiter, &mut changes, deadline, stop).await?;
            decided = self.look_again().await?;
        }
    }

    /// Whether the search ended before the head that was current, and another one finds more.
    fn is_behind(&self, reply: &GroupRead<Row>, decided: &Decided) -> bool {
        let open = reply.assigned.iter().map(|assigned| assigned.partition);
        let is_asked = |p: &u32| self.call.partitions.as_ref().is_none_or(|asked| asked.binary_search(p).is_ok());
        self.call.batch > 0
            && !decided.group.is_paused()
            && open
                .filter(is_asked)
                .filter(|p| !self.held.contains(p))
                .any(|p| reply.up_to.get(&p).is_some_and(|upto| *upto < decided.at.head))
    }

    /// Nothing was found up to there.
    fn pass_over(&mut self, reply: &GroupRead<Row>) {
        if self.call.batch == 0 {
            return;
        }
        for assigned in &reply.assigned {
            if let Some(upto) = reply.up_to.get(&assigned.partition) {
                self.empty.insert(assigned.partition, (assigned.epoch, *upto));
            }
        }
    }

    /// Waits until there may be something, or the time is over.
    async fn sleep(
        &mut self,
        decided: &Decided,
        waiter: &Waiter,
        changes: &mut watch::Receiver<u64>,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> Result<()> {
        let decider = &self.groups.decider;
        let due = decided.group.next_due(decided.at.now).map(|due| due.saturating_sub(decider.base.groups.about_now()));
        let due = due.map(|ms| Instant::now() + std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        let poll = deadline.min(Instant::now() + LOOK_AGAIN).min(due.unwrap_or(deadline));
        loop {
            tokio::select! {
                () = waiter.woken() => {}
                _ = changes.changed() => return Ok(()),
                () = tokio::time::sleep_until(poll) => return Ok(()),
                () = stop.cancelled() => return Ok(()),
                () = decider.base.window.closed() => return Err(Error::Closed),
            }
            // Most messages are of others' partitions.
            let head = decider.base.window.head();
            let call = self.call_from_here(&decided.group);
            let reading = decided.group.look(&self.member, &call, &self.fenced, &decided.at).map_err(Error::Group)?;
            let found = self.fill(&decided.group, &reading, &HandedOut::default(), head).await?;
            let Filled { messages, markers, .. } = &found.filled;
            if !messages.is_empty() || !markers.is_empty() || found.is_stopped || found.damaged.is_some() {
                return Ok(());
            }
            let epochs: BTreeMap<u32, Epoch> = decided.group.epochs_of(&self.member);
            for (partition, upto) in found.filled.up_to {
                if let Some(epoch) = epochs.get(&partition) {
                    self.empty.insert(partition, (*epoch, upto));
                }
            }
        }
    }

    /// The group as it is now, for a call that has arrived before.
    async fn look_again(&self) -> Result<Decided> {
        let id = Arc::clone(&self.member);
        let living = move |group: &mut Group, at: &mut Moment| group.check_member(&id, at);
        let named = vec![Arc::clone(&self.member)];
        Ok(self.slot.decide_for(&self.groups.decider, named, None, living).await?.1)
    }

    /// The call, as if it began above what was found empty under epochs that are still current.
    fn call_from_here(&self, group: &Group) -> ReadGroup {
        let mut call = self.call.clone();
        let epochs = group.epochs_of(&self.member);
        for (partition, (epoch, position)) in &self.empty {
            if epochs.get(partition) == Some(epoch) {
                call.after.insert(*partition, Presented { epoch: *epoch, position: *position });
            }
        }
        call
    }

    /// The reply as things are, and the group on which it stands.
    async fn answer(&mut self, mut decided: Decided) -> Result<(GroupRead<Row>, Decided)> {
        loop {
            let (handed_out, now) = self.hand_out(decided).await?;
            let Decided { group, at } = &now;
            let call = self.call_from_here(group);
            let reading = group.look(&self.member, &call, &self.fenced, at).map_err(Error::Group)?;
            let is_same =
                |ahead: &Ahead| Arc::ptr_eq(&ahead.at, at) && ahead.reading == reading && handed_out.is_empty();
            let found = match self.ahead.take().filter(is_same) {
                Some(ahead) => ahead.found,
                None => self.fill(group, &reading, &handed_out, at.head).await?,
            };
            let Filled { messages, up_to, held, mut markers } = found.filled;
            let retries = self.retries(&handed_out.retries, &mut markers).await?;
            let parked = self.park_markers(&now, markers).await?;
            if retries.is_empty() && handed_out.drained.is_empty() {
                if let Some(parked) = parked {
                    // Other streams go on behind the markers.
                    decided = parked;
                    continue;
                }
                if let Some(damaged) = found.damaged {
                    return Err(Error::Damaged(damaged));
                }
            }
            self.held = held;
            let of_one_partition = messages.chunk_by(|(one, _), (next, _)| one == next);
            self.slot.known.hands_out(group, of_one_partition.map(|messages| messages[0].0));
            let messages =
                messages.into_iter().map(|(partition, text)| Row::new(text, &[i64::from(partition)])).collect();
            return Ok((group.read_reply(&reading, messages, retries, handed_out.drained, &up_to, at), now));
        }
    }

    /// Parks the streams of markers before which the pages of `decided` end. Returns the group behind it; `None` if no
    /// stream was parked.
    async fn park_markers(&self, decided: &Decided, markers: Vec<Marker>) -> Result<Option<Decided>> {
        if markers.is_empty() {
            return Ok(None);
        }
        let (decider, Decided { group, at }) = (&self.groups.decider, decided);
        let (definition, spans) = (Arc::clone(group.definition()), group.marker_spans(&markers));
        let left = decider.all_left(&definition, &spans).await?;
        if !Group::clone(group).park_markers(&markers, &left, at) {
            return Ok(None);
        }
        let decide = move |group: &mut Group, at: &mut Moment| {
            let is_asked = *group.definition() == definition && group.marker_spans(&markers) == spans;
            Ok(is_asked && group.park_markers(&markers, &left, at))
        };
        let named = vec![Arc::clone(&self.member)];
        let (is_parked, decided) = self.slot.decide_for(decider, named, None, decide).await?;
        Ok(is_parked.then_some(decided))
    }

    /// Decides what comes as a retry. The reply stands on the group as it was right after that: a reset that was decided
    /// together with it would let a message come as a retry and in the page, under one epoch.
    async fn hand_out(&self, mut decided: Decided) -> Result<(HandedOut, Decided)> {
        let decider = &self.groups.decider;
        loop {
            decider.reader.show(decided.at.head).await?;
            let Decided { group, at } = &decided;
            if !group.has_member(&self.member) {
                // A call that was decided together with this one ended the membership. What is known has no reasons.
                decided = self.look_again().await?;
                continue;
            }
            let call = self.call_from_here(group);
            let reading = group.look(&self.member, &call, &self.fenced, at).map_err(Error::Group)?;
            let spans = group.retry_spans(&reading, at);
            let left = decider.all_left(group.definition(), &spans).await?;
            if spans.is_empty() || Group::clone(group).hand_out(&reading, &left, at).is_empty() {
                return Ok((HandedOut::default(), decided));
            }
            let (member, fenced) = (Arc::clone(&self.member), self.fenced.clone());
            let decide = move |group: &mut Group, at: &mut Moment| {
                let reading = group.look(&member, &call, &fenced, at)?;
                let is_asked = group.retry_spans(&reading, at) == spans;
                Ok(is_asked.then(|| (group.hand_out(&reading, &left, at), Arc::new(group.clone()))))
            };
            let named = vec![Arc::clone(&self.member)];
            match self.slot.decide_for(decider, named, None, decide).await? {
                (Some((handed_out, group)), stored) => return Ok((handed_out, Decided { group, ..stored })),
                (None, again) => decided = again,
            }
        }
    }

    /// Fills a page from the log.
    async fn fill(&mut self, group: &Group, reading: &Reading, handed_out: &HandedOut, head: i64) -> Result<FoundPage> {
        let mut page: Page<'_, Vec<u8>> = group.page(reading, handed_out);
        let (mut covered, mut looked, mut damaged) = (0, 0, None);
        let (mut kept, mut allowed) = (0, 0);
        let most = LOOKED_AT.max(LOOKED_AT_EACH * reading.batch());
        let most_of_full = LOOKED_AT_OF_FULL.max(reading.batch());
        // Another server may have written since: what this one does not show yet is not missing.
        self.groups.decider.reader.show(head).await?;
        let filter = filter(group.definition(), scope(group.definition()));
        while reading.batch() > 0
            && let Some(above) = page.wanted_above(covered).filter(|above| *above < head)
        {
            let (filter, rows) = (Arc::clone(&filter), most_of_full);
            let scan = Scan { filter, above, upto: head, columns: Columns::All, rows };
            let (mut has_room, mut is_given_up) = (true, false);
            let room = &mut self.room;
            let offer = |message: MessageRef<'_>| {
                looked += 1;
                let bytes = message.data.len() + message.metadata.map_or(0, str::len);
                let is_news = page.offer(message.global_position, message.stream, message.kind, bytes, || {
                    kept += bytes;
                    if kept > allowed {
                        allowed = kept + ROOM_STEP;
                        has_room = room(allowed);
                    }
                    text_of(message)
                });
                is_given_up = looked >= most || looked >= most_of_full && page.is_filled();
                if is_news || !has_room || is_given_up { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let scanned = self.groups.decider.reader.scan(&scan, offer).await?;
            if !has_room {
                return Err(Error::NoRoom);
            }
            covered = scanned.covered;
            if let Some(at) = scanned.damaged {
                page.hold_before(at);
                damaged = damaged.or(scanned.damaged);
                covered = at;
            } else if is_given_up {
                page.stop_before(covered + 1);
                looked = 0;
            }
        }
        let (is_stopped, damaged) = (page.is_stopped(), damaged.filter(|_| page.is_stuck()));
        Ok(FoundPage { filled: page.finish(covered), is_stopped, damaged })
    }

    /// The messages that come as retries. Those of a stream end before a damaged one, and before a marker.
    async fn retries(&self, handed_out: &[RetryRow], markers: &mut Vec<Marker>) -> Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(handed_out.len());
        let mut ended = None;
        for row in handed_out {
            if ended == Some(row.rev) {
                continue;
            }
            let message = match self.groups.decider.message_at(row.position).await {
                Err(Error::Damaged(_)) => {
                    ended = Some(row.rev);
                    continue;
                }
                message => message?,
            };
            let message = message.ok_or_else(|| Error::failed("a parked message is not in the log"))?;
            if &*message.kind == MARKER {
                markers.push(Marker { stream: message.stream, position: row.position });
                ended = Some(row.rev);
                continue;
            }
            let more = [i64::from(row.partition), row.attempt, row.rev];
            rows.push(Row::new(text_of(message.as_ref()), &more));
        }
        Ok(rows)
    }
}

/// A message as `category.get` has it.
fn text_of(message: MessageRef<'_>) -> Vec<u8> {
    let mut text = Vec::with_capacity(message.data.len() + message.metadata.map_or(0, str::len) + 192);
    wire::write_message(&mut text, message, Form::Category);
    text
}
