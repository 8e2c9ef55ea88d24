//! The commands, one file each: an `Args` struct and `run`.
//!
//! Commands that work on messages talk to a server over the public protocol. `backup`, `verify`, `repair`, `token` and
//! `migrate` work on the storage itself.

mod append;
mod backup;
mod bench;
mod completions;
mod config;
mod connection;
mod consume;
mod context;
mod doctor;
mod export;
mod group;
mod import;
mod input;
mod item;
mod maintain;
mod migrate;
mod notices;
mod ns;
mod output;
mod progress;
mod read;
mod repair;
mod resize;
mod status;
mod tail;
mod time;
mod token;
mod top;
mod verify;
mod write;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use self::output::one_line;
use crate::serve;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server (the default).
    Serve(Box<serve::Settings>),
    /// Show whether a server is up and takes writes.
    Status(status::Args),
    /// Write one message.
    Write(write::Args),
    /// Read messages of a stream, of categories, or all.
    Read(read::Args),
    /// Print messages as they are written.
    Tail(tail::Args),
    /// Run a command for each message, and remember the position.
    Consume(Box<consume::Args>),
    /// Kill the commands of a consumer that is killed.
    #[command(hide = true)]
    ConsumeGuard,
    /// Write messages from NDJSON, in batches.
    Append(append::Args),
    /// Create, delete and show namespaces.
    Ns(ns::Args),
    /// Create, show and steer consumer groups that the server keeps.
    Group(group::Args),
    /// Write the messages of a namespace into a file.
    Export(export::Args),
    /// Write the messages of a file into a namespace, at their positions.
    Import(import::Args),
    /// Migrate a PostgreSQL database to this version. No server is started.
    Migrate(Box<migrate::Args>),
    /// Check or show the settings of `serve`, and where each comes from.
    Config(config::Args),
    /// Tell what is wrong with the host, the settings and the database.
    Doctor(Box<doctor::Args>),
    /// Print the completions for a shell.
    Completions(completions::Args),
    /// Print the manual page, or write one for each command.
    Man(completions::ManArgs),
    /// Copy the data directory of a server on SQLite. The server may be running.
    Backup(backup::Args),
    /// Check a backup, or the data directory of a stopped server.
    Verify(verify::Args),
    /// Make a damaged data directory usable again. The server must be stopped.
    Repair(repair::Args),
    /// Create, list, revoke and rotate tokens. Through a server, or in the store itself.
    Token(token::Args),
    /// Show what a server does now: rates, latencies, and slow requests. Needs a token of `default` with the right read.
    Top(top::Args),
    /// Give servers and tokens names, and choose one.
    Context(context::Args),
    /// Measure a server, or compare reports.
    Bench(Box<eventodb_bench::Args>),
    /// Print the version.
    Version {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// Whether the command handles Ctrl-C itself.
    pub(crate) fn ends_on_signal(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Tail(_) | Self::Consume(_) | Self::ConsumeGuard | Self::Bench(_))
    }

    /// Runs the command. `root` describes the whole command line.
    pub(crate) async fn run(self, root: clap::Command) -> anyhow::Result<ExitCode> {
        match self {
            Self::Serve(args) => serve::run(*args).await,
            Self::Write(args) => write::run(args).await,
            Self::Read(args) => read::run(args).await,
            Self::Tail(args) => tail::run(args).await,
            Self::Consume(args) => consume::run(*args).await,
            Self::ConsumeGuard => consume::guard::run(),
            Self::Append(args) => append::run(args).await,
            Self::Ns(args) => ns::run(args).await,
            Self::Group(args) => group::run(args).await,
            Self::Export(args) => export::run(args).await,
            Self::Import(args) => import::run(args).await,
            Self::Migrate(args) => migrate::run(*args).await,
            Self::Config(args) => config::run(args, &root).await,
            Self::Doctor(args) => doctor::run(*args, &root).await,
            Self::Completions(args) => completions::run(&args, root),
            Self::Man(args) => completions::man(&args, root),
            Self::Status(args) => status::run(args).await,
            Self::Backup(args) => backup::run(args).await,
            Self::Verify(args) => verify::run(args).await,
            Self::Repair(args) => repair::run(args).await,
            Self::Token(args) => token::run(args).await,
            Self::Top(args) => top::run(args).await,
            Self::Context(args) => context::run(args),
            Self::Bench(args) => bench::run(*args).await,
            Self::Version { json } => {
                let mut output = output::Output::new(json);
                let version = eventodb_protocol::VERSION;
                let printed = output.value(&serde_json::json!({ "version": version }), || version.to_owned());
                output::finish(printed, output)
            }
        }
    }
}
