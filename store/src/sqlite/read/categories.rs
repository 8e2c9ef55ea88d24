//! Along the index entries of categories, merged.

use std::sync::Arc;

use eventodb_protocol::Direction;
use rusqlite::{OptionalExtension as _, params};

use super::super::failure::ReadError;
use super::super::memtable::{CategoryEntry, Memtable};
use super::Walk;
use super::steps::{Runs, Step, Steps};
use crate::model::Slice;

impl Walk<'_> {
    /// In the index, and then in the memtable.
    pub(super) fn categories(&self, categories: &[Arc<str>]) -> Result<Slice, ReadError> {
        // The memtable first: see there.
        let (floor, recent) = {
            let memtable = self.memtable.read();
            (memtable.floor(), self.recent_categories(&memtable, categories))
        };
        self.join(self.indexed_categories(categories, floor)?, recent)
    }

    /// Along the entries of all categories, if there are not too many.
    pub(super) fn every_category(&self) -> Result<Option<Slice>, ReadError> {
        // One more than are taken together shows that there are more.
        let most = self.merged_categories + 1;
        let (floor, recent, mut categories) = {
            let memtable = self.memtable.read();
            let names: Vec<Arc<str>> = memtable.categories().take(most).map(|(name, _)| name.into()).collect();
            (memtable.floor(), self.recent_categories(&memtable, &names), names)
        };
        let mut select = self.connection.prepare_cached(include_str!("../sql/largest_categories.sql"))?;
        let indexed: Vec<Arc<str>> =
            select.query_map([most as i64], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        categories.retain(|name| !indexed.contains(name));
        if indexed.len() + categories.len() >= most {
            return Ok(None);
        }
        self.join(self.indexed_categories(&indexed, floor)?, recent).map(Some)
    }

    fn recent_categories(&self, memtable: &Memtable, categories: &[Arc<str>]) -> Steps {
        let recent = categories.iter().filter_map(|category| memtable.category(category)).map(|category| {
            let entries = self.within(&category.entries, |entry| entry.global_position);
            let entries = entries.filter(|entry| self.wanted.admits(entry.hashes));
            self.first_of(
                entries.map(|entry| Step { at: entry.global_position, global_position: entry.global_position }),
            )
        });
        self.merge(recent.collect())
    }

    fn indexed_categories(&self, categories: &[Arc<str>], floor: i64) -> rusqlite::Result<Steps> {
        let mut walks = Vec::with_capacity(categories.len());
        let mut bounds = self.bounds();
        for category in categories {
            let walk = self.indexed_category(category, floor, bounds)?;
            // What lies beyond the end of one walk is of no use in another.
            if let Some(cut) = walk.cut {
                match self.select.direction {
                    Direction::Forward => bounds.1 = cut,
                    Direction::Backward => bounds.0 = cut,
                }
            }
            walks.push(walk);
        }
        Ok(self.merge(walks))
    }

    fn indexed_category(&self, category: &str, floor: i64, bounds: (i64, i64)) -> rusqlite::Result<Steps> {
        let id: Option<i64> = self
            .connection
            .prepare_cached(include_str!("../sql/category_id.sql"))?
            .query_row([category], |row| row.get(0))
            .optional()?;
        let Some(id) = id else { return Ok(Steps::new()) };
        let mut statement = self.connection.prepare_cached(match self.select.direction {
            Direction::Forward => include_str!("../sql/category_forward.sql"),
            Direction::Backward => include_str!("../sql/category_backward.sql"),
        })?;
        let runs = Runs { id, rows: statement.query(params![id, self.start()])?, floor, bounds };
        self.gather(runs, |CategoryEntry { global_position, hashes }| {
            (Step { at: global_position, global_position }, self.wanted.admits(hashes))
        })
    }
}
