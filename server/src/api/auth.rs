//! The sender of a request, and the namespace that its token opens.
//!
//! In production mode a token opens its namespace, and grants rights there; a token of `default` with the right `admin` is
//! the administrator's. In test mode a token only names a namespace, which its first use creates, and every caller may do
//! everything. The store compares tokens, by their hashes.
//!
//! A method or a route gets a [`Caller`], a [`Manager`] or an [`Administrator`] only by saying which right it needs
//! ([`Need`]). What a right is limited to is checked by the `check_…` methods of the caller, once the request is parsed.

use std::sync::{Arc, LazyLock};

use eventodb_protocol::request::{Append, Check};
use eventodb_protocol::spelling::Shown;
use eventodb_protocol::{DEFAULT_NAMESPACE, ErrorCode, Grant, Right, Scope, Timestamp, Token, name};
use eventodb_store::model::{Meant, NewNamespace, TokenId};
use eventodb_store::{Access, Allowed, Error, Log};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request};
use tokio_util::sync::CancellationToken;

use crate::api::errors::Failure;
use crate::api::query::Query;
use crate::api::state::AppState;
use crate::http::Exchange;
use crate::observe::Record;

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

/// What a method or a route needs of the token that comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the token is not looked at.
    Nothing,
    /// This right, in the token's own namespace.
    Own(Right),
    /// This right in the namespace that the call names, which only the administrator has in others than its own.
    Named(Right),
    /// The administrator's token.
    Administrator,
}

impl Need {
    /// Whether it is the right `admin`.
    pub(super) const fn is_administrative(self) -> bool {
        matches!(self, Self::Own(Right::Admin) | Self::Named(Right::Admin) | Self::Administrator)
    }
}

/// The sender of a request, and the namespace that it opened.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Opened);

#[derive(Clone, Debug)]
enum Opened {
    /// By a good token.
    ByToken(Arc<Access>),
    /// In test mode.
    Freely(Arc<Log>),
}

/// What a caller may do in test mode.
static EVERYTHING: Grant = Grant::everything();
/// The end of every caller's token in test mode.
static NEVER: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

/// A caller that may see or change namespaces: its own, or all of them if it is the administrator.
#[derive(Clone, Debug)]
pub(crate) struct Manager(Option<Caller>);

/// The administrator; everybody in test mode, where it is nobody in particular.
#[derive(Clone, Debug)]
pub(crate) struct Administrator(Option<Caller>);

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

    /// The token, if it has the form of one.
    pub(crate) fn token(&self) -> Option<&Token> {
        match self {
            Self::Token(token) => Some(token),
            Self::None | Self::Malformed => None,
        }
    }

    fn from_token(token: &str) -> Self {
        token.parse().map_or(Self::Malformed, Self::Token)
    }
}

/// The token that a request shows, which is not checked yet.
pub(super) fn shown<B>(request: &Request<B>) -> Option<Token> {
    let query = Query::parse(request.uri().query(), &["token"]).ok()?;
    Credentials::of(request.headers(), &query).token().cloned()
}

impl Caller {
    /// The caller with this right in its own namespace, of whom `record` has the namespace and the token's id then. Its
    /// categories are not checked.
    ///
    /// # Errors
    /// As [`authorize`]; `AUTH_UNAUTHORIZED` if the token does not have the right.
    pub(crate) async fn with(
        right: Right,
        state: &AppState,
        credentials: &Credentials,
        record: &mut Record,
    ) -> Result<Self, Failure> {
        let caller = authorize(state, credentials).await?;
        caller.enter(record);
        if caller.grant().rights().has(right) { Ok(caller) } else { Err(lacks(right)) }
    }

    fn enter(&self, record: &mut Record) {
        record.namespace = Some(Arc::clone(self.namespace()));
        record.token_id = self.token_id();
    }

    /// The log of the caller's namespace.
    pub(crate) fn log(&self) -> &Arc<Log> {
        match &self.0 {
            Opened::ByToken(access) => access.log(),
            Opened::Freely(log) => log,
        }
    }

