//! The log: to standard error, written by a thread of its own, so that it never holds up a request.

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::LevelFilter;

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Level {
    /// What fails and stays so.
    Error,
    /// What an operator should look at.
    Warn,
    /// Also requests that were refused, and how the server goes along.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// How it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A JSON object a line.
    Json,
    /// Lines for a person.
    Console,
}

/// Starts logging; what was logged is written out when the guard is dropped.
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
