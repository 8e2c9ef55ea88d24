//! A read model in SQLite with its checkpoint in the same transactions: each message takes effect exactly once.
//!
//! A transaction begins with the first message after a save, and the next save commits it. The effects of messages and
//! the position after them therefore become durable together or not at all. Each handler runs in a savepoint of its
//! own, so that the changes of a failed handler are rolled back. A lock file keeps a second worker of the same name
//! out.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use tokio_util::sync::CancellationToken;

use super::CheckpointError;
use crate::message::Message;
use crate::worker::{Consumer, Failure, Handled, HandlerError};

type Handler = Arc<dyn Fn(&Connection, &Message) -> Result<(), HandlerError> + Send + Sync>;

/// Handles messages by changing tables of a SQLite database, each exactly once.
pub struct SqliteReadModel {
    path: PathBuf,
    consumer: String,
    handler: Handler,
    types: Option<Vec<String>>,
    /// None before it is loaded, and after a failure.
    open: Option<Arc<Mutex<Open>>>,
    /// Held from the first load on. None for a database in memory.
    lock: Option<File>,
}

struct Open {
    connection: Connection,
    consumer: String,
    saved: Option<i64>,
    in_transaction: bool,
}

impl SqliteReadModel {
    /// The read model in the database file `path`. The position is kept in its table `eventodb_checkpoint` under the
    /// name `consumer`. Each member of a group needs a name of its own. The name is also a part of the name of a lock
    /// file beside the database.
    ///
    /// `handler` runs within the worker's transaction on a thread for blocking work, and must neither
    /// commit nor roll back.
    pub fn new<E: Into<HandlerError>>(
        path: impl AsRef<Path>,
        consumer: impl Into<String>,
        handler: impl Fn(&Connection, &Message) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            consumer: consumer.into(),
            handler: Arc::new(move |connection, message| handler(connection, message).map_err(Into::into)),
            types: None,
            open: None,
            lock: None,
        }
    }

    /// Only messages of these types.
    #[must_use]
    pub fn types<S: Into<String>>(mut self, types: impl IntoIterator<Item = S>) -> Self {
        self.types = Some(types.into_iter().map(Into::into).collect());
        self
    }

    /// Runs `work` on the open database, on a thread for blocking work.
    async fn with_open<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Open) -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let Some(open) = self.open.clone() else {
            return Err(CheckpointError::failed("read model", "used before it was loaded"));
        };
        tokio::task::spawn_blocking(move || work(&mut open.lock()))
            .await
            .map_err(|error| CheckpointError::failed("the handler did not end", error))?
    }
}

#[async_trait]
impl Consumer for SqliteReadModel {
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError> {
        // Closing the earlier connection rolls back what it had not committed.
        self.open = None;
        let (path, consumer, lock) = (self.path.clone(), self.consumer.clone(), self.lock.take());
        let (open, lock) = tokio::task::spawn_blocking(move || {
            let connection = Connection::open(path).map_err(failed("cannot open"))?;
            let lock = match (lock, connection.path()) {
                (None, Some(file)) if !file.is_empty() => Some(super::file::lock(&lock_file(file, &consumer))?),
                (lock, _) => lock,
            };
            Ok::<_, CheckpointError>((Open::new(connection, consumer).map_err(failed("cannot open"))?, lock))
        })
        .await
        .map_err(|error| CheckpointError::failed("opening did not end", error))??;
        let saved = open.saved;
        (self.open, self.lock) = (Some(Arc::new(Mutex::new(open))), lock);
        Ok(saved)
    }

    async fn handle(&mut self, messages: &[Message], stop: &CancellationToken) -> Handled {
        let (messages, stop, handler) = (messages.to_vec(), stop.clone(), self.handler.clone());
        let handled = self.with_open(move |open| {
            open.begin()?;
            let mut handled = Handled::default();
            for message in &messages {
                if stop.is_cancelled() {
                    break;
                }
                match open.apply(message, &*handler) {
                    Ok(Ok(())) => handled.count += 1,
                    Ok(Err(error)) => {
                        handled.failure = Some(Failure::Message(error));
                        break;
                    }
                    Err(error) => return Err(failed("transaction")(error)),
                }
            }
            Ok(handled)
        });
        handled.await.unwrap_or_else(|error| Handled { count: 0, failure: Some(Failure::Session(error)) })
    }

    async fn save(&mut self, position: i64) -> Result<(), CheckpointError> {
        self.with_open(move |open| {
            open.begin()?;
            open.commit(position).map_err(failed("cannot commit"))
        })
        .await
    }

    fn types(&self) -> Option<Vec<String>> {
        self.types.clone()
    }

