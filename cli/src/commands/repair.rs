//! `eventodb repair`: makes a damaged data directory usable again, as far as possible.

use std::path::PathBuf;
use std::process::ExitCode;

use eventodb_protocol::typed::whole;
use eventodb_store::sqlite::maintenance::{self, Permissions};

use super::maintain::{Named, look_after, say};
use super::output::print_json;
use crate::serve;

/// Options of `eventodb repair`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    // Before the directory, because that takes its value out of what is matched.
    #[command(flatten)]
    named: Named,
    /// A data directory that no server uses. Without this flag `EVENTODB_DB_URL` may name one below it.
    #[arg(long, env = "EVENTODB_DATA_DIR", default_value = serve::DATA_DIR)]
    data_dir: PathBuf,
    /// Accept writes again to logs that lost their end. New messages get the lost global positions, so that consumers
    /// that have seen those must go back.
    #[arg(long)]
    accept_loss: bool,
    /// Only print what would be done: each problem, and the step that would mend it. Nothing is changed.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Replace the damaged message at this global position with a marker (type `$damaged`, data `{}`), so that the
    /// messages after it can be read again. The content of the message is lost. Nothing else is repaired.
    #[arg(long, value_name = "POSITION", requires = "namespace", conflicts_with_all = ["accept_loss", "dry_run"], value_parser = whole(.., 1_000_i64))]
    give_up: Option<i64>,
    /// The namespace of the damaged message.
    #[arg(long, requires = "give_up")]
    namespace: Option<String>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { named, data_dir, accept_loss, dry_run, json, give_up, namespace } = args;
    let data_dir = named.directory(data_dir, "what repairs it are PostgreSQL's own means and its backups.")?;
    let permissions = Permissions { accept_loss, dry_run };
    let outcomes = look_after(move |progress| match give_up.zip(namespace) {
        Some((position, namespace)) => maintenance::give_up(&data_dir, &namespace, position, progress),
        None => maintenance::repair(&data_dir, permissions, progress),
    })
    .await?;
    let usable = outcomes.iter().all(|outcome| outcome.is_usable);
    let exit = if usable { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        return print_json(&serde_json::to_value(&outcomes)?).map(|_| exit);
    }
    let (mended, done) = if dry_run { ("to be repaired", "would be done") } else { ("repaired", "done") };
    for outcome in &outcomes {
        let verdict = match (outcome.problems.is_empty() && outcome.done.is_empty(), outcome.is_usable) {
            (true, _) => "sound",
            (false, true) => mended,
            (false, false) => "NOT REPAIRED",
        };
        say(&format!("{:20} {verdict}", outcome.file))?;
        for problem in &outcome.problems {
            say(&format!("    found: {problem}"))?;
        }
        for step in &outcome.done {
            say(&format!("    {done}: {step}"))?;
        }
    }
    if dry_run {
        say("nothing was changed")?;
    }
    Ok(exit)
}
