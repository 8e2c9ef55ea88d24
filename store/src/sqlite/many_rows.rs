//! Inserting rows many at a time.
//!
//! The start and end of a statement cost about as much as inserting a row beside the one before. The statements say `OR
//! FAIL`, because SQLite would otherwise copy each page that it changes, to undo a part of a statement, and a failed
//! batch is undone as a whole anyway.

use rusqlite::{CachedStatement, Connection, ToSql};

/// Rows of a statement that inserts many.
const ROWS: usize = 32;

/// An insert of one row, and the same of [`ROWS`] rows.
pub(super) struct Insert {
    pub(super) one: &'static str,
    pub(super) many: &'static str,
}

/// The parameters of a statement, in their order.
pub(super) struct Parameters<'a, 'c> {
    statement: &'a mut CachedStatement<'c>,
    bound: usize,
}

impl Parameters<'_, '_> {
    /// Binds the next one.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn bind(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }
}

/// Inserts all rows, whose parameters `bind` gives. The caller's transaction ends with an error.
///
/// # Errors
/// SQLite's.
pub(super) fn insert<R>(
    connection: &Connection,
    insert: &Insert,
    rows: &[R],
    bind: impl Fn(&mut Parameters<'_, '_>, &R) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let (whole, rest) = rows.split_at(rows.len() - rows.len() % ROWS);
    for (sql, rows, at_once) in [(insert.many, whole, ROWS), (insert.one, rest, 1)] {
        let mut statement = connection.prepare_cached(sql)?;
        for rows in rows.chunks(at_once) {
            let mut parameters = Parameters { statement: &mut statement, bound: 0 };
            rows.iter().try_for_each(|row| bind(&mut parameters, row))?;
            statement.raw_execute()?;
        }
    }
    Ok(())
}
