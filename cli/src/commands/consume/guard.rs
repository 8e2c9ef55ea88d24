//! The guard: a process that kills the commands of a consumer which was killed itself (SIGKILL, out of memory).
//!
//! The consumer tells it over a pipe which process groups run. The pipe ends with the consumer, however that ends. Then the
//! guard kills the groups that still run, and ends.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, ExitCode, Stdio};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};

use super::signals::take;

/// The name of the hidden command.
const COMMAND: &str = "consume-guard";

/// The consumer's end of the pipe.
#[derive(Debug)]
pub(super) struct Guard(ChildStdin);

impl Guard {
    /// Starts the guard, in a process group of its own: no signal of a terminal reaches it.
    pub(super) fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let mut child = Command::new(program)
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the guard of the commands")?;
        child.stdin.take().map(Self).context("the guard has no input")
    }

    pub(super) fn begins(&mut self, group: i32) {
        self.tell(group);
    }

    pub(super) fn ends(&mut self, group: i32) {
        self.tell(-group);
    }

    /// A guard that somebody has killed guards nothing, and the commands run without it.
    fn tell(&mut self, change: i32) {
        let _ = self.0.write_all(format!("{change}\n").as_bytes());
    }
}

/// Runs as the guard until standard input ends. Call it in a runtime, which signals need.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    // A supervisor that asks all processes of a service to end asks this one, too, while commands still finish.
    let _taken = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP].map(take);
    let mut groups = BTreeSet::new();
    // The thread is blocked, because nothing else happens here.
    for line in std::io::stdin().lines() {
        let Some(change) = line.ok().and_then(|line| line.parse::<i32>().ok()) else { break };
        if change > 0 {
            groups.insert(change);
        } else {
            groups.remove(&-change);
        }
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        // A group that has ended meanwhile gets no signal.
        let _ = kill_process_group(group, Signal::KILL);
    }
    Ok(ExitCode::SUCCESS)
}
