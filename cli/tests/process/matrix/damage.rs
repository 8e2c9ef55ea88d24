//! A server is killed under load, one of its files is damaged, and the next server starts on what is left.
//!
//! No message is served with other content than it was written with, be it along the log or along a category. If the
//! server does not serve a message that was acknowledged more than two seconds before the kill, it says so: it does not
//! start, refuses writes, or logs an error. If `verify` finds the files sound, all of these messages are there: the
//! damage was in unused bytes.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use eventodb_store::testing::{seed, tell};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::process::Command;

use super::super::server::{BINARY, Server};
use super::WHICH;
use super::case::{Scene, Template};
use super::ledger::Ledger;
use super::patiently;

const ROUNDS: u64 = 20;
const SAMPLED_ROUNDS: u64 = 4;
const PAGE: u64 = 4096;

/// The damage to a file, and its place.
#[derive(Debug)]
enum Damage {
    Flip { byte: u64, bit: u8 },
    Zero { page: u64 },
    Cut { to: u64 },
}

impl Damage {
    fn choose(length: u64, random: &mut StdRng) -> Self {
        match random.random_range(0..3) {
            0 => Self::Flip { byte: random.random_range(0..length), bit: random.random_range(0..8) },
            1 => Self::Zero { page: random.random_range(0..length.div_ceil(PAGE)) },
            _ => Self::Cut { to: random.random_range(length / 2..length) },
        }
    }

    fn inflict(&self, path: &Path) -> std::io::Result<()> {
        let file = File::options().read(true).write(true).open(path)?;
        match *self {
            Self::Flip { byte, bit } => {
                let mut held = [0];
                file.read_exact_at(&mut held, byte)?;
                file.write_all_at(&[held[0] ^ (1 << bit)], byte)
            }
            Self::Zero { page } => {
                let length = (file.metadata()?.len() - page * PAGE).min(PAGE);
                file.write_all_at(&vec![0; usize::try_from(length).expect("a page is small")], page * PAGE)
            }
            Self::Cut { to } => file.set_len(to),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip { byte, bit } => write!(formatter, "bit {bit} of byte {byte} flipped"),
            Self::Zero { page } => write!(formatter, "page {page} zeroed"),
            Self::Cut { to } => write!(formatter, "cut to {to} bytes"),
        }
    }
}

/// The file to damage: any one, or a file with messages, in every other row and in the whole sample.
fn choose_file(data: &Path, all: bool, random: &mut StdRng) -> Result<String> {
    let any = all && random.random();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(data)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| anyhow::anyhow!("a file's name is text"))?;
        let holds_messages = name.ends_with(".log.db") || name.ends_with(".log.db-wal");
        if entry.metadata()?.len() > 0 && (any || holds_messages) {
            names.push(name);
        }
    }
    names.sort_unstable();
    names.choose(random).cloned().context("there are files")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_a_killed_server_is_never_served_as_true_nor_missing_in_silence() {
    let all = std::env::var(WHICH).is_ok_and(|which| which == "all");
    let seed = seed();
    let template = Template::prepare().await;
    let mut failures = Vec::new();
    for round in 0..if all { ROUNDS } else { SAMPLED_ROUNDS } {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(round));
        let mut title = format!("round {round}");
        match play(&template, all, &mut random, &mut title).await {
            Ok(told) => tell(&format!("{title} holds: {told}")),
            Err(error) => {
                tell(&format!("{title} FAILS: {error:#}"));
                failures.push(format!("{title}: {error:#}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} rounds fail:\n{}", failures.len(), failures.join("\n"));
}

async fn play(template: &Template, all: bool, random: &mut StdRng, title: &mut String) -> Result<String> {
    let scene = template.copy()?;
    fill(&scene, random).await?;
    let server = scene.start().await?;
    let writers: Vec<_> = scene.ledgers.iter().map(|ledger| ledger.write(&server.address)).collect();
    // The sleep makes the moment of the kill random, and is long enough for some writes to be older than two seconds.
    tokio::time::sleep(Duration::from_millis(random.random_range(2_500..4_500))).await;
    let killed = Instant::now();
    server.kill().await;
    for writers in writers {
        writers.stop().await?;
    }
    let file = choose_file(&scene.data, all, random)?;
    let path = scene.data.join(&file);
    let damage = Damage::choose(std::fs::metadata(&path)?.len(), random);
    damage.inflict(&path)?;
    *title += &format!(" | {file} | {damage} |");
    let is_sound = verify_copy(&scene).await?;
    judge(&scene, killed, is_sound).await
}

/// A server writes for a while and stops, so that the files of its logs have messages, and not only the write-ahead
/// logs.
async fn fill(scene: &Scene, random: &mut StdRng) -> Result<()> {
    let server = scene.start().await?;
    let writers: Vec<_> = scene.ledgers.iter().map(|ledger| ledger.write(&server.address)).collect();
    tokio::time::sleep(Duration::from_millis(random.random_range(200..1_500))).await;
    for writers in writers {
        writers.stop().await?;
    }
    scene.stop(server).await
}

/// Whether `verify` finds nothing wrong. It looks at a copy, because SQLite recovers what it opens.
async fn verify_copy(scene: &Scene) -> Result<bool> {
    let copy = tempfile::tempdir()?;
    for entry in std::fs::read_dir(&scene.data)? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
    }
    let verify = Command::new(BINARY).arg("verify").arg(copy.path()).output();
    Ok(patiently("verify ends", verify).await??.status.success())
}

async fn judge(scene: &Scene, killed: Instant, is_sound: bool) -> Result<String> {
    let verdict = if is_sound { "verify finds it sound" } else { "verify finds it" };
    let mut command = scene.command(BINARY)?;
    command.args(Server::arguments(&scene.data));
    let Ok(server) = Server::try_launch(command).await else {
        ensure!(scene.log() != "it says nothing", "the server does not start and says nothing");
        ensure!(!is_sound, "verify finds sound what no server starts on: {}", scene.log());
        return Ok(format!("{verdict}; the start is refused"));
    };
    let mut told = vec![verdict.to_owned()];
    for ledger in &scene.ledgers {
        let (found, refused) = (ledger.read_damaged(&server.address, killed).await?, ledger.is_refused(&server).await);
        let is_loud = refused || !found.is_whole() || scene.logged_errors();
        let what = format!("{}: {found}, writes {}", ledger.namespace, if refused { "refused" } else { "taken" });
        ensure!(found.missing == 0 || is_loud, "messages are missing in silence: {what}");
        ensure!(!is_sound || found.missing == 0 && found.is_whole(), "verify finds it sound, but {what}");
        told.push(what);
    }
    scene.stop(server).await?;
    Ok(told.join("; "))
}

impl Ledger {
    /// Whether the namespace refuses writes.
    async fn is_refused(&self, server: &Server) -> bool {
        self.write_once(&server.address).await.is_none_or(|status| status != 200)
    }
}
