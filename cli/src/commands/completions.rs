//! `eventodb completions SHELL` and `eventodb man`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap_complete::Shell;
use clap_mangen::Man;
use serde_json::json;

use super::output::print_json;
use crate::help::{EXAMPLES_HEADING, visible};
use crate::usage::{EXIT_CODES, Exit, Refused};

/// Options of `eventodb completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell to complete for.
    shell: Shell,
    /// Print JSON: the shell, and the script as a text.
    #[arg(long)]
    json: bool,
}

/// Options of `eventodb man`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Write one page for each command into this directory, which is created if it does not exist: eventodb.1, eventodb-serve.1,
    /// eventodb-token-create.1 and so on. Pages of the same names are replaced. Without it the manual is printed as one page.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON: the files that were written, or the page as a text.
    #[arg(long)]
    json: bool,
}

/// Prints the completions of a shell for the command line `root`.
pub(crate) fn run(args: &Args, mut root: clap::Command) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut root, "eventodb", &mut text);
    if args.json {
        return print_json(&json!({ "shell": args.shell.to_string(), "script": String::from_utf8(text)? }));
    }
    print(&text)
}

/// Prints the manual page of `root` with all its commands, or writes one page for each.
pub(crate) fn man(args: &ManArgs, root: clap::Command) -> anyhow::Result<ExitCode> {
    let mut root = root.disable_help_subcommand(true);
    root.build();
    if let Some(directory) = &args.out {
        let mut written = Vec::new();
        std::fs::create_dir_all(directory)
            .and_then(|()| write_pages(&root, directory, &mut written))
            .map_err(|error| Refused::because(Exit::CannotCreate, format!("cannot write into {directory:?}"), error))?;
        return if args.json { print_json(&json!({ "written": written })) } else { Ok(ExitCode::SUCCESS) };
    }
    let mut text = Vec::new();
    page(&root, &mut text).context("cannot write the manual page")?;
    describe_commands(&root, "eventodb", &mut text).context("cannot write the manual page")?;
    if args.json {
        return print_json(&json!({ "page": String::from_utf8(text)? }));
    }
    print(&text)
}

fn write_pages(command: &clap::Command, directory: &Path, written: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut text = Vec::new();
    page(command, &mut text)?;
    let file = directory.join(Man::new(command.clone()).get_filename());
    std::fs::write(&file, text)?;
    written.push(file);
    visible(command).try_for_each(|below| write_pages(below, directory, written))
}

/// Writes the page of one command. clap_mangen would run the lines of the examples together.
fn page(command: &clap::Command, text: &mut Vec<u8>) -> std::io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man = Man::new(command.clone()).title(name);
    man.render_title(text)?;
    man.render_name_section(text)?;
    man.render_synopsis_section(text)?;
    man.render_description_section(text)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(text)?;
    }
    if visible(command).next().is_some() {
        man.render_subcommands_section(text)?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (notes, examples) = after.split_once(EXAMPLES_HEADING).unwrap_or((&after, ""));
    if !notes.trim().is_empty() {
        writeln!(text, ".SH NOTES")?;
        notes.trim().lines().try_for_each(|line| writeln!(text, "{}", plain(line)))?;
    }
    if !examples.is_empty() {
        writeln!(text, ".SH EXAMPLES\n.nf")?;
        examples.trim().lines().try_for_each(|line| writeln!(text, "{}", plain(line.trim())))?;
        writeln!(text, ".fi")?;
    }
    writeln!(text, ".SH \"EXIT CODES\"\n{}", plain(EXIT_CODES))
}

/// A line that roff prints as it is.
fn plain(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

/// Writes a section for each command of `parent`, and for their subcommands.
fn describe_commands(parent: &clap::Command, path: &str, text: &mut Vec<u8>) -> std::io::Result<()> {
    for command in visible(parent) {
        let path = format!("{path} {}", command.get_name());
        let man = Man::new(command.clone());
        writeln!(text, ".SH \"{}\"", path.to_uppercase())?;
        man.render_description_section(text)?;
        man.render_options_section(text)?;
        describe_commands(command, &path, text)?;
    }
    Ok(())
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
