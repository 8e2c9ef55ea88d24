//! The limit on open files. Thousands of connections need more than the usual default.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Open files that are reserved for the store; half of all if there are few. Without them a connection could take the
/// last one, and a write would fail. Each of 256 open namespaces needs some ten files.
pub(super) const OF_THE_STORE: u64 = 4096;

/// The bound on connections: at most `wanted`, and few enough to leave files for the store.
pub(super) fn bound_connections(wanted: usize) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return wanted };
    let bound = within(limit, wanted);
    if bound < wanted {
        tracing::warn!(wanted, bound, limit, "fewer connections than --max-connections, for the limit on open files");
    }
    bound
}

fn within(limit: u64, wanted: usize) -> usize {
    let left = limit - OF_THE_STORE.min(limit.div_ceil(2));
    wanted.min(usize::try_from(left).unwrap_or(usize::MAX)).max(1)
}

/// Raises the limit as far as the system allows this process.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = ?limit.current, "the limit on open files stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_store() {
        assert_eq!(within(64, 20_000), 32);
        assert_eq!(within(20_000, 20_000), 15_904);
        assert_eq!(within(1_048_576, 20_000), 20_000);
        assert_eq!(within(1, 20_000), 1);
    }
}
