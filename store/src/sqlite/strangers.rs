//! What is in a directory that a store is to be made in: a directory of something else was probably not meant.
//!
//! A database of another program is refused, because its own server would take files of ours for its own, or remove them.
//! Other files are only told: the root of a disk has `lost+found`, and operators put keys and settings beside a store.

use std::path::Path;

use super::directory::LOCK;
use super::open_error::{OpenError, shown};
use super::registry::Registry;

/// Files that the data directories of other programs have, and what those are.
const MARKERS: &[(&str, &str)] =
    &[("PG_VERSION", "PostgreSQL"), ("ibdata1", "MySQL"), ("WiredTiger", "MongoDB"), ("dump.rdb", "Redis")];

/// Names that are told. Further ones are only counted.
const TELL_MOST: usize = 3;

/// What a directory without a store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// Nothing, or there is a store, or no directory.
    None,
    /// Files of nobody in particular: the first of their names, and how many there are.
    Some {
        /// By name.
        first: Vec<String>,
        /// All of them.
        count: usize,
    },
    /// The data of another program.
    Data {
        /// A file that such data has.
        marker: &'static str,
        /// The program.
        of: &'static str,
    },
}

impl Strangers {
    /// Looks into a directory. One that cannot be read has none: whoever opens it reports the error.
    pub fn look(directory: &Path) -> Self {
        let Ok(entries) = directory.read_dir() else { return Self::None };
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        if names.iter().any(|name| is_ours(name)) {
            return Self::None;
        }
        if let Some((marker, of)) = MARKERS.iter().find(|(marker, _)| names.iter().any(|name| name == marker)) {
            return Self::Data { marker, of };
        }
        // Beside a store in the directory itself there may be others below it, as `sqlite://FILE` makes them.
        let is_store = |name: &str| directory.join(name).join(Registry::FILE).is_file();
        names.retain(|name| name != "lost+found" && !is_store(name));
        names.sort();
        match names.len() {
            0 => Self::None,
            count => Self::Some { first: names.into_iter().take(TELL_MOST).collect(), count },
        }
    }

    /// Files of nobody in particular, as they are told; `None` if there are none.
    pub fn told(&self) -> Option<String> {
        let Self::Some { first, count } = self else { return None };
        let more = match count - first.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!("{}{more}", first.join(", ")))
    }
}

/// Whether a name is one that only a store has.
fn is_ours(name: &str) -> bool {
    [Registry::FILE, LOCK].contains(&name) || name.ends_with(".log.db")
}

/// Looks into a directory before a store is made in it.
///
/// # Errors
/// [`OpenError::Foreign`] if it has the data of another program. Other files are logged.
pub(super) fn refuse_data(directory: &Path) -> Result<(), OpenError> {
    let found = Strangers::look(directory);
    if let Strangers::Data { marker, of } = found {
        return Err(OpenError::Foreign { directory: shown(directory), marker, of });
    }
    if let Some(files) = found.told() {
        tracing::warn!(
            directory = %directory.display(),
            files,
            "the data directory is new and has other files: name another one if it was not meant"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in names {
            std::fs::write(folder.path().join(name), "").expect("the folder is ours");
        }
        folder
    }

    #[test]
    fn files_of_others_are_told_from_a_store() {
        for (names, told) in [
            (&[][..], None),
            (&["registry.db", "keys", "PG_VERSION"], None),
            (&["lock", "keys"], None),
            (&["1.log.db", "keys"], None),
            (&["keys"], Some("keys")),
            (&["b", "a", ".profile"], Some(".profile, a, b")),
            (&["b", "a", "d", "c", "e"], Some("a, b, c and 2 more")),
        ] {
            assert_eq!(Strangers::look(with(names).path()).told().as_deref(), told, "{names:?}");
        }
        let folder = with(&[]);
        std::fs::create_dir_all(folder.path().join("lost+found")).expect("the folder is ours");
        std::fs::create_dir_all(folder.path().join("shop")).expect("the folder is ours");
        std::fs::write(folder.path().join("shop/registry.db"), "").expect("the folder is ours");
        assert_eq!(Strangers::look(folder.path()), Strangers::None, "a disk's own folder, and another store");
        assert_eq!(Strangers::look(&folder.path().join("nowhere")), Strangers::None);
    }

    #[test]
    fn the_data_of_another_program_is_refused() {
        for (marker, of) in MARKERS {
            let folder = with(&[marker, "base"]);
            let refused = refuse_data(folder.path()).expect_err("it is another program's").to_string();
            assert!(refused.contains(marker) && refused.contains(of), "{refused}");
        }
    }
}
