//! The signals that end `eventodb consume`.
//!
//! A command has a process group of its own, so that a signal which ends `eventodb` alone would let it act on beside the next
//! owner of the message. Therefore each signal that a terminal or a supervisor sends is taken.

use std::process::ExitCode;

use anyhow::Context as _;
use eventodb_client::worker::WorkerError;
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};
use tokio_util::sync::CancellationToken;

use super::child;
use crate::commands::notices::say;
use crate::usage::{Exit, Refused};

/// Runs a worker until it ends. The first signal stops it, which lets the commands finish; the second one kills them.
pub(super) async fn until_signalled<T>(
    run: impl Future<Output = Result<T, WorkerError>>,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::take()?;
    child::begin()?;
    let ended = tokio::select! {
        result = run => Some(result),
        () = signals.until_second(&stop) => None,
    };
    child::kill_all();
    let Some(result) = ended else {
        return Err(Refused::new(Exit::Interrupted, anyhow::anyhow!("interrupted")).into());
    };
    result?;
    Ok(ExitCode::SUCCESS)
}

struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    quit: Option<unix::Signal>,
    hangup: Option<unix::Signal>,
    suspend: Option<unix::Signal>,
}

impl Signals {
    fn take() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: take(Signal::TERM)?,
            interrupt: take(Signal::INT)?,
            quit: take_unless_ignored(Signal::QUIT)?,
            hangup: take_unless_ignored(Signal::HUP)?,
            suspend: take_unless_ignored(Signal::TSTP)?,
        })
    }

    /// Stops at the first signal, and returns at the second one. A terminal that is closed sends SIGHUP more than once, by its
    /// shell and by the kernel, so that SIGHUP is never the second one.
    async fn until_second(&mut self, stop: &CancellationToken) {
        loop {
            let is_hangup = tokio::select! {
                _ = self.terminate.recv() => false,
                _ = self.interrupt.recv() => false,
                () = received(&mut self.quit) => false,
                () = received(&mut self.hangup) => true,
                () = received(&mut self.suspend) => {
                    say("Ctrl-Z is ignored: the commands would run on without their lease; Ctrl-C ends them");
                    continue;
                }
            };
            if stop.is_cancelled() && !is_hangup {
                return;
            }
            stop.cancel();
        }
    }
}

/// Takes a signal, so that it does not end this process.
pub(super) fn take(signal: Signal) -> anyhow::Result<unix::Signal> {
    unix::signal(SignalKind::from_raw(signal.as_raw())).with_context(|| format!("cannot wait for {signal:?}"))
}

/// A signal that this process was started to ignore, as `nohup` does with SIGHUP, stays ignored.
fn take_unless_ignored(signal: Signal) -> anyhow::Result<Option<unix::Signal>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let is_ignored = ignored & (1 << (signal.as_raw() - 1)) != 0;
    (!is_ignored).then(|| take(signal)).transpose()
}

async fn received(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
