//! The command that handles a message.
//!
//! It runs in a process group of its own. So it ends together with all that it has started, and Ctrl-C at a terminal reaches
//! `eventodb` alone, which lets it finish.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use eventodb_client::Message;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::commands::output::json_line;

/// The groups that run, by the ids of their leaders.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Runs the command for one message. Once `ending` comes to pass, its processes are asked to end (SIGTERM). If this future
/// is dropped, they are killed (SIGKILL).
pub(super) async fn run(command: &[String], message: &Message, ending: impl Future<Output = ()>) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let processes = Processes::of(&child);
    let line = json_line(message) + "\n";
    let handling = feed(&mut child, &line);
    tokio::pin!(handling);
    let status = tokio::select! {
        status = &mut handling => {
            processes.leave();
            status
        }
        () = ending => {
            processes.signal(Signal::TERM);
            // What the command leaves running is killed.
            handling.await
        }
    };
    let status = status.context("cannot wait for the command")?;
    anyhow::ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}

/// Kills all commands that run.
pub(super) fn kill_all() {
    for group in running().iter().copied() {
        send(group, Signal::KILL);
    }
}

async fn feed(child: &mut Child, line: &str) -> std::io::Result<std::process::ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        // A command may succeed without reading its input.
        let _ = stdin.write_all(line.as_bytes()).await;
    }
    child.wait().await
}

/// The processes of a command. They are killed when this is dropped.
struct Processes {
    group: Option<i32>,
}

impl Processes {
    fn of(child: &Child) -> Self {
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        running().extend(group);
        Self { group }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            send(group, signal);
        }
    }

    /// The command has ended by itself. What it has started may go on.
    fn leave(mut self) {
        if let Some(group) = self.group.take() {
            running().remove(&group);
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            send(group, Signal::KILL);
            running().remove(&group);
        }
    }
}

fn running() -> std::sync::MutexGuard<'static, BTreeSet<i32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A group that has ended meanwhile gets no signal.
fn send(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        let _ = kill_process_group(group, signal);
    }
}
