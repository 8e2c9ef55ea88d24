//! A look at each session with a node: whether its server is the node that is meant.
//!
//! A name may lead to another server: to one of another cluster, to one that was a node before, or to a node that is not
//! this one. Such a server may have a schema of the same name with other messages.

use parking_lot::Mutex;

use super::connection::Connection;
use super::error::OpenError;
use super::placement::{Identity, Placement};

/// The name of a node leads to another server.
#[derive(Debug, thiserror::Error)]
#[error("the server there is not the node that the database means")]
struct NotTheNode;

/// Lets sessions with one node pass.
#[derive(Debug)]
pub(super) struct Guard {
    placement: Placement,
    /// As home had it when it was asked last.
    expected: Mutex<Option<Identity>>,
}

impl Guard {
    pub(super) fn new(placement: Placement) -> Self {
        Self { placement, expected: Mutex::default() }
    }

    /// Notes which server is meant.
    pub(super) fn expect(&self, identity: Identity) {
        *self.expected.lock() = Some(identity);
    }

    /// Whether it was ever known which server is meant.
    pub(super) fn is_informed(&self) -> bool {
        self.expected.lock().is_some()
    }

    /// Asks the server of a session which one it is.
    ///
    /// # Errors
    /// It is not the one that is meant, or does not answer.
    pub(super) async fn check(&self, connection: &mut Connection) -> Result<(), OpenError> {
        let found = self.placement.itself(connection).await.map_err(OpenError::other)?;
        if found.is_some() && found == *self.expected.lock() { Ok(()) } else { Err(OpenError::other(NotTheNode)) }
    }
}