    /// The caller's namespace.
    pub(crate) fn namespace(&self) -> &Arc<str> {
        &self.log().namespace().name
    }

    /// What the caller may do in its namespace.
    pub(crate) fn grant(&self) -> &Grant {
        match &self.0 {
            Opened::ByToken(access) => access.grant(),
            Opened::Freely(_) => &EVERYTHING,
        }
    }

    /// The public name of the caller's token; `None` in test mode, where no token need be known.
    pub(crate) fn token_id(&self) -> Option<TokenId> {
        match &self.0 {
            Opened::ByToken(access) => Some(access.token_id()),
            Opened::Freely(_) => None,
        }
    }

    /// The end of the caller's token: what it has opened ends then. In test mode no token ends.
    fn end(&self) -> &CancellationToken {
        match &self.0 {
            Opened::ByToken(access) => access.ended(),
            Opened::Freely(_) => &NEVER,
        }
    }

    /// Waits for the end of the caller's token.
    pub(crate) async fn ended(&self) {
        self.end().cancelled().await;
    }

    /// Counts a request, and its connection, to the caller's namespace.
    ///
    /// # Errors
    /// `OVERLOADED` if the namespace has no memory left for the connection.
    pub(crate) fn answers_for(&self, exchange: &Exchange) -> Result<(), Failure> {
        Ok(exchange.belongs_to(self.namespace(), self.end())?)
    }

    /// Asks the registry whether the caller's token still lives, before the caller makes another token. This server may not
    /// know of a revocation yet, and a token that is made in that moment would outlive it.
    ///
    /// # Errors
    /// `AUTH_UNAUTHORIZED`, or the store's.
    pub(crate) async fn confirm(&self, state: &AppState) -> Result<(), Failure> {
        let Some(id) = self.token_id() else { return Ok(()) };
        let found = state.store.token(id).await?;
        if found.is_some_and(|token| token.lives(Timestamp::now())) { Ok(()) } else { Err(ended()) }
    }

    /// Whether the caller's token has ended meanwhile.
    pub(crate) fn has_ended(&self) -> bool {
        self.end().is_cancelled()
    }

