//! What the writing methods share: an append, and how long its caller waits for it.

use std::sync::Arc;

use eventodb_protocol::ErrorCode;
use eventodb_protocol::reply::Appended;
use eventodb_protocol::request::Append;
use eventodb_store::Log;

use super::context::Context;
use crate::api::errors::{Conflicts, Failure, UNKNOWN};

/// Appends, and waits for the commit as long as the settings say. A caller that stops waiting, or
/// goes away, does not cancel what the log has accepted.
pub(super) async fn append(
    context: &Context<'_>,
    log: &Arc<Log>,
    append: Append,
    report: Conflicts,
) -> Result<Vec<Appended>, Failure> {
    match tokio::time::timeout(context.state.config.timeouts.append, log.append(append)).await {
        Ok(result) => result.map_err(|error| Failure::of_append(error, report)),
        Err(_) => Err(Failure::new(ErrorCode::Timeout, UNKNOWN)),
    }
}

/// The one result of an append with one entry.
pub(super) fn only(results: &[Appended]) -> Appended {
    *results.first().expect("an append has one result for each of its entries")
}
