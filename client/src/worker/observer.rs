//! Hooks for metrics.

use std::time::Duration;

use super::consumer::HandlerError;
use crate::error::Error;
use crate::message::Message;

/// How far a worker is behind the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Global positions between the last handled message and the newest known one of the namespace. This is an upper
    /// bound of the messages to come, because those of other categories and members count too.
    pub messages: u64,
    /// Age of the last handled message while more messages are known; otherwise zero.
    pub age: Duration,
}

/// What was done about a message that could not be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The handler is called again after a wait.
    Retried,
    /// The message is skipped.
    Skipped,
    /// The message was written into the stream for such messages.
    Parked,
    /// The worker stops.
    Stopped,
}

/// Observes a worker. Each method does nothing unless it is implemented. The methods are called often and must not
/// block.
pub trait Observer: Send + Sync {
    /// This many more messages were handled, and the worker is now this far behind.
    fn handled(&self, _messages: usize, _lag: Lag) {}

    /// A checkpoint was saved.
    fn saved(&self, _position: i64) {}

    /// A message could not be handled.
    fn failed(&self, _message: &Message, _error: &HandlerError, _reaction: Reaction) {}

    /// The saved position is above the namespace's head. The namespace was restored or replaced, or the position is that
    /// of another one. What is written up to the saved position will not be handled.
    fn ahead_of_head(&self, _position: i64, _head: i64) {}

    /// A read failed, or the subscription broke. The worker tries again.
    fn disconnected(&self, _error: &Error) {}

    /// The server answers reads again after a failure.
    fn reconnected(&self) {}
}

/// An observer that does nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nobody;

impl Observer for Nobody {}
