//! The registry of namespaces; their tokens are in [`super::tokens`].

use std::collections::HashSet;
use std::sync::Arc;

use eventodb_protocol::Timestamp;
use eventodb_protocol::reply::Quota;
use tokio_postgres::Row;

use super::change::{self, Change, confirmed};
use super::connection::{Connection, Parameters};
use super::error::Failure;
use super::seal::lives;
use super::statement::{CREATE, DELETE, DELETED_OF_NAME, LIVES, LOGS, MADE, NAMESPACE, NAMESPACES, UPDATE, schema};
use super::time::Time;
use super::tokens;
use crate::error::Error;
use crate::model::{Incarnation, Meant, Namespace, NamespaceUpdate, NewNamespace, TokenRecord};

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

/// The living incarnations in the order of their numbers, and whether the schema of each has been made.
pub(super) async fn logs(connection: &mut Connection) -> Result<Vec<(Incarnation, bool)>, Failure> {
    let living = connection.query(LOGS.on_registry(), &[]).await?;
    let made = connection.query(MADE.on_registry(), &[]).await?;
    let made: HashSet<&str> = made.iter().map(|row| row.get(0)).collect();
    let log = |row: &Row| {
        let incarnation = Incarnation(row.get(0));
        (incarnation, made.contains(&*schema(incarnation)))
    };
    Ok(living.iter().map(log).collect())
}

/// What became of the creation of a namespace.
#[derive(Debug)]
pub(super) enum Created {
    /// It was created.
    New(Namespace),
    /// There is a namespace of that name.
    Exists,
    /// Nothing was created, because the logs of these deleted incarnations of that name may take appends.
    Behind(Vec<Incarnation>),
}

/// Creates a namespace and its first token, if the logs of all earlier ones of that name are among `ended`.
pub(super) async fn create(
    connection: &mut Connection,
    new: &NewNamespace,
    ended: &[Incarnation],
) -> Result<Created, Failure> {
    let mut change = Change::begin(connection).await?;
    let created_at = change.time().await?;
    let hash = &new.token_hash.as_bytes()[..];
    let values: Parameters<'_> = &[&new.name, &hash, &new.description, &new.metadata, &created_at];
    let Some(row) = change.query_one(CREATE.on_registry(), values).await? else {
        change.undo().await?;
        return Ok(Created::Exists);
    };
    // Asked behind the insertion, which waits for a deletion that is under way.
    let earlier = change.query(DELETED_OF_NAME.on_registry(), &[&new.name]).await?;
    let open: Vec<_> = incarnations(&earlier).filter(|earlier| !ended.contains(earlier)).collect();
    if !open.is_empty() {
        change.undo().await?;
        return Ok(Created::Behind(open));
    }
    let created = to_namespace(&row);
    let token = TokenRecord::first(Arc::clone(&created.name), created.origin, new.token_hash, created.created_at);
    tokens::save(&mut change, &token).await?;
    change.commit().await?;
    let found = namespace(connection, &new.name).await;
    confirmed(found.map(|found| found.filter(|found| found.incarnation == created.incarnation))).map(Created::New)
}

/// The deleted incarnations of a name whose schemas may still be there.
pub(super) async fn deleted_of_name(connection: &mut Connection, name: &str) -> Result<Vec<Incarnation>, Failure> {
    if !can_be_stored(name) {
        return Ok(Vec::new());
    }
    Ok(incarnations(&connection.query(DELETED_OF_NAME.on_registry(), &[&name]).await?).collect())
}

fn incarnations(rows: &[Row]) -> impl Iterator<Item = Incarnation> {
    rows.iter().map(|row| Incarnation(row.get(0)))
}

/// Changes a namespace; `None` if the one that is meant does not live.
pub(super) async fn update(
    connection: &mut Connection,
    meant: Meant<'_>,
    update: &NamespaceUpdate,
) -> Result<Option<Namespace>, Failure> {
    let Quota { messages, bytes } = update.quota.unwrap_or_default();
    let origin = meant.origin.map(|origin| origin.0);
    let values: Parameters<'_> =
        &[&meant.name, &update.description, &update.protected, &update.quota.is_some(), &messages, &bytes, &origin];
    if change::one(connection, UPDATE.on_registry(), values).await?.is_none() {
        return Ok(None);
    }
    let found = namespace(connection, meant.name).await;
    confirmed(found.map(|found| found.filter(|found| has(found, update)))).map(Some)
}

/// Whether a namespace is as this update leaves it.
fn has(namespace: &Namespace, update: &NamespaceUpdate) -> bool {
    let NamespaceUpdate { description, protected, quota } = update;
    description.as_ref().is_none_or(|description| namespace.description == *description)
        && protected.is_none_or(|protected| namespace.protected == protected)
        && quota.is_none_or(|quota| namespace.quota == quota)
}

/// Marks an incarnation deleted; `None` if it was deleted before, or is protected. Its log takes appends until
/// [`super::seal::end`].
pub(super) async fn delete(
    connection: &mut Connection,
    incarnation: Incarnation,
) -> Result<Option<Timestamp>, Failure> {
    let mut change = Change::begin(connection).await?;
    let deleted_at = change.time().await?;
    if change.query_one(DELETE.on_registry(), &[&incarnation.0, &deleted_at]).await?.is_none() {
        change.undo().await?;
        return Ok(None);
    }
    change.commit().await?;
    let lives = lives(connection, incarnation).await;
    confirmed(lives.map(|lives| (!lives).then_some(deleted_at.0))).map(Some)
}

/// Why no incarnation can be staged for the place of this one.
pub(super) async fn why_not_staged(connection: &mut Connection, incarnation: Incarnation) -> Result<Error, Failure> {
    Ok(match connection.query_one(LIVES.on_registry(), &[&incarnation.0]).await? {
        None => Error::NamespaceNotFound,
        Some(row) if row.get(1) => Error::Protected,
        Some(_) => Error::Replacing,
    })
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
