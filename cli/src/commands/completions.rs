//! `eventodb completions SHELL` and `eventodb man`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap_complete::Shell;

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

/// Prints the manual page of `root`, all its commands included.
pub(crate) fn man(mut root: clap::Command) -> anyhow::Result<ExitCode> {
    root.build();
    let mut text = Vec::new();
    clap_mangen::Man::new(root.clone()).render(&mut text).context("cannot write the manual page")?;
    for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = format!("eventodb {}", command.get_name());
        let man = clap_mangen::Man::new(command.clone());
        writeln!(text, ".SH \"{}\"", name.to_uppercase())?;
        man.render_description_section(&mut text).context("cannot write the manual page")?;
        man.render_options_section(&mut text).context("cannot write the manual page")?;
    }
    text.extend_from_slice(EXIT_CODES);
    print(&text)
}

const EXIT_CODES: &[u8] = b".SH \"EXIT CODES\"\n0 done, 1 failed, 64 wrong usage or configuration.\n";

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
