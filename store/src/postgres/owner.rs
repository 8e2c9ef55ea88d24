//! Who owns what is called: a schema with all that is in it belongs to this role, or to a superuser.
//!
//! Functions run with the rights of the role that calls them, and so does what hangs on a table or a view. Any role that
//! may make schemas can make one of the next number before the server does.

use super::connection::Connection;
use super::error::Failure;
use super::statement::STRANGERS;

/// Something that another role owns.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{what} belongs to role {owner}, which could have functions run with the rights of this one: connect as that role, or \
     give the schema and all that is in it to this one"
)]
pub(super) struct Stranger {
    /// Such as `function append_2 of schema eventodb_5`.
    what: String,
    owner: String,
}

/// Looks for something in a schema that another role owns.
pub(super) async fn find_stranger(connection: &mut Connection, schema: &str) -> Result<Option<Stranger>, Failure> {
    let found = connection.query_one(STRANGERS.on_registry(), &[&schema]).await?;
    Ok(found.map(|row| {
        let (kind, name): (&str, &str) = (row.get(0), row.get(1));
        let what =
            if name == schema { format!("schema {schema}") } else { format!("{kind} {name} of schema {schema}") };
        Stranger { what, owner: row.get(2) }
    }))
}
