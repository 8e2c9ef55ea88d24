//! A damaged message, with the bytes that it has now.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Row, params_from_iter};

use super::super::checksum::column::{
    CHECKSUM, CORRELATION, DATA, GLOBAL_POSITION, ID, METADATA, POSITION, STARTS_STREAM, STREAM, TIME, TYPE,
};

/// The parameters of `sql/append.sql`.
const INSERTED: [usize; 11] =
    [GLOBAL_POSITION, STREAM, POSITION, STARTS_STREAM, ID, TYPE, CORRELATION, TIME, METADATA, DATA, CHECKSUM];

/// A row whose texts need not be texts.
pub(super) struct RawRow {
    pub(super) global_position: i64,
    values: Vec<Value>,
}

enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl RawRow {
    /// Takes a row of all columns.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let values = INSERTED.iter().map(|at| {
            Ok(match row.get_ref(*at)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(integer) => Value::Integer(integer),
                ValueRef::Real(real) => Value::Real(real),
                ValueRef::Text(text) => Value::Text(text.to_vec()),
                ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
            })
        });
        Ok(Self { global_position: row.get(GLOBAL_POSITION)?, values: values.collect::<rusqlite::Result<_>>()? })
    }

    /// Bytes of text in it.
    pub(super) fn bytes(&self) -> usize {
        let of_value = |value: &Value| match value {
            Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
            Value::Null | Value::Integer(_) | Value::Real(_) => 0,
        };
        self.values.iter().map(of_value).sum()
    }

    /// Inserts it as `sql/append.sql` says. A value of a kind that its column does not take is left out with the whole
    /// message, which the copy then lacks.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn insert(&self, insert: &mut CachedStatement<'_>) -> rusqlite::Result<()> {
        match insert.execute(params_from_iter(&self.values)) {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Real(real) => ValueRef::Real(*real),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}
