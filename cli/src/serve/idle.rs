//! Settings that have no effect beside the others: each has a warning at the start and in `eventodb config check`, because
//! whoever sets one expects something of it.

use clap::Arg;
use eventodb_protocol::reply::Setting;
use eventodb_store::sqlite::Location;

use super::args::Args;
use super::config::{Checked, GivenToken, Storage};

/// Settings, and why they have no effect, if they have none.
struct Row {
    settings: Which,
    /// Whether they are told if a variable has set them. An image of a container sets some for whatever its user chooses.
    by_variable: bool,
    why: fn(&Args, &Checked) -> Option<&'static str>,
}

enum Which {
    /// Those below a heading of the help, except these.
    Under(&'static str, &'static [&'static str]),
    Named(&'static [&'static str]),
}

/// All such settings. Those that do not fit together at all are errors, which `config` finds; and those that `sys.config` may
/// give an effect later are not here.
const TABLE: &[Row] = &[
    Row {
        // SQLite tidies its files at this interval, too.
        settings: Which::Under("PostgreSQL", &["poll-interval-ms"]),
        by_variable: true,
        why: |_, checked| matches!(checked.storage, Storage::Sqlite(..)).then_some("the store is on SQLite"),
    },
    Row {
        settings: Which::Under("SQLite", &[]),
        by_variable: true,
        why: |_, checked| matches!(checked.storage, Storage::Postgres(_)).then_some("the store is on PostgreSQL"),
    },
    Row {
        settings: Which::Named(&["data-dir"]),
        by_variable: false,
        why: |_, checked| match checked.storage {
            Storage::Postgres(_) => Some("the store is on PostgreSQL"),
            Storage::Sqlite(Location::Memory, _) => Some("the store is in memory"),
            Storage::Sqlite(Location::Directory(_), _) => None,
        },
    },
    Row {
        settings: Which::Named(&["min-free"]),
        by_variable: true,
        why: |_, checked| {
            matches!(checked.storage, Storage::Sqlite(Location::Memory, _)).then_some("the store is in memory")
        },
    },
    Row {
        settings: Which::Named(&["token-out"]),
        by_variable: false,
        why: |_, checked| {
            matches!(checked.token, GivenToken::Administrators(_)).then_some("no token is made, because one is given")
        },
    },
    Row {
        settings: Which::Named(&["test-namespaces", "allowed-host"]),
        by_variable: true,
        why: |args, _| (!args.test_mode).then_some("it is for --test-mode"),
    },
    Row {
        settings: Which::Named(&["allow-insecure"]),
        by_variable: true,
        why: |args, _| (args.allow_insecure && !args.test_mode).then_some("it is for --test-mode"),
    },
];

/// A line for each setting that is set and has no effect. `settings` are those of `flags`, in the same order.
pub(super) fn warnings<'f>(
    flags: impl Iterator<Item = &'f Arg>,
    settings: &[Setting],
    args: &Args,
    checked: &Checked,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (flag, Setting { name, from, .. }) in flags.zip(settings).filter(|(_, setting)| setting.from != "default") {
        let is_variable = flag.get_env().is_some_and(|variable| variable.to_str() == Some(from));
        let rows = TABLE.iter().filter(|row| row.has(flag, name) && (row.by_variable || !is_variable));
        if let Some(why) = rows.filter_map(|row| (row.why)(args, checked)).next() {
            let place = if from == "flag" { String::new() } else { format!(" ({from})") };
            warnings.push(format!("--{name}{place} has no effect: {why}"));
        }
    }
    warnings
}

impl Row {
    fn has(&self, flag: &Arg, name: &str) -> bool {
        match self.settings {
            Which::Under(heading, except) => flag.get_help_heading() == Some(heading) && !except.contains(&name),
            Which::Named(names) => names.contains(&name),
        }
    }
}