    fn saves_when_idle(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for SqliteReadModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteReadModel").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Open {
    fn new(mut connection: Connection, consumer: String) -> rusqlite::Result<Self> {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // Without FULL a power failure could lose the newest position and the effects before it together, which are
        // then repeated. But a reader may have seen these effects, so that they must not vanish.
        connection.pragma_update(None, "synchronous", "full")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(include_str!("sqlite/create_checkpoint.sql"))?;
        let saved = position(&transaction, &consumer)?;
        transaction.commit()?;
        Ok(Self { connection, consumer, saved, in_transaction: false })
    }

    /// Begins a transaction unless one is open. If the position was moved meanwhile, another worker has the same name.
    fn begin(&mut self) -> Result<(), CheckpointError> {
        if self.in_transaction {
            return Ok(());
        }
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(failed("cannot begin"))?;
        self.in_transaction = true;
        let found = position(&self.connection, &self.consumer).map_err(failed("cannot read the position"))?;
        if found != self.saved {
            self.connection.execute_batch("ROLLBACK").map_err(failed("cannot roll back"))?;
            self.in_transaction = false;
            return Err(CheckpointError::Taken(format!(
                "{} is at position {}, was left at {}",
                self.consumer,
                found.unwrap_or(-1),
                self.saved.unwrap_or(-1)
            )));
        }
        Ok(())
    }

    fn apply(
        &self,
        message: &Message,
        handler: &dyn Fn(&Connection, &Message) -> Result<(), HandlerError>,
    ) -> rusqlite::Result<Result<(), HandlerError>> {
        self.connection.prepare_cached("SAVEPOINT message")?.execute([])?;
        let result = handler(&self.connection, message);
        if result.is_err() {
            self.connection.prepare_cached("ROLLBACK TO message")?.execute([])?;
        }
        self.connection.prepare_cached("RELEASE message")?.execute([])?;
        Ok(result)
    }

    fn commit(&mut self, position: i64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(include_str!("sqlite/save_checkpoint.sql"))?
            .execute(params![self.consumer, position])?;
        self.connection.execute_batch("COMMIT")?;
        self.in_transaction = false;
        self.saved = Some(position);
        Ok(())
    }
}

/// The lock file of a consumer beside a database.
fn lock_file(database: &str, consumer: &str) -> PathBuf {
    let mut name = format!("{database}-");
    for c in consumer.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => name.push(c),
            other => name.push_str(&format!("%{:x}", u32::from(other))),
        }
    }
    name.push_str(".lock");
    name.into()
}

fn position(connection: &Connection, consumer: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(include_str!("sqlite/load_checkpoint.sql"))?
        .query_row([consumer], |row| row.get(0))
        .optional()
}

fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> CheckpointError {
    move |error| CheckpointError::failed(what, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::message;

    fn model(path: &Path) -> SqliteReadModel {
        SqliteReadModel::new(path, "sums", |connection, message| {
            connection.execute("CREATE TABLE IF NOT EXISTS seen (position INTEGER PRIMARY KEY)", [])?;
            connection.execute("INSERT INTO seen VALUES (?)", [message.global_position()])?;
            if message.position() == 7 {
                return Err(rusqlite::Error::QueryReturnedNoRows);
            }
            Ok(())
        })
    }

    fn seen(path: &Path) -> Vec<i64> {
        let connection = Connection::open(path).expect("opened");
        let mut seen = connection.prepare("SELECT position FROM seen ORDER BY 1").expect("a table");
        seen.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("numbers")
    }

    #[tokio::test]
    async fn effects_and_position_are_saved_together_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.db");
        let stop = CancellationToken::new();
        let messages: Vec<_> = (0..3).map(|n| message("a-1", n, n + 1, "null")).collect();

        let mut first = model(&path);
        assert_eq!(first.load().await.expect("loaded"), None);
        assert_eq!(first.handle(&messages[..2], &stop).await.count, 2);
        first.save(2).await.expect("saved");
        assert_eq!(first.handle(&messages[2..], &stop).await.count, 1);
        drop(first);

        let mut second = model(&path);
        assert_eq!(second.load().await.expect("loaded"), Some(2));
        assert_eq!(seen(&path), [1, 2]);
        assert_eq!(second.handle(&messages[2..], &stop).await.count, 1);
        second.save(3).await.expect("saved");
        assert_eq!(seen(&path), [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_failed_message_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.db");
        let messages = [message("a-1", 6, 1, "null"), message("a-1", 7, 2, "null"), message("a-1", 8, 3, "null")];
        let mut model = model(&path);
        model.load().await.expect("loaded");
        let handled = model.handle(&messages, &CancellationToken::new()).await;
        assert_eq!(handled.count, 1);
        assert!(matches!(handled.failure, Some(Failure::Message(_))));
        model.save(1).await.expect("saved");
        assert_eq!(seen(&path), [1]);
    }

    #[tokio::test]
    async fn the_second_worker_of_one_name_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.db");
        let mut first = model(&path);
        first.load().await.expect("loaded");
        assert!(matches!(model(&path).load().await, Err(CheckpointError::Taken(_))));
        first.save(5).await.expect("saved");
        assert_eq!(first.load().await.expect("its own lock is not in its way"), Some(5));
        let mut other = SqliteReadModel::new(&path, "sums/2", |_, _| Ok::<_, HandlerError>(()));
        assert_eq!(other.load().await.expect("another name is free"), None);
        drop(first);
        assert_eq!(model(&path).load().await.expect("loaded"), Some(5));
    }
}
