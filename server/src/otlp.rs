//! Where spans are sent.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// The port of receivers of OTLP over HTTP, if the URL names none.
const PORT: u16 = 4318;

/// A receiver of OTLP over HTTP: `http://HOST:PORT`, with a path perhaps, below which `/v1/traces` takes spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint {
    authority: String,
    path: String,
}

/// Why a text is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiver is a URL such as http://127.0.0.1:4318, without a user, a query or TLS")]
pub struct ParseEndpointError;

impl FromStr for OtlpEndpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, ParseEndpointError> {
        let uri: Uri = text.parse().map_err(|_| ParseEndpointError)?;
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(ParseEndpointError)?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() || authority.host().is_empty() {
            return Err(ParseEndpointError);
        }
        let authority = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(PORT));
        Ok(Self { authority, path: format!("{}/v1/traces", uri.path().trim_end_matches('/')) })
    }
}

impl OtlpEndpoint {
    /// The host and the port.
    #[cfg(feature = "otel")]
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The path that takes spans.
    #[cfg(feature = "otel")]
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_a_plain_url() {
        let shown = |text: &str| text.parse().map(|endpoint: OtlpEndpoint| endpoint.to_string());
        assert_eq!(shown("http://127.0.0.1:4318").as_deref(), Ok("http://127.0.0.1:4318/v1/traces"));
        assert_eq!(shown("http://collector").as_deref(), Ok("http://collector:4318/v1/traces"));
        assert_eq!(shown("http://[::1]:1/a/").as_deref(), Ok("http://[::1]:1/a/v1/traces"));
        for wrong in
            ["", "collector:4318", "https://collector", "http://u:p@collector", "http://collector?x", "http://", "/v1"]
        {
            assert_eq!(shown(wrong), Err(ParseEndpointError), "{wrong}");
        }
    }
}
