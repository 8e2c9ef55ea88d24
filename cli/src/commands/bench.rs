//! `eventodb bench`: measures a server, and compares what was measured.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use eventodb_bench::{Args, Command, Report, compare, noop, run as measure, table};

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    match &args.command {
        Some(Command::NoopServer) => {
            noop::serve().await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Compare { old, new, tolerance }) => {
            let comparison = compare(&read(old)?, &read(new)?, *tolerance);
            write!(out, "{}", comparison.table)?;
            Ok(if comparison.regressions == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        None => {
            let report = measure(&args).await?;
            write!(out, "{}", table(&report))?;
            if let Some(file) = &args.json {
                let text = serde_json::to_string_pretty(&report)?;
                std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
            }
            let missed: Vec<String> = args.thresholds.iter().flat_map(|threshold| threshold.missed(&report)).collect();
            for line in &missed {
                writeln!(out, "missed: {line}")?;
            }
            let failed = !missed.is_empty() || report.rows.iter().any(|row| row.errors > 0);
            Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

fn read(file: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report", file.display()))
}
