//! Whom requests go to, and their bytes.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use eventodb_protocol::{DEFAULT_NAMESPACE, Token};
use hyper::Uri;

/// Where a server listens and as whom it is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    authority: String,
    token: Option<String>,
    /// The address of this machine that its connections come from, where it matters.
    source: Option<Ipv4Addr>,
}

impl Address {
    /// The address in `http://HOST:PORT`.
    pub(crate) fn new(url: &str, token: Option<String>) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        anyhow::ensure!(uri.scheme_str() == Some("http"), "{url}: only http:// is measured");
        let host = uri.host().with_context(|| format!("{url} names no host"))?;
        Ok(Self { authority: format!("{host}:{}", uri.port_u16().unwrap_or(80)), token, source: None })
    }

    /// The same server, spoken to with this token.
    pub(crate) fn with_token(&self, token: String) -> Self {
        Self { token: Some(token), ..self.clone() }
    }

    /// The token, if it is spoken to with one.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The server at the `other` address, spoken to as this one is.
    pub(crate) fn moved_to(&self, other: &Self) -> Self {
        Self { authority: other.authority.clone(), ..self.clone() }
    }

    /// The same server, spoken to from this one of the machine's own addresses.
    pub(crate) fn coming_from(&self, source: Ipv4Addr) -> Self {
        Self { source: Some(source), ..self.clone() }
    }

    /// Where connections come from, where it matters.
    pub(crate) fn source(&self) -> Option<Ipv4Addr> {
        self.source
    }

    /// The namespace that the token opens.
    pub(crate) fn namespace(&self) -> String {
        let token = self.token.as_ref().and_then(|token| token.parse::<Token>().ok());
        token.map_or_else(|| DEFAULT_NAMESPACE.to_owned(), |token| token.namespace().to_owned())
    }

    /// `HOST:PORT`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// A call of `/rpc` with this body.
    pub(crate) fn call(&self, body: &str) -> Template {
        let head = format!(
            "POST /rpc HTTP/1.1\r\nhost: {}\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.authority,
            self.authorization(),
            body.len(),
        );
        Template { body_at: head.len(), bytes: (head + body).into_bytes() }
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
    bytes: Vec<u8>,
    body_at: usize,
}

impl Template {
    /// Where `part` stands in the body: a place for [`Template::patch`].
    pub(crate) fn find(&self, part: &str) -> Option<usize> {
        let body = self.bytes.get(self.body_at..)?;
        memchr::memmem::find(body, part.as_bytes()).map(|at| self.body_at + at)
    }

    /// Overwrites what stands at `at`.
    pub(crate) fn patch(&mut self, at: usize, part: &str) {
        self.bytes[at..at + part.len()].copy_from_slice(part.as_bytes());
    }

    /// What is sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_patched_in_its_body() {
        let address = Address::new("http://127.0.0.1:8080", Some("t".into())).unwrap();
        let mut template = address.call(r#"["stream.version","aaaa"]"#);
        let at = template.find("aaaa").unwrap();
        template.patch(at, "bbbb");
        let text = std::str::from_utf8(template.bytes()).unwrap();
        assert!(text.ends_with("content-length: 25\r\n\r\n[\"stream.version\",\"bbbb\"]"), "{text}");
        assert!(text.contains("\r\nauthorization: Bearer t\r\n"), "{text}");
    }

    #[test]
    fn other_schemes_are_refused() {
        assert!(Address::new("https://example.com", None).is_err());
        assert!(Address::new("nonsense", None).is_err());
    }
}