    /// Checks that the caller's rights are ones to this namespace: its own, or any if it is the administrator. Returns which
    /// namespace of that name they are to.
    pub(crate) fn check_namespace<'a>(&self, namespace: &'a str) -> Result<Meant<'a>, Failure> {
        let own = self.own();
        if own.name == namespace {
            return Ok(Meant { name: namespace, origin: own.origin });
        }
        if self.is_administrator() { Ok(namespace.into()) } else { Err(unauthorized()) }
    }

    /// The caller's namespace, and no later one of its name.
    pub(crate) fn own(&self) -> Meant<'_> {
        let origin = match &self.0 {
            Opened::ByToken(access) => Some(access.log().namespace().origin),
            Opened::Freely(_) => None,
        };
        Meant { name: self.namespace(), origin }
    }

    /// Checks that the right holds for all categories.
    ///
    /// # Errors
    /// `AUTH_UNAUTHORIZED`; so for all checks.
    pub(crate) fn check_everywhere(&self, right: Right) -> Result<(), Failure> {
        if self.grant().allows_everywhere(right) {
            return Ok(());
        }
        Err(self.refusal(right, || "and this needs it in all categories".to_owned()))
    }

    /// Checks that the right holds for the category of this stream.
    pub(crate) fn check_stream(&self, right: Right, stream: &str) -> Result<(), Failure> {
        self.check_category(right, name::category(stream))
    }

    /// Checks that the right holds for all categories of a scope.
    pub(crate) fn check_scope(&self, right: Right, scope: &Scope) -> Result<(), Failure> {
        match scope {
            Scope::All => self.check_everywhere(right),
            Scope::Stream(stream) => self.check_stream(right, stream),
            Scope::Categories(names) => names.iter().try_for_each(|name| self.check_category(right, name)),
        }
    }

    /// Checks that the right holds for these categories, and if there are none for all: a group that names no category reads
    /// all.
    pub(crate) fn check_categories<'a>(
        &self,
        right: Right,
        categories: impl IntoIterator<Item = &'a String, IntoIter: ExactSizeIterator>,
    ) -> Result<(), Failure> {
        let mut categories = categories.into_iter();
        match categories.len() {
            0 => self.check_everywhere(right),
            _ => categories.try_for_each(|category| self.check_category(right, category)),
        }
    }

    /// Checks that there is a group of this name, and that the right holds for all that it reads. The refusal names no category:
    /// who may not touch the group need not know what it reads. The call may touch what is returned.
    ///
    /// # Errors
    /// `AUTH_UNAUTHORIZED`, `GROUP_NOT_FOUND`.
    pub(crate) async fn check_group(&self, right: Right, group: &str) -> Result<Allowed, Failure> {
        let (grant, groups) = (self.grant(), self.log().groups());
        if !grant.rights().has(right) {
            return Err(lacks(right));
        }
        if grant.allows_everywhere(right) {
            groups.definition(group).await?;
            return Ok(Allowed::Any);
        }
        // What is remembered may be of a group that was deleted since. That would let a limited token into the next one of
        // its name.
        let definition = groups.definition_now(group).await?;
        let categories = &definition.categories;
        if !categories.is_empty() && categories.iter().all(|category| grant.allows(right, category)) {
            return Ok(Allowed::Only(definition));
        }
        Err(self.refusal(right, || "and the group reads others".to_owned()))
    }

    /// Checks that the caller may write to these streams, and read what is checked: a check that fails tells the version of
    /// its stream, or where a message is.
    pub(crate) fn check_append(&self, append: &Append) -> Result<(), Failure> {
        append.entries.iter().try_for_each(|entry| self.check_stream(Right::Write, &entry.stream))?;
        append.checks.iter().try_for_each(|check| match check {
            Check::Version { stream, .. } => self.check_stream(Right::Read, stream),
            Check::Condition(condition) => self.check_scope(Right::Read, &condition.matching.scope()),
        })
    }

    fn check_category(&self, right: Right, category: &str) -> Result<(), Failure> {
        if self.grant().allows(right, category) {
            return Ok(());
        }
        Err(self.refusal(right, || format!("which do not include {}", Shown(category))))
    }

    /// Says that the right is missing; or if it is there, that it is limited, and `why` that does not suffice.
    #[cold]
    fn refusal(&self, right: Right, why: impl FnOnce() -> String) -> Failure {
        if !self.grant().rights().has(right) {
            return lacks(right);
        }
        let message = format!("the token has the right {right} in some categories only, {}", why());
        Failure::new(ErrorCode::AuthUnauthorized, message)
    }

    /// Whether the caller is the administrator. In test mode everybody is.
    pub(crate) fn is_administrator(&self) -> bool {
        match &self.0 {
            Opened::ByToken(_) => **self.namespace() == *DEFAULT_NAMESPACE && self.grant().rights().has(Right::Admin),
            Opened::Freely(_) => true,
        }
    }
}

impl Manager {
    /// The caller with this right, before the namespace that it asks for is known. In test mode no namespace is opened,
    /// because that would create the one that the token names.
    ///
    /// # Errors
    /// As [`Caller::with`].
    pub(crate) async fn with(
        right: Right,
        state: &AppState,
        credentials: &Credentials,
        record: &mut Record,
    ) -> Result<Self, Failure> {
        if state.is_test_mode() {
            return Ok(Self(None));
        }
        Caller::with(right, state, credentials, record).await.map(|caller| Self(Some(caller)))
    }

