//! Hooks for metrics.

use std::time::Duration;

use super::consumer::HandlerError;
use crate::error::Error;
use crate::message::Message;

/// How far a worker is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Global positions between what was handled and the newest known message of the namespace. An
    /// upper bound of the messages to come: those of other categories and members count too.
    pub messages: u64,
    /// Age of the last handled message while there is more; zero when there is none.
    pub age: Duration,
}

/// What was done about a message that could not be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It is tried again after a wait.
    Retried,
    /// It is left out.
    Skipped,
    /// It was put into the stream for such messages.
    Parked,
    /// The worker stops.
    Stopped,
}

/// Is told what a worker does. All methods do nothing unless implemented; they are called often and
/// must not block.
pub trait Observer: Send + Sync {
    /// So many more messages were handled; this is how far behind the worker is now.
    fn handled(&self, _messages: usize, _lag: Lag) {}

    /// A checkpoint was saved.
    fn saved(&self, _position: i64) {}

    /// A message could not be handled.
    fn failed(&self, _message: &Message, _error: &HandlerError, _reaction: Reaction) {}

    /// The server could not be read from, or its pokes ceased; it is tried again.
    fn disconnected(&self, _error: &Error) {}

    /// The server is read from again, after it could not be.
    fn reconnected(&self) {}
}

/// Nobody looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nobody;

impl Observer for Nobody {}
