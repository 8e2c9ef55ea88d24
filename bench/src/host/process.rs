//! Processes that the bench starts, and what processes cost.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A server of the bench's own, which ends with it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens, as `http://HOST:PORT`.
    pub(crate) url: String,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vitals {
    /// Resident memory in KiB.
    pub(crate) resident_kib: f64,
    /// Open files, sockets among them.
    pub(crate) files: f64,
    /// Threads.
    pub(crate) threads: f64,
}

impl Server {
    /// Starts this very program with other arguments, and waits until it says where it listens.
    pub(crate) async fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let mut command = Command::new(program);
        // In a group of its own: Ctrl-C ends the bench, which then ends its server.
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).process_group(0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"EVENTODB_")) {
            command.env_remove(name);
        }
        let mut child = command.spawn().context("cannot start the server")?;
        let mut lines = BufReader::new(child.stdout.take().context("the server has no output")?).lines();
        let url = loop {
            let line = lines.next_line().await?.context("the server ended at once")?;
            if let Some(at) = line.find("http://") {
                break line[at..].trim_end().to_owned();
            }
        };
        // What else it says is thrown away, so that it never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, url })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it at once.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot end the server")
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn terminate(mut self, within: Duration) -> anyhow::Result<()> {
        signal(&self.child, Signal::TERM)?;
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        ended.context("the server does not end after SIGTERM")?.context("cannot wait for the server")?;
        Ok(())
    }
}

impl Vitals {
    /// Those of a process.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let status = std::fs::read_to_string(directory(pid).join("status"))
            .context("the system does not tell what a process holds")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            let number = line.split_ascii_whitespace().next().with_context(|| format!("no value of {name}"))?;
            number.parse::<f64>().with_context(|| format!("{number} is no number"))
        };
        let files = std::fs::read_dir(directory(pid).join("fd"))?.count() as f64;
        Ok(Self { resident_kib: field("VmRSS:")?, files, threads: field("Threads:")? })
    }
}

/// Sends a signal to a process that was started here.
pub(super) fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    kill_process(pid.context("the process has ended")?, signal).context("cannot signal the process")
}

/// Processor time that a process has used; `None` where the system does not tell.
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(directory(pid).join("stat")).ok()?;
    // The name, in parentheses, may contain anything; utime and stime are the fields 14 and 15.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let ticks = fields.next()? + fields.next()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Waits until a process has used no processor time for a while; answers when it last did.
///
/// That is how the end of the work behind the answers is seen of a server that keeps everything in memory.
pub(super) async fn settle(pid: u32) -> anyhow::Result<Instant> {
    const STEP: Duration = Duration::from_millis(200);
    /// Longer than the server lets its last messages wait to be indexed.
    const QUIET: Duration = Duration::from_millis(1_600);
    const LONGEST: Duration = Duration::from_secs(300);
    /// What a server without work uses: its timers.
    const IDLE_SHARE: f64 = 0.04;
    let begin = Instant::now();
    let (mut busy, mut used, mut looked) = (begin, cpu(pid), begin);
    while busy.elapsed() < QUIET {
        anyhow::ensure!(begin.elapsed() < LONGEST, "the server does not come to rest: the run is no result");
        tokio::time::sleep(STEP).await;
        let now = cpu(pid);
        let spent = now.zip(used).context("the server has ended")?;
        let spent = spent.0.saturating_sub(spent.1);
        // A tick may be rounding; more is work.
        if spent > Duration::from_millis(10) && spent.as_secs_f64() > IDLE_SHARE * looked.elapsed().as_secs_f64() {
            busy = Instant::now();
        }
        (used, looked) = (now, Instant::now());
    }
    Ok(busy)
}

fn directory(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_time_and_holds_something() {
        let own = std::process::id();
        assert!(cpu(own).is_some());
        assert!(cpu(0).is_none());
        let vitals = Vitals::of(own).unwrap();
        assert!(vitals.resident_kib > 0.0 && vitals.files >= 3.0 && vitals.threads >= 1.0, "{vitals:?}");
    }
}
