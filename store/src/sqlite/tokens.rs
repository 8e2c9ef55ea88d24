//! Tokens in the registry.

use std::sync::Arc;

use eventodb_protocol::Timestamp;
use eventodb_protocol::token::TokenHash;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use uuid::Uuid;

use super::registry::Registry;
use crate::error::{Error, Result};
use crate::model::{Incarnation, Rotation, TokenChange, TokenId, TokenRecord, TokensOf, stored_grant};

impl Registry {
    /// The token with this hash, of the living namespace of that name.
    pub(super) fn token(&self, namespace: &str, hash: &TokenHash) -> rusqlite::Result<Option<TokenRecord>> {
        self.connection()?
            .prepare_cached(include_str!("sql/registry_token.sql"))?
            .query_row(params![namespace, hash.as_bytes()], named_token)
            .optional()
    }

    /// The token of a living namespace with this id.
    pub(super) fn token_by_id(&self, id: TokenId) -> rusqlite::Result<Option<TokenRecord>> {
        by_id(&*self.connection()?, id)
    }

    /// All tokens of the living namespace of that name.
    pub(super) fn tokens(&self, namespace: &str) -> rusqlite::Result<Vec<TokenRecord>> {
        let connection = self.connection()?;
        match origin(&connection, namespace)? {
            Some(origin) => of_origin(&connection, origin, namespace),
            None => Ok(Vec::new()),
        }
    }

    /// Changes the tokens of a namespace.
    pub(super) fn change_tokens(&self, change: TokenChange) -> rusqlite::Result<Result<TokenRecord>> {
        let mut connection = self.connection()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let namespace = match &change {
            TokenChange::Create(new) | TokenChange::Recover(new) => Arc::clone(&new.namespace),
            TokenChange::Revoke(id) | TokenChange::Rotate(Rotation { from: id, .. }) => {
                match by_id(&transaction, *id)? {
                    Some(token) => token.namespace,
                    None => return Ok(Err(Error::TokenNotFound)),
                }
            }
        };
        let Some(origin) = origin(&transaction, &namespace)? else { return Ok(Err(Error::NamespaceNotFound)) };
        let tokens = of_origin(&transaction, origin, &namespace)?;
        let of = TokensOf { namespace, origin, tokens, now: Timestamp::now() };
        let decision = match change.decide(&of) {
            Ok(decision) => decision,
            Err(refused) => return Ok(Err(refused)),
        };
        for token in &decision.save {
            save(&transaction, token)?;
        }
        for id in &decision.forget {
            transaction.execute("DELETE FROM registry.tokens WHERE id = ?1", [id.0.as_bytes()])?;
        }
        self.living.expect(&decision.save);
        transaction.commit()?;
        self.living.saved(&decision.save);
        let forgotten = of.tokens.iter().filter(|token| decision.forget.contains(&token.id));
        self.living.gone(forgotten.map(|token| token.hash));
        Ok(Ok(decision.answer))
    }

    /// Which of these tokens are not revoked, and when they end because they were rotated.
    pub(super) fn living_tokens(&self, ids: &[TokenId]) -> rusqlite::Result<Vec<(TokenId, Option<Timestamp>)>> {
        let connection = self.connection()?;
        let mut living = Vec::with_capacity(ids.len());
        for id in ids {
            let token = by_id(&connection, *id)?.filter(|token| token.revoked_at.is_none());
            living.extend(token.map(|token| (token.id, token.ends_at)));
        }
        Ok(living)
    }

    /// Notes that these tokens were used in that hour.
    pub(super) fn note_used(&self, ids: &[TokenId], hour: Timestamp) -> rusqlite::Result<()> {
        let mut connection = self.marking()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut update = transaction.prepare_cached(include_str!("sql/registry_use_token.sql"))?;
            for id in ids {
                update.execute(params![id.0.as_bytes(), hour.as_micros()])?;
            }
        }
        transaction.commit()
    }
}

/// Adds a token, or changes when it ends.
pub(super) fn save(connection: &Connection, token: &TokenRecord) -> rusqlite::Result<()> {
    let values = params![
        token.id.0.as_bytes(),
        token.origin.0,
        token.hash.as_bytes(),
        token.description,
        token.grant.rights().bits(),
        token.categories(),
        token.created_at.as_micros(),
        micros(token.expires_at),
        micros(token.ends_at),
        micros(token.revoked_at),
        micros(token.last_used_at),
        token.rotated_from.map(|id| *id.0.as_bytes()),
    ];
    connection.prepare_cached(include_str!("sql/registry_save_token.sql"))?.execute(values)?;
    Ok(())
}

fn by_id(connection: &Connection, id: TokenId) -> rusqlite::Result<Option<TokenRecord>> {
    connection
        .prepare_cached(include_str!("sql/registry_token_by_id.sql"))?
        .query_row([id.0.as_bytes()], named_token)
        .optional()
}

/// The hashes of all tokens of an incarnation.
pub(super) fn hashes(connection: &Connection, incarnation: Incarnation) -> rusqlite::Result<Vec<TokenHash>> {
    let mut select = connection.prepare_cached(include_str!("sql/registry_hashes_of.sql"))?;
    select.query_map([incarnation.0], |row| row.get(0).map(TokenHash::from_bytes))?.collect()
}

/// All tokens of the namespace with this origin and name, oldest first.
pub(super) fn of_origin(
    connection: &Connection,
    origin: Incarnation,
    namespace: &str,
) -> rusqlite::Result<Vec<TokenRecord>> {
    let namespace = Arc::from(namespace);
    let mut select = connection.prepare_cached(include_str!("sql/registry_tokens.sql"))?;
    select.query_map([origin.0], |row| token(row, Arc::clone(&namespace)))?.collect()
}

fn origin(connection: &Connection, namespace: &str) -> rusqlite::Result<Option<Incarnation>> {
    let sql = "SELECT coalesce(origin, incarnation) FROM registry.namespaces WHERE name = ?1 AND deleted_at IS NULL";
    connection.prepare_cached(sql)?.query_row([namespace], |row| row.get(0).map(Incarnation)).optional()
}

fn id(bytes: [u8; 16]) -> TokenId {
    TokenId(Uuid::from_bytes(bytes))
}

fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_micros)
}

/// From every column, and the name of the namespace behind them.
fn named_token(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    token(row, row.get(12)?)
}

fn token(row: &Row<'_>, namespace: Arc<str>) -> rusqlite::Result<TokenRecord> {
    let time = |column| row.get(column).map(|micros: Option<i64>| micros.map(Timestamp::from_micros));
    Ok(TokenRecord {
        id: id(row.get(0)?),
        origin: Incarnation(row.get(1)?),
        hash: TokenHash::from_bytes(row.get(2)?),
        namespace,
        description: row.get(3)?,
        grant: stored_grant(row.get(4)?, row.get(5)?),
        created_at: Timestamp::from_micros(row.get(6)?),
        expires_at: time(7)?,
        ends_at: time(8)?,
        revoked_at: time(9)?,
        last_used_at: time(10)?,
        rotated_from: row.get::<_, Option<[u8; 16]>>(11)?.map(id),
    })
}
