//! Ids of handled messages, so that handlers with effects outside the database do not repeat them.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Result, Write as _};
use std::path::Path;

use uuid::Uuid;

/// Remembers the ids of handled messages.
pub trait SeenIds: Send + Sync {
    /// Whether the message of this id was handled.
    fn contains(&self, id: Uuid) -> bool;

    /// Remembers that the message of this id was handled.
    ///
    /// # Errors
    /// The id could not be stored. The message then counts as not handled.
    fn insert(&mut self, id: Uuid) -> Result<()>;

    /// Forgets all ids: the checkpoint is past their messages, so that none of them will be read again.
    ///
    /// # Errors
    /// The ids could not be removed.
    fn saved(&mut self) -> Result<()>;
}

/// The newest ids, in memory: prevents repetitions within one process.
#[derive(Debug)]
pub struct RecentIds {
    most: usize,
    ids: HashSet<Uuid>,
    order: VecDeque<Uuid>,
}

impl RecentIds {
    /// Remembers the newest `most` ids.
    pub fn new(most: usize) -> Self {
        Self { most, ids: HashSet::new(), order: VecDeque::new() }
    }
}

impl SeenIds for RecentIds {
    fn contains(&self, id: Uuid) -> bool {
        self.ids.contains(&id)
    }

    fn insert(&mut self, id: Uuid) -> Result<()> {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        Ok(())
    }

    fn saved(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The ids since the last checkpoint, in a file. After the process was killed, at most one message is handled again:
/// the one that it was handling. The file is written without a sync, so that a power failure may lose its end.
#[derive(Debug)]
pub struct FileIds {
    file: File,
    ids: HashSet<Uuid>,
}

impl FileIds {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (whole, rest) = bytes.as_chunks::<16>();
        // An incomplete id at the end belongs to a message that was not finished.
        file.set_len(u64::try_from(bytes.len() - rest.len()).expect("a file's length fits"))?;
        let ids = whole.iter().map(|bytes| Uuid::from_bytes(*bytes)).collect();
        Ok(Self { file, ids })
    }
}

impl SeenIds for FileIds {
    fn contains(&self, id: Uuid) -> bool {
        self.ids.contains(&id)
    }

    fn insert(&mut self, id: Uuid) -> Result<()> {
        self.file.write_all(id.as_bytes())?;
        self.ids.insert(id);
        Ok(())
    }

    fn saved(&mut self) -> Result<()> {
        self.file.set_len(0)?;
        self.ids.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_ids_until_the_checkpoint() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ids");
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut ids = FileIds::open(&path).expect("opened");
        ids.insert(one).expect("written");
        drop(ids);
        OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(b"half")).expect("written");
        let mut ids = FileIds::open(&path).expect("opened");
        assert!(ids.contains(one) && !ids.contains(two));
        ids.insert(two).expect("written");
        let mut ids = FileIds::open(&path).expect("opened");
        assert!(ids.contains(one) && ids.contains(two));
        ids.saved().expect("emptied");
        assert!(!FileIds::open(&path).expect("opened").contains(one));
    }

    #[test]
    fn memory_forgets_the_oldest() {
        let mut ids = RecentIds::new(2);
        for id in [1, 2, 2, 3] {
            ids.insert(Uuid::from_u128(id)).expect("remembered");
        }
        let known: Vec<_> = (1..4).map(|id| ids.contains(Uuid::from_u128(id))).collect();
        assert_eq!(known, [false, true, true]);
    }
}
