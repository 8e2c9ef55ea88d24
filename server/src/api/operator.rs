//! Who may see the figures of the whole server: a token of `default` that may read everything there. Figures are of all
//! namespaces, so that a tenant may not see them.

use eventodb_protocol::{DEFAULT_NAMESPACE, ErrorCode, Right};
use http::request::Parts;

use crate::api::auth::{Caller, Credentials};
use crate::api::errors::Failure;
use crate::api::query::Query;
use crate::api::state::AppState;
use crate::http::Exchange;
use crate::observe::Record;

/// The right that it needs, in `default` and for all categories.
pub(super) const RIGHT: Right = Right::Read;

/// Lets those pass who may. In test mode everybody may do everything, and asking for figures creates no namespace.
///
/// # Errors
/// Why the token does not suffice.
pub(super) async fn check(
    state: &AppState,
    exchange: &Exchange,
    request: &Parts,
    record: &mut Record,
) -> Result<(), Failure> {
    if state.is_test_mode() {
        return Ok(());
    }
    let query = Query::parse(request.uri.query(), &["token"])?;
    let credentials = Credentials::of(&request.headers, &query);
    let caller = Caller::with(RIGHT, state, &credentials, record).await?;
    if **caller.namespace() != *DEFAULT_NAMESPACE {
        let message = format!("only a token of {DEFAULT_NAMESPACE} may see the figures of the server");
        return Err(Failure::new(ErrorCode::AuthUnauthorized, message));
    }
    caller.check_everywhere(RIGHT)?;
    caller.answers_for(exchange)?;
    Ok(())
}
