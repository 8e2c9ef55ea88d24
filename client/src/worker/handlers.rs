//! Handlers, one per message type.

use std::collections::HashMap;
use std::pin::Pin;

use super::consumer::HandlerError;
use super::seen::SeenIds;
use crate::message::Message;

type Outcome = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;
type Handler = Box<dyn Fn(Message) -> Outcome + Send + Sync>;

/// The handlers of a worker, by message type.
#[derive(Default)]
pub struct Handlers {
    by_type: HashMap<String, Handler>,
    otherwise: Option<Handler>,
    seen: Option<Box<dyn SeenIds>>,
}

impl Handlers {
    /// No handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Handles messages of type `kind`. A later handler of the same type replaces an earlier one.
    #[must_use]
    pub fn on<F, Fut, E>(mut self, kind: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.by_type.insert(kind.into(), boxed(handler));
        self
    }

    /// Handles messages of all other types. Without such a handler messages of other types are not read.
    #[must_use]
    pub fn otherwise<F, Fut, E>(mut self, handler: F) -> Self
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.otherwise = Some(boxed(handler));
        self
    }

    /// Skips messages whose ids are in `seen`. This is for handlers whose effects must not be repeated after a crash
    /// and cannot be in one transaction with the checkpoint.
    #[must_use]
    pub fn deduplicated(mut self, seen: impl SeenIds + 'static) -> Self {
        self.seen = Some(Box::new(seen));
        self
    }

    pub(super) async fn handle(&mut self, message: &Message) -> Result<(), HandlerError> {
        let Some(handler) = self.by_type.get(message.kind()).or(self.otherwise.as_ref()) else { return Ok(()) };
        match &mut self.seen {
            None => handler(message.clone()).await,
            Some(seen) if seen.contains(message.id()) => Ok(()),
            Some(seen) => {
                handler(message.clone()).await?;
                Ok(seen.insert(message.id())?)
            }
        }
    }

    pub(super) fn saved(&mut self) -> std::io::Result<()> {
        self.seen.as_mut().map_or(Ok(()), |seen| seen.saved())
    }

    pub(super) fn types(&self) -> Option<Vec<String>> {
        self.otherwise.is_none().then(|| self.by_type.keys().cloned().collect())
    }
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handlers").field("types", &self.types()).finish_non_exhaustive()
    }
}

fn boxed<F, Fut, E>(handler: F) -> Handler
where
    F: Fn(Message) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<HandlerError>,
{
    Box::new(move |message| {
        let outcome = handler(message);
        Box::pin(async move { outcome.await.map_err(Into::into) })
    })
}
