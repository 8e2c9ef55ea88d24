//! `eventodb verify`: checks a backup, or the data directory of a stopped server.

use std::path::PathBuf;
use std::process::ExitCode;

use eventodb_store::sqlite::maintenance;

use super::maintain::{look_after, say};

/// Options of `eventodb verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A backup, or a data directory that no server uses.
    directory: PathBuf,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let report = look_after(move |progress| maintenance::verify(&args.directory, progress)).await?;
    say(if report.is_backup { "a backup" } else { "a data directory" })?;
    for file in &report.files {
        let verdict = if file.problems.is_empty() { "sound" } else { "DAMAGED" };
        say(&format!("{:20} {verdict}: {}", file.file, file.holds))?;
        for problem in &file.problems {
            say(&format!("    {problem}"))?;
        }
    }
    if report.is_sound() {
        return Ok(ExitCode::SUCCESS);
    }
    say(match report.is_backup {
        true => "Do not restore this backup.",
        false => "`eventodb repair` makes what can be mended usable again; make a copy of the directory first.",
    })?;
    Ok(ExitCode::FAILURE)
}
