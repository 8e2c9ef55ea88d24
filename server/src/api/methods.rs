//! What requests ask for, by name: the methods of calls, the routes, and what is neither. The request log, the audit and
//! the metrics use these names.
//!
//! A name that is used and does not stand here does not compile. A test of the router finds one that stands here and is
//! not used.

use crate::observe::Method;

/// All names. Their number bounds the memory of what is counted by name.
pub(super) const NAMES: &[&str] = &[
    "stream.write",
    "stream.append",
    "streams.append",
    "stream.get",
    "stream.last",
    "stream.version",
    "category.get",
    "message.get",
    "ns.create",
    "ns.delete",
    "ns.update",
    "ns.list",
    "ns.info",
    "ns.streams",
    "ns.categories",
    "token.create",
    "token.list",
    "token.revoke",
    "token.rotate",
    "group.create",
    "group.update",
    "group.delete",
    "group.list",
    "group.status",
    "group.pause",
    "group.resume",
    "group.resize",
    "group.reset",
    "group.join",
    "group.heartbeat",
    "group.read",
    "group.park",
    "group.handled",
    "group.leave",
    "group.parked",
    "group.retry",
    "group.skip",
    "group.audit",
    "group.wait",
    "sys.version",
    "sys.health",
    "sys.config",
    "/subscribe",
    "/import",
    "/metrics",
    "/api/v1/performance",
    "/api/v1/performance/queries",
    "/api/v1/performance/cache",
    "/api/v1/performance/database",
    "/api/v1/performance/groups",
    "/api/v1/performance/reset",
    "/version",
    "/health",
    "/health/live",
    "/health/ready",
    "/ready",
    // What is no method and no route.
    "/rpc",
    "preflight",
    "stopping",
    "too many requests",
    "unknown",
    "unknown call",
    "unknown host",
    "unknown path",
    "unknown sender",
];

/// The one of this name. For constants, so that no name is looked up for a request.
///
/// # Panics
/// There is none.
pub(super) const fn method(name: &str) -> Method {
    let mut at = 0;
    while at < NAMES.len() {
        if is_same(NAMES[at].as_bytes(), name.as_bytes()) {
            return Method::new(NAMES[at], at);
        }
        at += 1;
    }
    panic!("each name of a request is in the table")
}

/// `==` is no constant function.
const fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}
