//! Faults of PostgreSQL and of the connections to it, under a server that writes: the server keeps its promises.
//!
//! A row holds if everything acknowledged is found, nothing refused is there, reads and writes were answered with 200,
//! 503 and 504 only, writes work again without a restart of the server once PostgreSQL works, SIGTERM ends the server,
//! and a restart finds the same. If PostgreSQL ends by the fault, the row starts it again.

mod cut;
mod disk;
mod fault;
mod scene;

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context as _, Result};
use eventodb_store::testing::{seed, tell};
use eventodb_testing::postgres;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use self::cut::{OPERATIONS, POINTS};
use self::disk::Full;
use self::fault::{Fault, File};
use self::scene::Scene;
use super::WHICH;

/// Rows of failing calls in the sample, which also has one row of each other kind.
const SAMPLED_CALLS: usize = 2;

/// Calls by which PostgreSQL uses its files, the errors of each, and whether a process makes it more than once.
const CALLS: [(File, &str, &[&str], bool); 13] = [
    (File::Wal, "openat", &["EIO", "EMFILE"], false),
    (File::Wal, "pwrite64", &["ENOSPC", "EIO"], true),
    (File::Wal, "fdatasync", &["ENOSPC", "EIO"], true),
    (File::Messages, "openat", &["EIO", "EMFILE"], false),
    (File::Messages, "pread64", &["EIO"], true),
    (File::Messages, "pwrite64", &["ENOSPC", "EIO"], true),
    (File::Messages, "fsync", &["ENOSPC", "EIO"], true),
    (File::Key, "openat", &["EIO"], false),
    (File::Key, "pread64", &["EIO"], true),
    (File::Key, "fsync", &["EIO"], true),
    (File::Transactions, "pwrite64", &["ENOSPC", "EIO"], true),
    (File::Transactions, "fsync", &["EIO"], true),
    (File::Control, "write", &["ENOSPC", "EIO"], true),
];

fn rows() -> Vec<Fault> {
    let mut rows = Vec::new();
    for (file, call, errors, is_repeated) in CALLS {
        for &error in errors {
            let fault = |nth, lasts| Fault::Call { file, call, error, nth, lasts };
            rows.extend([fault(1, false), fault(1, true)]);
            rows.extend(is_repeated.then(|| fault(2, false)));
        }
    }
    rows.extend(OPERATIONS.into_iter().flat_map(|operation| POINTS.map(|point| Fault::Cut(operation, point))));
    rows.extend([Fault::Full(Full::Wal), Fault::Full(Full::Tablespace)]);
    rows.extend([Fault::KillSession, Fault::KillAll, Fault::Stop("immediate"), Fault::Stop("fast")]);
    rows.extend([Fault::EndEachSession, Fault::ReadOnly, Fault::StopServerMeanwhile]);
    rows
}

/// One row of each kind, and some of failing calls.
fn sample(mut rows: Vec<Fault>, random: &mut StdRng) -> Vec<Fault> {
    rows.shuffle(random);
    let (calls, mut others): (Vec<Fault>, Vec<Fault>) = rows.into_iter().partition(|row| row.kind() == "call");
    let mut kinds = HashSet::new();
    others.retain(|row| kinds.insert(row.kind()));
    calls.into_iter().take(SAMPLED_CALLS).chain(others).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_postgresql_costs_no_acknowledged_write() {
    let mut random = StdRng::seed_from_u64(seed());
    let all = rows();
    let there = all.len();
    let which = std::env::var(WHICH).unwrap_or_default();
    let chosen: Vec<Fault> = match &*which {
        "" => sample(all, &mut random),
        "all" => all,
        word => all.into_iter().filter(|fault| fault.to_string().contains(word)).collect(),
    };
    tell(&format!("{} of {there} rows of PostgreSQL", chosen.len()));
    if chosen.is_empty() {
        return;
    }
    let (begun, postgres) = (Instant::now(), postgres::Server::start(&[]));
    let mut failures = Vec::new();
    // The rows run one after the other, because a fault of PostgreSQL affects all of its databases.
    for fault in chosen {
        let row_begun = Instant::now();
        let line = match run(&fault, &postgres).await {
            Ok(told) => format!("{fault} holds: {told} ({:.1} s)", row_begun.elapsed().as_secs_f64()),
            Err(error) => {
                failures.push(format!("{fault} FAILS: {error:#}"));
                failures[failures.len() - 1].clone()
            }
        };
        tell(&line);
    }
    tell(&format!("{} rows of PostgreSQL fail; it took {:?}", failures.len(), begun.elapsed()));
    assert!(failures.is_empty(), "{} rows fail:\n{}", failures.len(), failures.join("\n"));
}

/// Runs a row. Returns a description of how it held, or the promise that was broken.
async fn run(fault: &Fault, postgres: &postgres::Server) -> Result<String> {
    match fault {
        Fault::Full(full) => disk::run(*full).await,
        Fault::Cut(operation, point) => cut::run(*operation, *point, postgres).await,
        _ => {
            let mut scene = Scene::prepare(postgres, "").await?;
            let outcome = strike_and_check(fault, &mut scene).await;
            outcome.with_context(|| format!("(the server's log ends: {})", scene.log()))
        }
    }
}

async fn strike_and_check(fault: &Fault, scene: &mut Scene<'_>) -> Result<String> {
    let told = fault.strike(scene).await;
    scene.revive();
    let told = told?;
    scene.check_afterwards().await?;
    Ok(format!("{told}; {}", scene.tally()))
}
