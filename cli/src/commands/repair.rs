//! `eventodb repair`: makes a damaged data directory usable again, as far as possible.

use std::path::PathBuf;
use std::process::ExitCode;

use eventodb_store::sqlite::maintenance::{self, Permissions};

use super::maintain::{look_after, say};
use crate::serve;

/// Options of `eventodb repair`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A data directory that no server uses.
    #[arg(long, env = "EVENTODB_DATA_DIR", default_value = serve::DATA_DIR)]
    data_dir: PathBuf,
    /// Accept writes again to logs that lost their end. New messages get the lost global positions, so that consumers
    /// that have seen those must go back.
    #[arg(long)]
    accept_loss: bool,
    /// Replace the damaged message at this global position with a marker (type `$damaged`, data `{}`), so that the
    /// messages after it can be read again. The content of the message is lost. Nothing else is repaired.
    #[arg(long, value_name = "POSITION", requires = "namespace", conflicts_with = "accept_loss")]
    give_up: Option<i64>,
    /// The namespace of the damaged message.
    #[arg(long, requires = "give_up")]
    namespace: Option<String>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { data_dir, accept_loss, give_up, namespace } = args;
    let permissions = Permissions { accept_loss };
    let outcomes = look_after(move |progress| match give_up.zip(namespace) {
        Some((position, namespace)) => maintenance::give_up(&data_dir, &namespace, position, progress),
        None => maintenance::repair(&data_dir, permissions, progress),
    })
    .await?;
    for outcome in &outcomes {
        let verdict = match (outcome.problems.is_empty() && outcome.done.is_empty(), outcome.is_usable) {
            (true, _) => "sound",
            (false, true) => "repaired",
            (false, false) => "NOT REPAIRED",
        };
        say(&format!("{:20} {verdict}", outcome.file))?;
        for problem in &outcome.problems {
            say(&format!("    found: {problem}"))?;
        }
        for done in &outcome.done {
            say(&format!("    done: {done}"))?;
        }
    }
    let usable = outcomes.iter().all(|outcome| outcome.is_usable);
    Ok(if usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
