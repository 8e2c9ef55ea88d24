//! The audit: lines of the log with the target `audit` about administrative acts, requests that were refused their right,
//! and load that was shed.
//!
//! A line has the time, the token's id, the client's address, the act, its object, how it ended, and the request's id. It
//! never has a token or data. Each act that succeeds has a line. What ends otherwise can be caused at will, by strangers
//! too: in each ten seconds, the first few of each act and code have a line each, and one line counts the others.

use eventodb_protocol::ErrorCode;
use eventodb_store::model::TokenId;

use super::record::Record;

/// The target of the lines.
pub const TARGET: &str = "audit";

/// Tells of an act that a command has done to the store itself, without a server.
pub fn act_in_store(act: &'static str, object: &str, namespace: &str) {
    tracing::info!(target: TARGET, act, object, outcome = "done", namespace, "audit");
}

/// Tells of an act that a signal to the process has done.
pub fn act_by_signal(act: &'static str, object: &str) {
    tracing::info!(target: TARGET, act, object, outcome = "done", "audit");
}

/// Tells how a request ended that was administrative, was refused its right, or was shed. It succeeded if there is no code.
pub(super) fn tell(record: &Record, code: Option<ErrorCode>) {
    let (act, object) = record.act.as_ref().map_or((record.method.name, None), |act| (act.name, Some(&*act.object)));
    let outcome = code.map_or("done", ErrorCode::as_str);
    let (namespace, address) = (record.namespace.as_deref(), &*record.client.to_string());
    let token_id = record.token_id.map(|TokenId(id)| id.to_string());
    let (token_id, request_id) = (token_id.as_deref(), &*record.id.to_string());
    tracing::info!(target: TARGET, act, object, outcome, namespace, token_id, address, request_id, "audit");
}

/// Counts what ended alike and had no line.
pub(super) fn count(act: &'static str, code: ErrorCode, more: u64) {
    tracing::info!(target: TARGET, act, outcome = code.as_str(), more, "audit: more ended alike");
}

/// Whether a request that ends with this code was refused its right, or was shed.
pub(super) fn is_refusal(code: ErrorCode) -> bool {
    use ErrorCode::{AuthInvalidToken, AuthRequired, AuthUnauthorized, Overloaded, RateLimited};
    matches!(code, AuthRequired | AuthInvalidToken | AuthUnauthorized | RateLimited | Overloaded)
}
