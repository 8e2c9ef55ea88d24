//! The sender of a request, and the namespace that its token opens.
//!
//! In production mode a token opens its namespace, and the token of `default` is the
//! administrator's. In test mode a token only names a namespace, which its first use creates. The
//! store compares tokens, by their hashes and in constant time.

use std::sync::Arc;

use eventodb_protocol::{DEFAULT_NAMESPACE, ErrorCode, Token, name};
use eventodb_store::model::NewNamespace;
use eventodb_store::{Error, Log};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::api::errors::Failure;
use crate::api::query::Query;
use crate::api::state::AppState;

/// How a request identifies its sender.
#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    /// No token.
    None,
    /// A well-formed token, not checked yet.
    Token(Token),
    /// Something that is no token.
    Malformed,
}

/// The sender of a request, and the namespace that it opened.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) log: Arc<Log>,
    is_administrator: bool,
}

impl Credentials {
    /// What stands in the request: a token in the query wins over one in the header.
    pub(crate) fn of(headers: &HeaderMap, query: &Query) -> Self {
        match query.get("token") {
            Some(token) => Self::from_token(token),
            None => Self::from_header(headers),
        }
    }

    /// What stands in the header alone.
    pub(crate) fn from_header(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(AUTHORIZATION) else { return Self::None };
        let Ok(value) = value.to_str() else { return Self::Malformed };
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if scheme.is_empty() && token.trim().is_empty() {
            return Self::None;
        }
        if !scheme.eq_ignore_ascii_case("Bearer") {
            return Self::Malformed;
        }
        match token.trim() {
            "" => Self::None,
            token => Self::from_token(token),
        }
    }

    fn from_token(token: &str) -> Self {
        token.parse().map_or(Self::Malformed, Self::Token)
    }
}

impl Caller {
    /// The caller's namespace.
    pub(crate) fn namespace(&self) -> &Arc<str> {
        &self.log.namespace().name
    }

    fn may_manage(&self, namespace: &str) -> bool {
        self.is_administrator || **self.namespace() == *namespace
    }
}

/// Opens the caller's namespace.
///
/// # Errors
/// `AUTH_REQUIRED`, `AUTH_INVALID_TOKEN`, `AUTH_UNAUTHORIZED`, or the store's.
pub(crate) async fn authorize(state: &AppState, credentials: &Credentials) -> Result<Caller, Failure> {
    if state.is_test_mode() {
        return Ok(Caller { log: open_freely(state, credentials).await?, is_administrator: true });
    }
    let token = match credentials {
        Credentials::Token(token) => token,
        Credentials::None => return Err(Failure::new(ErrorCode::AuthRequired, "a token is required")),
        Credentials::Malformed => {
            let message = "a token is sent as Bearer and has the form ns_<base64url of the namespace>_<64 hex digits>";
            return Err(Failure::new(ErrorCode::AuthInvalidToken, message));
        }
    };
    let log = state.store.authorize(token).await?.ok_or_else(unauthorized)?;
    let is_administrator = &*log.namespace().name == DEFAULT_NAMESPACE;
    Ok(Caller { log, is_administrator })
}

/// The namespace that the caller's memory is counted to. In test mode it need not be there yet.
///
/// # Errors
/// As [`authorize`].
pub(crate) async fn namespace(state: &AppState, credentials: &Credentials) -> Result<Arc<str>, Failure> {
    match credentials {
        _ if !state.is_test_mode() => Ok(Arc::clone(authorize(state, credentials).await?.namespace())),
        Credentials::Token(token) => Ok(token.namespace().into()),
        Credentials::None | Credentials::Malformed => Ok(DEFAULT_NAMESPACE.into()),
    }
}

/// Lets the administrator pass, and everybody in test mode.
///
/// # Errors
/// As [`authorize`].
pub(crate) async fn administrator(state: &AppState, credentials: &Credentials) -> Result<(), Failure> {
    if state.is_test_mode() || authorize(state, credentials).await?.is_administrator {
        return Ok(());
    }
    Err(Failure::new(ErrorCode::AuthUnauthorized, "only the administrator's token, that of default, allows this"))
}

