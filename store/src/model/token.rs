//! Tokens of a namespace, and the rules by which they change.
//!
//! A change is decided on all tokens that the namespace has, while the backend keeps others from changing them. The
//! rules are therefore the same on every backend.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::limits::TOKENS;
use eventodb_protocol::rights::{Categories, Grant, Right, Rights};
use eventodb_protocol::token::TokenHash;
use eventodb_protocol::{DEFAULT_NAMESPACE, Timestamp};
use uuid::Uuid;

use super::Incarnation;
use crate::error::{Error, Result};

/// Tokens of a namespace that have ended and are still known, so that revoking one again tells when it ended.
const ENDED_TOKENS: usize = 100;

/// The public name of a token. It opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub Uuid);

impl TokenId {
    /// A new one, of version 7.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

/// A token as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its public name.
    pub id: TokenId,
    /// SHA-256 of the token.
    pub hash: TokenHash,
    /// Name of its namespace.
    pub namespace: Arc<str>,
    /// The incarnation with which its namespace was created: a later namespace of the same name has another.
    pub origin: Incarnation,
    /// Free text.
    pub description: String,
    /// What it allows.
    pub grant: Grant,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires, as its creator wanted it.
    pub expires_at: Option<Timestamp>,
    /// When it ends because it was rotated.
    pub ends_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The hour in which it was last used.
    pub last_used_at: Option<Timestamp>,
    /// The token in whose place it came.
    pub rotated_from: Option<TokenId>,
}

/// A token to be created.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its public name.
    pub id: TokenId,
    /// SHA-256 of the token.
    pub hash: TokenHash,
    /// Name of its namespace.
    pub namespace: Arc<str>,
    /// Free text; empty where none was given.
    pub description: String,
    /// What it allows.
    pub grant: Grant,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
}

/// A token that is to take the place of another.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The one that ends.
    pub from: TokenId,
    /// The public name of the new one.
    pub id: TokenId,
    /// SHA-256 of the new one.
    pub hash: TokenHash,
    /// How long the old one still opens its namespace.
    pub grace: Duration,
}

/// A change of a namespace's tokens.
#[derive(Clone, Debug)]
pub enum TokenChange {
    /// Adds one. If there is one with that hash and the same rights, categories and expiry already, nothing changes.
    Create(NewToken),
    /// Ends one at once. If it has ended already, nothing changes.
    Revoke(TokenId),
    /// Adds one with the rights, categories, description and expiry of another, which ends after the grace. If it was
    /// added by the same change already, nothing changes.
    Rotate(Rotation),
    /// Adds one, and ends all others with the right `admin` at once: the administrator's token was lost.
    Recover(NewToken),
}

/// What a change does to the registry.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    /// The token that was asked about, as it is now.
    pub(crate) answer: TokenRecord,
    /// Tokens to be added, or to be changed in when they end.
    pub(crate) save: Vec<TokenRecord>,
    /// Tokens to be forgotten.
    pub(crate) forget: Vec<TokenId>,
}

/// The namespace whose tokens are changed, as it is locked.
#[derive(Clone, Debug)]
pub(crate) struct TokensOf {
    pub(crate) namespace: Arc<str>,
    pub(crate) origin: Incarnation,
    /// Every token that is known, living or not.
    pub(crate) tokens: Vec<TokenRecord>,
    pub(crate) now: Timestamp,
}

impl TokenRecord {
    /// The first token of a namespace: it has every right.
    pub(crate) fn first(namespace: Arc<str>, origin: Incarnation, hash: TokenHash, created_at: Timestamp) -> Self {
        Self {
            id: TokenId::generate(),
            hash,
            namespace,
            origin,
            description: String::new(),
            grant: Grant::everything(),
            created_at,
            expires_at: None,
            ends_at: None,
            revoked_at: None,
            last_used_at: None,
            rotated_from: None,
        }
    }

    /// The first moment at which it opens nothing any more; `None` if it stays until it is revoked.
    pub fn end(&self) -> Option<Timestamp> {
        [self.revoked_at, self.ends_at, self.expires_at].into_iter().flatten().min()
    }

    /// Whether it opens its namespace at this time. A revoked one does not at any time.
    pub fn lives(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.end().is_none_or(|end| now < end)
    }

    /// Whether it has `admin` for as long as nobody changes it.
    fn is_lasting_admin(&self) -> bool {
        self.grant.rights().has(Right::Admin) && self.end().is_none()
    }

    /// Its categories as a text with one name a line; `None` if it has all.
    pub(crate) fn categories(&self) -> Option<String> {
        self.grant.categories().names().map(|names| names.join("\n"))
    }
}

/// The grant of a token as a backend keeps it.
pub(crate) fn stored_grant(rights: i64, categories: Option<String>) -> Grant {
    let categories = match categories {
        None => Categories::All,
        Some(names) => Categories::Only(names.lines().map(Box::from).collect()),
    };
    // A number that does not fit gives no right.
    Grant::stored(Rights::from_bits(u8::try_from(rights).unwrap_or(0)), categories)
}

