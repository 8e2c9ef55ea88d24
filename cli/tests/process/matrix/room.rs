//! A small disk that fills up under load. Whichever write finds it full, no acknowledged message is lost, reads are
//! answered, also by a server that starts on the full disk, and writes succeed once there is room.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use eventodb_store::testing::{Disk, seed, tell};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::super::server::Server;
use super::case::{Scene, Template};
use super::{WHICH, patiently};

/// Sizes of disks, in units of half a megabyte, so that appends, the indexer and checkpoints find a full disk in turn.
const SIZES: std::ops::RangeInclusive<u64> = 16..=40;
const UNIT: u64 = 512 * 1024;
/// Bytes that are freed once the disk is full.
const ROOM: usize = 6 * 1024 * 1024;
/// Bytes of each message: enough of them fit for each file to grow.
const FILLING: usize = 2_000;
/// Writes of each namespace that are refused before the disk counts as full.
const REFUSED: usize = 20;
/// Rows of the sample.
const SAMPLE: usize = 3;

/// What happens to the server on the full disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It goes on.
    GoesOn,
    /// It is stopped, and another starts.
    Stops,
    /// It is killed, and another starts.
    IsKilled,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    size: u64,
    then: Then,
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let then = match self.then {
            Then::GoesOn => "goes on",
            Then::Stops => "stops",
            Then::IsKilled => "is killed",
        };
        write!(
            formatter,
            "tmpfs of {:4.1} MiB fills up | the server {then:9} |",
            (self.size * UNIT) as f64 / 1_048_576.0
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_costs_no_acknowledged_write() {
    let all: Vec<Row> =
        SIZES.flat_map(|size| [Then::GoesOn, Then::Stops, Then::IsKilled].map(|then| Row { size, then })).collect();
    let which = std::env::var(WHICH).unwrap_or_default();
    let chosen: Vec<Row> = match &*which {
        "" => all.sample(&mut StdRng::seed_from_u64(seed()), SAMPLE).copied().collect(),
        "all" => all,
        word => all.into_iter().filter(|row| row.to_string().contains(word)).collect(),
    };
    let template = Template::prepare().await;
    let mut failures = Vec::new();
    for row in chosen {
        let Some(disk) = Disk::mount(row.size * UNIT) else { return };
        match row.run(&template, &disk).await {
            Ok(told) => tell(&format!("{row} holds: {told}")),
            Err(error) => {
                let line = format!("{row} FAILS: {error:#}");
                tell(&line);
                failures.push(line);
            }
        }
    }
    assert!(failures.is_empty(), "{} rows fail:\n{}", failures.len(), failures.join("\n"));
}

impl Row {
    async fn run(self, template: &Template, disk: &Disk) -> Result<String> {
        let room = disk.path().join("room");
        std::fs::write(&room, vec![0; ROOM])?;
        let mut scene = template.copy_to(disk.path().join("data"), tempfile::tempdir()?)?;
        scene.ledgers = scene.ledgers.into_iter().map(|ledger| ledger.filled(FILLING)).collect();
        let outcome = self.run_in(&scene, disk, &room).await;
        outcome.with_context(|| format!("(its log ends: {})", scene.log()))
    }

    async fn run_in(self, scene: &Scene, disk: &Disk, room: &Path) -> Result<String> {
        let mut server = scene.start().await?;
        fill_up(scene, &server).await?;
        if self.then != Then::GoesOn {
            match self.then {
                Then::Stops => scene.stop(server).await?,
                _ => server.kill().await,
            }
            // The rest of the disk is not enough either.
            disk.fill();
            server = scene.start().await.context("the start on the full disk")?;
            scene.check_served(&server.address).await.context("on the full disk")?;
            disk.make_room();
        }
        std::fs::remove_file(PathBuf::from(room))?;
        scene.check_afterwards(server).await?;
        let tallies: Vec<String> = scene.ledgers.iter().map(super::ledger::Ledger::tally).collect();
        Ok(tallies.join("; "))
    }
}

/// Writes to all namespaces until each was refused for a while.
async fn fill_up(scene: &Scene, server: &Server) -> Result<()> {
    let writers: Vec<_> = scene.ledgers.iter().map(|ledger| ledger.write(&server.address)).collect();
    patiently("the disk fills up", async {
        while scene.ledgers.iter().any(|ledger| ledger.refused() < REFUSED) {
            ensure!(!scene.log().contains("panicked"), "the server panics");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Ok(())
    })
    .await??;
    for writers in writers {
        writers.stop().await?;
    }
    Ok(())
}
