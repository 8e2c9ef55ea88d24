//! `eventodb backup`: copies a data directory, also while a server uses it.

use std::path::PathBuf;
use std::process::ExitCode;

use eventodb_store::sqlite::maintenance;

use super::maintain::{Named, look_after, say};
use super::output::print_json;
use crate::serve;

/// Damaged positions that are printed for one namespace. Further ones are only counted.
const TELL_MOST: usize = 20;

/// Options of `eventodb backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    // Before the directory, because that takes its value out of what is matched.
    #[command(flatten)]
    named: Named,
    /// The data directory of a server on SQLite, running or not. Without this flag `EVENTODB_DB_URL` may name one below it; if it
    /// names PostgreSQL, nothing is copied: `pg_dump` makes such a backup.
    #[arg(long, env = "EVENTODB_DATA_DIR", default_value = serve::DATA_DIR)]
    data_dir: PathBuf,
    /// A new directory for the backup, on which a server can be started.
    #[arg(long, short = 'o')]
    output: PathBuf,
    /// Print JSON: the manifest of the backup.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { named, data_dir, output, json } = args;
    let data_dir = named.directory(data_dir, "its backup is PostgreSQL's, such as `pg_dump` (docs/OPERATIONS.md).")?;
    let to = output.clone();
    let manifest = look_after(move |progress| maintenance::backup(&data_dir, &to, progress)).await?;
    let is_sound = manifest.namespaces.iter().all(|namespace| namespace.damaged.is_empty());
    let exit = if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        return print_json(&serde_json::to_value(&manifest)?).map(|_| exit);
    }
    let messages: u64 = manifest.namespaces.iter().map(|namespace| namespace.messages).sum();
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    say(&format!(
        "{} namespaces with {messages} messages, {bytes} bytes, are in {}",
        manifest.namespaces.len(),
        output.display()
    ))?;
    if !manifest.deleted.is_empty() {
        say(&format!("not in it, because they were deleted meanwhile: {}", manifest.deleted.join(", ")))?;
    }
    let damaged = manifest.namespaces.iter().filter(|namespace| !namespace.damaged.is_empty());
    for namespace in damaged {
        say(&told(&namespace.namespace, &namespace.damaged))?;
    }
    Ok(exit)
}

/// One line with the damaged messages of a namespace.
fn told(namespace: &str, damaged: &[i64]) -> String {
    let positions: Vec<String> = damaged.iter().take(TELL_MOST).map(i64::to_string).collect();
    let more = match damaged.len() - positions.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "DAMAGED, in the store as in this backup: namespace {namespace}, the messages at global positions {}{more}",
        positions.join(", ")
    )
}
