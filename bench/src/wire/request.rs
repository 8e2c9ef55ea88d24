//! The address of a server, and the bytes of requests to it.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use eventodb_protocol::{DEFAULT_NAMESPACE, Token, shown};
use hyper::Uri;
use memchr::memmem;

use super::http2::Http2;
use super::tls::Tls;

/// The place of a number in a body, as wide as a position: JSON allows blanks before a number.
pub(crate) const NUMBER: &str = "                   0";

/// A server, and the token that requests carry.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// `HOST:PORT`.
    pub(crate) authority: String,
    pub(crate) token: Option<String>,
    /// The address of this machine that connections come from, if it matters.
    pub(crate) source: Option<Ipv4Addr>,
    /// How the server is spoken to, if not in clear text.
    pub(crate) tls: Option<Tls>,
    /// Connections over HTTP/2 that requests share; without them each lane has one of its own over HTTP/1.1.
    pub(crate) http2: Option<Arc<Http2>>,
}

impl Address {
    /// The server at `http://HOST:PORT` or `https://HOST:PORT`.
    pub(crate) fn new(url: &str, token: Option<String>) -> anyhow::Result<Self> {
        Self::trusting(url, token, None)
    }

    /// The same, where the authorities in this file are trusted in place of the system's.
    pub(crate) fn trusting(url: &str, token: Option<String>, authorities: Option<&Path>) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{} is no URL", shown::url(url)))?;
        let host = uri.host().with_context(|| format!("{} names no host", shown::url(url)))?;
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some(Tls::new(host, authorities)?), 443),
            _ => anyhow::bail!("{}: only http:// and https:// are measured", shown::url(url)),
        };
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(port));
        Ok(Self { authority, token, source: None, tls, http2: None })
    }

    pub(crate) fn namespace(&self) -> String {
        let token = self.token.as_ref().and_then(|token| token.parse::<Token>().ok());
        token.map_or_else(|| DEFAULT_NAMESPACE.to_owned(), |token| token.namespace().to_owned())
    }

    /// A call of `/rpc` with this body.
    pub(crate) fn call(&self, body: &str) -> Template {
        self.template(body, &[])
    }

    /// A call of `/rpc` whose body is overwritten where each of `slots` stands. They are found one behind the other.
    pub(crate) fn template(&self, body: &str, slots: &[&str]) -> Template {
        let mut bytes = format!(
            "POST /rpc HTTP/1.1\r\nhost: {}\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.authority,
            self.authorization(),
            body.len(),
        )
        .into_bytes();
        let mut from = bytes.len();
        bytes.extend_from_slice(body.as_bytes());
        let slot = |part: &&str| {
            let at = from + memmem::find(&bytes[from..], part.as_bytes())?;
            from = at + part.len();
            Some(at..from)
        };
        let slots = slots.iter().map(slot).collect();
        Template { bytes, slots }
    }

    /// A subscription: `query` without its question mark.
    pub(crate) fn subscribe(&self, query: &str) -> Vec<u8> {
        let authorization = self.authorization();
        format!("GET /subscribe?{query} HTTP/1.1\r\nhost: {}\r\n{authorization}\r\n", self.authority).into_bytes()
    }

    fn authorization(&self) -> String {
        self.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default()
    }
}

/// A request that is sent again and again, with parts of its body overwritten by others of the same length.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) bytes: Vec<u8>,
    slots: Vec<Option<Range<usize>>>,
}

impl Template {
    /// Overwrites a slot, with blanks before a text that is shorter. A slot that the body does not have is left out.
    pub(crate) fn set(&mut self, slot: usize, text: impl std::fmt::Display) {
        if let Some(place) = self.slots[slot].clone() {
            let text = format!("{text:>0$}", place.len());
            self.bytes[place].copy_from_slice(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_overwritten_in_its_body() {
        let address = Address::new("http://127.0.0.1:8080", Some("t".into())).unwrap();
        let mut template = address.template(r#"["stream.version","aaaa",    0]"#, &["aaaa", "absent", "    0"]);
        template.set(0, "bbbb");
        template.set(1, "nowhere");
        template.set(2, 17);
        let text = std::str::from_utf8(&template.bytes).unwrap();
        assert!(text.ends_with("content-length: 31\r\n\r\n[\"stream.version\",\"bbbb\",   17]"), "{text}");
        assert!(text.contains("\r\nauthorization: Bearer t\r\n"), "{text}");
    }

    #[test]
    fn other_schemes_are_refused() {
        assert!(Address::new("ftp://example.com", None).is_err());
        assert!(Address::new("nonsense", None).is_err());
    }
}
