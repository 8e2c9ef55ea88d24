//! What went wrong inside: for the log, never for a client.

use std::error::Error;

use eventodb_store::Chain;

use crate::http::RequestId;

/// An error and all that lies behind it, kept until it is logged.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    /// Which kind of failure it is.
    pub(crate) what: &'static str,
    level: Level,
    /// The error and what lies behind it.
    chain: String,
}

#[derive(Clone, Copy, Debug)]
enum Level {
    Warn,
    Error,
}

impl Cause {
    /// A failure that may go away by itself.
    pub(crate) fn warning(what: &'static str, error: &dyn Error) -> Self {
        Self { what, level: Level::Warn, chain: Chain(error).to_string() }
    }

    /// A failure that an operator must look at.
    pub(crate) fn error(what: &'static str, error: &dyn Error) -> Self {
        Self { what, level: Level::Error, chain: Chain(error).to_string() }
    }

    /// Writes it into the log, with the id of the request that met it.
    pub(crate) fn tell(&self, id: &RequestId) {
        let request_id = &*id.to_string();
        match self.level {
            Level::Warn => tracing::warn!(cause = self.chain, request_id, "{}", self.what),
            Level::Error => tracing::error!(cause = self.chain, request_id, "{}", self.what),
        }
    }
}
