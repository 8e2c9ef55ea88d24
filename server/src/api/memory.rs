//! How much memory things of the application are counted with.

use eventodb_protocol::Filter;

/// What a name of a filter takes beside its text while somebody waits: its place among the names that are waited for.
const FILTER_NAME: usize = 320;

/// What a filter takes while somebody waits with it.
pub(super) fn of_filter(filter: &Filter) -> usize {
    filter.names().map(|name| FILTER_NAME + name.len()).sum()
}
