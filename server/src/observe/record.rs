//! What is told about a request: by the request log and by the audit.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::shown;
use eventodb_store::model::TokenId;

use super::method::Method;
use super::trace::Trace;
use crate::http::RequestId;

/// What a line of the log has of a request.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) id: RequestId,
    /// The address of the client.
    pub(super) client: IpAddr,
    /// The name of the call, or the path.
    pub(crate) method: Method,
    /// The namespace, once it is known.
    pub(crate) namespace: Option<Arc<str>>,
    /// The id of the token, once it is known.
    pub(crate) token_id: Option<TokenId>,
    /// What the request changes as an administrator.
    pub(super) act: Option<Act>,
    /// How long the request asked to wait.
    pub(crate) wait: Duration,
    /// Bytes of its body, once they are known.
    pub(crate) bytes_in: Option<usize>,
    pub(crate) started: Instant,
    /// What its spans are made of, if it is traced.
    pub(crate) trace: Option<Trace>,
}

impl Record {
    pub(crate) fn new(id: RequestId, client: IpAddr, method: Method, started: Instant) -> Self {
        Self {
            id,
            client,
            method,
            namespace: None,
            token_id: None,
            act: None,
            wait: Duration::ZERO,
            bytes_in: None,
            started,
            trace: None,
        }
    }

    /// The request is administrative: it does `act` to `object`, which is a namespace or the id of a token. The audit has a
    /// line about how it ends.
    pub(crate) fn administers(&mut self, act: &'static str, object: &str) {
        self.act = Some(Act::new(act, object));
    }
}

/// What an administrative request does, and to what.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) name: &'static str,
    pub(super) object: Box<str>,
}

impl Act {
    pub(super) fn new(name: &'static str, object: &str) -> Self {
        Self { name, object: shown::name(object).into() }
    }
}

#[cfg(test)]
mod tests {
    use eventodb_protocol::Token;

    use super::*;

    #[test]
    fn a_token_in_place_of_a_name_is_not_shown() {
        assert_eq!(&*Act::new("ns.delete", Token::generate("shop").as_str()).object, "(a token)");
        assert_eq!(&*Act::new("ns.delete", "shop").object, "shop");
    }
}
