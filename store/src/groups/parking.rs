//! The calls about parked streams: park, handled, retry, skip, parked.

use std::sync::Arc;

use eventodb_protocol::group::Fence;
use eventodb_protocol::group::reply::{Flowing, ParkAttempts, ParkedListed, Retried, Skipped};
use eventodb_protocol::request::group as request;
use eventodb_protocol::request::group::{Handled, ParkedPage, Retry, Skip};
use serde_json::json;

use super::group::{Group, Moment, time};
use super::parked::Parked;
use super::refusal::Refusal;
use super::span::Span;

/// 9999-01-01 in milliseconds since 1970: replies can hardly write a later time.
const LATEST_MS: i64 = 253_370_764_800_000;

/// The message that a member wants to park, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its stream.
    pub stream: Arc<str>,
    /// Its type.
    pub kind: Arc<str>,
    /// The position of the stream's last message before it that the group reads; 0 if there is none.
    pub previous: i64,
}

/// The messages that a skip concerns: those of the [`Group::skip_span`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkippedMessages {
    /// How many there are.
    pub count: usize,
    /// The positions of the first of them, for the audit.
    pub first: Vec<i64>,
}

impl Group {
    /// `group.park`. `failed` is the message at that position, if there is one.
    ///
    /// # Errors
    /// `Fenced`, `Invalid`, `ParkFull`.
    pub fn park(
        &mut self,
        member: &str,
        call: &request::Park,
        failed: Option<&Failed>,
        at: &Moment,
    ) -> Result<ParkAttempts, Refusal> {
        self.arrive(member, at)?;
        self.presented(call.partition, call.epoch)?;
        let failed = failed
            .filter(|failed| self.definition.reads(&failed.stream, &failed.kind))
            .filter(|failed| self.partition_of(&failed.stream) == call.partition)
            .ok_or_else(|| {
                Refusal::Invalid(format!(
                    "position must be that of a message of partition {} that the group reads, got {}",
                    call.partition, call.position
                ))
            })?;
        let attempts = match self.park.get(&failed.stream).cloned() {
            None => self.park_anew(call, failed, at)?,
            Some(parked) => self.park_again(call, failed, &parked, at)?,
        };
        Ok(ParkAttempts { attempts })
    }

    fn park_anew(&mut self, call: &request::Park, failed: &Failed, at: &Moment) -> Result<i64, Refusal> {
        if call.position <= self.known(&failed.stream) {
            return Err(Refusal::fenced_in(Fence::Handled, call.partition));
        }
        if self.is_park_full() {
            return Err(Refusal::ParkFull(self.settings.max_parked));
        }
        let attempts = call.attempt.unwrap_or(1);
        let parked = Parked {
            handled: call.position - 1,
            attempts,
            reason: call.reason.as_str().into(),
            since: at.now,
            due: due(call, at),
            rev: self.next_rev(),
            is_out: false,
        };
        self.park.add(failed.stream.clone(), parked);
        Ok(attempts)
    }

    /// A retry failed. A late copy of the call changes nothing.
    fn park_again(
        &mut self,
        call: &request::Park,
        failed: &Failed,
        parked: &Parked,
        at: &Moment,
    ) -> Result<i64, Refusal> {
        if call.position <= parked.handled {
            return Ok(parked.attempts);
        }
        if failed.previous > parked.handled {
            return Err(Refusal::Invalid(format!(
                "position must be that of the first message of the parked stream above {}, got {}",
                parked.handled, call.position
            )));
        }
        let handed_out = if parked.is_out { parked.attempts + 1 } else { parked.attempts.max(1) };
        let attempts = call.attempt.unwrap_or(handed_out);
        if attempts <= parked.attempts {
            return Ok(parked.attempts);
        }
        if let Some(row) = self.park.change(&failed.stream) {
            (row.handled, row.attempts) = (call.position - 1, attempts);
            (row.due, row.is_out) = (due(call, at), false);
            row.reason = call.reason.as_str().into();
        }
        Ok(attempts)
    }

    /// What [`Self::handled`] has to know: whether something of the stream is left behind the handled messages and at or
    /// below where its owner has read. `None` if the stream is not parked.
    pub fn handled_span(&self, call: &Handled) -> Option<Span> {
        let (stream, parked) = self.park.iter().find(|(stream, _)| ***stream == *call.stream)?;
        let above = parked.handled.max(call.position);
        Some(Span { stream: stream.clone(), above, upto: self.read_to(call), limit: 1 })
    }

    /// `group.handled`. `is_left`: the answer to [`Self::handled_span`] has a message.
    ///
    /// # Errors
    /// `Fenced`, `Invalid`.
    pub fn handled(&mut self, member: &str, call: &Handled, is_left: bool, at: &Moment) -> Result<Flowing, Refusal> {
        self.arrive(member, at)?;
        self.presented(call.partition, call.epoch)?;
        self.check_stream(call, at)?;
        let Some(parked) = self.park.get(&call.stream) else { return Ok(Flowing { flowing: true, rev: None }) };
        let is_late = call.rev != Some(parked.rev);
        let (flowing, rev) = self.deal(call, is_left, is_late, at)?;
        Ok(Flowing { flowing, rev: Some(rev) })
    }

