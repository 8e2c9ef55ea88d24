//! What the writing methods share: an append, and how long its caller waits for it.

use eventodb_protocol::reply::Appended;
use eventodb_protocol::request::Append;
use eventodb_protocol::request::group::GroupForm;
use eventodb_protocol::{ErrorCode, Right};
use eventodb_store::Allowed;

use super::context::Context;
use crate::api::auth::Caller;
use crate::api::errors::{Conflicts, Failure, UNKNOWN};
use crate::observe::Trace;

/// Appends what the caller may append, and waits for the commit as long as the settings say. A caller that stops waiting, or
/// goes away, does not cancel what the log has accepted.
pub(super) async fn append(
    context: &Context<'_>,
    caller: &Caller,
    append: Append,
    report: Conflicts,
) -> Result<Vec<Appended>, Failure> {
    caller.check_append(&append)?;
    let allowed = match &append.group {
        Some(form) => check_form(caller, form).await?,
        None => Allowed::Nothing,
    };
    let stages = context.record.trace.as_ref().map(Trace::stages);
    let appending = caller.log().append_traced(append, &allowed, stages);
    match tokio::time::timeout(context.state.config.timeouts.append, appending).await {
        Ok(result) => result.map_err(|error| Failure::of_append(error, report)),
        Err(_) => Err(Failure::new(ErrorCode::Timeout, UNKNOWN)),
    }
}

/// Checks that the caller may act for the group. Whether there is one is told by the append, because a repeated append does
/// not ask for it.
async fn check_form(caller: &Caller, form: &GroupForm) -> Result<Allowed, Failure> {
    match caller.check_group(Right::Consume, &form.group).await {
        Err(refused) if refused.code() == ErrorCode::GroupNotFound => Ok(Allowed::Nothing),
        checked => checked,
    }
}

/// The one result of an append with one entry.
pub(super) fn only(results: &[Appended]) -> Appended {
    *results.first().expect("an append has one result for each of its entries")
}
