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
    /// The namespace of that name for which it may be created; `None` means the one that lives.
    pub origin: Option<Incarnation>,
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
    /// added by the same change already, nothing changes but that the other one may end sooner.
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
        if new.origin.is_some_and(|origin| origin != self.origin) {
            return Err(Error::NamespaceNotFound);
        }
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
            return if same { self.repeat(old, there, rotation.grace) } else { Err(Error::TokenExists) };
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
        let old = self.ending(old, rotation.grace)?;
        let mut decision = self.add(new, usize::from(!old.lives(self.now)))?;
        decision.save.push(old);
        Ok(decision)
    }

    /// Answers a rotation that was made before as it was answered then. The old token ends sooner if the grace is over
    /// sooner, and never later.
    fn repeat(&self, old: &TokenRecord, new: &TokenRecord, grace: Duration) -> Result<Decision> {
        let mut decision = Decision::nothing(new.clone());
        if old.lives(self.now) {
            let ending = self.ending(old, grace)?;
            decision.save.extend((ending != *old).then_some(ending));
        }
        Ok(decision)
    }

    /// A living token that ends after this grace, or sooner if it does so already.
    fn ending(&self, token: &TokenRecord, grace: Duration) -> Result<TokenRecord> {
        let mut token = token.clone();
        if grace.is_zero() {
            self.check_not_last(&token)?;
            token.revoked_at = Some(self.now);
        } else {
            let end = after(self.now, grace);
            token.ends_at = Some(token.ends_at.map_or(end, |earlier| earlier.min(end)));
        }
        Ok(token)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What somebody tries: the numbers choose a token.
    #[derive(Clone, Debug)]
    enum Try {
        Create { admin: bool, expires: bool },
        Revoke(usize),
        Rotate(usize, bool),
        Recover,
        Wait,
    }

    fn any_try() -> impl Strategy<Value = Try> {
        prop_oneof![
            4 => (any::<bool>(), any::<bool>()).prop_map(|(admin, expires)| Try::Create { admin, expires }),
            4 => any::<usize>().prop_map(Try::Revoke),
            4 => (any::<usize>(), any::<bool>()).prop_map(|(at, grace)| Try::Rotate(at, grace)),
            1 => Just(Try::Recover),
            2 => Just(Try::Wait),
        ]
    }

    const GRACE: Duration = Duration::from_secs(10);

    struct Namespace {
        of: TokensOf,
        made: u64,
    }

    impl Namespace {
        fn new(name: &str) -> Self {
            let now = Timestamp::from_micros(0);
            let first = TokenRecord::first(name.into(), Incarnation(1), hash(0), now);
            let of = TokensOf { namespace: name.into(), origin: Incarnation(1), tokens: vec![first], now };
            Self { of, made: 1 }
        }

        fn change(&mut self, tried: &Try) -> Option<TokenChange> {
            self.made += 1;
            let (id, hash) = (TokenId::generate(), hash(self.made));
            let new = |grant, expires_at| NewToken {
                id,
                hash,
                namespace: Arc::clone(&self.of.namespace),
                origin: None,
                description: String::new(),
                grant,
                expires_at,
            };
            let at = |at: usize| self.of.tokens[at % self.of.tokens.len()].id;
            Some(match *tried {
                Try::Create { admin, expires } => {
                    let right = if admin { Right::Admin } else { Right::Read };
                    let grant = Grant::new([right].into_iter().collect(), Categories::All).expect("good rights");
                    TokenChange::Create(new(grant, expires.then(|| after(self.of.now, GRACE))))
                }
                Try::Revoke(token) => TokenChange::Revoke(at(token)),
                Try::Rotate(token, has_grace) => {
                    let grace = if has_grace { GRACE } else { Duration::ZERO };
                    TokenChange::Rotate(Rotation { from: at(token), id, hash, grace })
                }
                Try::Recover => TokenChange::Recover(new(Grant::everything(), None)),
                Try::Wait => return None,
            })
        }

        fn write(&mut self, decision: Decision) {
            for saved in decision.save {
                match self.of.tokens.iter_mut().find(|token| token.id == saved.id) {
                    Some(token) => *token = saved,
                    None => self.of.tokens.push(saved),
                }
            }
            self.of.tokens.retain(|token| !decision.forget.contains(&token.id));
        }

        fn ended(&self) -> Vec<TokenId> {
            self.of.tokens.iter().filter(|token| !token.lives(self.of.now)).map(|token| token.id).collect()
        }
    }

    fn hash(number: u64) -> TokenHash {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        TokenHash::from_bytes(bytes)
    }

    proptest! {
        #[test]
        fn whatever_is_tried_the_rules_hold(tries in prop::collection::vec(any_try(), 1..300)) {
            let mut namespace = Namespace::new(DEFAULT_NAMESPACE);
            for tried in &tries {
                let ended = namespace.ended();
                let Some(change) = namespace.change(tried) else {
                    namespace.of.now = after(namespace.of.now, Duration::from_secs(3));
                    continue;
                };
                if let Ok(decision) = change.clone().decide(&namespace.of) {
                    let answer = decision.answer.clone();
                    namespace.write(decision);
                    let again = change.clone().decide(&namespace.of);
                    // Recovering twice is two recoveries.
                    if !matches!(change, TokenChange::Recover(_)) {
                        let again = again.expect("it was done before");
                        prop_assert_eq!(&again.answer, &answer);
                        prop_assert!(again.save.is_empty(), "{:?}", again);
                    }
                }
                let of = &namespace.of;
                prop_assert!(of.tokens.iter().any(TokenRecord::is_lasting_admin), "nobody can administer");
                let living = of.tokens.iter().filter(|token| token.lives(of.now)).count();
                prop_assert!(living <= TOKENS + 1, "{living}");
                prop_assert!(of.tokens.len() - living <= ENDED_TOKENS + TOKENS, "{}", of.tokens.len());
                for id in ended {
                    let revived = of.tokens.iter().any(|token| token.id == id && token.lives(of.now));
                    prop_assert!(!revived, "an ended token is good again");
                }
            }
        }

        #[test]
        fn a_grant_comes_back_as_it_was_stored(names in prop::collection::btree_set("[a-z_ü]{1,5}\\*?", 0..5)) {
            let limits = eventodb_protocol::Limits::default();
            let categories = Categories::only(names, &limits).unwrap_or(Categories::All);
            let grant = Grant::new([Right::Read].into_iter().collect(), categories).expect("good rights");
            let record = TokenRecord {
                grant: grant.clone(),
                ..TokenRecord::first("n".into(), Incarnation(1), hash(0), Timestamp::default())
            };
            prop_assert_eq!(stored_grant(record.grant.rights().bits().into(), record.categories()), grant);
        }
    }
}
