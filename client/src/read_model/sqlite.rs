//! A read model in SQLite. The database takes one transaction at a time, on a thread for blocking work.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventodb_protocol::group::Epoch;
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::{ReadModel, Rebuilt};
use crate::message::Message;
use crate::worker::HandlerError;

/// How long a transaction waits for that of another process.
const PATIENCE: Duration = Duration::from_secs(5);

/// Changes tables for one message.
pub trait SqliteProjection: Send + Sync + 'static {
    /// Changes the tables by `transaction`, which commits the position of the message too.
    ///
    /// # Errors
    /// Any error. The transaction is then rolled back, and the message is tried again.
    fn apply(&self, transaction: &Transaction<'_>, message: &Message) -> Result<(), HandlerError>;

    /// Empties the tables, so that they can be built anew.
    ///
    /// # Errors
    /// Any error. The transaction is then rolled back.
    fn clear(&self, transaction: &Transaction<'_>) -> Result<(), HandlerError>;
}

/// A projection, and the positions of its group's streams in the tables `eventodb_group` and `eventodb_group_stream`.
pub struct SqliteTables<P> {
    shared: Arc<Shared<P>>,
}

struct Shared<P> {
    connection: Mutex<Connection>,
    group: String,
    projection: P,
}

impl<P: SqliteProjection> SqliteTables<P> {
    /// Opens the database file, and makes the tables for the positions if they are not there. It blocks while the disk works.
    ///
    /// # Errors
    /// The file cannot be opened or used.
    pub fn open(path: impl AsRef<Path>, group: impl Into<String>, projection: P) -> rusqlite::Result<Self> {
        let (mut connection, group) = (Connection::open(path)?, group.into());
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // What a reader has seen must not vanish in a power failure: the checkpoint may be past it.
        connection.pragma_update(None, "synchronous", "full")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(include_str!("sqlite/create_tables.sql"))?;
        transaction.execute(include_str!("sqlite/add_group.sql"), [&group])?;
        transaction.commit()?;
        Ok(Self { shared: Arc::new(Shared { connection: Mutex::new(connection), group, projection }) })
    }

    /// Runs `work` in a transaction, and commits it if `work` says so. Returns what it says.
    async fn transaction<F>(&self, work: F) -> Result<bool, HandlerError>
    where
        F: FnOnce(&Shared<P>, &Transaction<'_>) -> Result<bool, HandlerError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = shared.connection.lock();
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let is_wanted = work(&shared, &transaction)?;
            if is_wanted {
                transaction.commit()?;
            }
            Ok(is_wanted)
        });
        done.await?
    }
}

#[async_trait]
impl<P: SqliteProjection> ReadModel for SqliteTables<P> {
    async fn handle(&self, epoch: Epoch, message: &Message) -> Result<(), HandlerError> {
        let message = message.clone();
        self.transaction(move |shared, transaction| {
            let mut least = transaction.prepare_cached(include_str!("sqlite/least_epoch.sql"))?;
            if epoch.number() < least.query_row([&shared.group], |row| row.get(0))? {
                return Err(Rebuilt.into());
            }
            let mut moved = transaction.prepare_cached(include_str!("sqlite/move_stream.sql"))?;
            if moved.execute(params![shared.group, message.stream(), message.global_position()])? == 0 {
                return Ok(false);
            }
            shared.projection.apply(transaction, &message)?;
            Ok(true)
        })
        .await?;
        Ok(())
    }

    async fn begin_rebuild(&self, rebuild: Uuid) -> Result<(), HandlerError> {
        self.transaction(move |shared, transaction| {
            let begun = include_str!("sqlite/begin_rebuild.sql");
            transaction.execute(begun, params![shared.group, rebuild.to_string()])?;
            Ok(true)
        })
        .await?;
        Ok(())
    }

    async fn clear(&self, rebuild: Uuid, least: Epoch) -> Result<bool, HandlerError> {
        self.transaction(move |shared, transaction| {
            let ended = include_str!("sqlite/end_rebuild.sql");
            if transaction.execute(ended, params![shared.group, rebuild.to_string(), least.number()])? == 0 {
                return Ok(false);
            }
            transaction.execute(include_str!("sqlite/forget_streams.sql"), [&shared.group])?;
            shared.projection.clear(transaction)?;
            Ok(true)
        })
        .await
    }
}

