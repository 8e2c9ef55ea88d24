//! Processes that the bench starts, and what processes use and hold.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use procfs::process::{Process, Stat};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A server that the bench started; it ends with the bench.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens, as `http://HOST:PORT` or `https://HOST:PORT`.
    pub(crate) url: String,
}

/// The memory, files and threads of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vitals {
    pub(crate) resident_mib: f64,
    /// Open files, sockets among them.
    pub(crate) files: f64,
    pub(crate) threads: f64,
}

impl Server {
    /// Starts a program with these arguments, and waits until it prints where it listens. If none is given, it is this
    /// program.
    pub(crate) async fn start(program: Option<&Path>, arguments: &[String]) -> anyhow::Result<Self> {
        let program = match program {
            Some(program) => program.to_owned(),
            None => std::env::current_exe().context("cannot tell which program this is")?,
        };
        let mut command = Command::new(&program);
        // In a group of its own: Ctrl-C ends the bench, which then ends its server.
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).process_group(0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"EVENTODB_")) {
            command.env_remove(name);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("the server has no output")?).lines();
        let url = loop {
            let line = lines.next_line().await?.context("the server ended at once")?;
            if let Some(at) = ["http://", "https://"].iter().find_map(|scheme| line.find(scheme)) {
                break line[at..].trim_end().to_owned();
            }
        };
        // The rest of its output is read and dropped, so that the server never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, url })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot end the server")
    }

    pub(crate) async fn terminate(mut self, within: Duration) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        kill_process(pid.context("the server has ended")?, Signal::TERM).context("cannot signal the server")?;
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        ended.context("the server does not end after SIGTERM")?.context("cannot wait for the server")?;
        Ok(())
    }
}

impl Vitals {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let process = Process::new(i32::try_from(pid)?)?;
        let resident_mib = resident(pid).context("the system does not tell how much memory a process holds")?;
        Ok(Self { resident_mib, files: process.fd_count()? as f64, threads: process.stat()?.num_threads as f64 })
    }
}

/// Processor time that a process has used: zero if it has ended or is not known.
pub(crate) fn used(pid: Option<u32>) -> Duration {
    pid.and_then(cpu).unwrap_or_default()
}

fn cpu(pid: u32) -> Option<Duration> {
    let stat = stat(pid)?;
    Some(Duration::from_secs_f64((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64))
}

/// Memory of a process that is in RAM, in MiB; `None` if it has ended.
pub(crate) fn resident(pid: u32) -> Option<f64> {
    stat(pid).map(|stat| (stat.rss * procfs::page_size()) as f64 / 1_048_576.0)
}

fn stat(pid: u32) -> Option<Stat> {
    Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()
}

/// Waits until a process has used no processor time for a while; returns when it last did.
///
/// Only this tells when a server that keeps everything in memory is through with the work behind its answers.
pub(super) async fn settle(pid: u32) -> anyhow::Result<Instant> {
    const STEP: Duration = Duration::from_millis(200);
    /// Longer than the server lets its last messages wait to be indexed.
    const QUIET: Duration = Duration::from_millis(1_600);
    const LONGEST: Duration = Duration::from_secs(300);
    /// The share of a core that the timers of a server without work use.
    const IDLE_SHARE: f64 = 0.04;
    let begin = Instant::now();
    let (mut busy, mut used, mut looked) = (begin, cpu(pid), begin);
    while busy.elapsed() < QUIET {
        anyhow::ensure!(begin.elapsed() < LONGEST, "the server does not come to rest: the run is no result");
        tokio::time::sleep(STEP).await;
        let now = cpu(pid);
        let spent = now.zip(used).context("the server has ended")?;
        let spent = spent.0.saturating_sub(spent.1);
        // One tick may be rounding; more is work.
        if spent > Duration::from_millis(10) && spent.as_secs_f64() > IDLE_SHARE * looked.elapsed().as_secs_f64() {
            busy = Instant::now();
        }
        (used, looked) = (now, Instant::now());
    }
    Ok(busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_time_and_holds_something() {
        let own = std::process::id();
        assert!(cpu(own).is_some());
        assert!(cpu(0).is_none() && resident(0).is_none());
        let vitals = Vitals::of(own).unwrap();
        assert!(vitals.resident_mib > 1.0 && vitals.files >= 3.0 && vitals.threads >= 1.0, "{vitals:?}");
    }
}
