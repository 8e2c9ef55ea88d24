//! What a client command says on standard error of calls that are repeated, messages that are not handled and connections
//! that are lost: whoever waits must know what for.

use std::io::Write as _;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eventodb_client::worker::{HandlerError, Observer, Reaction};
use eventodb_client::{CallObserver, Error, Message};

use crate::usage::chain;

/// How often a failure that goes on is told again.
const AGAIN: Duration = Duration::from_secs(10);

/// Tells of failures that go on, and of their end. All of a process share what was told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notices {
    told: &'static Mutex<Option<Instant>>,
}

static TOLD: LazyLock<Mutex<Option<Instant>>> = LazyLock::new(Mutex::default);

impl Notices {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        Self { told: &TOLD }
    }

    fn lost(self, error: &Error) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= AGAIN) {
            *told = Some(Instant::now());
            say(&format!("{}; trying again", chain(error)));
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
            // The command ends with this very error.
            Reaction::Stopped => return,
        };
        say(&format!(
            "cannot handle {} at {} of {} (global position {}): {}; {what}",
            message.kind(),
            message.position(),
            message.stream(),
            message.global_position(),
            chain(&**error),
        ));
    }

    fn disconnected(&self, error: &Error) {
        self.lost(error);
    }

    fn reconnected(&self) {
        self.back();
    }
}

/// Says a line on standard error. Where nobody hears it, nothing can be done about it either.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "eventodb: {}", super::output::visible(text));
}
