//! The registry of namespaces; their tokens are in [`super::tokens`].

use eventodb_protocol::Timestamp;
use eventodb_protocol::reply::Quota;
use tokio_postgres::Row;
use uuid::Uuid;

use super::connection::{Connection, Parameters};
use super::error::Failure;
use super::statement::{CREATE, DELETE, EXISTS, LIVES, LOCK_LOG, NAMESPACE, NAMESPACES, TOMBSTONE, UPDATE, schema};
use super::time::Time;
use crate::error::Error;
use crate::model::{Incarnation, Namespace, NamespaceUpdate, NewNamespace, TokenId};

/// The living namespace of that name.
pub(super) async fn namespace(connection: &mut Connection, name: &str) -> Result<Option<Namespace>, Failure> {
    if !can_be_stored(name) {
        return Ok(None);
    }
    Ok(connection.query_one(NAMESPACE.on_registry(), &[&name]).await?.map(|row| to_namespace(&row)))
}

/// Whether a name can be one here: PostgreSQL refuses a text with U+0000, which a token may name all the same.
pub(super) fn can_be_stored(name: &str) -> bool {
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
    let values: Parameters<'_> = &[&new.name, &hash, &new.description, &new.metadata, &TokenId::generate().0];
    let row = connection.query_one(CREATE.on_registry(), values).await?;
    Ok(row.map(|row| to_namespace(&row)))
}

/// Changes a namespace; `None` if there is none of that name.
pub(super) async fn update(
    connection: &mut Connection,
    name: &str,
    update: &NamespaceUpdate,
) -> Result<Option<Namespace>, Failure> {
    let Quota { messages, bytes } = update.quota.unwrap_or_default();
    let values: Parameters<'_> =
        &[&name, &update.description, &update.protected, &update.quota.is_some(), &messages, &bytes];
    let row = connection.query_one(UPDATE.on_registry(), values).await?;
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

/// Why no incarnation can be staged for the place of this one.
pub(super) async fn why_not_staged(connection: &mut Connection, incarnation: Incarnation) -> Result<Error, Failure> {
    Ok(match connection.query_one(LIVES.on_registry(), &[&incarnation.0]).await? {
        None => Error::NamespaceNotFound,
        Some(row) if row.get(1) => Error::Protected,
        Some(_) => Error::Replacing,
    })
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
    let created_at: Time = row.get(3);
    Namespace {
        incarnation: Incarnation(row.get(0)),
        name: row.get::<_, &str>(1).into(),
        description: row.get(2),
        created_at: created_at.0,
        origin: Incarnation(row.get(4)),
        protected: row.get(5),
        quota: Quota { messages: row.get(6), bytes: row.get(7) },
    }
}
