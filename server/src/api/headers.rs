//! Header fields that several paths look at.

use http::header::{EXPECT, HOST};
use http::{HeaderMap, Request, Version};

use crate::api::errors::Failure;

/// Whether the client waits for leave to send its body. It does not get leave together with a refusal, so that nothing
/// of the body is on its way.
pub(super) fn awaits_leave(headers: &HeaderMap) -> bool {
    headers.contains_key(EXPECT)
}

/// Checks that a request over HTTP/1.1 has one `Host` (RFC 9112, section 3.2).
///
/// # Errors
/// `INVALID_REQUEST`; the connection closes.
pub(super) fn check_host<B>(request: &Request<B>) -> Result<(), Failure> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let is_missing = first.is_none() && request.version() == Version::HTTP_11;
    if is_missing || second.is_some() {
        return Err(Failure::invalid("a request over HTTP/1.1 has the header Host, once").closing());
    }
    Ok(())
}
