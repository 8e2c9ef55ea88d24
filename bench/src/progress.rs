//! The progress of a run, shown on standard error if it is a terminal; and Ctrl-C, which ends the run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::measure::Gauge;

const TEMPLATE: &str = "{bar:24} {pos}/{len} rounds  {elapsed}  {prefix}  {msg}";

/// The line that tells how far a run is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    watch: JoinHandle<()>,
    at_once: CancellationToken,
}

impl Progress {
    /// A line that counts rounds and shows the gauge's pace. From now on Ctrl-C and SIGTERM stop the gauge.
    pub(crate) fn begin(gauge: Arc<Gauge>, rounds: u64) -> anyhow::Result<Self> {
        // Draws nothing where standard error is no terminal.
        let bar = ProgressBar::new(rounds);
        bar.set_style(ProgressStyle::with_template(TEMPLATE).expect("the template stands above"));
        let wait = |kind| signal(kind).context("cannot wait for Ctrl-C");
        let signals = (wait(SignalKind::interrupt())?, wait(SignalKind::terminate())?);
        let at_once = CancellationToken::new();
        let watch = tokio::spawn(watch(gauge, bar.clone(), signals, at_once.clone()));
        Ok(Self { bar, watch, at_once })
    }

    pub(crate) fn runs(&self, what: &str) {
        self.bar.set_prefix(what.to_owned());
    }

    pub(crate) fn round_is_done(&self) {
        self.bar.inc(1);
    }

    /// Runs to the end, or to the second signal, which waits for nothing.
    pub(crate) async fn unless_ended_at_once<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.at_once.run_until_cancelled(work).await
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.watch.abort();
        self.bar.finish_and_clear();
    }
}

/// Shows the pace once a second. After the first signal the load stops, servers end, and the figures so far are shown.
/// After the second signal the run ends without that.
async fn watch(gauge: Arc<Gauge>, bar: ProgressBar, signals: (Signal, Signal), at_once: CancellationToken) {
    let mut before = 0;
    let (mut interrupted, mut terminated) = signals;
    let broken_off = || {
        if gauge.stop.swap(true, Ordering::Relaxed) {
            at_once.cancel();
        }
        bar.println("ends with what there is; once more ends at once");
    };
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = interrupted.recv() => broken_off(),
            _ = terminated.recv() => broken_off(),
            _ = ticks.tick() => {
                let now = gauge.requests.load(Ordering::Relaxed);
                bar.set_message(format!("{}/s", HumanCount(now - before)));
                before = now;
            }
        }
    }
}
