//! What all incarnations of a store share.

use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::damage::Damage;
use super::directory::{Directory, Found};
use super::marks::Marks;
use super::open_error::{OpenError, shown};
use super::paths;
use super::registry::Registry;
use super::room::Room;
use super::settings::{Location, Settings};
use super::storage::SqliteStorage;
use super::strangers::refuse_data;
use super::threads::Threads;
use crate::degraded::Degraded;
use crate::error::{Error, Result};

/// What all incarnations share.
pub(super) struct Shared {
    pub(super) location: Location,
    pub(super) settings: Settings,
    pub(super) registry: Registry,
    pub(super) marks: Marks,
    pub(super) damage: Damage,
    pub(super) room: Room,
    pub(super) threads: Threads,
    /// Namespaces whose files are open, and perhaps some whose files were closed since.
    pub(super) opened: Mutex<Vec<Weak<SqliteStorage>>>,
    /// Held by the one that opens files while descriptors are scarce.
    pub(super) scarce: Mutex<()>,
    /// Number of entries in all memtables.
    pub(super) waiting: Arc<AtomicUsize>,
    /// The directory's lock, held until the backend is closed so that no other server uses it.
    directory: Mutex<Option<Arc<Directory>>>,
    /// The registry's files, as they were opened.
    registry_files: Mutex<Arc<Found>>,
}

impl Shared {
    /// Takes the directory at a location and opens the registry in it; creates both if there is none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) fn open(location: Location, settings: Settings) -> Result<Self, OpenError> {
        let (directory, registry, registry_files) = match &location {
            Location::Directory(path) => {
                refuse_data(path)?;
                let directory = Directory::take(path)?;
                refuse_without_registry(path)?;
                let file = path.join(Registry::FILE);
                let registry = Registry::open(&location).map_err(|error| OpenError::Registry(shown(&file), error))?;
                let files = Found::database(&file).map_err(|error| OpenError::Directory(shown(path), error))?;
                refuse_unknown_logs(path, &registry)?;
                (Some(Arc::new(directory)), registry, files)
            }
            Location::Memory => {
                let opened = Registry::open(&location);
                let registry = opened.map_err(|error| OpenError::Registry(":memory:".to_owned(), error))?;
                (None, registry, Found::default())
            }
        };
        let threads = Threads::start(&settings).map_err(OpenError::Threads)?;
        let shared = Self {
            location,
            registry,
            marks: Marks::new(),
            damage: Damage::default(),
            room: Room::new(settings.min_free),
            threads,
            settings,
            opened: Mutex::default(),
            scarce: Mutex::default(),
            waiting: Arc::default(),
            directory: Mutex::new(directory),
            registry_files: Mutex::new(Arc::new(registry_files)),
        };
        shared.look_at_room();
        Ok(shared)
    }

    /// Looks how much room the disk has. The call waits for the disk.
    pub(super) fn look_at_room(&self) {
        if let Location::Directory(directory) = &self.location {
            self.room.look(directory);
        }
    }

    /// Bytes that the disk had left when it was last looked at; `None` if there is no disk, or it cannot be looked at.
    pub(super) fn room_left(&self) -> Option<u64> {
        self.room.left()
    }

    /// Gives the directory back, so that another server may take it.
    pub(super) fn release_directory(&self) {
        *self.directory.lock() = None;
    }

    /// Why writes are refused at the moment, or soon will be, whatever the namespace.
    pub(super) fn degraded(&self) -> Vec<Degraded> {
        let is_lost = self.registry_files.lock().is_lost()
            || self.directory.lock().as_ref().is_some_and(|directory| directory.lock().is_lost());
        let lost = "the data directory was removed or replaced while it was in use: nothing is written";
        let unmarked = "the registry cannot be written: a log that loses its end now may not be noticed";
        let reasons = [
            is_lost.then(|| Degraded::new("DIRECTORY_LOST", lost)),
            self.room.degraded(),
            self.marks.fault.is_there().then(|| Degraded::new("REGISTRY_NOT_WRITTEN", unmarked)),
            self.damage.degraded(),
        ];
        reasons.into_iter().flatten().collect()
    }

    /// Looks whether the directory and the registry in it are still those that were opened.
    ///
    /// # Errors
    /// As [`Self::still_holds`].
    pub(super) fn still_holds_registry(&self) -> Result<()> {
        let files = Arc::clone(&self.registry_files.lock());
        self.still_holds(&files)
    }

    /// Writes to the registry, and to the logs whose last write failed.
    pub(super) fn write_test(&self, failing: &[Arc<SqliteStorage>]) -> Result<()> {
        let Location::Directory(directory) = &self.location else { return Ok(()) };
        if self.still_holds_registry().is_err() {
            // That is logged and reported by itself.
            return Ok(());
        }
        for storage in failing {
            storage.write_test();
        }
        self.registry.write_test().map_err(Error::unavailable)?;
        // It may have been opened anew.
        let files = Found::database(&directory.join(Registry::FILE)).map_err(Error::unavailable)?;
        *self.registry_files.lock() = Arc::new(files);
        Ok(())
    }

    /// Looks whether the directory and these files in it are still those that were opened.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if not: nobody would find what is written.
    pub(super) fn still_holds(&self, files: &Found) -> Result<()> {
        let directory = self.directory.lock().clone();
        if directory.is_none_or(|directory| directory.lock().is_there()) && files.is_there() {
            return Ok(());
        }
        Err(Error::unavailable("the data directory was removed or replaced while it was in use"))
    }

    /// Closes the namespace that was unused for the longest time, because descriptors are scarce. The caller holds no
    /// storage's lock.
    pub(super) fn close_one(&self) {
        let open = self.opened.lock().len();
        self.close_beyond(open.saturating_sub(1));
    }

    /// Closes the namespaces that were unused for the longest time until no more than `most` are open. Namespaces that
    /// are in use stay open. The caller holds no storage's lock.
    pub(super) fn close_beyond(&self, most: usize) {
        let mut open: Vec<_> = {
            let mut opened = self.opened.lock();
            opened.retain(|storage| storage.strong_count() > 0);
            opened.iter().filter_map(Weak::upgrade).collect()
        };
        if open.len() <= most {
            return;
        }
        open.sort_by_cached_key(|storage| storage.last_use());
        let beyond = open.len() - most;
        open.into_iter().filter(|storage| storage.close_idle(false)).take(beyond).for_each(drop);
        self.opened.lock().retain(|storage| storage.upgrade().is_some_and(|storage| storage.is_open()));
    }
}

/// A new registry would give the numbers of the logs that are there to other namespaces.
fn refuse_without_registry(directory: &Path) -> Result<(), OpenError> {
    let registry = directory.join(Registry::FILE);
    let is_there = registry.metadata().is_ok_and(|metadata| metadata.len() > 0);
    let logs = paths::logs_in(directory).map_err(|error| OpenError::Directory(shown(directory), error))?;
    if is_there || logs.is_empty() { Ok(()) } else { Err(OpenError::NoRegistry(shown(&registry))) }
}

fn refuse_unknown_logs(directory: &Path, registry: &Registry) -> Result<(), OpenError> {
    let path = || shown(&directory.join(Registry::FILE));
    let known = registry.incarnations().map_err(|error| OpenError::Registry(path(), error.into()))?;
    let logs = paths::logs_in(directory).map_err(|error| OpenError::Directory(shown(directory), error))?;
    match logs.into_iter().find(|(number, _)| !known.contains(number)) {
        Some((_, log)) => Err(OpenError::UnknownLog(shown(&log))),
        None => Ok(()),
    }
}
