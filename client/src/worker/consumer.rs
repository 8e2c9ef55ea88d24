//! What a worker runs: something that handles messages and remembers how far it came.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::handlers::Handlers;
use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::message::Message;

/// Why a handler failed.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// How far a run of messages was handled.
#[derive(Debug, Default)]
pub struct Handled {
    /// How many of them, from the first, are done.
    pub count: usize,
    /// Why the next one is not. None where all are, or where the worker is to stop.
    pub failure: Option<Failure>,
}

/// Why a message was not handled.
#[derive(Debug)]
pub enum Failure {
    /// Its handler says so.
    Message(HandlerError),
    /// Everything since the last save is lost; the worker must load and read again from there.
    Session(CheckpointError),
}

/// Handles messages and remembers how far it came, in one place or in two.
///
/// # Contract
/// The worker calls `load`, then `handle` and `save` in turn; `save` with the position of a message
/// that was handled or a later one at which nothing was to be done. After a failed `save`, and after
/// [`Failure::Session`], it begins with `load` again.
#[async_trait]
pub trait Consumer: Send {
    /// The saved position; see [`CheckpointStore::load`].
    ///
    /// # Errors
    /// See [`CheckpointStore::load`].
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError>;

    /// Handles `messages` in order, until all are done, one fails, or `stop` is cancelled; a message
    /// that was begun is finished.
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

    /// The message types that are wanted; none means all.
    fn types(&self) -> Option<Vec<String>> {
        None
    }

    /// Whether what was handled shows only after a save, so that one is due whenever there is
    /// nothing more to handle.
    fn saves_when_idle(&self) -> bool {
        false
    }
}

/// Handlers with a checkpoint apart from what they do: after a crash messages since the last save are
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
