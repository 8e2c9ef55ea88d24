//! The fault matrix: each call on each file of a store fails, in each phase of a server's life, and the promise holds.
//!
//! The calls are not listed here: each phase is traced once, and every call that it makes becomes rows. A row holds if
//! everything acknowledged is found, nothing refused is there, writes work again without a restart once the fault is
//! gone, SIGTERM ends the process, `eventodb verify` finds the store sound, and a restart finds the same.
//!
//! `make faults` runs all rows (`EVENTODB_TEST_FAULTS=all`) and prints them; otherwise a sample runs, which the seed
//! chooses.

mod case;
mod damage;
mod injector;
mod ledger;
mod postgres;
mod room;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use eventodb_store::testing::{seed, tell};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use tokio::sync::Semaphore;

use self::case::{Case, Phase, Template};
use self::injector::{Fault, Survey};

/// `all` runs every row; a word runs the rows whose title contains it.
const WHICH: &str = "EVENTODB_TEST_FAULTS";
/// The number of rows of each phase in the sample, and of additional rows of failing reads.
const SAMPLE: usize = 4;
/// Rows that run side by side. Each waits most of the time.
const AT_ONCE: usize = 4;
/// A row fails if one step takes longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something, but not for ever.
async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work).await.with_context(|| format!("not within {PATIENCE:?}: {what}"))
}

/// How a call may fail.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "openat" => &["EMFILE", "EIO", "ENOSPC"],
        "pread64" => &["EIO"],
        "mmap" => &["ENOMEM"],
        _ => &["ENOSPC", "EIO"],
    }
}

/// The rows made of the calls that a phase was seen to make.
fn rows(phase: Phase, survey: &Survey) -> Vec<Case> {
    let mut rows = Vec::new();
    for ((file, call), most) in survey {
        let mut places = vec![1, 2, *most];
        places.retain(|nth| nth <= most);
        places.dedup();
        for error in errors(call) {
            let fault = |nth, lasts| Fault { call, file: file.clone(), error, nth, lasts };
            rows.extend(places.iter().map(|nth| Case { phase, fault: fault(*nth, false) }));
            rows.push(Case { phase, fault: fault(1, true) });
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_on_any_file_costs_no_acknowledged_write() {
    let mut random = StdRng::seed_from_u64(seed());
    let template = Arc::new(Template::prepare().await);
    let mut all = Vec::new();
    for phase in Phase::ALL {
        let survey = case::survey(phase, &template).await.unwrap_or_else(|error| panic!("{phase}: {error:#}"));
        all.extend(rows(phase, &survey));
    }
    let there = all.len();
    let which = std::env::var(WHICH).unwrap_or_default();
    let chosen: Vec<Case> = match &*which {
        "" => sample(&all, &mut random),
        "all" => all,
        word => all.into_iter().filter(|case| case.to_string().contains(word)).collect(),
    };
    tell(&format!("{} of {there} rows", chosen.len()));
    let failures = run(chosen, &template, &mut random).await;
    assert!(failures.is_empty(), "{} rows fail:\n{}", failures.len(), failures.join("\n"));
}

/// Some rows of each phase, and some of reads.
fn sample(all: &[Case], random: &mut StdRng) -> Vec<Case> {
    let mut chosen = Vec::new();
    for phase in Phase::ALL {
        let of_it: Vec<&Case> = all.iter().filter(|case| case.phase == phase).collect();
        chosen.extend(of_it.sample(random, SAMPLE).map(|case| (*case).clone()));
    }
    let reads: Vec<&Case> = all.iter().filter(|case| case.fault.call == "pread64").collect();
    chosen.extend(reads.sample(random, SAMPLE).map(|case| (*case).clone()));
    chosen
}

/// Runs rows side by side and prints each as it ends. Returns the failed ones in their order.
async fn run(mut cases: Vec<Case>, template: &Arc<Template>, random: &mut StdRng) -> Vec<String> {
    let begun = Instant::now();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    // The rows are shuffled, so that rows of one kind do not all run at the same time.
    cases.shuffle(random);
    let tasks: Vec<_> = cases
        .into_iter()
        .map(|case| {
            let (places, template) = (places.clone(), template.clone());
            tokio::spawn(async move {
                let _place = places.acquire().await.expect("never closed");
                let outcome = case.run(&template).await;
                let line = match &outcome {
                    Ok(told) => format!("{case} holds: {told}"),
                    Err(error) => format!("{case} FAILS: {error:#}"),
                };
                tell(&line);
                (line, outcome.is_err())
            })
        })
        .collect();
    let mut failures = Vec::new();
    for task in tasks {
        let (line, fails) = task.await.expect("a row does not panic");
        if fails {
            failures.push(line);
        }
    }
    failures.sort();
    tell(&format!("{} rows fail; it took {:?}", failures.len(), begun.elapsed()));
    failures
}
