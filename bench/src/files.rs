//! The limit on open files: ten thousand connections need more than the usual default.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the system allows it to this process and those that it starts.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it stays as it is, connections beyond it fail and say why.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
