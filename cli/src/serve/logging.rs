//! The log. A thread of its own writes it to standard error, so that logging never blocks a request.
//!
//! The audit is part of it, whatever the level: who looks for what was done must not find that it was too unimportant.

use eventodb_server::AUDIT;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Level {
    /// Failures that need an operator.
    Error,
    /// Also what an operator should look at.
    Warn,
    /// Also refused requests, and events of the server such as start and stop.
    Info,
    /// Also details for developers.
    Debug,
    /// Everything.
    Trace,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Console,
}

/// Writes a line of the audit about what a command has done to the store itself, to standard error.
pub(crate) fn audit(act: &'static str, object: &str, namespace: &str) {
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
    let log = tracing_subscriber::registry().with(lines);
    tracing::subscriber::with_default(log, || eventodb_server::act_in_store(act, object, namespace));
}

/// Sets the level of the log while it is written.
#[derive(Clone, Debug)]
pub(super) struct LevelSwitch(reload::Handle<Targets, Registry>);

impl LevelSwitch {
    /// Logs from this level on.
    pub(super) fn set(&self, level: Level) {
        // It fails only if nothing is logged any more.
        let _ = self.0.reload(wanted(level));
    }
}

/// Lines that wait while whoever takes the log does not. Further ones are dropped: no request waits for the log. A place for
/// each is taken at the start, 32 bytes of memory.
const WAITING_LINES: usize = 16 * 1024;

/// Starts logging. When the guard is dropped, the rest of the log is written.
pub(super) fn start(level: Level, format: Format) -> (WorkerGuard, LevelSwitch) {
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).finish(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let (filter, handle) = reload::Layer::new(wanted(level));
    let log = tracing_subscriber::registry().with(filter);
    match format {
        Format::Json => log.with(lines.json().flatten_event(true)).init(),
        Format::Console => log.with(lines.with_target(false)).init(),
    }
    (guard, LevelSwitch(handle))
}

/// What is logged at a level.
fn wanted(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    // h2 has a line, at WARN too, for frames that anybody may send as often as they like, and shows what it cannot read,
    // which may be a token.
    let lines = Targets::new().with_default(level).with_target("h2", LevelFilter::OFF);
    lines.with_target(AUDIT, level.max(LevelFilter::INFO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_each_level_the_audit_is_logged_and_what_h2_says_of_clients_is_not() {
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace] {
            let wanted = wanted(level);
            assert!(wanted.would_enable(AUDIT, &tracing::Level::INFO), "{level:?}");
            for target in ["h2::proto::ping_pong", "h2::server", "h2"] {
                assert!(!wanted.would_enable(target, &tracing::Level::ERROR), "{target} at {level:?}");
            }
        }
    }
}
