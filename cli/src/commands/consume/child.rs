//! The command that handles a message.
//!
//! It runs in a process group of its own. So it ends together with all that it has started, and Ctrl-C at a terminal reaches
//! `eventodb` alone, which lets it finish. The [guard](super::guard) ends it if `eventodb` is killed.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use eventodb_client::Message;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use super::guard::Guard;
use crate::commands::output::json_line;

/// `None` before the beginning and once all commands are killed: none is started then.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

/// The groups that run, by the ids of their leaders, and the process that ends them if this one is killed.
struct Running {
    groups: BTreeSet<i32>,
    guard: Guard,
}

/// Makes everything ready for commands.
pub(super) fn begin() -> anyhow::Result<()> {
    *running() = Some(Running { groups: BTreeSet::new(), guard: Guard::start()? });
    Ok(())
}

/// Runs the command for one message; it prints on `output`. Once `ending` comes to pass, its processes are asked to end (SIGTERM). If this future
/// is dropped, they are killed (SIGKILL), and so is what the command leaves running, unless it has succeeded without being
/// asked to end.
pub(super) async fn run(
    command: &[String],
    output: Stdio,
    message: &Message,
    ending: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut started = Command::new(program);
    started.args(arguments).stdin(Stdio::piped()).stdout(output).process_group(0).kill_on_drop(true);
    let (mut child, processes) = start(&mut started).with_context(|| format!("cannot run {program}"))?;
    let line = json_line(message) + "\n";
    let handling = feed(&mut child, &line);
    tokio::pin!(handling);
    let (status, is_asked) = tokio::select! {
        status = &mut handling => (status, false),
        () = ending => {
            processes.signal(Signal::TERM);
            (handling.await, true)
        }
    };
    let status = status.context("cannot wait for the command")?;
    anyhow::ensure!(status.success(), "{program} ended with {status}");
    if !is_asked {
        processes.leave();
    }
    Ok(())
}

/// Kills all commands that run.
pub(super) fn kill_all() {
    let groups = running().take().map(|running| running.groups).unwrap_or_default();
    for group in groups {
        send(group, Signal::KILL);
    }
}

/// Starts a command under the lock of those that run, so that `kill_all` misses none.
fn start(command: &mut Command) -> std::io::Result<(Child, Processes)> {
    let mut running = running();
    let running = running.as_mut().ok_or_else(|| std::io::Error::other("all commands are killed"))?;
    let child = command.spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(group) = group {
        running.groups.insert(group);
        running.guard.begins(group);
    }
    Ok((child, Processes { group }))
}

/// Writes the line and waits for the end. A command may end before it has read its input, and a process that it leaves may
/// hold the other end of the pipe without reading, so that the end does not wait for the line.
async fn feed(child: &mut Child, line: &str) -> std::io::Result<std::process::ExitStatus> {
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // An error means that the command does not read its input.
            let _ = stdin.write_all(line.as_bytes()).await;
        }
    };
    tokio::select! {
        status = child.wait() => return status,
        () = write => {}
    }
    child.wait().await
}

/// The processes of a command. They are killed when this is dropped.
struct Processes {
    group: Option<i32>,
}

impl Processes {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            send(group, signal);
        }
    }

    /// What the command has started may go on.
    fn leave(mut self) {
        if let Some(group) = self.group.take() {
            forget(group);
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Some(group) = self.group.take()
            && forget(group)
        {
            send(group, Signal::KILL);
        }
    }
}

/// Returns whether the group was among those that run.
fn forget(group: i32) -> bool {
    let mut running = running();
    let Some(running) = running.as_mut() else { return false };
    running.guard.ends(group);
    running.groups.remove(&group)
}

fn running() -> std::sync::MutexGuard<'static, Option<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A group that has ended meanwhile gets no signal.
fn send(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        let _ = kill_process_group(group, signal);
    }
}
