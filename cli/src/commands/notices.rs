//! Lines on standard error about repeated calls, messages that are not handled, and lost connections. They tell the
//! user why a command waits.

use std::io::Write as _;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eventodb_client::worker::{HandlerError, Observer, Reaction, WorkerError};
use eventodb_client::{CallObserver, Error, Message};
use eventodb_store::Chain;

/// A failure that continues is printed again after this time.
const AGAIN: Duration = Duration::from_secs(10);

/// Prints that the server does not answer, and that it answers again. All values of this type share the time of the
/// last line, so that several connections of a process report one failure once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notices {
    told: &'static Mutex<Option<Instant>>,
}

static TOLD: LazyLock<Mutex<Option<Instant>>> = LazyLock::new(Mutex::default);

impl Notices {
    /// The notices of this process.
    pub(crate) fn of_process() -> Self {
        Self { told: &TOLD }
    }

    fn lost(self, error: &Error) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= AGAIN) {
            *told = Some(Instant::now());
            say(&format!("{}; trying again", Chain(error)));
        }
    }

    fn back(self) {
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            say("the server answers again");
        }
    }
}

impl CallObserver for Notices {
    fn retrying(&self, error: &Error, _wait: Duration) {
        self.lost(error);
    }

    fn recovered(&self) {
        self.back();
    }
}

impl Observer for Notices {
    fn failed(&self, message: &Message, error: &HandlerError, reaction: Reaction) {
        let what = match reaction {
            Reaction::Retried => "trying again",
            Reaction::Skipped => "SKIPPED",
            Reaction::Parked => "PARKED",
            // The command ends with this error and prints it.
            Reaction::Stopped => return,
        };
        say(&format!(
            "cannot handle {} at {} of {} (global position {}): {}; {what}",
            message.kind(),
            message.position(),
            message.stream(),
            message.global_position(),
            Chain(&**error),
        ));
    }

    fn ahead_of_head(&self, position: i64, head: i64) {
        say(&WorkerError::AheadOfHead { position, head }.to_string());
    }

    fn disconnected(&self, error: &Error) {
        self.lost(error);
    }

    fn reconnected(&self) {
        self.back();
    }
}

/// Prints a line on standard error. If that fails, there is no other place to report it.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "eventodb: {}", super::output::one_line(text));
}
