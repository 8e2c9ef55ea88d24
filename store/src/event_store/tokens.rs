//! Tokens: what one opens, and changes of them.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use eventodb_protocol::token::TokenHash;
use eventodb_protocol::{Timestamp, Token};
use tokio_util::sync::CancellationToken;

use super::EventStore;
use super::access::Access;
use super::refused::Question;
use crate::error::{Chain, Error, Result};
use crate::model::{Meant, NewToken, Rotation, TokenChange, TokenId, TokenRecord};

/// How often it is looked whether it is time to look up the known tokens.
const WATCH_EVERY: Duration = Duration::from_millis(200);
/// The known tokens of a shared database are looked up if they were not for this long.
const LOOK_UP_AFTER: Duration = Duration::from_millis(700);
/// How long one attempt to look them up may take.
const ATTEMPT: Duration = Duration::from_millis(500);
/// How often the uses of tokens are noted.
const NOTE_USES: Duration = Duration::from_secs(60);
/// Tokens whose use is noted by one transaction.
const NOTE_AT_ONCE: usize = 1_000;
const HOUR: i64 = 3_600_000_000;

impl EventStore {
    /// What a token opens; `None` for an unknown namespace, for a wrong token, and for one that has ended alike.
    ///
    /// A token that was found good is good until its end, also while the registry does not answer. One that there was not
    /// may be refused for a quarter of a second after another server has made it, if that server's notification is late.
    pub async fn authorize(&self, token: &Token) -> Result<Option<Arc<Access>>> {
        let hash = token.hash();
        match self.tokens.get(&hash) {
            Some(access) => Ok(Some(access)),
            None => match self.refused.question(&hash) {
                Some(question) => self.ask_and_open(token, hash, question).await,
                None => Ok(None),
            },
        }
    }

    /// What a token opens that is not known yet.
    async fn ask_and_open(&self, token: &Token, hash: TokenHash, question: Question) -> Result<Option<Arc<Access>>> {
        match self.look_up(token, &hash).await? {
            // Boxed, because it is rare: all requests would carry the room for it.
            Some(record) => Box::pin(self.open_by(token, record)).await,
            None => {
                // Where nobody else makes tokens, asking costs nothing.
                if self.backend.is_shared() {
                    self.refused.add(hash, question);
                }
                Ok(None)
            }
        }
    }

    /// Opens the log of a good token that is not known yet, or whose log was closed.
    async fn open_by(&self, token: &Token, record: TokenRecord) -> Result<Option<Arc<Access>>> {
        let namespace = match self.backend.namespace(token.namespace()).await? {
            Some(namespace) if namespace.origin == record.origin => namespace,
            _ => return Ok(None),
        };
        let log = match self.log_of(namespace).await {
            Err(Error::NamespaceNotFound) => return Ok(None),
            log => log?,
        };
        let lookup = self.tokens.look_up(record.id, record.origin);
        // It may have ended while the log was opened. What ends it from here on is noted, or finds it.
        loop {
            let changes = lookup.changes();
            match self.living_token(token).await? {
                Some(again) if again.id == record.id => {
                    if let Some(access) = lookup.add(&again, &log, changes) {
                        return Ok(Some(access));
                    }
                }
                _ => {
                    self.tokens.end(record.id);
                    return Ok(None);
                }
            }
        }
    }

    /// The record of a token, if it lives. The namespace's storage need not be ready for that.
    pub async fn living_token(&self, token: &Token) -> Result<Option<TokenRecord>> {
        self.look_up(token, &token.hash()).await
    }

    async fn look_up(&self, token: &Token, hash: &TokenHash) -> Result<Option<TokenRecord>> {
        let found = self.backend.token(token.namespace(), hash).await?;
        Ok(found.filter(|found| found.lives(Timestamp::now())))
    }

    /// The token of this id, whether it lives or not, unless its namespace is gone.
    pub async fn token(&self, id: TokenId) -> Result<Option<TokenRecord>> {
        self.backend.token_by_id(id).await
    }

    /// The living tokens of a namespace, oldest first.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`].
    pub async fn tokens(&self, namespace: impl Into<Meant<'_>>) -> Result<Vec<TokenRecord>> {
        let meant = namespace.into();
        self.meant(meant).await?;
        let now = Timestamp::now();
        let mut tokens = self.backend.tokens(meant.name).await?;
        tokens.retain(|token| token.lives(now) && meant.admits(token.origin));
        Ok(tokens)
    }

