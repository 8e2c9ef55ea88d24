//! What `eventodb consume --json` prints: a JSON object on each line about what it does.
//!
//! A thread of its own writes the lines, so that a slow reader delays neither messages nor heartbeats. While the reader is
//! [`QUEUE`] lines behind, events are counted and not printed.

use std::io::{IsTerminal as _, Write as _};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use eventodb_client::worker::{HandlerError, Observer, Reaction};
use eventodb_client::{Error, Message};
use eventodb_store::Chain;
use serde_json::{Value, json};

use crate::commands::notices::Notices;
use crate::commands::output::json_for;

/// Most lines that wait for the reader.
const QUEUE: usize = 10_000;
/// How long the end waits for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(1);

/// The events of a consumer; without `--json` they go nowhere.
#[derive(Clone, Debug)]
pub(super) struct Events(Option<Arc<Printed>>);

#[derive(Debug)]
struct Printed {
    lines: SyncSender<Line>,
    handled: AtomicU64,
    /// Events that had no room since the last one that had.
    lost: AtomicU64,
    is_disconnected: AtomicBool,
}

#[derive(Debug)]
enum Line {
    Event(Value),
    /// The writer ends, and drops the sender of what the end waits for.
    End(SyncSender<()>),
}

impl Events {
    pub(super) fn new(are_printed: bool) -> Self {
        Self(are_printed.then(|| {
            let (lines, queue) = sync_channel(QUEUE);
            std::thread::spawn(move || write(&queue));
            Arc::new(Printed {
                lines,
                handled: AtomicU64::new(0),
                lost: AtomicU64::new(0),
                is_disconnected: AtomicBool::new(false),
            })
        }))
    }

    /// Where a command prints: standard output is for the events alone.
    pub(super) fn output_of_commands(&self) -> Stdio {
        if self.0.is_some() { std::io::stderr().into() } else { Stdio::inherit() }
    }

    /// The consumer begins: `of` is `group` or `name`.
    pub(super) fn started(&self, of: &str, name: &str) {
        self.print(|_| json!({ "event": "started", of: name }));
    }

    /// The command has handled a message.
    pub(super) fn handled(&self, message: &Message) {
        self.print(|printed| {
            printed.handled.fetch_add(1, Ordering::Relaxed);
            about("handled", message)
        });
    }

    /// The consumer ends. Waits until the lines are written, but not for a reader that does not read.
    pub(super) fn stopped<T>(&self, result: &anyhow::Result<T>) {
        let error = result.as_ref().err().map(|error| Chain(&**error).to_string());
        self.print(
            |printed| json!({ "event": "stopped", "handled": printed.handled.load(Ordering::Relaxed), "error": error }),
        );
        let Some(printed) = &self.0 else { return };
        let (ending, ended) = sync_channel(0);
        if printed.lines.try_send(Line::End(ending)).is_ok() {
            let _ = ended.recv_timeout(PATIENCE);
        }
    }

    fn print(&self, event: impl FnOnce(&Printed) -> Value) {
        let Some(printed) = &self.0 else { return };
        let event = event(printed);
        let lost = printed.lost.swap(0, Ordering::Relaxed);
        let has_room = |line| printed.lines.try_send(Line::Event(line)).is_ok();
        if lost > 0 && !has_room(json!({ "event": "lost", "events": lost })) {
            printed.lost.fetch_add(lost + 1, Ordering::Relaxed);
        } else if !has_room(event) {
            printed.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An event about a message.
fn about(event: &str, message: &Message) -> Value {
    json!({
        "event": event,
        "stream": message.stream(),
        "type": message.kind(),
        "position": message.position(),
        "globalPosition": message.global_position(),
    })
}

/// Writes until the end. If the reader has gone, the consumer goes on without it.
fn write(queue: &Receiver<Line>) {
    let mut output = std::io::stdout();
    let is_terminal = output.is_terminal();
    for line in queue {
        match line {
            Line::Event(event) => {
                let _ = writeln!(output, "{}", json_for(is_terminal, &event.to_string())).and_then(|()| output.flush());
            }
            Line::End(waiting) => return drop(waiting),
        }
    }
}

/// Observes a worker: [`Notices`] for people on standard error, and the events.
pub(super) struct Told {
    pub(super) notices: Notices,
    pub(super) events: Events,
}

impl Observer for Told {
    fn saved(&self, position: i64) {
        self.events.print(|_| json!({ "event": "saved", "globalPosition": position }));
    }

    fn failed(&self, message: &Message, error: &HandlerError, reaction: Reaction) {
        self.notices.failed(message, error, reaction);
        let event = match reaction {
            Reaction::Retried => "retried",
            Reaction::Skipped => "skipped",
            Reaction::Parked => "parked",
            Reaction::Stopped => "failed",
        };
        self.events.print(|_| {
            let mut about = about(event, message);
            about["error"] = Chain(&**error).to_string().into();
            about
        });
    }

    fn ahead_of_head(&self, position: i64, head: i64) {
        self.notices.ahead_of_head(position, head);
        self.events.print(|_| json!({ "event": "ahead", "globalPosition": position, "head": head }));
    }

    fn disconnected(&self, error: &Error) {
        self.notices.disconnected(error);
        let is_new =
            self.events.0.as_ref().is_some_and(|printed| !printed.is_disconnected.swap(true, Ordering::Relaxed));
        if is_new {
            self.events.print(|_| json!({ "event": "disconnected", "error": Chain(error).to_string() }));
        }
    }

    fn reconnected(&self) {
        self.notices.reconnected();
        let is_new =
            self.events.0.as_ref().is_some_and(|printed| printed.is_disconnected.swap(false, Ordering::Relaxed));
        if is_new {
            self.events.print(|_| json!({ "event": "reconnected" }));
        }
    }
}
