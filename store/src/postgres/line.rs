//! The connection of a log's appends.
//!
//! An append that is begun while another is under way is sent behind it on the same connection. PostgreSQL runs them in
//! order, and has the next one at hand when one is committed.

use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Row;

use super::connection::Parameters;
use super::error::Failure;
use super::pool::{Pool, Pooled};
use super::statement::Statement;

/// The connection of one log's appends.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The connection of the appends that are under way.
    current: Mutex<Weak<Mutex<Pooled>>>,
}

/// The right to send the next statement. Appends get it in the order in which they asked for it.
pub(super) struct Ticket<'a>(MutexGuard<'a, Weak<Mutex<Pooled>>>);

impl Line {
    /// Waits until everybody who entered earlier has sent a statement, or has given up.
    pub(super) async fn enter(&self) -> Ticket<'_> {
        Ticket(self.current.lock().await)
    }
}

impl Ticket<'_> {
    /// Runs a statement of at most one row behind those that are under way, or on a connection of the pool.
    pub(super) async fn query_one(
        mut self,
        pool: &Pool,
        statement: Statement,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, Failure> {
        let (connection, answer) = match self.0.upgrade() {
            Some(connection) => {
                let answer = connection.lock().await.send_one(statement, parameters).await?;
                (connection, answer)
            }
            None => send_anew(pool, statement, parameters).await?,
        };
        *self.0 = Arc::downgrade(&connection);
        drop(self);
        let outcome = answer.await;
        // It goes back into the pool, if nothing was sent behind this.
        drop(connection);
        outcome
    }
}

/// The answer to come of a statement.
type Answer<'a> = BoxFuture<'a, Result<Option<Row>, Failure>>;

/// Sends a statement on a connection of the pool, and on another one if that was dead.
async fn send_anew<'a>(
    pool: &Pool,
    statement: Statement,
    parameters: Parameters<'a>,
) -> Result<(Arc<Mutex<Pooled>>, Answer<'a>), Failure> {
    let mut attempts = pool.attempts();
    loop {
        let mut connection = attempts.connection().await?;
        match connection.send_one(statement, parameters).await {
            Err(failure) if attempts.go_on_unsent(&failure) => {}
            answer => return Ok((Arc::new(Mutex::new(connection)), answer?)),
        }
    }
}