    /// Checks that the caller's right is one to this namespace. Returns which namespace of that name it is to.
    ///
    /// # Errors
    /// `AUTH_UNAUTHORIZED`, whether there is such a namespace or not.
    pub(crate) fn check<'a>(&self, namespace: &'a str) -> Result<Meant<'a>, Failure> {
        self.0.as_ref().map_or(Ok(namespace.into()), |caller| caller.check_namespace(namespace))
    }

    /// Checks that the caller is the administrator.
    ///
    /// # Errors
    /// `AUTH_UNAUTHORIZED`.
    pub(crate) fn check_administrator(&self) -> Result<(), Failure> {
        if self.0.as_ref().is_none_or(Caller::is_administrator) { Ok(()) } else { Err(administrators_only()) }
    }
}

impl Administrator {
    /// Lets the administrator pass, and everybody in test mode.
    ///
    /// # Errors
    /// As [`authorize`]; `AUTH_UNAUTHORIZED` for every other token.
    pub(crate) async fn check(
        state: &AppState,
        credentials: &Credentials,
        record: &mut Record,
    ) -> Result<Self, Failure> {
        if state.is_test_mode() {
            return Ok(Self(None));
        }
        let caller = authorize(state, credentials).await?;
        caller.enter(record);
        if caller.is_administrator() { Ok(Self(Some(caller))) } else { Err(administrators_only()) }
    }

    /// As [`Caller::confirm`].
    pub(crate) async fn confirm(&self, state: &AppState) -> Result<(), Failure> {
        match &self.0 {
            Some(caller) => caller.confirm(state).await,
            None => Ok(()),
        }
    }
}

/// Opens the caller's namespace.
///
/// # Errors
/// `AUTH_REQUIRED`, `AUTH_INVALID_TOKEN`, `AUTH_UNAUTHORIZED`, or the store's.
async fn authorize(state: &AppState, credentials: &Credentials) -> Result<Caller, Failure> {
    if state.is_test_mode() {
        // Boxed, because requests in production mode would carry the room for it.
        return Ok(Caller(Opened::Freely(Box::pin(open_freely(state, credentials)).await?)));
    }
    let token = match credentials {
        Credentials::Token(token) => token,
        Credentials::None => return Err(Failure::new(ErrorCode::AuthRequired, "a token is required")),
        Credentials::Malformed => {
            let message = "a token is sent as Bearer and has the form ns_<base64url of the namespace>_<64 hex digits>";
            return Err(Failure::new(ErrorCode::AuthInvalidToken, message).of_wrong_token());
        }
    };
    let access = state.store.authorize(token).await?.ok_or_else(|| unauthorized().of_wrong_token())?;
    Ok(Caller(Opened::ByToken(access)))
}

/// Counts a request to the namespace of its token. In test mode the namespace need not be there yet.
///
/// # Errors
/// As [`authorize`] and [`Caller::answers_for`].
pub(crate) async fn identify(state: &AppState, credentials: &Credentials, exchange: &Exchange) -> Result<(), Failure> {
    let namespace = match credentials {
        _ if !state.is_test_mode() => return authorize(state, credentials).await?.answers_for(exchange),
        Credentials::Token(token) => token.namespace(),
        Credentials::None | Credentials::Malformed => DEFAULT_NAMESPACE,
    };
    Ok(exchange.belongs_to(&namespace.into(), &NEVER)?)
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
    state.check_takes_changes()?;
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

#[cold]
fn administrators_only() -> Failure {
    let message = "only the administrator's token, one of default with the right admin, allows this";
    Failure::new(ErrorCode::AuthUnauthorized, message)
}

#[cold]
fn lacks(right: Right) -> Failure {
    Failure::new(ErrorCode::AuthUnauthorized, format!("the token does not have the right {right}"))
}

/// What the store refuses about a namespace that is `meant`. If it is gone, the token of a caller of its own has ended with
/// it, and a new call would hear that.
pub(crate) fn refused(meant: Meant<'_>, error: Error) -> Failure {
    match error {
        Error::NamespaceNotFound if meant.origin.is_some() => ended(),
        error => error.into(),
    }
}

/// The token has ended since the call was let in.
pub(crate) fn ended() -> Failure {
    Failure::new(ErrorCode::AuthUnauthorized, "the token has ended meanwhile")
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
