//! Tokens in the registry.
//!
//! All changes of a namespace's tokens lock its row first, so that the rules are applied to what really is there. A
//! statement of its own reads the tokens afterwards: the statement that waits for the lock sees the tokens as they were
//! before it waited.

use std::sync::Arc;

use eventodb_protocol::Timestamp;
use eventodb_protocol::token::TokenHash;
use tokio_postgres::Row;
use uuid::Uuid;

use super::change::{Change, confirmed};
use super::connection::{Connection, Parameters};
use super::error::Failure;
use super::registry::can_be_stored;
use super::statement::{
    ADOPT_TOKEN, ADOPTABLE, DROP_TOKENS, LIVING_TOKENS, LOCK_ADOPTABLE, LOCK_TOKENS, SAVE_TOKEN, SHOW_TOKEN,
    TOKEN_BY_ID, TOKENS, TOKENS_BY_HASH, USE_TOKENS,
};
use super::time::Time;
use crate::error::Error;
use crate::model::{Decision, Incarnation, TokenChange, TokenId, TokenRecord, TokensOf, stored_grant};

/// What servers of earlier versions see if a namespace has no token that they could know. No token has this hash.
const NO_HASH: [u8; 32] = [0; 32];
/// The column behind those of a token that says which of the hashes is meant.
const PLACE: usize = 13;

/// Why tokens were not changed.
#[derive(Debug)]
pub(super) enum NotChanged {
    /// A rule forbids it, or there is nothing to change.
    Refused(Error),
    /// A statement failed.
    Failed(Failure),
}

