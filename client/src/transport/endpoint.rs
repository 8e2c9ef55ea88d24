//! The parts of a server's URL.

use std::str::FromStr;

use eventodb_protocol::shown;
use hyper::Uri;

use crate::error::{Error, Result};

/// The parts of a server's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of the `Host` header.
    pub(crate) authority: String,
    /// The path before `/rpc`, without a slash at its end.
    prefix: String,
}

impl Endpoint {
    /// The request target for `path` and a query string, which may be empty.
    pub(crate) fn target(&self, path: &str, query: &str) -> String {
        let separator = if query.is_empty() { "" } else { "?" };
        format!("{}{path}{separator}{query}", self.prefix)
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let invalid = |why: &str| Error::setting(format!("{:?} is no URL of a server: {why}", shown::url(url)));
        let uri: Uri = url.parse().map_err(|_| invalid("expected http://host:port"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(invalid("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("it names no host"))?;
        // A fragment is not among the parts.
        if authority.as_str().contains('@') || uri.query().is_some() || url.contains('#') {
            return Err(invalid("it must have no user, no query and no fragment; give the token by itself"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self {
            tls,
            host,
            port,
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_host_port_and_prefix() {
        let endpoint: Endpoint = "http://[::1]:8080/event/store/".parse().expect("a URL");
        assert_eq!((&*endpoint.host, endpoint.port, endpoint.tls), ("::1", 8080, false));
        assert_eq!(endpoint.target("/rpc", ""), "/event/store/rpc");
        let endpoint: Endpoint = "https://example.org".parse().expect("a URL");
        assert_eq!((&*endpoint.host, endpoint.port, endpoint.tls), ("example.org", 443, true));
        assert_eq!(endpoint.target("/subscribe", "all=true"), "/subscribe?all=true");
    }

    #[test]
    fn other_urls_are_refused() {
        for url in
            ["", "localhost:8080", "ftp://x", "http://", "http://u:p@x", "http://x?token=y", "http://x/#y", "/rpc"]
        {
            assert!(url.parse::<Endpoint>().is_err(), "{url}");
        }
    }

    #[test]
    fn a_refusal_shows_no_secret() {
        let token = eventodb_protocol::Token::generate("shop");
        for url in [
            "https://me:s3cret@db1/".to_owned(),
            "https://me:s3 cret@db1/".to_owned(),
            "http://db1/?token=s3cret".to_owned(),
            "http://db1/#s3cret".to_owned(),
            "ftp://db1/s3cret".to_owned(),
            token.to_string(),
        ] {
            let refused = url.parse::<Endpoint>().expect_err("it has a secret").to_string();
            assert!(!refused.contains("cret") && !refused.contains(token.as_str()), "{refused}");
        }
    }
}
