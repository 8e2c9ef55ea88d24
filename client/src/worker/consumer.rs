//! What a worker runs: a consumer, which handles messages and remembers its position.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::handlers::Handlers;
use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::message::Message;

/// Why a handler failed.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// How many of the given messages were handled.
#[derive(Debug, Default)]
pub struct Handled {
    /// The number of messages that are done, from the first.
    pub count: usize,
    /// Why the next message is not done. None if all are, or if the worker was stopped.
    pub failure: Option<Failure>,
}

/// Why a message was not handled.
#[derive(Debug)]
pub enum Failure {
    /// Its handler returned an error.
    Message(HandlerError),
    /// The effects since the last save are lost. The worker must load the position and read again from there.
    Session(CheckpointError),
}

/// Handles messages and remembers its position, in one transaction or apart.
///
/// # Contract
/// The worker calls `load`, and then `handle` and `save` in turn. `save` gets the position of a handled message, or a
/// later position without a message to handle. After a failed `save`, and after [`Failure::Session`], the worker begins
/// with `load` again.
#[async_trait]
pub trait Consumer: Send {
    /// The saved position; see [`CheckpointStore::load`].
    ///
    /// # Errors
    /// See [`CheckpointStore::load`].
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError>;

    /// Handles `messages` in order, until all are done, one fails, or `stop` is cancelled. A message that was begun is
    /// finished.
    async fn handle(&mut self, messages: &[Message], stop: &CancellationToken) -> Handled;

    /// Saves that everything up to `position` is done.
    ///
    /// # Errors
    /// See [`CheckpointStore::save`].
    async fn save(&mut self, position: i64) -> Result<(), CheckpointError>;

    /// See [`CheckpointStore::taken`].
    async fn taken(&mut self) -> CheckpointError {
        std::future::pending().await
    }

    /// The message types to handle; none means all.
    fn types(&self) -> Option<Vec<String>> {
        None
    }

    /// Whether effects become visible only by a save, so that a save is due whenever there is nothing more to handle.
    fn saves_when_idle(&self) -> bool {
        false
    }
}

/// Handlers whose checkpoint is stored apart from their effects: after a crash the messages since the last save are
/// handled again.
pub struct Checkpointed<S> {
    handlers: Handlers,
    store: S,
}

impl<S: CheckpointStore> Checkpointed<S> {
    /// These handlers, with their position in `store`.
    pub fn new(handlers: Handlers, store: S) -> Self {
        Self { handlers, store }
    }
}

#[async_trait]
impl<S: CheckpointStore> Consumer for Checkpointed<S> {
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError> {
        self.store.load().await
    }

    async fn handle(&mut self, messages: &[Message], stop: &CancellationToken) -> Handled {
        for (count, message) in messages.iter().enumerate() {
            if stop.is_cancelled() {
                return Handled { count, failure: None };
            }
            if let Err(error) = self.handlers.handle(message).await {
                return Handled { count, failure: Some(Failure::Message(error)) };
            }
        }
        Handled { count: messages.len(), failure: None }
    }

    async fn save(&mut self, position: i64) -> Result<(), CheckpointError> {
        self.store.save(position).await?;
        self.handlers.saved().map_err(|error| CheckpointError::failed("the handled ids", error))
    }

    async fn taken(&mut self) -> CheckpointError {
        self.store.taken().await
    }

    fn types(&self) -> Option<Vec<String>> {
        self.handlers.types()
    }
}

impl<S> std::fmt::Debug for Checkpointed<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpointed").field("handlers", &self.handlers).finish_non_exhaustive()
    }
}
