//! The limit on open files: thousands of connections need more than the usual default.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit as far as the system allows it to this process.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = ?limit.current, "the limit on open files stays as it is");
    }
}