impl From<Failure> for NotChanged {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<NotChanged> for Error {
    fn from(not_changed: NotChanged) -> Self {
        match not_changed {
            NotChanged::Refused(error) => error,
            NotChanged::Failed(failure) => failure.of_change(),
        }
    }
}

/// The token with each of these hashes, of the living namespace whose name is at the same place.
pub(super) async fn by_hashes(
    connection: &mut Connection,
    namespaces: &[&str],
    hashes: &[&[u8]],
) -> Result<Vec<Option<TokenRecord>>, Failure> {
    let mut found: Vec<Option<TokenRecord>> = hashes.iter().map(|_| None).collect();
    let each = |row: Row| {
        let place = usize::try_from(row.get::<_, i64>(PLACE)).expect("places are counted from 1");
        found[place - 1] = Some(to_token(&row));
    };
    connection.for_each(TOKENS_BY_HASH.on_registry(), &[&namespaces, &hashes], each).await?;
    Ok(found)
}

/// The token of a living namespace with this id.
pub(super) async fn by_id(connection: &mut Connection, id: TokenId) -> Result<Option<TokenRecord>, Failure> {
    Ok(connection.query_one(TOKEN_BY_ID.on_registry(), &[&id.0]).await?.map(|row| to_token(&row)))
}

/// All tokens of the living namespace of that name.
pub(super) async fn all(connection: &mut Connection, namespace: &str) -> Result<Vec<TokenRecord>, Failure> {
    if !can_be_stored(namespace) {
        return Ok(Vec::new());
    }
    Ok(connection.query(TOKENS.on_registry(), &[&namespace]).await?.iter().map(to_token).collect())
}

/// Which of these tokens are not revoked, and when they end because they were rotated.
pub(super) async fn living(
    connection: &mut Connection,
    ids: &[TokenId],
) -> Result<Vec<(TokenId, Option<Timestamp>)>, Failure> {
    let rows = connection.query(LIVING_TOKENS.on_registry(), &[&uuids(ids)]).await?;
    Ok(rows.iter().map(|row| (TokenId(row.get(0)), time(row, 1))).collect())
}

/// Notes that these tokens were used in that hour.
pub(super) async fn note_used(connection: &mut Connection, ids: &[TokenId], hour: Timestamp) -> Result<(), Failure> {
    connection.query(USE_TOKENS.on_registry(), &[&uuids(ids), &Time(hour)]).await?;
    Ok(())
}

/// Changes the tokens of a namespace.
pub(super) async fn change(connection: &mut Connection, change: TokenChange) -> Result<TokenRecord, NotChanged> {
    let namespace = match &change {
        TokenChange::Create(new) | TokenChange::Recover(new) => Arc::clone(&new.namespace),
        TokenChange::Revoke(id) | TokenChange::Rotate(crate::model::Rotation { from: id, .. }) => {
            by_id(connection, *id).await?.ok_or(NotChanged::Refused(Error::TokenNotFound))?.namespace
        }
    };
    let mut transaction = Change::begin(connection).await?;
    let decision = match lock(&mut transaction, &namespace).await? {
        Some(tokens) => change.decide(&tokens),
        None => Err(Error::NamespaceNotFound),
    };
    let decision = match decision {
        Ok(decision) if !decision.save.is_empty() => decision,
        unchanged => {
            transaction.undo().await?;
            return unchanged.map(|decision| decision.answer).map_err(NotChanged::Refused);
        }
    };
    write(&mut transaction, &decision).await?;
    transaction.commit().await?;
    // A repeated rotation answers with a token that it did not write; so the first written one is looked for.
    let written = decision.save.first().expect("a change without any was undone");
    let found = by_id(connection, written.id).await;
    confirmed(found.map(|found| found.filter(|found| has(found, written))))?;
    Ok(decision.answer)
}

/// Whether a token is there as it was written. It may have ended since, or end sooner.
fn has(found: &TokenRecord, written: &TokenRecord) -> bool {
    let ends_in_time = |end| found.end().is_some_and(|found| found <= end);
    found.hash == written.hash && written.end().is_none_or(ends_in_time)
}

/// Takes over the tokens that servers of earlier versions noted: those are in the rows of their namespaces alone.
pub(super) async fn adopt(connection: &mut Connection) -> Result<(), Failure> {
    for row in connection.query(ADOPTABLE.on_registry(), &[]).await? {
        adopt_one(connection, row.get(0), row.get(1), row.get(2)).await?;
    }
    Ok(())
}

/// Takes over one token, unless it was revoked and forgotten since it was found.
async fn adopt_one(connection: &mut Connection, origin: i64, hash: Vec<u8>, created_at: Time) -> Result<(), Failure> {
    let mut change = Change::begin(connection).await?;
    if change.query_one(LOCK_ADOPTABLE.on_registry(), &[&origin, &hash]).await?.is_none() {
        return change.undo().await;
    }
    let values: Parameters<'_> = &[&TokenId::generate().0, &origin, &hash, &created_at];
    change.query(ADOPT_TOKEN.on_registry(), values).await?;
    change.commit().await
}

/// Locks the tokens of the living namespace of that name.
async fn lock(change: &mut Change<'_>, namespace: &Arc<str>) -> Result<Option<TokensOf>, Failure> {
    if !can_be_stored(namespace) {
        return Ok(None);
    }
    let mut locked = change.query_one(LOCK_TOKENS.on_registry(), &[&&**namespace]).await?;
    if locked.is_none() {
        // A replacement may have taken the place of the row that the first attempt waited for.
        locked = change.query_one(LOCK_TOKENS.on_registry(), &[&&**namespace]).await?;
    }
    let Some(row) = locked else { return Ok(None) };
    // Asked behind the lock: a token that ended while this waited is decided on as ended.
    let now = change.time().await?.0;
    let tokens = change.query(TOKENS.on_registry(), &[&&**namespace]).await?.iter().map(to_token).collect();
    Ok(Some(TokensOf { namespace: Arc::clone(namespace), origin: Incarnation(row.get(0)), tokens, now }))
}

async fn write(change: &mut Change<'_>, decision: &Decision) -> Result<(), Failure> {
    for token in &decision.save {
        save(change, token).await?;
    }
    let shown = if decision.answer.end().is_none() && decision.answer.grant == eventodb_protocol::Grant::everything() {
        decision.answer.hash.as_bytes()
    } else {
        &NO_HASH
    };
    for ended in decision.save.iter().filter(|token| token.end().is_some()) {
        let values: Parameters<'_> = &[&&*ended.namespace, &&ended.hash.as_bytes()[..], &&shown[..]];
        change.query(SHOW_TOKEN.on_registry(), values).await?;
    }
    if !decision.forget.is_empty() {
        change.query(DROP_TOKENS.on_registry(), &[&uuids(&decision.forget)]).await?;
    }
    Ok(())
}

/// Adds a token, or changes when it ends.
pub(super) async fn save(change: &mut Change<'_>, token: &TokenRecord) -> Result<(), Failure> {
    let values: Parameters<'_> = &[
        &token.id.0,
        &token.origin.0,
        &&token.hash.as_bytes()[..],
        &token.description,
        &i16::from(token.grant.rights().bits()),
        &token.categories(),
        &Time(token.created_at),
        &token.expires_at.map(Time),
        &token.ends_at.map(Time),
        &token.revoked_at.map(Time),
        &token.last_used_at.map(Time),
        &token.rotated_from.map(|id| id.0),
    ];
    change.query(SAVE_TOKEN.on_registry(), values).await?;
    Ok(())
}

fn uuids(ids: &[TokenId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}

fn time(row: &Row, column: usize) -> Option<Timestamp> {
    row.get::<_, Option<Time>>(column).map(|time| time.0)
}

fn to_token(row: &Row) -> TokenRecord {
    TokenRecord {
        id: TokenId(row.get(0)),
        origin: Incarnation(row.get(1)),
        hash: TokenHash::from_bytes(row.get::<_, &[u8]>(2).try_into().expect("a SHA-256 has 32 bytes")),
        namespace: row.get::<_, &str>(3).into(),
        description: row.get(4),
        grant: stored_grant(row.get::<_, i16>(5).into(), row.get(6)),
        created_at: row.get::<_, Time>(7).0,
        expires_at: time(row, 8),
        ends_at: time(row, 9),
        revoked_at: time(row, 10),
        last_used_at: time(row, 11),
        rotated_from: row.get::<_, Option<Uuid>>(12).map(TokenId),
    }
}
