//! `eventodb bench`: measures a server, and shows and compares reports.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use eventodb_bench::{Args, Command, Report, compare, fill, html, noop, outline, pictures, run as measure, table};
use serde_json::json;

use super::output::{print_json, visible};

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(Command::NoopServer) => {
            noop::serve().await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Compare { old, new, tolerance, json }) => {
            let comparison = compare(&read(old)?, &read(new)?, *tolerance);
            anyhow::ensure!(!comparison.table.is_empty(), "{} has nothing that was measured", old.display());
            if *json {
                print_json(&json!({ "regressions": comparison.regressions, "rows": comparison.rows }))?;
            } else {
                write!(std::io::stdout(), "{}", printable(&comparison.table))?;
            }
            Ok(if comparison.regressions == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some(Command::Report { reports, html, markdown, pictures }) => {
            let reports = reports.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<_>>>()?;
            show(&reports, html.as_deref(), markdown.as_deref(), pictures.as_deref())?;
            Ok(ExitCode::SUCCESS)
        }
        None => measured(&args).await,
    }
}

/// Measures, and prints the result.
async fn measured(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    if args.plan {
        write!(out, "{}", outline(args))?;
        return Ok(ExitCode::SUCCESS);
    }
    let earlier = match &args.json {
        // A run that ended before its first scenario left an empty file.
        Some(file) if args.resume && file.metadata().is_ok_and(|file| file.len() > 0) => Some(read(file)?),
        _ => None,
    };
    // The files are opened first, so that a wrong name fails before hours of measuring.
    for file in args.json.iter().chain(&args.html) {
        open_file(file)?;
    }
    let keep = &mut |report: &Report| match &args.json {
        Some(file) => write_file(file, &serde_json::to_string(report)?),
        None => Ok(()),
    };
    let report = measure(args, earlier, keep).await?;
    keep(&report)?;
    write!(out, "{}", printable(&table(&report)))?;
    if let Some(file) = &args.html {
        write_file(file, &html(std::slice::from_ref(&report)))?;
    }
    let missed: Vec<String> = args.thresholds.iter().flat_map(|threshold| threshold.missed(&report)).collect();
    for line in &missed {
        writeln!(out, "missed: {line}")?;
    }
    let failed = !missed.is_empty() || report.rows.iter().any(|row| row.errors > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Writes reports into a page or a document, or prints them.
fn show(
    reports: &[Report],
    page: Option<&Path>,
    document: Option<&Path>,
    drawn_to: Option<&Path>,
) -> anyhow::Result<()> {
    if let Some(file) = page {
        write_file(file, &html(reports))?;
    }
    if let Some(file) = document {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let shown_from = drawn_to.map(|directory| {
            let beside = file.with_file_name("");
            directory.strip_prefix(beside).unwrap_or(directory).display().to_string()
        });
        let filled =
            fill(&text, reports, shown_from.as_deref()).with_context(|| format!("cannot fill {}", file.display()))?;
        write_file(file, &filled)?;
    }
    if let Some(directory) = drawn_to {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        for picture in pictures(reports) {
            write_file(&directory.join(&picture.file), &picture.svg)?;
        }
    }
    if page.is_none() && document.is_none() {
        for report in reports {
            writeln!(std::io::stdout(), "{}", printable(&table(report)))?;
        }
    }
    Ok(())
}

/// The lines of a text that may have been in a file or come from a server.
fn printable(text: &str) -> String {
    text.lines().map(|line| visible(line) + "\n").collect()
}

fn read(file: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report", file.display()))
}

/// Checks that a file can be written, without changing it.
fn open_file(file: &Path) -> anyhow::Result<()> {
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
    opened.map(drop).with_context(|| format!("cannot write {}", file.display()))
}

fn write_file(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use eventodb_bench::LEAST_ON_SQLITE;
    use eventodb_store::sqlite::Settings;

    #[test]
    fn a_write_run_outgrows_what_a_server_keeps_unindexed() {
        assert!(LEAST_ON_SQLITE >= 3 * Settings::default().memtable_messages as u64);
    }
}
