//! What is seen while a run goes on, on standard error where a terminal looks; and Ctrl-C, which ends the run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::measure::Gauge;

const TEMPLATE: &str = "{bar:24} {pos}/{len} rounds  {elapsed}  {prefix}  {msg}";

/// The line that tells how far a run is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    watch: JoinHandle<()>,
}

impl Progress {
    /// A line for so many rounds, whose pace is the gauge's.
    pub(crate) fn begin(gauge: Arc<Gauge>, rounds: u64) -> Self {
        // Draws nothing where standard error is no terminal.
        let bar = ProgressBar::new(rounds);
        bar.set_style(ProgressStyle::with_template(TEMPLATE).expect("the template stands above"));
        let watch = tokio::spawn(watch(gauge, bar.clone()));
        Self { bar, watch }
    }

    /// What runs now.
    pub(crate) fn runs(&self, what: &str) {
        self.bar.set_prefix(what.to_owned());
    }

    /// One round more is done.
    pub(crate) fn round_is_done(&self) {
        self.bar.inc(1);
    }

    /// Takes the line away.
    pub(crate) fn end(&self) {
        self.watch.abort();
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// Shows the pace once a second, and stops the load at Ctrl-C or SIGTERM: what was started for it must end with it.
async fn watch(gauge: Arc<Gauge>, bar: ProgressBar) {
    let mut before = 0;
    let mut terminated = signal(SignalKind::terminate()).ok();
    let mut terminate = async || match &mut terminated {
        Some(signals) => signals.recv().await,
        None => std::future::pending().await,
    };
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => gauge.stop.store(true, Ordering::Relaxed),
            _ = terminate() => gauge.stop.store(true, Ordering::Relaxed),
            _ = ticks.tick() => {
                let now = gauge.requests.load(Ordering::Relaxed);
                bar.set_message(format!("{}/s", HumanCount(now - before)));
                before = now;
            }
        }
    }
}
