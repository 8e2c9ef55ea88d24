//! What waits for the sequencer.

use std::sync::Arc;

use eventodb_protocol::message::Message;
use eventodb_protocol::request::Append;
use eventodb_protocol::request::group::GroupForm;
use uuid::Uuid;

use super::conditions::Sight;
use super::deeds::Deed;
use super::stages::Stages;

/// The messages that an append brings.
#[derive(Debug)]
pub(super) enum Work {
    /// New messages.
    Append(NewMessages),
    /// Records that keep their positions and times.
    Import(Vec<Message>),
}

/// An append of new messages, with what is known of it.
#[derive(Debug)]
pub(super) struct NewMessages {
    /// What the client asked for.
    pub(super) append: Append,
    /// The id of each message: the client's, or one made for it. It stays over all attempts.
    pub(super) ids: Vec<Uuid>,
    /// What is known of its conditions, if it has some.
    pub(super) sight: Option<Box<Sight>>,
    /// What is known of the group on which it acts, if it does.
    pub(super) deed: Option<Box<Deed>>,
    /// Told when it passes which stage, if its caller asks.
    pub(super) stages: Option<Arc<Stages>>,
}

impl From<Append> for NewMessages {
    fn from(append: Append) -> Self {
        let messages = append.entries.iter().flat_map(|entry| &entry.messages);
        let ids = messages.map(|message| message.id.unwrap_or_else(Uuid::now_v7)).collect();
        let sight = Sight::of(&append).map(Box::new);
        Self { append, ids, sight, deed: None, stages: None }
    }
}

impl Work {
    /// How many messages it has.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Append(new) => new.append.len(),
            Self::Import(records) => records.len(),
        }
    }

    /// Bytes of text.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Append(new) => new.append.size(),
            Self::Import(records) => records.iter().map(Message::size).sum(),
        }
    }

    /// What is known of its conditions, if it has some.
    pub(super) fn sight(&self) -> Option<&Sight> {
        match self {
            Self::Append(new) => new.sight.as_deref(),
            Self::Import(_) => None,
        }
    }

    /// What is told when it passes which stage.
    pub(super) fn stages(&self) -> Option<&Stages> {
        match self {
            Self::Append(new) => new.stages.as_deref(),
            Self::Import(_) => None,
        }
    }

    /// What it does to a group.
    pub(super) fn form(&self) -> Option<&GroupForm> {
        match self {
            Self::Append(new) => new.append.group.as_ref(),
            Self::Import(_) => None,
        }
    }
}