/// A caller that may see and delete namespaces: its own, or all of them if it is the administrator.
#[derive(Clone, Debug)]
pub(crate) struct Manager(Option<Caller>);

impl Manager {
    /// Checks the caller before the namespace that it asks for is known.
    ///
    /// # Errors
    /// As [`authorize`].
    pub(crate) async fn authorize(state: &AppState, credentials: &Credentials) -> Result<Self, Failure> {
        if state.is_test_mode() {
            return Ok(Self(None));
        }
        authorize(state, credentials).await.map(|caller| Self(Some(caller)))
    }

    /// Checks that the caller may manage this namespace.
    ///
    /// # Errors
    /// `AUTH_UNAUTHORIZED`, whether there is such a namespace or not.
    pub(crate) fn check(&self, namespace: &str) -> Result<(), Failure> {
        if self.0.as_ref().is_none_or(|caller| caller.may_manage(namespace)) { Ok(()) } else { Err(unauthorized()) }
    }
}

/// Test mode: the namespace that the token names, created where it is not there yet.
async fn open_freely(state: &AppState, credentials: &Credentials) -> Result<Arc<Log>, Failure> {
    let Credentials::Token(token) = credentials else {
        return Ok(state.store.log(DEFAULT_NAMESPACE).await?);
    };
    let namespace = token.namespace();
    match state.store.log(namespace).await {
        Err(Error::NamespaceNotFound) => {}
        found => return Ok(found?),
    }
    if state.store.was_deleted(namespace) {
        return Err(unauthorized());
    }
    name::check("the token's namespace", namespace, &state.config.limits)?;
    let new = NewNamespace {
        name: namespace.to_owned(),
        token_hash: token.hash(),
        description: String::new(),
        metadata: "{}".to_owned(),
    };
    state.used.add(namespace)?;
    match state.store.create(new).await {
        // Another request was first.
        Ok(_) | Err(Error::NamespaceExists) => Ok(state.store.log(namespace).await?),
        Err(error) => {
            state.used.remove(namespace);
            Err(error.into())
        }
    }
}

/// The same words for an unknown namespace and a wrong token.
fn unauthorized() -> Failure {
    Failure::new(ErrorCode::AuthUnauthorized, "the token does not open this namespace")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(header: Option<&[u8]>, query: &str) -> Credentials {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_bytes(header).expect("a header"));
        }
        Credentials::of(&headers, &Query::parse(Some(query), &["token"]).expect("a query"))
    }

    fn namespace(credentials: &Credentials) -> Option<&str> {
        match credentials {
            Credentials::Token(token) => Some(token.namespace()),
            _ => None,
        }
    }

    #[test]
    fn a_token_in_the_query_wins_unless_it_is_empty() {
        let (a, b) = (Token::generate("a"), Token::generate("b"));
        let header = format!("Bearer {a}");
        let header = Some(header.as_bytes());
        assert_eq!(namespace(&of(header, &format!("token={b}"))), Some("b"));
        assert_eq!(namespace(&of(header, "token=")), Some("a"));
        assert_eq!(namespace(&of(header, "")), Some("a"));
        assert!(matches!(of(header, "token=x"), Credentials::Malformed));
    }

    #[test]
    fn headers_are_told_apart() {
        let token = Token::generate("a");
        for none in [None, Some(""), Some("Bearer"), Some("Bearer "), Some("bearer  ")] {
            assert!(matches!(of(none.map(str::as_bytes), ""), Credentials::None), "{none:?}");
        }
        for malformed in
            ["Basic YTpi", "Bearer x", token.as_str(), &format!("Token {token}"), &format!("Bearer{token}")]
        {
            assert!(matches!(of(Some(malformed.as_bytes()), ""), Credentials::Malformed), "{malformed}");
        }
        assert!(matches!(of(Some(b"Bearer \xff"), ""), Credentials::Malformed));
        for good in [format!("bearer {token}"), format!("BEARER   {token} ")] {
            assert_eq!(namespace(&of(Some(good.as_bytes()), "")), Some("a"), "{good}");
        }
    }
}