    /// Checks what a call says about a stream, parked or not.
    ///
    /// # Errors
    /// `Invalid`.
    pub(super) fn check_stream(&self, call: &Handled, at: &Moment) -> Result<(), Refusal> {
        if self.partition_of(&call.stream) != call.partition {
            return Err(Refusal::Invalid(format!(
                "stream must be one of partition {}, {:?} is of partition {}",
                call.partition,
                call.stream,
                self.partition_of(&call.stream)
            )));
        }
        match call.read_to {
            Some(read_to) if read_to > at.head => Err(Refusal::above_head("readTo", read_to, at.head)),
            _ => Ok(()),
        }
    }

    /// The parked stream's messages up to a position are handled. Returns whether the stream flows again, and its number
    /// from here on. A late copy of a call never lets it flow, because what it says about how far its member has read
    /// may not be true any more.
    ///
    /// # Errors
    /// `Invalid` if no retry can have lain at that position.
    pub(super) fn deal(
        &mut self,
        call: &Handled,
        is_left: bool,
        is_late: bool,
        at: &Moment,
    ) -> Result<(bool, i64), Refusal> {
        let known = self.known(&call.stream);
        let rev = self.settings.last_rev + 1;
        let Some(parked) = self.park.change(&call.stream) else { return Ok((true, rev)) };
        let most = known.max(parked.handled);
        if call.position > most {
            return Err(Refusal::Invalid(format!(
                "position must be at most {most}, up to where messages can have come as retries, got {}",
                call.position
            )));
        }
        if call.position > parked.handled {
            (parked.handled, parked.attempts) = (call.position, 0);
        }
        parked.rev = rev;
        let flows = !is_late && !is_left && parked.attempts == 0 && parked.handled <= known;
        if !flows && !is_late {
            parked.make_due(at.now);
        }
        self.settings.last_rev = rev;
        if flows {
            self.park.remove(&call.stream);
        }
        Ok((flows, rev))
    }

    /// `group.retry`.
    pub fn retry(&mut self, call: &Retry, at: &Moment) -> Retried {
        let is_meant = |stream: &str| match call {
            Retry::All => true,
            Retry::Stream(name) => *name == *stream,
        };
        let streams: Vec<Arc<str>> =
            self.park.iter().filter(|(stream, _)| is_meant(stream)).map(|(stream, _)| stream.clone()).collect();
        for stream in &streams {
            if let Some(parked) = self.park.change(stream) {
                parked.make_due(at.now);
            }
        }
        Retried { streams: streams.len() }
    }

    /// The messages that [`Self::skip`] concerns. `None` if the stream is not parked. The caller counts all of them.
    ///
    /// # Errors
    /// `Invalid` if the position is above the head: what comes there is not known.
    pub fn skip_span(&self, call: &Skip, at: &Moment) -> Result<Option<Span>, Refusal> {
        if call.position > at.head {
            return Err(Refusal::above_head("position", call.position, at.head));
        }
        let parked = self.park.iter().find(|(stream, _)| ***stream == *call.stream);
        let span = |(stream, parked): (&Arc<str>, &Parked)| Span {
            stream: stream.clone(),
            above: parked.handled,
            upto: call.position,
            limit: usize::MAX,
        };
        Ok(parked.map(span))
    }

    /// `group.skip`. The stream flows again by its owner only, because only the owner knows how far it has read.
    pub fn skip(&mut self, call: &Skip, skipped: SkippedMessages, at: &Moment) -> Skipped {
        let Some(parked) = self.park.get(&call.stream) else { return Skipped { messages: 0 } };
        if call.position > parked.handled && !call.dry_run {
            let details = json!({ "stream": call.stream, "messages": skipped.first, "count": skipped.count });
            self.record(at, "skip", details);
            if let Some(parked) = self.park.change(&call.stream) {
                (parked.handled, parked.attempts) = (call.position, 0);
                parked.make_due(at.now);
            }
        }
        Skipped { messages: skipped.count }
    }

    /// `group.parked`.
    pub fn parked(&self, page: &ParkedPage) -> Vec<ParkedListed> {
        let listed = |(stream, parked): (&Arc<str>, &Parked)| ParkedListed {
            stream: (**stream).to_owned(),
            partition: self.partition_of(stream),
            position: parked.handled + 1,
            attempts: parked.attempts,
            reason: (*parked.reason).to_owned(),
            parked_at: time(parked.since),
            retry_at: parked.due.map(time),
        };
        self.park.behind(&page.after).take(page.limit).map(listed).collect()
    }

    pub(super) fn next_rev(&mut self) -> i64 {
        self.settings.last_rev += 1;
        self.settings.last_rev
    }

    /// Up to where nothing of the stream may be left if it is to flow again.
    fn read_to(&self, call: &Handled) -> i64 {
        let checkpoint = self.partitions.get(call.partition).map_or(0, |partition| partition.checkpoint);
        self.known(&call.stream).max(call.read_to.unwrap_or(checkpoint))
    }
}

/// When the stream is to be tried again.
fn due(call: &request::Park, at: &Moment) -> Option<i64> {
    call.retry_in_ms.map(|wait| at.now.saturating_add(wait).min(LATEST_MS))
}
