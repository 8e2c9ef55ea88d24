//! Leave for pages of other origins to talk to the server.
//!
//! The page's own code sends the token, never the browser. So every origin may call if the operator names none. In test
//! mode, where a token is optional, `origin` says which pages may.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, VARY,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode};

use crate::api::origin::{host, is_named, may_test, origin};
use crate::config::Config;

const ANY: HeaderValue = HeaderValue::from_static("*");
const EXPOSED: HeaderValue = HeaderValue::from_static("X-EventoDB-Head, X-EventoDB-Token, X-Request-Id, Retry-After");
const ALLOWED: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, Last-Event-ID, X-Request-Id, Cache-Control, Traceparent");
const DAY: HeaderValue = HeaderValue::from_static("86400");

/// The pages that may read a reply.
#[derive(Clone, Debug)]
pub(crate) enum Readers {
    /// Programs, and pages of any origin; what the reply says already.
    Unchanged,
    /// Pages of any origin, one of which asks.
    Anybody,
    /// Pages of this origin.
    Origin(HeaderValue),
    /// No page.
    Nobody,
}

impl Readers {
    /// The pages that may read the reply to this request.
    pub(crate) fn of<B>(request: &Request<B>, config: &Config) -> Self {
        let pages = &config.pages;
        let is_test = config.is_test_mode();
        let asks = origin(request.headers());
        if !is_test && pages.origins.is_empty() {
            return if asks.is_some() { Self::Anybody } else { Self::Unchanged };
        }
        let may = |origin: &str| if is_test { may_test(pages, origin, host(request)) } else { is_named(pages, origin) };
        match asks {
            Some(value) if value.to_str().is_ok_and(may) => Self::Origin(value.clone()),
            _ => Self::Nobody,
        }
    }

    /// Tells the browser.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        match self {
            Self::Unchanged => {}
            Self::Anybody => allow(headers),
            Self::Origin(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
                headers.append(VARY, HeaderValue::from_static("Origin"));
            }
            Self::Nobody => {
                headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
                headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
                headers.append(VARY, HeaderValue::from_static("Origin"));
            }
        }
    }
}

/// Lets a page of any origin read the reply.
pub(crate) fn allow(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// The answer to a browser that asks what it may send to a path with these verbs.
pub(crate) fn preflight(verbs: &'static str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    allow(headers);
    headers.insert(ALLOW, HeaderValue::from_static(verbs));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(verbs));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
    headers.insert(ACCESS_CONTROL_MAX_AGE, DAY);
    response
}
