//! The hashes of the tokens that live, in memory, so that a wrong token costs neither a query nor another thread.
//!
//! The data directory is locked: nobody but this process changes the registry. A token whose hash is not here is
//! therefore wrong, be it unknown, revoked, expired, or of a namespace that is gone, and each of these costs the same
//! lookup. There are as many entries as living tokens, of which a namespace has a bounded number, and each takes less
//! than 100 bytes.
//!
//! **Invariant:** every token that lives in the registry has an entry, with no earlier end. Therefore a token enters before the
//! commit that makes it, and leaves after the commit that ends it: if the outcome of a commit is unknown, an entry too
//! many costs a query.

use std::collections::HashMap;

use eventodb_protocol::Timestamp;
use eventodb_protocol::token::TokenHash;
use foldhash::fast::RandomState;
use parking_lot::RwLock;
use rusqlite::Connection;

use crate::model::TokenRecord;

/// Stands for no end.
const NEVER: i64 = i64::MAX;

/// The hash of each living token, and when the token ends by itself, in microseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct LivingHashes(RwLock<HashMap<TokenHash, i64, RandomState>>);

impl LivingHashes {
    /// Reads all of them from the registry.
    pub(super) fn read(&self, registry: &Connection) -> rusqlite::Result<()> {
        let mut select = registry.prepare(include_str!("sql/registry_living_hashes.sql"))?;
        let living = select.query_map([NEVER], |row| Ok((TokenHash::from_bytes(row.get(0)?), row.get(1)?)))?;
        *self.0.write() = living.collect::<rusqlite::Result<_>>()?;
        Ok(())
    }

    /// Whether a token with this hash may live. If not, it is certainly wrong.
    pub(super) fn may_have(&self, hash: &TokenHash) -> bool {
        let end = self.0.read().get(hash).copied();
        end.is_some_and(|end| end == NEVER || Timestamp::now().as_micros() < end)
    }

    /// These tokens are about to be saved.
    pub(super) fn expect(&self, tokens: &[TokenRecord]) {
        let mut living = self.0.write();
        for token in tokens.iter().filter(|token| token.revoked_at.is_none()) {
            living.entry(token.hash).or_insert_with(|| end(token));
        }
    }

    /// These tokens are saved.
    pub(super) fn saved(&self, tokens: &[TokenRecord]) {
        let mut living = self.0.write();
        for token in tokens {
            if token.revoked_at.is_some() {
                living.remove(&token.hash);
            } else {
                living.insert(token.hash, end(token));
            }
        }
    }

    /// The tokens with these hashes are gone.
    pub(super) fn gone(&self, hashes: impl IntoIterator<Item = TokenHash>) {
        let mut living = self.0.write();
        for hash in hashes {
            living.remove(&hash);
        }
    }
}

/// When a token ends that is not revoked.
fn end(token: &TokenRecord) -> i64 {
    token.end().map_or(NEVER, Timestamp::as_micros)
}
