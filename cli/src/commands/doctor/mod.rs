//! `eventodb doctor`: what is wrong with the host of a server, its settings and its database, and what to do.
//!
//! Looking and judging are apart: `look` asks the machine, and `faults` is a function of what was found, so that a test can
//! plant what a machine cannot have.

mod clock;
mod database;
mod directory;
mod finding;
mod host;

use std::process::ExitCode;

use eventodb_protocol::Timestamp;
use eventodb_store::postgres::Postgres;
use serde_json::json;

use self::directory::Directory;
use self::finding::{Finding, Severity};
use self::host::Host;
use super::output::{Output, finish, visible};
use crate::serve::{Plan, Problems, Settings, Stored, stray_variables};

/// Columns of what is printed for people.
const COLUMNS: usize = 80;
/// Where reasons and cures begin.
const INDENT: usize = 12;

/// Options of `eventodb doctor`.
#[derive(Debug, clap::Args)]
// The flags of `serve` are a group of this struct's name.
#[group(skip)]
#[command(after_help = "\
It takes every flag, variable and file of `eventodb serve`, so that it looks at what that would start with. It changes nothing, \
and may run beside a server. Run it as the server's user.

Exit codes of this command: 0 nothing is wrong, 1 there are warnings, 2 there are errors.")]
pub(crate) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

pub(crate) async fn run(args: Args, root: &clap::Command) -> anyhow::Result<ExitCode> {
    let mut output = Output::new(args.json);
    let mut found = look(&args.settings, root).await;
    found.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let worst = found.findings.iter().map(|finding| finding.severity).max();
    let printed = print(&found, &mut output);
    finish(printed, output).map(|_| ExitCode::from(worst.map_or(0, |severity| severity as u8)))
}

/// The faults, and what was looked at.
struct Found {
    findings: Vec<Finding>,
    looked_at: Vec<String>,
}

async fn look(settings: &Settings, root: &clap::Command) -> Found {
    let mut findings: Vec<Finding> = stray_variables(root).into_iter().map(stray).collect();
    let mut looked_at = vec!["settings".to_owned()];
    match settings.plan() {
        Ok(plan) => {
            findings.extend(plan.warnings.iter().map(|warning| unsafe_setting(warning)));
            findings.extend(Host::look(&plan).faults(&plan));
            looked_at.push("open files, memory, certificate, files with secrets".to_owned());
            let (faults, what) = store(&plan).await;
            findings.extend(faults);
            looked_at.extend(what);
        }
        Err(Problems(problems)) => findings.extend(problems.into_iter().map(wrong_setting)),
    }
    Found { findings, looked_at }
}

async fn store(plan: &Plan) -> (Vec<Finding>, Option<String>) {
    let now = Timestamp::now();
    match &plan.storage {
        Stored::Memory => (Vec::new(), None),
        Stored::Directory { directory, min_free } => {
            let (path, min_free) = (directory.clone(), *min_free);
            let shown = path.display().to_string();
            match tokio::task::spawn_blocking(move || Directory::look(path, min_free)).await {
                Ok(found) => (found.faults(now), Some(format!("the data directory {shown} and its disk"))),
                Err(_) => (Vec::new(), None),
            }
        }
        Stored::Postgres(settings) => {
            let (from, to) = clock::ends_that_matter(now);
            match Postgres::examine(settings, from, to).await {
                Ok(found) => (database::faults(&found, settings, now), Some(database::told(&found))),
                Err(error) => (vec![database::unusable(&error)], None),
            }
        }
    }
}

fn stray(variable: String) -> Finding {
    Finding::warning(
        "VARIABLE_UNKNOWN",
        variable,
        "It has no effect.",
        "Correct its name, or take it out of the environment.",
    )
}

fn unsafe_setting(warning: &str) -> Finding {
    Finding::warning(
        "SETTING_UNSAFE",
        warning,
        "It is allowed, and seldom meant.",
        "Change the setting; docs/CONFIGURATION.md describes it.",
    )
}

fn wrong_setting(problem: String) -> Finding {
    Finding::error(
        "SETTING_WRONG",
        problem,
        "The server would not start. Nothing else was looked at.",
        "Correct it; `eventodb serve --help` describes each setting.",
    )
}

fn print(found: &Found, output: &mut Output) -> anyhow::Result<()> {
    let count = |severity| found.findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let json = json!({
        "findings": found.findings, "errors": errors, "warnings": warnings, "lookedAt": found.looked_at,
    });
    let blocks: Vec<String> = found.findings.iter().map(|finding| block(finding, output)).collect();
    output.styled(&json, || {
        let mut lines = blocks;
        lines.push(format!("looked at: {}", visible(&found.looked_at.join("; "))));
        lines.push(match (errors, warnings) {
            (0, 0) => "nothing is wrong".to_owned(),
            (errors, warnings) => format!("{errors} errors, {warnings} warnings"),
        });
        lines.join("\n")
    })
}

fn block(finding: &Finding, output: &Output) -> String {
    let severity = match finding.severity {
        Severity::Error => output.coloured("ERROR", 31),
        Severity::Warning => output.coloured("WARNING", 33),
    };
    let head = format!("{severity} {}", finding.code);
    let part = |name: &str, text: &str| wrapped(name, &visible(text));
    format!(
        "{head}\n{}\n{}\n{}\n",
        part("found", &finding.what),
        part("because", finding.why),
        part("cure", &finding.cure)
    )
}

/// A text in lines that fit, behind a name. A word that is longer than a line stays whole.
fn wrapped(name: &str, text: &str) -> String {
    let mut lines = vec![format!("  {name:<width$}", width = INDENT - 2)];
    let mut is_empty = true;
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(format!("{:INDENT$}{word}", ""));
        } else {
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
        }
        is_empty = false;
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wrapped_behind_their_names() {
        let text = wrapped("cure", &"word ".repeat(30));
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(text.starts_with("  cure      word word") && text.contains("\n            word"), "{text}");
        let long = "x".repeat(100);
        assert_eq!(wrapped("found", &long), format!("  found     {long}"));
    }
}
