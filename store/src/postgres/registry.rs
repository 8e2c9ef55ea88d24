//! The registry of namespaces.

use eventodb_protocol::Timestamp;
use eventodb_protocol::token::TokenHash;
use tokio_postgres::Row;
use uuid::Uuid;

use super::connection::Connection;
use super::error::Failure;
use super::statement::{
    CREATE, DELETE, EXISTS, LOCK_LOG, NAMESPACE, NAMESPACES, SET_TOKEN, TOKEN_HASH, TOMBSTONE, schema,
};
use super::time::Time;
use crate::model::{Incarnation, Namespace, NewNamespace};

/// The living namespace of that name.
pub(super) async fn namespace(connection: &mut Connection, name: &str) -> Result<Option<Namespace>, Failure> {
    if !can_be_stored(name) {
        return Ok(None);
    }
    Ok(connection.query_one(NAMESPACE.on_registry(), &[&name]).await?.map(|row| to_namespace(&row)))
}

/// The hash of the living namespace's token.
pub(super) async fn token_hash(connection: &mut Connection, name: &str) -> Result<Option<TokenHash>, Failure> {
    if !can_be_stored(name) {
        return Ok(None);
    }
    Ok(connection.query_one(TOKEN_HASH.on_registry(), &[&name]).await?.map(|row| to_token_hash(&row, 0)))
}

/// Whether a name can be one here: PostgreSQL refuses a text with U+0000, which a token may name all the same.
fn can_be_stored(name: &str) -> bool {
    !name.contains('\0')
}

/// All living namespaces, by name.
pub(super) async fn namespaces(connection: &mut Connection) -> Result<Vec<Namespace>, Failure> {
    let mut all = Vec::new();
    connection.for_each(NAMESPACES.on_registry(), &[], |row| all.push(to_namespace(&row))).await?;
    Ok(all)
}

/// Creates a namespace; `None` if there is one of that name.
pub(super) async fn create(connection: &mut Connection, new: &NewNamespace) -> Result<Option<Namespace>, Failure> {
    let hash = &new.token_hash.as_bytes()[..];
    let row = connection.query_one(CREATE.on_registry(), &[&new.name, &hash, &new.description, &new.metadata]).await?;
    Ok(row.map(|row| to_namespace(&row)))
}

/// Deletes an incarnation; `None` if it was deleted before.
pub(super) async fn delete(
    connection: &mut Connection,
    incarnation: Incarnation,
) -> Result<Option<Timestamp>, Failure> {
    connection.begin().await?;
    let deleted_at = end(connection, incarnation).await?;
    connection.commit().await?;
    Ok(deleted_at)
}

/// Gives a namespace another token. Returns whether there is such a namespace.
pub(super) async fn set_token(connection: &mut Connection, name: &str, hash: &TokenHash) -> Result<bool, Failure> {
    let row = connection.query_one(SET_TOKEN.on_registry(), &[&name, &&hash.as_bytes()[..]]).await?;
    Ok(row.is_some())
}

/// Marks an incarnation deleted and puts a batch into its log that no batch can follow. An append that is under way
/// happens before it or not at all.
async fn end(connection: &mut Connection, incarnation: Incarnation) -> Result<Option<Timestamp>, Failure> {
    // The row is locked first, which also keeps the log's schema from being made meanwhile.
    let Some(row) = connection.query_one(DELETE.on_registry(), &[&incarnation.0]).await? else { return Ok(None) };
    let deleted_at: Time = row.get(0);
    let (schema, table) = (schema(incarnation), "batches");
    if connection.query_one(EXISTS.on_registry(), &[&schema, &table]).await?.is_some_and(|row| row.get(0)) {
        connection.query(LOCK_LOG.on(incarnation), &[]).await?;
        connection.query(TOMBSTONE.on(incarnation), &[&Uuid::new_v4()]).await?;
    }
    Ok(Some(deleted_at.0))
}

pub(super) fn to_namespace(row: &Row) -> Namespace {
    let created_at: Time = row.get(4);
    Namespace {
        incarnation: Incarnation(row.get(0)),
        name: row.get::<_, &str>(1).into(),
        token_hash: to_token_hash(row, 2),
        description: row.get(3),
        created_at: created_at.0,
    }
}

fn to_token_hash(row: &Row, column: usize) -> TokenHash {
    TokenHash::from_bytes(row.get::<_, &[u8]>(column).try_into().expect("a SHA-256 has 32 bytes"))
}
