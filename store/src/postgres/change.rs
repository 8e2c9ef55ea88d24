//! A change of the registry: a transaction, and what it acknowledges is read after its commit.
//!
//! The transaction begins with what must hold for it, whatever the role or a pooler's session says: its commit is at
//! least synchronous. The time of a change is asked of the database by a statement of its own, and is a parameter of the
//! others. A distributed registry takes no volatile function where rows are changed.
//!
//! Where another node has the registry, a commit that failed there is a mere warning here. A caller therefore reads what
//! it acknowledges after the commit, and hands what it found to [`confirmed`].

use std::sync::Arc;

use tokio_postgres::Row;

use super::connection::{Connection, Parameters};
use super::error::Failure;
use super::statement::{CLOCK, Statement};
use super::time::Time;

/// A change that is not committed yet. If it is dropped, nothing has changed, and the session ends.
pub(super) struct Change<'a>(&'a mut Connection);

/// What a change had written was not there after its commit.
#[derive(Debug, thiserror::Error)]
#[error("the change was committed and is not there")]
struct NotThere;

impl<'a> Change<'a> {
    pub(super) async fn begin(connection: &'a mut Connection) -> Result<Self, Failure> {
        connection.begin_synchronous().await.map_err(Failure::before_commit)?;
        Ok(Self(connection))
    }

    /// The database's time.
    pub(super) async fn time(&mut self) -> Result<Time, Failure> {
        time(self.0).await.map_err(Failure::before_commit)
    }

    /// Runs a statement and returns its rows.
    pub(super) async fn query(
        &mut self,
        statement: Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Failure> {
        self.0.query(statement, parameters).await.map_err(Failure::before_commit)
    }

    /// Runs a statement of at most one row.
    pub(super) async fn query_one(
        &mut self,
        statement: Statement,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, Failure> {
        Ok(self.query(statement, parameters).await?.pop())
    }

    pub(super) async fn commit(self) -> Result<(), Failure> {
        self.0.commit().await.map_err(Failure::of_forwarded)
    }

    /// Ends the transaction without a change.
    pub(super) async fn undo(self) -> Result<(), Failure> {
        self.0.rollback().await.map_err(Failure::before_commit)
    }
}

/// A change of one statement and at most one row.
pub(super) async fn one(
    connection: &mut Connection,
    statement: Statement,
    parameters: Parameters<'_>,
) -> Result<Option<Row>, Failure> {
    let mut change = Change::begin(connection).await?;
    let row = change.query_one(statement, parameters).await?;
    change.commit().await?;
    Ok(row)
}

/// The database's time.
pub(super) async fn time(connection: &mut Connection) -> Result<Time, Failure> {
    let row = connection.query_one(CLOCK.on_registry(), &[]).await?;
    Ok(row.expect("a SELECT without FROM has one row").get(0))
}

/// What a read found after the commit of what is to be found. If it is not there, or could not be read, the outcome of
/// the change is open.
pub(super) fn confirmed<T>(found: Result<Option<T>, Failure>) -> Result<T, Failure> {
    match found {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(Failure::Open(Arc::new(NotThere))),
        Err(failure) => Err(failure.after_commit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_is_not_there_after_a_commit_is_unknown() {
        assert!(matches!(confirmed(Ok(Some(1))), Ok(1)));
        let cause = Arc::new(NotThere);
        for found in [Ok(None), Err(Failure::NotSent(cause.clone())), Err(Failure::Open(cause))] {
            let failure = confirmed::<()>(found).expect_err("nothing was found");
            assert!(matches!(failure.of_change(), Error::Unknown(_)));
        }
    }
}
