//! What went wrong inside: for the log, never for a client.

use std::error::Error;
use std::fmt;

use eventodb_store::Chain;

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

    /// Whether an operator must look at it.
    pub(super) fn is_error(&self) -> bool {
        matches!(self.level, Level::Error)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.chain)
    }
}