impl TokenChange {
    /// What to do about this change.
    ///
    /// # Errors
    /// [`Error::TokenNotFound`], [`Error::TokenExists`], [`Error::TooManyTokens`], [`Error::LastAdministrator`].
    pub(crate) fn decide(self, of: &TokensOf) -> Result<Decision> {
        match self {
            Self::Create(new) => of.create(&new),
            Self::Revoke(id) => of.revoke(id),
            Self::Rotate(rotation) => of.rotate(&rotation),
            Self::Recover(new) => of.recover(&new),
        }
    }
}

impl Decision {
    fn nothing(answer: TokenRecord) -> Self {
        Self { answer, save: Vec::new(), forget: Vec::new() }
    }
}

impl TokensOf {
    fn create(&self, new: &NewToken) -> Result<Decision> {
        if let Some(there) = self.with_hash(&new.hash) {
            let same = there.grant == new.grant && there.expires_at == new.expires_at && there.lives(self.now);
            return if same { Ok(Decision::nothing(there.clone())) } else { Err(Error::TokenExists) };
        }
        self.add(self.record(new), 0)
    }

    fn revoke(&self, id: TokenId) -> Result<Decision> {
        let token = self.with_id(id)?;
        if !token.lives(self.now) {
            let revoked_at = token.end();
            return Ok(Decision::nothing(TokenRecord { revoked_at, ..token.clone() }));
        }
        self.check_not_last(token)?;
        let revoked = TokenRecord { revoked_at: Some(self.now), ..token.clone() };
        Ok(Decision { answer: revoked.clone(), save: vec![revoked], forget: self.long_ended() })
    }

    fn rotate(&self, rotation: &Rotation) -> Result<Decision> {
        let old = self.with_id(rotation.from)?;
        if let Some(there) = self.with_hash(&rotation.hash) {
            let same = there.rotated_from == Some(rotation.from) && there.lives(self.now);
            return if same { Ok(Decision::nothing(there.clone())) } else { Err(Error::TokenExists) };
        }
        if !old.lives(self.now) {
            return Err(Error::TokenNotFound);
        }
        let new = TokenRecord {
            id: rotation.id,
            hash: rotation.hash,
            created_at: self.now,
            ends_at: None,
            last_used_at: None,
            rotated_from: Some(old.id),
            ..old.clone()
        };
        let mut old = old.clone();
        if rotation.grace.is_zero() {
            self.check_not_last(&old)?;
            old.revoked_at = Some(self.now);
        } else {
            let end = after(self.now, rotation.grace);
            old.ends_at = Some(old.ends_at.map_or(end, |earlier| earlier.min(end)));
        }
        let mut decision = self.add(new, usize::from(!old.lives(self.now)))?;
        decision.save.push(old);
        Ok(decision)
    }

    fn recover(&self, new: &NewToken) -> Result<Decision> {
        let admins = self.tokens.iter().filter(|token| token.lives(self.now) && token.grant.rights().has(Right::Admin));
        let ended: Vec<_> = admins.map(|token| TokenRecord { revoked_at: Some(self.now), ..token.clone() }).collect();
        // The bound on their number does not hold here: otherwise whoever may create tokens could prevent it.
        let answer = self.record(new);
        let save = std::iter::once(answer.clone()).chain(ended).collect();
        Ok(Decision { answer, save, forget: self.long_ended() })
    }

    /// Adds a token while this number of others end.
    fn add(&self, token: TokenRecord, ending: usize) -> Result<Decision> {
        let living = self.tokens.iter().filter(|token| token.lives(self.now)).count();
        if living.saturating_sub(ending) >= TOKENS {
            return Err(Error::TooManyTokens);
        }
        Ok(Decision { answer: token.clone(), save: vec![token], forget: self.long_ended() })
    }

    /// Those that ended first, beyond a bound.
    fn long_ended(&self) -> Vec<TokenId> {
        let mut ended: Vec<_> = self.tokens.iter().filter(|token| !token.lives(self.now)).collect();
        ended.sort_unstable_by_key(|token| std::cmp::Reverse((token.end(), token.id)));
        ended.into_iter().skip(ENDED_TOKENS).map(|token| token.id).collect()
    }

    fn check_not_last(&self, ending: &TokenRecord) -> Result<()> {
        let is_needed = &*self.namespace == DEFAULT_NAMESPACE && ending.is_lasting_admin();
        let another = || self.tokens.iter().any(|token| token.id != ending.id && token.is_lasting_admin());
        if is_needed && !another() { Err(Error::LastAdministrator) } else { Ok(()) }
    }

    fn with_id(&self, id: TokenId) -> Result<&TokenRecord> {
        self.tokens.iter().find(|token| token.id == id).ok_or(Error::TokenNotFound)
    }

    fn with_hash(&self, hash: &TokenHash) -> Option<&TokenRecord> {
        self.tokens.iter().find(|token| token.hash == *hash)
    }

    fn record(&self, new: &NewToken) -> TokenRecord {
        TokenRecord {
            id: new.id,
            hash: new.hash,
            namespace: Arc::clone(&self.namespace),
            origin: self.origin,
            description: new.description.clone(),
            grant: new.grant.clone(),
            created_at: self.now,
            expires_at: new.expires_at,
            ends_at: None,
            revoked_at: None,
            last_used_at: None,
            rotated_from: None,
        }
    }
}

fn after(time: Timestamp, pause: Duration) -> Timestamp {
    let micros = i64::try_from(pause.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(time.as_micros().saturating_add(micros))
}
