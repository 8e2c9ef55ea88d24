//! A full disk of PostgreSQL: the disk of its write-ahead log, or of a tablespace with the messages.

use std::fmt;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use eventodb_testing::postgres;
use tempfile::TempDir;

use super::scene::{LOOK_EVERY, Scene};

/// The disk that is full.
#[derive(Clone, Copy, Debug)]
pub(super) enum Full {
    /// Of the write-ahead log: PostgreSQL ends, and does not start before there is room.
    Wal,
    /// Of the messages: PostgreSQL refuses statements that need room.
    Tablespace,
}

impl fmt::Display for Full {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Wal => "the disk of the write-ahead log",
            Self::Tablespace => "the disk of the messages",
        })
    }
}

/// A small disk in memory, gone when it is dropped.
struct Disk(TempDir);

impl Disk {
    /// `None` if mounting is not allowed.
    fn mount(size: &str) -> Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "tmpfs"]).arg(directory.path());
        Ok(mount.output()?.status.success().then_some(Self(directory)))
    }

    /// A folder on the disk with the owner of the other folder.
    fn folder_like(&self, other: &Path) -> Result<std::path::PathBuf> {
        let folder = self.0.path().join("folder");
        std::fs::create_dir(&folder)?;
        let owner = std::fs::metadata(other)?;
        chown(&folder, Some(owner.uid()), Some(owner.gid()))?;
        Ok(folder)
    }

    /// Fills the disk until [`Disk::empty`].
    fn fill(&self) -> Result<()> {
        let mut filler = std::fs::File::create(self.0.path().join("filler"))?;
        let full = std::io::copy(&mut std::io::repeat(1), &mut filler);
        ensure!(full.is_err(), "the disk has no end");
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.path().join("filler"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Runs the row on a PostgreSQL of its own.
pub(super) async fn run(full: Full) -> Result<String> {
    let Some(disk) = Disk::mount("48m")? else {
        return Ok("NOT TRIED: this user may not mount a disk".to_owned());
    };
    // It is declared after the disk, so that it ends before the disk is removed.
    let postgres = postgres::Server::start(&[]);
    let folder = disk.folder_like(postgres.folder())?;
    let options = match full {
        Full::Wal => {
            tokio::task::block_in_place(|| move_wal(&postgres, &folder))?;
            String::new()
        }
        Full::Tablespace => {
            let create = format!("CREATE TABLESPACE small LOCATION '{}'", folder.display());
            postgres::run(&postgres.url("postgres"), &create).await;
            "TABLESPACE small".to_owned()
        }
    };
    let mut scene = Scene::prepare(&postgres, &options).await?;
    let outcome = fill_and_check(full, &disk, &mut scene).await;
    outcome.with_context(|| format!("(the server's log ends: {})", scene.log()))
}

async fn fill_and_check(full: Full, disk: &Disk, scene: &mut Scene<'_>) -> Result<String> {
    let load = scene.load();
    scene.until_more(3, 0).await?;
    disk.fill()?;
    tokio::select! {
        felt = scene.until_more(0, 3) => felt?,
        () = use_wal(full, scene) => {}
    }
    disk.empty()?;
    scene.revive();
    scene.until_more(3, 0).await?;
    load.stop().await?;
    scene.check_afterwards().await?;
    Ok(format!("got over; {}", scene.tally()))
}

/// Begins new segments of the write-ahead log, because the load alone would take long to fill one.
async fn use_wal(full: Full, scene: &Scene<'_>) {
    loop {
        // If it fails, PostgreSQL has met the fault.
        if matches!(full, Full::Wal) && scene.sql("SELECT pg_switch_wal()").await.is_err() {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Moves the write-ahead log to another folder.
fn move_wal(postgres: &postgres::Server, to: &Path) -> Result<()> {
    postgres.stop("fast");
    let wal = postgres.folder().join("data/pg_wal");
    let copied = Command::new("cp").arg("-a").arg(wal.join(".")).arg(to).status()?;
    ensure!(copied.success(), "the write-ahead log can be copied");
    std::fs::remove_dir_all(&wal)?;
    symlink(to, &wal)?;
    postgres.start_again();
    Ok(())
}
