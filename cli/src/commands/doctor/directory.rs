//! The data directory of a store on SQLite: its disk, its modes, its registry.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eventodb_protocol::Timestamp;
use eventodb_store::Chain;
use eventodb_store::sqlite::Strangers;
use eventodb_store::sqlite::maintenance::{self, NamespaceLook};

use super::clock;
use super::finding::{Finding, bytes};

/// Syncs that are timed. The one in the middle counts.
const SYNCS: usize = 9;
/// A disk that takes longer for a sync is told.
const SLOW: Duration = Duration::from_millis(50);
/// Less free room than this is told. On a small disk it is a [`SHARE`]th of it.
const NEARLY: u64 = 1024 * 1024 * 1024;
const SHARE: u64 = 20;
/// The rights of users other than the owner.
const OTHERS: u32 = 0o077;
/// The mode bit that lets every user look into a directory.
const EVERYBODY: u32 = 0o005;

/// Why a store cannot be read.
pub(super) struct Unreadable {
    pub(super) told: String,
    /// Whether a newer version of this program is needed.
    pub(super) is_newer: bool,
}

/// What was found out about a data directory.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// Its mode, if it is there.
    pub(super) mode: Option<u32>,
    /// Free bytes and all bytes of the disk.
    pub(super) room: Option<(u64, u64)>,
    /// Bytes that the server keeps free.
    pub(super) min_free: u64,
    /// The number by which Linux knows the kind of file system.
    pub(super) kind: Option<u64>,
    /// The time of a sync, or why no file can be made.
    pub(super) sync: io::Result<Duration>,
    /// What is there in place of a store.
    pub(super) strangers: Strangers,
    /// What the store holds, if there is one.
    pub(super) store: Option<Result<Vec<NamespaceLook>, Unreadable>>,
}

