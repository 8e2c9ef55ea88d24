//! Processes that the bench starts, and what processes cost.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A server of the bench's own, which ends with it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens, as `http://HOST:PORT`.
    pub(crate) url: String,
}

impl Server {
    /// Starts this very program with other arguments, and waits until it says where it listens.
    ///
    /// # Errors
    /// It ended instead.
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
    ///
    /// # Errors
    /// It cannot be ended.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot end the server")
    }
}

/// Processor time that a process has used; `None` where the system does not tell.
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name, in parentheses, may contain anything; utime and stime are the fields 14 and 15.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let ticks = fields.next()? + fields.next()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Waits until a process has used no processor time for a while; answers when it last did.
///
/// That is how the end of a server's work behind its answers is seen from outside: no call tells it.
pub(crate) async fn settle(pid: u32) -> Instant {
    const STEP: Duration = Duration::from_millis(50);
    const QUIET: Duration = Duration::from_millis(400);
    const LONGEST: Duration = Duration::from_secs(120);
    /// What a server without work uses: its timers.
    const IDLE_SHARE: f64 = 0.04;
    let begin = Instant::now();
    let (mut busy, mut used, mut looked) = (begin, cpu(pid), begin);
    while busy.elapsed() < QUIET && begin.elapsed() < LONGEST {
        tokio::time::sleep(STEP).await;
        if looked.elapsed() < 4 * STEP {
            continue;
        }
        let now = cpu(pid);
        let spent = now.zip(used).map_or(Duration::ZERO, |(now, used)| now.saturating_sub(used));
        // A tick may be rounding; more is work.
        if spent > Duration::from_millis(10) && spent.as_secs_f64() > IDLE_SHARE * looked.elapsed().as_secs_f64() {
            busy = Instant::now();
        }
        (used, looked) = (now, Instant::now());
    }
    busy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_time() {
        let own = std::process::id();
        assert!(cpu(own).is_some());
        assert!(cpu(0).is_none());
    }
}
