//! Which web pages may talk to the server, and by which names it may be called.
//!
//! In production mode a page needs a token, which the browser never sends by itself, so any may ask. In test mode a
//! token is optional: any page that a developer opens could write into the store of the server on the same machine.
//! There only pages of that machine may, those of the server itself, and those that are named; and the server is called
//! by an address or by a known name, as any name can be made to lead to 127.0.0.1.

use std::net::IpAddr;

use eventodb_protocol::ErrorCode;
use http::header::{HOST, ORIGIN, REFERER};
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use crate::api::errors::Failure;
use crate::config::Pages;

/// What a browser says of where a request comes from (W3C, Fetch Metadata Request Headers). A page cannot set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a page of this origin may read replies in test mode, if the request was sent to `host`.
pub(crate) fn may_test(pages: &Pages, origin: &str, host: Option<&str>) -> bool {
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    is_loopback(host_name(authority)) || host.is_some_and(|host| host == authority) || is_named(pages, origin)
}

/// Whether the operator has named this origin.
pub(crate) fn is_named(pages: &Pages, origin: &str) -> bool {
    pages.origins.iter().any(|named| named.eq_ignore_ascii_case(origin))
}

/// Checks in test mode that a request comes from an allowed page and names the server as it may be named.
///
/// # Errors
/// `AUTH_UNAUTHORIZED` for a page of another machine, and for a name that is not known to be the server's.
pub(crate) fn check<B>(pages: &Pages, request: &Request<B>) -> Result<(), Failure> {
    let host = host(request);
    if let Some(host) = host.map(host_name)
        && !host.eq_ignore_ascii_case("localhost")
        && host.parse::<IpAddr>().is_err()
        && !pages.hosts.iter().any(|named| named.eq_ignore_ascii_case(host))
    {
        let message = "in test mode the server is called localhost or by an address: name others with --allowed-host";
        return Err(Failure::new(ErrorCode::AuthUnauthorized, message));
    }
    let may = match origin(request.headers()) {
        Some(origin) => origin.to_str().is_ok_and(|origin| may_test(pages, origin, host)),
        // For a picture, a script or a link a browser names no origin.
        None => !is_cross_site(request) || referring(request).is_some_and(|origin| may_test(pages, origin, host)),
    };
    if may {
        return Ok(());
    }
    let message = "in test mode only pages of this machine may talk to the server: name others with --cors-origin";
    Err(Failure::new(ErrorCode::AuthUnauthorized, message))
}

fn is_cross_site<B>(request: &Request<B>) -> bool {
    request.headers().get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site")
}

/// The origin of the page that a request refers to. A page may leave it out, and not name another.
fn referring<B>(request: &Request<B>) -> Option<&str> {
    let page = request.headers().get(REFERER)?.to_str().ok()?;
    let authority = page.find("://")? + 3;
    let end = page[authority..].find(['/', '?', '#']).map_or(page.len(), |path| authority + path);
    Some(&page[..end])
}

/// The origin of the page that sent a request.
pub(crate) fn origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(ORIGIN)
}

/// The host that a request was sent to, with its port if there is one.
pub(crate) fn host<B>(request: &Request<B>) -> Option<&str> {
    let named = request.uri().authority().map(http::uri::Authority::as_str);
    // A value that is no text names no host.
    named.or_else(|| Some(request.headers().get(HOST)?.to_str().unwrap_or("?")))
}

/// A host without its port, and an address of IPv6 without its brackets. A text of another form stays as it is, and is then no
/// known name.
fn host_name(authority: &str) -> &str {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = authority.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(authority, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Pages {
        Pages { origins: vec!["https://shop.example".to_owned()], hosts: vec!["store.test".to_owned()] }
    }

    fn is_allowed(host: &str, origin: Option<&str>) -> bool {
        let mut request =
            Request::builder().uri("/rpc").header(HOST, HeaderValue::from_bytes(host.as_bytes()).expect("a header"));
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        check(&pages(), &request.body(()).expect("a request")).is_ok()
    }

    #[test]
    fn what_a_page_of_elsewhere_asks_for_without_an_origin_is_refused() {
        for (site, expected) in [("cross-site", false), ("same-site", true), ("same-origin", true), ("none", true)] {
            let request = Request::builder().uri("/subscribe").header(HOST, "localhost").header(SEC_FETCH_SITE, site);
            assert_eq!(check(&pages(), &request.body(()).expect("a request")).is_ok(), expected, "{site}");
        }
        for (page, expected) in [
            ("http://localhost:3000/", true),
            ("http://localhost:3000", true),
            ("https://shop.example/a?b", true),
            ("https://evil.example/", false),
            ("https://evil.example/http://localhost/", false),
            ("https://evil.example?http://localhost", false),
            ("nonsense", false),
        ] {
            let request = Request::builder().uri("/subscribe").header(HOST, "127.0.0.1").header(REFERER, page);
            let request = request.header(SEC_FETCH_SITE, "cross-site").body(()).expect("a request");
            assert_eq!(check(&pages(), &request).is_ok(), expected, "{page}");
        }
        let named = Request::builder().uri("/rpc").header(HOST, "localhost").header(ORIGIN, "https://shop.example");
        let named = named.header(SEC_FETCH_SITE, "cross-site").body(()).expect("a request");
        assert!(check(&pages(), &named).is_ok(), "the operator has named it");
    }

    #[test]
    fn a_page_of_elsewhere_is_refused() {
        for (origin, expected) in [
            ("http://localhost:5173", true),
            ("http://LOCALHOST", true),
            ("http://127.0.0.1:80", true),
            ("http://127.8.0.1", true),
            ("http://[::1]:3000", true),
            ("https://shop.example", true),
            ("http://shop.example", false),
            ("https://shop.example.evil", false),
            ("https://localhost.evil", false),
            ("http://10.0.0.1", false),
            ("null", false),
            ("", false),
            ("http://", false),
            ("http://[::1].evil.example", false),
            ("http://localhost:80@evil.example", false),
        ] {
            assert_eq!(is_allowed("127.0.0.1:8080", Some(origin)), expected, "{origin}");
        }
        assert!(is_allowed("10.0.0.1:8080", Some("http://10.0.0.1:8080")), "its own page");
        assert!(!is_allowed("10.0.0.1:8080", Some("http://10.0.0.1:8081")), "the page of a neighbour");
    }

    #[test]
    fn the_server_is_called_by_an_address_or_a_known_name() {
        for (host, expected) in [
            ("localhost", true),
            ("Localhost:8080", true),
            ("127.0.0.1", true),
            ("192.168.1.7:8080", true),
            ("[::1]:8080", true),
            ("store.test:8080", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("localhost:80@evil", false),
            ("[localhost]evil.example", false),
            ("[::1]", true),
            ("\u{e9}vil", false),
        ] {
            assert_eq!(is_allowed(host, None), expected, "{host}");
        }
        assert!(!is_allowed("evil.example", Some("http://evil.example")), "whose name was made to lead here");
    }
}
