//! Messages that are copied into another log: checked, and damaged ones as they are.

use rusqlite::{CachedStatement, Row};

use super::super::checksum::{Checker, Seed, Verdict};
use super::super::failure::is_damage;
use super::super::whole_row::WholeRow;
use super::raw_row::RawRow;

/// A message on its way into a copy.
pub(super) enum Copied {
    /// It gets its checksum anew, or its first.
    Sound(WholeRow),
    /// As it is, with the checksum that does not fit it.
    Damaged(RawRow),
}

impl Copied {
    /// Takes a row of all columns.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn read(row: &Row<'_>, checker: &Checker<'_>) -> rusqlite::Result<Self> {
        let verdict = checker.check(row)?;
        match (verdict, WholeRow::read(row)) {
            (Verdict::Sound, Ok(whole)) => Ok(Self::Sound(whole)),
            (Verdict::Unchecked, Ok(whole)) if whole.fault().is_none() => Ok(Self::Sound(whole)),
            (_, Err(error)) if !is_damage(&error) => Err(error),
            _ => Ok(Self::Damaged(RawRow::read(row)?)),
        }
    }

    pub(super) fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }

    pub(super) fn global_position(&self) -> i64 {
        match self {
            Self::Sound(whole) => whole.global_position,
            Self::Damaged(raw) => raw.global_position,
        }
    }

    /// Bytes of text in it.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Sound(whole) => whole.bytes(),
            Self::Damaged(raw) => raw.bytes(),
        }
    }

    /// Inserts it by a statement with the parameters of `sql/append.sql`.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn insert(&self, insert: &mut CachedStatement<'_>, seed: Seed) -> rusqlite::Result<()> {
        match self {
            Self::Sound(whole) => whole.insert(insert, seed),
            Self::Damaged(raw) => raw.insert(insert),
        }
    }
}
