//! The namespaces, and the log of each.

use std::sync::Arc;

use eventodb_schema::reply::{NamespaceInfo, NamespaceListed};
use eventodb_schema::token::TokenHash;
use eventodb_schema::{Timestamp, Token};

use crate::backend::{Backend, Namespace, NewNamespace};
use crate::error::Result;
use crate::log::Log;
use crate::settings::Settings;

/// All namespaces of one database.
#[derive(Debug)]
pub struct EventStore {}

impl EventStore {
    /// Opens the store on a backend.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Failed`]; so for all methods here.
    pub async fn open(_backend: Arc<dyn Backend>, _settings: Settings) -> Result<Arc<Self>> {
        unimplemented!()
    }

    /// `sqlite` or `postgres`.
    pub fn backend_kind(&self) -> &'static str {
        unimplemented!()
    }

    /// The log that a token opens; `None` for an unknown namespace and for a wrong token alike.
    pub async fn authorize(&self, _token: &Token) -> Result<Option<Arc<Log>>> {
        unimplemented!()
    }

    /// The log of a namespace.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`].
    pub async fn log(&self, _name: &str) -> Result<Arc<Log>> {
        unimplemented!()
    }

    /// Whether a namespace of that name was deleted through this server since it started, and not created again.
    pub fn was_deleted(&self, _name: &str) -> bool {
        unimplemented!()
    }

    /// Creates a namespace.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceExists`].
    pub async fn create(&self, _new: NewNamespace) -> Result<Namespace> {
        unimplemented!()
    }

    /// Deletes a namespace: its log is closed and its subscriptions end. When, and how many messages it held.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`].
    pub async fn delete(&self, _name: &str) -> Result<(Timestamp, u64)> {
        unimplemented!()
    }

    /// Empties a namespace; the log of its new incarnation comes back.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`].
    pub async fn empty(&self, _name: &str) -> Result<Arc<Log>> {
        unimplemented!()
    }

    /// Gives a namespace another token.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`].
    pub async fn set_token(&self, _name: &str, _hash: &TokenHash) -> Result<()> {
        unimplemented!()
    }

    /// All namespaces, by name.
    pub async fn list(&self) -> Result<Vec<NamespaceListed>> {
        unimplemented!()
    }

    /// One namespace.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`].
    pub async fn info(&self, _name: &str) -> Result<NamespaceInfo> {
        unimplemented!()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        unimplemented!()
    }

    /// Finishes what was accepted, then closes. New appends are refused from the call on.
    pub async fn close(&self) {
        unimplemented!()
    }
}
