//! A page of messages, handed out chunk by chunk.

use std::collections::VecDeque;
use std::sync::Arc;

use eventodb_protocol::message::MessageRef;
use eventodb_protocol::wire::{self, Form};

use super::walk::Walk;
use crate::error::{Error, Result};
use crate::model::Entry;
use crate::model::Rows;

/// One page of a read. Between chunks it holds no connection, transaction or snapshot.
#[derive(Debug)]
pub struct Page {
    gathered: VecDeque<Chunk>,
    /// The walk over the messages behind the gathered chunks.
    rest: Option<Walk>,
    head: Option<i64>,
}

impl Page {
    pub(super) fn new(gathered: VecDeque<Chunk>, rest: Walk, head: Option<i64>) -> Self {
        Self { gathered, rest: Some(rest), head }
    }

    pub(super) fn empty(head: Option<i64>) -> Self {
        Self { gathered: VecDeque::new(), rest: None, head }
    }

    /// Whether it has no messages.
    pub fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }

    /// The global position up to which the page is complete; `None` for backward reads.
    pub fn head(&self) -> Option<i64> {
        self.head
    }

    /// Whether all of it has been gathered, so that [`Page::next`] cannot fail.
    pub fn is_gathered(&self) -> bool {
        self.rest.as_ref().is_none_or(Walk::is_done)
    }

    /// Bytes of text in the messages that are gathered and were not handed out yet.
    pub fn bytes(&self) -> usize {
        self.gathered.iter().map(Chunk::bytes).sum()
    }

    /// How many messages are gathered and were not handed out yet.
    pub fn len(&self) -> usize {
        self.gathered.iter().map(Chunk::len).sum()
    }

    /// The next messages of the page, or `None` behind the last. Most pages are one chunk.
    ///
    /// # Errors
    /// As [`crate::Log::read`]; the page is then not whole.
    pub async fn next(&mut self) -> Result<Option<Chunk>> {
        if let Some(chunk) = self.gathered.pop_front() {
            return Ok(Some(chunk));
        }
        let Some(rest) = &mut self.rest else { return Ok(None) };
        match rest.next().await {
            // A forward page has been looked at to its end; a backward one ends here.
            Err(Error::Damaged(_)) if self.head.is_none() => Ok(None),
            next => next,
        }
    }
}

/// Some messages of a page, in its order; at least one.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// From memory.
    Recent(Vec<Arc<Entry>>),
    /// From the storage.
    Stored(Rows),
}

impl Chunk {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Recent(entries) => entries.len(),
            Self::Stored(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of text in all of them.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Recent(entries) => entries.iter().map(|entry| entry.message().size()).sum(),
            Self::Stored(rows) => rows.bytes(),
        }
    }

    /// The messages, in order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = MessageRef<'_>> + '_> {
        match self {
            Self::Recent(entries) => Box::new(entries.iter().map(|entry| entry.message().as_ref())),
            Self::Stored(rows) => Box::new(rows.iter()),
        }
    }

    /// Appends the messages as JSON, with commas between them.
    pub fn write(&self, out: &mut Vec<u8>, form: Form) {
        match self {
            Self::Recent(entries) => {
                for (at, entry) in entries.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    entry.write(out, form);
                }
            }
            Self::Stored(rows) => {
                for (at, message) in rows.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    wire::write_message(out, message, form);
                }
            }
        }
    }
}
