//! A small disk in memory, which is easily filled, and easily made read-only.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::tell;

/// A file system of its own, gone when this is dropped.
#[derive(Debug)]
pub struct Disk {
    directory: TempDir,
}

impl Disk {
    /// A disk of `bytes` bytes. Says so and returns `None` if this process may not mount anything.
    ///
    /// # Panics
    /// There is no temporary folder.
    pub fn mount(bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"])
            .arg(directory.path())
            .output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self { directory });
        }
        tell("NOT TESTED: a disk of its own cannot be mounted here; run this test as root");
        None
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Leaves no room at all.
    ///
    /// # Panics
    /// The filler cannot be made.
    pub fn fill(&self) {
        let mut file = std::fs::File::options().create(true).append(true).open(self.filler()).expect("an empty file");
        while file.write_all(&[0; 1]).is_ok() {
            // By whole pages as long as they fit.
            while file.write_all(&[0; 4096]).is_ok() {}
        }
    }

    /// Removes the file that [`Self::fill`] made.
    ///
    /// # Panics
    /// The filler is gone.
    pub fn make_room(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    /// Lets nothing be written, or lets it again.
    ///
    /// # Panics
    /// A file is open for writing.
    pub fn set_read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        let mounted = Command::new("mount").args(["-o", options]).arg(self.path()).status();
        assert!(mounted.is_ok_and(|status| status.success()), "{options} fails");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a failed test may have left files open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
