//! `eventodb verify`: checks a backup, or the data directory of a stopped server.

use std::path::PathBuf;
use std::process::ExitCode;

use eventodb_store::sqlite::maintenance;

use super::maintain::{look_after, say};
use super::output::print_json;

/// Options of `eventodb verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A backup, or a data directory that no server uses.
    directory: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { directory, json } = args;
    let report = look_after(move |progress| maintenance::verify(&directory, progress)).await?;
    let exit = if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        return print_json(&serde_json::to_value(&report)?).map(|_| exit);
    }
    say(if report.is_backup { "a backup" } else { "a data directory" })?;
    for file in &report.files {
        let verdict = if file.problems.is_empty() { "sound" } else { "DAMAGED" };
        say(&format!("{:20} {verdict}: {}", file.file, file.holds))?;
        for problem in &file.problems {
            say(&format!("    {problem}"))?;
        }
    }
    if report.is_sound() {
        return Ok(exit);
    }
    say(match report.is_backup {
        true => "Do not restore this backup.",
        false => "`eventodb repair` makes what can be mended usable again; make a copy of the directory first.",
    })?;
    Ok(exit)
}
