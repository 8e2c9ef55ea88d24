//! The log. A thread of its own writes it to standard error, so that logging never blocks a request.

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::LevelFilter;

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

/// Starts logging. When the guard is dropped, the rest of the log is written.
pub(super) fn start(level: Level, format: Format) -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(writer).with_ansi(false);
    match format {
        Format::Json => builder.json().flatten_event(true).init(),
        Format::Console => builder.with_target(false).init(),
    }
    guard
}