    /// Creates a token. The same call again returns the same token.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`], [`crate::Error::TokenExists`], [`crate::Error::TooManyTokens`].
    pub async fn create_token(&self, new: NewToken) -> Result<TokenRecord> {
        let outcome = self.backend.change_tokens(TokenChange::Create(new)).await;
        self.refused.forget();
        outcome
    }

    /// Ends a token at once. Returns the token, which tells when it was revoked; the same call again returns the same.
    ///
    /// # Errors
    /// [`crate::Error::TokenNotFound`], [`crate::Error::LastAdministrator`].
    pub async fn revoke_token(&self, id: TokenId) -> Result<TokenRecord> {
        let outcome = self.backend.change_tokens(TokenChange::Revoke(id)).await;
        if matches!(outcome, Ok(_) | Err(Error::Unknown(_) | Error::TokenNotFound)) {
            // If it is still good, its next use finds that out.
            self.tokens.end(id);
        }
        outcome
    }

    /// Has a new token take the place of another, which ends after a grace. The same call again returns the same; with a
    /// grace that is over sooner, the other token ends sooner.
    ///
    /// # Errors
    /// [`crate::Error::TokenNotFound`], also for one that has ended; [`crate::Error::TokenExists`],
    /// [`crate::Error::TooManyTokens`], [`crate::Error::LastAdministrator`].
    pub async fn rotate_token(&self, rotation: Rotation) -> Result<TokenRecord> {
        let (from, grace) = (rotation.from, rotation.grace);
        let outcome = self.backend.change_tokens(TokenChange::Rotate(rotation)).await;
        self.refused.forget();
        if outcome.is_ok() || matches!(outcome, Err(Error::Unknown(_))) {
            match self.backend.token_by_id(from).await {
                Ok(Some(old)) if old.revoked_at.is_none() => self.tokens.end_at(from, old.end()),
                // Without a grace it has ended. If that is not known, its next use finds it out.
                Ok(_) => self.tokens.end(from),
                Err(_) if grace.is_zero() => self.tokens.end(from),
                Err(_) => {}
            }
        }
        outcome
    }

    /// Looks up anew all tokens that are known.
    pub(super) async fn refresh_tokens(&self) -> Result<()> {
        let (ids, began) = (self.tokens.ids(), Instant::now());
        if !ids.is_empty() {
            let living = self.backend.living_tokens(&ids).await?;
            self.tokens.keep(&ids, &living);
        }
        *self.tokens.looked_up.lock() = began;
        Ok(())
    }

    /// Notes which tokens were used in this hour. What cannot be noted now is noted the next time.
    pub(crate) async fn note_uses(&self) {
        let now = Timestamp::now().as_micros();
        let hour = Timestamp::from_micros(now - now.rem_euclid(HOUR));
        let used = self.tokens.take_used(hour);
        for ids in used.chunks(NOTE_AT_ONCE) {
            let outcome = self.backend.note_used(ids, hour).await;
            self.tokens.noted(ids, outcome.is_ok().then_some(hour));
            if let Err(error) = outcome {
                tracing::debug!(error = %Chain(&error), "cannot note that tokens were used");
            }
        }
    }
}

/// Looks up the known tokens anew if nobody has done so for a while. A database that is back after it did not answer is
/// asked soon: an attempt is given up long before the time limit of a statement.
pub(super) async fn watch(store: Weak<EventStore>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(WATCH_EVERY)).await.is_some() {
        let Some(store) = store.upgrade() else { return };
        if store.tokens.looked_up.lock().elapsed() < LOOK_UP_AFTER {
            continue;
        }
        let attempt = tokio::time::timeout(ATTEMPT, store.refresh_tokens());
        match stop.run_until_cancelled(attempt).await {
            None => return,
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => tracing::debug!(error = %Chain(&error), "cannot look up tokens anew"),
            Some(Err(_)) => tracing::debug!("looking up tokens anew takes too long"),
        }
    }
}

/// Ends each token when its time has come.
pub(super) async fn end_in_time(store: Weak<EventStore>, stop: CancellationToken) {
    let Some(tokens) = store.upgrade().map(|store| Arc::clone(&store.tokens)) else { return };
    stop.run_until_cancelled(tokens.end_in_time()).await;
}

/// Notes now and then which tokens were used.
pub(super) async fn note_uses(store: Weak<EventStore>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(NOTE_USES)).await.is_some() {
        let Some(store) = store.upgrade() else { return };
        store.note_uses().await;
    }
}
