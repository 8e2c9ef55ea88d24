//! The group's half of an append: done in the append's own commit, or refused with it.
//!
//! It renews no lease and asks for none: until somebody else owns the partition, the epoch stands.

use eventodb_protocol::group::{Epoch, Fence};
use eventodb_protocol::request::group::{AtomicForm, Handled};

use super::group::{Group, Moment};
use super::refusal::Refusal;
use super::span::Span;

/// What [`Group::commit`] has to know from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// The stream and the type of the message at this position.
    Message(i64),
    /// Whether a stream has such messages.
    Span(Span),
}

/// What the log says to [`Asked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// Nothing was asked, or there is no such message.
    Nothing,
    /// The message's stream and type.
    Message {
        /// Its stream.
        stream: &'a str,
        /// Its type.
        kind: &'a str,
    },
    /// Whether there are messages in the span.
    IsLeft(bool),
}

impl Group {
    /// What has to be looked up before the form is decided.
    pub fn commit_asks(&self, form: &AtomicForm) -> Asked {
        match form {
            AtomicForm::Checkpoint { position, .. } => Asked::Message(*position),
            AtomicForm::Handled(call) => self.handled_span(call).map_or(Asked::Nothing, Asked::Span),
            AtomicForm::Fence { .. } => Asked::Nothing,
        }
    }

    /// Refuses a form if the group was found elsewhere than before: the next call of a member gives new epochs.
    ///
    /// # Errors
    /// `Fenced`.
    pub fn check_home(&self, form: &AtomicForm, at: &Moment) -> Result<(), Refusal> {
        let partition = match form {
            AtomicForm::Checkpoint { partition, .. } | AtomicForm::Fence { partition, .. } => *partition,
            AtomicForm::Handled(call) => call.partition,
        };
        if self.has_moved(at) { Err(Refusal::fenced_in(Fence::Epoch, partition)) } else { Ok(()) }
    }

    /// Does what an append does to the group.
    ///
    /// # Errors
    /// `Fenced`: another epoch, a position that is handled already, or a message of a parked stream. `Invalid`.
    /// Nothing of the append is written then.
    pub fn commit(&mut self, form: &AtomicForm, known: Known<'_>, at: &Moment) -> Result<(), Refusal> {
        match form {
            AtomicForm::Checkpoint { partition, epoch, position } => {
                self.commit_checkpoint(*partition, *epoch, *position, known, at)
            }
            AtomicForm::Handled(call) => self.commit_handled(call, known == Known::IsLeft(true), at),
            AtomicForm::Fence { partition, epoch } => self.presented(*partition, *epoch).map(|_| ()),
        }
    }

    fn commit_checkpoint(
        &mut self,
        partition: u32,
        epoch: Epoch,
        position: i64,
        known: Known<'_>,
        at: &Moment,
    ) -> Result<(), Refusal> {
        let current = self.presented(partition, epoch)?;
        if position > at.head {
            return Err(Refusal::above_head("checkpoint.position", position, at.head));
        }
        if position <= current.checkpoint {
            return Err(Refusal::fenced_in(Fence::Handled, partition));
        }
        // The message comes as a retry: a late copy of `group.park` was taken meanwhile.
        if let Known::Message { stream, kind } = known
            && self.park.get(stream).is_some()
            && self.definition.reads(stream, kind)
        {
            return Err(Refusal::fenced_in(Fence::Parked, partition));
        }
        self.move_checkpoints(&[(partition, position)], at);
        Ok(())
    }

    fn commit_handled(&mut self, call: &Handled, is_left: bool, at: &Moment) -> Result<(), Refusal> {
        self.presented(call.partition, call.epoch)?;
        self.check_stream(call, at)?;
        match self.park.get(&call.stream) {
            Some(parked) if call.position > parked.handled => {}
            _ => return Err(Refusal::fenced_in(Fence::Handled, call.partition)),
        }
        self.deal(call, is_left, false, at)?;
        Ok(())
    }
}
