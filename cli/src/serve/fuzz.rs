//! Mistyped flags: each is refused in one line without a secret, or makes a valid configuration.

use clap::{CommandFactory as _, Parser};
use eventodb_protocol::testing::mangled_text;
use proptest::prelude::*;
use proptest::sample::select;

use super::args::Args;
use super::config::Checked;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

const SECRET: &str = "s3cretPassword";

/// Flags whose values hold secrets.
const SECRETS: &[&str] = &["db-url", "listen-url", "token"];

fn secrets() -> Vec<String> {
    let token = format!("ns_ZGVmYXVsdA_{SECRET}{}", "5".repeat(64 - SECRET.len()));
    vec![format!("postgres://me:{SECRET}@localhost:5432/events?sslmode=verify-full"), token]
}

fn values() -> Vec<String> {
    let values = ["", "0", "1", "18446744073709551615", "65536", "true", "json", "sqlite://a/../b.db"];
    values.map(str::to_owned).to_vec()
}

/// Any flag, with and without a value. A secret may be given at any of them.
fn argument() -> impl Strategy<Value = String> {
    let command = Line::command();
    let flags: Vec<String> = command.get_arguments().filter_map(|flag| flag.get_long().map(str::to_owned)).collect();
    // Errors quote the name of a file, so that it can be corrected. A secret as a file's name would therefore be shown.
    let names_a_file = |flag: &&String| flag.ends_with("-file") || flag.ends_with("-dir") || flag.ends_with("-out");
    let others: Vec<String> = flags.iter().filter(|flag| !names_a_file(flag)).cloned().collect();
    prop_oneof![
        (select(flags.clone()), mangled_text(select(values()))).prop_map(|(flag, value)| format!("--{flag}={value}")),
        (select(others), select(secrets())).prop_map(|(flag, value)| format!("--{flag}={value}")),
        select(flags).prop_map(|flag| format!("--{flag}")),
        select([values(), secrets()].concat()),
    ]
}

/// The errors for these arguments.
fn refusals(arguments: Vec<String>) -> Vec<String> {
    let given = std::iter::once("eventodb".to_owned()).chain(arguments);
    let refused: Vec<_> = match Line::try_parse_from(given) {
        Ok(line) => Checked::of(line.args).err().unwrap_or_default().into_iter().map(|misfit| misfit.error).collect(),
        Err(error) => vec![crate::usage::of_clap(&error, &Line::command())],
    };
    refused.iter().map(|usage| eventodb_store::Chain(usage).to_string()).collect()
}

/// Whether the text is one line without a part of a secret.
fn is_shown_safely(text: &str) -> bool {
    !text.is_empty() && !text.contains('\n') && !text.contains("s3cret") && !text.contains("Password")
}

proptest! {
    #[test]
    fn any_flags_are_refused_in_one_line_or_make_sense(arguments in prop::collection::vec(argument(), 0..5)) {
        let refusals = refusals(arguments);
        prop_assert!(refusals.iter().all(|refusal| is_shown_safely(refusal)), "{:?}", refusals);
    }

    #[test]
    fn a_secret_that_is_mistyped_is_not_shown(flag in select(SECRETS), secret in mangled_text(select(secrets()))) {
        let refusals = refusals(vec![format!("--{flag}={secret}")]);
        prop_assert!(refusals.iter().all(|refusal| is_shown_safely(refusal)), "{:?}", refusals);
    }
}
