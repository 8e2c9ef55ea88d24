//! `eventodb completions SHELL` and `eventodb man`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap_complete::Shell;

use crate::usage::EXIT_CODES;

/// Options of `eventodb completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell to complete for.
    shell: Shell,
}

/// Prints the completions of a shell for the command line `root`.
pub(crate) fn run(args: &Args, mut root: clap::Command) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut root, "eventodb", &mut text);
    print(&text)
}

/// Prints the manual page of `root` with all its commands.
pub(crate) fn man(mut root: clap::Command) -> anyhow::Result<ExitCode> {
    root.build();
    let mut text = Vec::new();
    clap_mangen::Man::new(root.clone()).render(&mut text).context("cannot write the manual page")?;
    describe_commands(&root, "eventodb", &mut text).context("cannot write the manual page")?;
    writeln!(text, ".SH \"EXIT CODES\"\n{EXIT_CODES}")?;
    print(&text)
}

/// Writes a section for each command of `parent`, and for their subcommands.
fn describe_commands(parent: &clap::Command, path: &str, text: &mut Vec<u8>) -> std::io::Result<()> {
    for command in parent.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set()) {
        let path = format!("{path} {}", command.get_name());
        let man = clap_mangen::Man::new(command.clone());
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
