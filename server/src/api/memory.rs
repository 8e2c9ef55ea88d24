//! How much memory things of the application are counted with.

use eventodb_protocol::Filter;

/// Bytes that a name of a filter takes beside its text while a caller waits: its place among the topics.
const FILTER_NAME: usize = 320;

/// Bytes that a filter takes while a caller waits with it.
pub(super) fn of_filter(filter: &Filter) -> usize {
    filter.names().map(|name| FILTER_NAME + name.len()).sum()
}
