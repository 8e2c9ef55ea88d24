//! Reasons why writes do not work at the moment, although reads do: for probes and for the person on duty.

use serde::Serialize;

/// One reason why writes are refused, or soon will be. It names no host, no path and no namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Degraded {
    /// Tells the kind of reason; stable.
    pub code: &'static str,
    /// The same for people.
    pub message: String,
}

impl Degraded {
    /// A reason of this kind.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