impl<P> std::fmt::Debug for SqliteTables<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteTables").field("group", &self.shared.group).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::message;

    /// Notes each message. It refuses position 7.
    struct Noted;

    impl SqliteProjection for Noted {
        fn apply(&self, transaction: &Transaction<'_>, message: &Message) -> Result<(), HandlerError> {
            transaction.execute("INSERT INTO noted VALUES (?1)", [message.global_position()])?;
            if message.global_position() == 7 { Err("seven".into()) } else { Ok(()) }
        }

        fn clear(&self, transaction: &Transaction<'_>) -> Result<(), HandlerError> {
            transaction.execute("DELETE FROM noted", [])?;
            Ok(())
        }
    }

    fn noted(model: &SqliteTables<Noted>) -> Vec<i64> {
        let connection = model.shared.connection.lock();
        let mut rows = connection.prepare("SELECT position FROM noted").expect("a table");
        rows.query_map([], |row| row.get(0)).expect("rows").collect::<rusqlite::Result<_>>().expect("numbers")
    }

    #[tokio::test]
    async fn a_message_takes_effect_once_and_a_rebuild_forgets_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.db");
        Connection::open(&path).and_then(|db| db.execute("CREATE TABLE noted (position INTEGER)", [])).expect("made");
        let model = SqliteTables::open(&path, "g", Noted).expect("opened");
        let (old, new) = (Epoch::from_number(5), Epoch::from_number(9));
        for at in [3, 5, 3, 5] {
            model.handle(old, &message("a-1", 0, at, "null")).await.expect("handled");
        }
        model.handle(old, &message("b-1", 0, 4, "null")).await.expect("another stream has another position");
        for _ in 0..2 {
            model.handle(old, &message("a-1", 0, 7, "null")).await.expect_err("refused, and not passed over");
        }
        let again = SqliteTables::open(&path, "g", Noted).expect("opened");
        again.handle(old, &message("a-1", 0, 5, "null")).await.expect("handled before");
        assert_eq!(noted(&model), [3, 5, 4]);
        let rebuild = Uuid::new_v4();
        model.begin_rebuild(rebuild).await.expect("begun");
        let error = again.handle(old, &message("a-1", 0, 8, "null")).await.expect_err("the tables are to be emptied");
        assert!(error.is::<Rebuilt>(), "{error}");
        assert!(model.clear(rebuild, new).await.expect("emptied"));
        let error = again.handle(old, &message("a-1", 0, 8, "null")).await.expect_err("it does not know");
        assert!(error.is::<Rebuilt>(), "{error}");
        again.handle(new, &message("a-1", 0, 3, "null")).await.expect("handled");
        assert_eq!(noted(&model), [3]);
    }

    #[tokio::test]
    async fn of_two_rebuilds_at_once_the_later_one_empties_the_tables() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.db");
        Connection::open(&path).and_then(|db| db.execute("CREATE TABLE noted (position INTEGER)", [])).expect("made");
        let model = SqliteTables::open(&path, "g", Noted).expect("opened");
        let (earlier, later) = (Uuid::new_v4(), Uuid::new_v4());
        model.begin_rebuild(earlier).await.expect("begun");
        model.begin_rebuild(later).await.expect("begun");
        let (first, second) = (Epoch::from_number(7), Epoch::from_number(9));
        assert!(!model.clear(earlier, first).await.expect("an answer"), "the later one has taken over");
        // The later one resets the group as well, so that what was handled before would be in no table.
        model.handle(second, &message("a-1", 0, 3, "null")).await.expect_err("the tables are to be emptied");
        assert!(model.clear(later, second).await.expect("emptied"));
        model.handle(second, &message("a-1", 0, 3, "null")).await.expect("handled");
        assert!(!model.clear(earlier, first).await.expect("an answer"));
        assert_eq!(noted(&model), [3]);
    }
}
