//! The handlers of a worker on a group, by message type.

use std::collections::HashMap;
use std::pin::Pin;

use super::super::consumer::HandlerError;
use super::context::Context;
use crate::message::Message;

type Outcome = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;
type Handler<M> = Box<dyn Fn(Message, Context<M>) -> Outcome + Send + Sync>;

/// Data of a message type.
pub trait MessageType: serde::de::DeserializeOwned + Send + 'static {
    /// The name of the type.
    const TYPE: &'static str;
}

pub(super) struct Handlers<M> {
    by_type: HashMap<String, Handler<M>>,
    otherwise: Option<Handler<M>>,
}

impl<M> Default for Handlers<M> {
    fn default() -> Self {
        Self { by_type: HashMap::new(), otherwise: None }
    }
}

impl<M: 'static> Handlers<M> {
    pub(super) fn insert<F, Fut, E>(&mut self, kind: Option<String>, handler: F)
    where
        F: Fn(Message, Context<M>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        let handler: Handler<M> = Box::new(move |message, context| {
            let outcome = handler(message, context);
            Box::pin(async move { outcome.await.map_err(Into::into) })
        });
        match kind {
            Some(kind) => drop(self.by_type.insert(kind, handler)),
            None => self.otherwise = Some(handler),
        }
    }

    /// Handles a message. One whose type has no handler is done at once.
    pub(super) async fn handle(&self, message: Message, context: Context<M>) -> Result<(), HandlerError> {
        match self.by_type.get(message.kind()).or(self.otherwise.as_ref()) {
            Some(handler) => handler(message, context).await,
            None => Ok(()),
        }
    }
}
