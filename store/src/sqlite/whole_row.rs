//! One message with all columns of the log.

use eventodb_protocol::{Limits, json, message, name, wire};
use rusqlite::{CachedStatement, Connection, params};
use uuid::Uuid;

use super::checksum::{Checker, Seed, Stored, column};

/// A row of the log.
#[derive(Clone, Debug)]
pub(super) struct WholeRow {
    pub(super) global_position: i64,
    pub(super) stream: String,
    pub(super) position: i64,
    pub(super) starts_stream: bool,
    pub(super) id: Uuid,
    pub(super) kind: String,
    pub(super) correlation: Option<String>,
    pub(super) time: i64,
    pub(super) metadata: Option<String>,
    pub(super) data: String,
}

impl WholeRow {
    /// Takes a row of [`column`]s.
    ///
    /// # Errors
    /// SQLite's, and for values that no log holds.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            global_position: row.get(column::GLOBAL_POSITION)?,
            stream: row.get(column::STREAM)?,
            position: row.get(column::POSITION)?,
            starts_stream: row.get(column::STARTS_STREAM)?,
            id: Uuid::from_bytes(row.get(column::ID)?),
            kind: row.get(column::TYPE)?,
            correlation: row.get(column::CORRELATION)?,
            time: row.get(column::TIME)?,
            metadata: row.get(column::METADATA)?,
            data: row.get(column::DATA)?,
        })
    }

    /// The same for a row that is as it was written; `None` for a damaged one.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn read_checked(row: &rusqlite::Row<'_>, checker: &Checker<'_>) -> rusqlite::Result<Option<Self>> {
        if checker.read(row)?.is_some() { Self::read(row).map(Some) } else { Ok(None) }
    }

    /// Bytes of text in it.
    pub(super) fn bytes(&self) -> usize {
        self.stream.len() + self.kind.len() + self.data.len() + self.metadata.as_ref().map_or(0, String::len)
    }

    /// The part that cannot have been written as it is, if there is one.
    pub(super) fn fault(&self) -> Option<&'static str> {
        // The length of names is not checked, because earlier versions had other limits.
        let limits = Limits { name_bytes: usize::MAX, ..Limits::default() };
        let is_object = |text: &str| text.starts_with('{') && json::compact(text).is_ok();
        if self.global_position < 1 || self.position < 0 {
            return Some("its position is negative");
        }
        if name::check("stream", &self.stream, &limits).is_err() || name::check("type", &self.kind, &limits).is_err() {
            return Some("its stream or type is no name");
        }
        if !is_object(&self.data) {
            return Some("its data is no JSON object");
        }
        match &self.metadata {
            Some(metadata) if !is_object(metadata) => Some("its metadata is no JSON object"),
            metadata => {
                let correlation = metadata.as_deref().and_then(message::correlation);
                (correlation != self.correlation).then_some("its correlation is not that of its metadata")
            }
        }
    }

    fn stored(&self) -> Stored<'_> {
        Stored {
            integers: [self.global_position, self.position, self.time, i64::from(self.starts_stream)],
            parts: [
                Some(self.id.as_bytes()),
                Some(self.stream.as_bytes()),
                Some(self.kind.as_bytes()),
                self.correlation.as_ref().map(String::as_bytes),
                self.metadata.as_ref().map(String::as_bytes),
                Some(self.data.as_bytes()),
            ],
        }
    }

    /// Inserts it with its checksum by a statement with the parameters of `sql/append.sql`.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn insert(&self, insert: &mut CachedStatement<'_>, seed: Seed) -> rusqlite::Result<()> {
        insert.execute(params![
            self.global_position,
            self.stream,
            self.position,
            self.starts_stream,
            self.id.as_bytes(),
            self.kind,
            self.correlation,
            self.time,
            self.metadata,
            self.data,
            self.stored().checksum(seed),
        ])?;
        Ok(())
    }

    /// The message as a line of an export.
    pub(super) fn to_record(&self) -> Vec<u8> {
        let mut line = Vec::new();
        line.extend_from_slice(format!("{{\"id\":\"{}\",\"stream\":", self.id).as_bytes());
        json::write_string(&mut line, &self.stream);
        line.extend_from_slice(b",\"type\":");
        json::write_string(&mut line, &self.kind);
        line.extend_from_slice(b",\"pos\":");
        wire::write_integer(&mut line, self.position);
        line.extend_from_slice(b",\"gpos\":");
        wire::write_integer(&mut line, self.global_position);
        let time = eventodb_protocol::Timestamp::from_micros(self.time);
        let metadata = self.metadata.as_deref().unwrap_or("null");
        line.extend_from_slice(
            format!(",\"data\":{},\"meta\":{metadata},\"time\":\"{time}\"}}\n", self.data).as_bytes(),
        );
        line
    }
}

/// A log's note of its last import: where it ended, and the time of the last written message before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) last_position: i64,
    pub(super) written_time: i64,
}

impl Import {
    /// The note of a log, if there is one.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let mut select = connection.prepare("SELECT last_position, written_time FROM imports")?;
        let mut rows = select.query([])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Self { last_position: row.get(0)?, written_time: row.get(1)? }))
    }

    /// Puts the note into a new log.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn insert(self, log: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT INTO log.imports (last_position, written_time) VALUES (?1, ?2)";
        log.execute(sql, params![self.last_position, self.written_time])?;
        Ok(())
    }
}

/// Gives a new log the identity of the one that it was made from.
///
/// # Errors
/// SQLite's.
pub(super) fn keep_identity(source: &Connection, target: &Connection) -> rusqlite::Result<()> {
    let identity: Vec<u8> = source.query_row("SELECT identity FROM identity", [], |row| row.get(0))?;
    target.execute("UPDATE log.identity SET identity = ?1", [identity])?;
    Ok(())
}

/// Notes in a new log which messages were given up in the one that it was made from, up to a global position.
///
/// # Errors
/// SQLite's.
pub(super) fn keep_given_up(source: &Connection, target: &Connection, up_to: i64) -> rusqlite::Result<()> {
    if !source.table_exists(None, "given_up")? {
        return Ok(());
    }
    let mut select = source.prepare("SELECT global_position, given_up_at FROM given_up WHERE global_position <= ?1")?;
    let mut rows = select.query([up_to])?;
    while let Some(row) = rows.next()? {
        note_given_up(target, row.get(0)?, row.get(1)?)?;
    }
    Ok(())
}

/// Notes that a message was given up.
///
/// # Errors
/// SQLite's.
pub(super) fn note_given_up(log: &Connection, global_position: i64, at: i64) -> rusqlite::Result<()> {
    let insert = "INSERT OR REPLACE INTO log.given_up (global_position, given_up_at) VALUES (?1, ?2)";
    log.execute(insert, params![global_position, at])?;
    Ok(())
}