impl Directory {
    /// Looks at a directory, or at the nearest one above it that is there. The disk is timed with a file without a name, which
    /// is gone when it is closed.
    pub(super) fn look(path: PathBuf, min_free: u64) -> Self {
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        let there = absolute.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned();
        let disk = rustix::fs::statvfs(&there).ok();
        let has_store = path.join("registry.db").exists();
        let store = has_store.then(|| {
            maintenance::look(&path)
                .map_err(|error| Unreadable { told: Chain(&error).to_string(), is_newer: error.is_newer() })
        });
        Self {
            mode: fs::metadata(&path).ok().map(|metadata| metadata.permissions().mode()),
            room: disk
                .map(|disk| (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize))),
            min_free,
            kind: rustix::fs::statfs(&there).ok().map(|disk| disk.f_type.cast_unsigned()),
            sync: time_syncs(&there),
            strangers: Strangers::look(&path),
            store,
            path,
        }
    }

    /// What is wrong with it.
    pub(super) fn faults(&self, now: Timestamp) -> Vec<Finding> {
        let mut faults = Vec::new();
        faults.extend(self.room_fault());
        faults.extend(self.kind_fault());
        faults.extend(self.sync_fault());
        faults.extend(self.mode_fault());
        faults.extend(self.strangers_fault());
        match &self.store {
            Some(Ok(namespaces)) => faults.extend(store_faults(namespaces, now)),
            Some(Err(Unreadable { told, is_newer: true })) => faults.push(Finding::error(
                "SCHEMA_NEWER",
                told.clone(),
                "A newer server has migrated it to what this version does not know; this one would not start.",
                "Install that version, or go back to a backup of before the upgrade.",
            )),
            Some(Err(Unreadable { told, is_newer: false })) => faults.push(Finding::error(
                "STORE_UNREADABLE",
                format!("the store in {} cannot be read: {told}", self.path.display()),
                "The server would not start on it, or another user owns it.",
                "Run this command as the user of the server. If it says the same, `eventodb verify` tells what is damaged.",
            )),
            None => {}
        }
        faults
    }

    fn room_fault(&self) -> Option<Finding> {
        let (free, all) = self.room?;
        let is_full = self.sync.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull);
        let what = |than: &str| {
            format!("{} of {} are free on the disk of {}{than}", bytes(free), bytes(all), self.path.display())
        };
        let cure = "Make room on this disk, or move the data directory (with the server stopped) to a larger one.";
        if is_full {
            return Some(Finding::error("DISK_FULL", what(""), "No write reaches the disk: each is refused.", cure));
        }
        if free < self.min_free {
            return Some(Finding::error(
                "DISK_FULL",
                what(&format!(", less than --min-free ({})", bytes(self.min_free))),
                "Writes are refused, so that the disk does not run full in the middle of one.",
                cure,
            ));
        }
        (free < NEARLY.min(all / SHARE)).then(|| {
            Finding::warning(
                "DISK_NEARLY_FULL",
                what(""),
                "Writes are refused once less than --min-free is left.",
                cure,
            )
        })
    }

    /// The numbers are those of statfs(2).
    fn kind_fault(&self) -> Option<Finding> {
        let at = |kind: &str| format!("{} is on {kind}", self.path.display());
        match self.kind? {
            0x0102_1994 | 0x8584_58f6 => Some(Finding::error(
                "DISK_IN_MEMORY",
                at("a file system in memory (tmpfs)"),
                "All messages are gone after a restart of the machine.",
                "Name a directory on a disk with --data-dir.",
            )),
            0x6969 | 0x517b | 0xfe53_4d42 | 0xff53_4d42 | 0x0102_1997 | 0x5346_414f | 0x00c3_6400 => {
                Some(Finding::error(
                    "DISK_REMOTE",
                    at("a file system of a network (NFS, SMB, 9p, AFS or Ceph)"),
                    "SQLite needs memory that processes share and locks that hold, and many of these have neither: files can be damaged.",
                    "Name a directory on a disk of this machine with --data-dir, or use PostgreSQL.",
                ))
            }
            0x6573_5546 => Some(Finding::warning(
                "DISK_FUSE",
                at("a file system of FUSE"),
                "It depends on its program whether a sync reaches a disk and whether locks hold.",
                "Name a directory on a disk of this machine with --data-dir.",
            )),
            0x794c_7630 => Some(Finding::warning(
                "DISK_OF_CONTAINER",
                at("the layer of a container (overlay)"),
                "All messages are gone when the container is removed.",
                "Mount a volume there.",
            )),
            _ => None,
        }
    }

    fn sync_fault(&self) -> Option<Finding> {
        match &self.sync {
            Ok(time) if *time <= SLOW => None,
            Ok(time) => Some(Finding::warning(
                "DISK_SLOW",
                format!("a sync of 4 KiB takes {} ms on the disk of {}", time.as_millis(), self.path.display()),
                "Each commit waits for a sync, so that a write takes at least as long.",
                "Look what else writes to this disk; use a local SSD. A disk of a cloud has a limit that can be raised.",
            )),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => None,
            Err(error) => Some(Finding::error(
                "DIRECTORY_NOT_WRITABLE",
                format!("no file can be made in {} or above it: {error}", self.path.display()),
                "The server would not start, or would take no writes.",
                "Run this command as the user of the server; if it says the same, give that user the directory (chown), or make \
                 the disk writable.",
            )),
        }
    }

    fn strangers_fault(&self) -> Option<Finding> {
        let cure = "Name a directory of its own with --data-dir.";
        if let Strangers::Data { marker, of } = self.strangers {
            let what = format!("{} has {marker}, a file of {of}", self.path.display());
            return Some(Finding::error("DIRECTORY_FOREIGN", what, "The server would not start.", cure));
        }
        self.strangers.told().map(|files| {
            Finding::warning(
                "DIRECTORY_FOREIGN",
                format!("{} has no store, and other files: {files}", self.path.display()),
                "The server would make its files among them, which is seldom meant.",
                cure,
            )
        })
    }

    fn mode_fault(&self) -> Option<Finding> {
        let mode = self.mode?;
        (mode & EVERYBODY != 0).then(|| {
            Finding::warning(
                "DIRECTORY_OPEN",
                format!("every user of this machine may look into {} (mode {:o})", self.path.display(), mode & 0o777),
                "It holds all messages. Files that the server makes are its own, but what is copied there may not be.",
                format!("chmod 700 {} (rights to take away: {:o})", self.path.display(), mode & OTHERS),
            )
        })
    }
}

fn store_faults(namespaces: &[NamespaceLook], now: Timestamp) -> Vec<Finding> {
    let (from, to) = clock::ends_that_matter(now);
    let mut faults = Vec::new();
    let last = namespaces.iter().filter_map(|namespace| Some((namespace.last_time?, &namespace.name))).max();
    faults.extend(last.and_then(|(time, name)| clock::behind_log(time, &format!("namespace {name}"), now)));
    for token in namespaces.iter().flat_map(|namespace| &namespace.tokens) {
        let lives = token.revoked_at.is_none() && token.ends_at.is_none();
        let end = token.expires_at.filter(|end| lives && (from..=to).contains(end));
        faults.extend(end.map(|end| clock::token_ends(&token.id.0.to_string(), &token.namespace, end, now)));
    }
    faults
}

/// The time of a sync behind a small write, on the disk of this directory.
fn time_syncs(directory: &Path) -> io::Result<Duration> {
    let mut file: File = tempfile::tempfile_in(directory)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[0; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Directory {
        Directory {
            path: PathBuf::from("data"),
            mode: Some(0o40_700),
            room: Some((1 << 40, 1 << 41)),
            min_free: 1 << 28,
            kind: Some(0xef53),
            sync: Ok(Duration::from_millis(1)),
            strangers: Strangers::None,
            store: None,
        }
    }

    fn codes(directory: &Directory) -> Vec<(u8, &'static str)> {
        directory.faults(Timestamp::now()).iter().map(|finding| (finding.severity as u8, finding.code)).collect()
    }

    fn unreadable(is_newer: bool) -> Option<Result<Vec<NamespaceLook>, Unreadable>> {
        Some(Err(Unreadable { told: "it cannot be used".to_owned(), is_newer }))
    }

    /// Disks that a test cannot have are planted here.
    #[test]
    fn each_fault_of_a_disk_is_told() {
        assert_eq!(codes(&sound()), []);
        assert_eq!(
            codes(&Directory { mode: None, room: None, kind: None, ..sound() }),
            [],
            "what is not known is no fault"
        );
        for (directory, told) in [
            (Directory { room: Some(((1 << 28) - 1, 1 << 41)), ..sound() }, (2, "DISK_FULL")),
            (Directory { room: Some((1 << 29, 1 << 41)), ..sound() }, (1, "DISK_NEARLY_FULL")),
            (Directory { kind: Some(0x0102_1994), ..sound() }, (2, "DISK_IN_MEMORY")),
            (Directory { kind: Some(0x6969), ..sound() }, (2, "DISK_REMOTE")),
            (Directory { kind: Some(0x6573_5546), ..sound() }, (1, "DISK_FUSE")),
            (Directory { kind: Some(0x794c_7630), ..sound() }, (1, "DISK_OF_CONTAINER")),
            (Directory { sync: Ok(SLOW + Duration::from_millis(1)), ..sound() }, (1, "DISK_SLOW")),
            (Directory { sync: Err(io::ErrorKind::PermissionDenied.into()), ..sound() }, (2, "DIRECTORY_NOT_WRITABLE")),
            (Directory { sync: Err(io::ErrorKind::StorageFull.into()), ..sound() }, (2, "DISK_FULL")),
            (Directory { mode: Some(0o40_755), ..sound() }, (1, "DIRECTORY_OPEN")),
            (
                Directory { strangers: Strangers::Data { marker: "ibdata1", of: "MySQL" }, ..sound() },
                (2, "DIRECTORY_FOREIGN"),
            ),
            (
                Directory { strangers: Strangers::Some { first: vec!["a".to_owned()], count: 1 }, ..sound() },
                (1, "DIRECTORY_FOREIGN"),
            ),
            (Directory { store: unreadable(false), ..sound() }, (2, "STORE_UNREADABLE")),
            (Directory { store: unreadable(true), ..sound() }, (2, "SCHEMA_NEWER")),
        ] {
            assert_eq!(codes(&directory), [told]);
        }
        // A group of the machine's may read: services get at files that way.
        assert_eq!(codes(&Directory { mode: Some(0o40_750), ..sound() }), []);
    }

    #[test]
    fn timing_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        time_syncs(folder.path()).expect("it is ours");
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
    }
}
