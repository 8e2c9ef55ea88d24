//! How a command ends: exit codes, and errors in one line.

use std::error::Error;
use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use eventodb_client::Error as ClientError;
use eventodb_client::worker::WorkerError;

/// Why a command failed. The numbers are those of BSD's `sysexits.h` and, for Ctrl-C, of shells (128 + SIGINT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Refused, or a failure without a code of its own.
    Failed = 1,
    /// A wrong call or configuration, such as a store that needs a newer version of this program.
    Usage = 64,
    /// The server or the database cannot be reached.
    Unavailable = 69,
    /// A port, directory or file cannot be created or used.
    CannotCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// The server asks the client to try again later.
    TryAgain = 75,
    /// The token does not allow it.
    NotAllowed = 77,
    /// Ended by Ctrl-C before anything was finished.
    Interrupted = 130,
}

/// All exit codes, for the help and the manual page. `docs/OPERATIONS.md` has the same table.
pub(crate) const EXIT_CODES: &str = "\
0 done, 1 refused or failed, 64 wrong usage or configuration, 69 server or database unavailable, \
73 cannot create (port, directory, file), 74 I/O error, 75 try again later, 77 not allowed by the token, \
130 Ctrl-C before the end.";

/// The command line or the configuration is wrong. The message says what to do.
#[derive(Debug)]
pub(crate) struct Usage(anyhow::Error);

/// The command line is right, but the state of the machine, the server or the database prevents the command.
#[derive(Debug)]
pub(crate) struct Refused {
    exit: Exit,
    error: anyhow::Error,
}

impl Usage {
    /// A usage error with this message.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(anyhow::Error::msg(message.into()))
    }

    /// This error, with its causes, as a usage error.
    pub(crate) fn of(error: impl Into<anyhow::Error>) -> Self {
        Self(error.into())
    }

    /// A usage error about a flag, because of `error`.
    pub(crate) fn at(flag: &str, error: impl Into<anyhow::Error>) -> Self {
        Self(error.into().context(format!("--{flag}")))
    }
}

impl Refused {
    /// This error, with its causes, and the exit code for it.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// The failure of `what` because of `error`.
    pub(crate) fn because(exit: Exit, what: impl Into<String>, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into().context(what.into()) }
    }
}

impl From<Usage> for Refused {
    fn from(Usage(error): Usage) -> Self {
        Self { exit: Exit::Usage, error }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl Error for Usage {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// The exit code for an error: that of the first error in its chain that has one.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(exit_of).unwrap_or(Exit::Failed) as u8
}

fn exit_of(cause: &(dyn Error + 'static)) -> Option<Exit> {
    if cause.is::<Usage>() {
        return Some(Exit::Usage);
    }
    if let Some(refused) = cause.downcast_ref::<Refused>() {
        return Some(refused.exit);
    }
    if let Some(error) = cause.downcast_ref::<ClientError>() {
        return Some(of_client(error));
    }
    if let Some(error) = cause.downcast_ref::<eventodb_store::Error>() {
        return Some(of_store(error));
    }
    // The error of the handler is not one of this program, so that its causes are not searched for an exit code.
    match cause.downcast_ref() {
        Some(WorkerError::Handler { .. } | WorkerError::Duplicate(_) | WorkerError::AheadOfHead { .. }) => {
            return Some(Exit::Failed);
        }
        Some(WorkerError::Paused(_)) => return Some(Exit::TryAgain),
        _ => {}
    }
    cause.is::<std::io::Error>().then_some(Exit::Io)
}

fn of_client(error: &ClientError) -> Exit {
    match error {
        ClientError::RateLimited { .. } | ClientError::Unavailable { retry_after: Some(_), .. } => Exit::TryAgain,
        ClientError::Unavailable { .. } => Exit::Unavailable,
        // The command was given no token, or something that is none.
        ClientError::Setting { .. } | ClientError::Unauthenticated { .. } => Exit::Usage,
        ClientError::Forbidden { .. } => Exit::NotAllowed,
        _ => Exit::Failed,
    }
}

/// The exit code for an error of the store.
pub(crate) fn of_store(error: &eventodb_store::Error) -> Exit {
    use eventodb_store::Error as StoreError;
    match error {
        StoreError::Unavailable(_) => Exit::Unavailable,
        StoreError::Overloaded | StoreError::NoRoom => Exit::TryAgain,
        StoreError::Failed(_) | StoreError::Damaged(_) | StoreError::Unknown(_) => Exit::Io,
        _ => Exit::Failed,
    }
}

/// A usage error in one line: clap's message, what would be right, and the command that prints the help.
///
/// `root` describes the whole command line.
pub(crate) fn of_clap(error: &clap::Error, root: &clap::Command) -> Usage {
    let (line, mut hints) = parts(error);
    hints.push(format!("see `{} --help`", command_of(error, root)));
    Usage::new(format!("{line} ({})", hints.join("; ")))
}

/// The same without the command that prints the help.
pub(crate) fn brief(error: &clap::Error) -> String {
    let (line, hints) = parts(error);
    if hints.is_empty() { line } else { format!("{line} ({})", hints.join("; ")) }
}

/// clap's message, and what would be right.
fn parts(error: &clap::Error) -> (String, Vec<String>) {
    let text = error.to_string();
    let mut line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").trim_end().to_owned();
    if line.ends_with(':')
        && let Some(ContextValue::Strings(arguments)) = error.get(ContextKind::InvalidArg)
    {
        line = format!("{line} {}", arguments.join(", "));
    }
    let mut hints = Vec::new();
    let allowed = strings(error, ContextKind::ValidValue);
    if !allowed.is_empty() {
        hints.push(format!("it may be {}", allowed.join(", ")));
    }
    for kind in [ContextKind::SuggestedArg, ContextKind::SuggestedValue, ContextKind::SuggestedSubcommand] {
        hints.extend(strings(error, kind).first().map(|similar| format!("did you mean {similar}?")));
    }
    (without_secrets(&line), hints)
}

/// The line without words that may be secrets: clap quotes an unknown value, and a secret may be given at the wrong
/// flag.
fn without_secrets(line: &str) -> String {
    let hidden = |word: &str| match (word.find("://"), word.rfind('@'), word.find("ns_")) {
        (Some(scheme), Some(place), _) if scheme < place => format!("{}://…{}", &word[..scheme], &word[place..]),
        (_, _, Some(token)) if word.len() > token + TOKEN_BYTES => format!("{}ns_…", &word[..token]),
        _ => word.to_owned(),
    };
    line.split(' ').map(hidden).collect::<Vec<_>>().join(" ")
}

/// A word with `ns_` that is longer may be a token.
const TOKEN_BYTES: usize = 32;

fn strings(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(many)) => many.clone(),
        _ => Vec::new(),
    }
}

/// The called command, as clap's usage line names it, or else as it was typed.
fn command_of(error: &clap::Error, root: &clap::Command) -> String {
    let words: Vec<String> = match error.get(ContextKind::Usage) {
        // The first two words are `Usage:` and the name by which the program was called, which may differ.
        Some(ContextValue::StyledStr(usage)) => {
            usage.to_string().split_whitespace().skip(2).map(str::to_owned).collect()
        }
        _ => std::env::args_os().skip(1).filter_map(|word| word.into_string().ok()).collect(),
    };
    let mut words = words.iter();
    let (mut path, mut command) = (root.get_name().to_owned(), root);
    while let Some(next) = words.next().and_then(|word| command.find_subcommand(word)) {
        path = format!("{path} {}", next.get_name());
        command = next;
    }
    // A flag without a command is one of `serve`, whose help has it.
    let is_of_serve = root.has_subcommands() && path == root.get_name() && error.kind() != ErrorKind::InvalidSubcommand;
    if is_of_serve { format!("{path} serve") } else { path }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Values that most flags refuse.
    pub(crate) const WRONG: &[&str] =
        &["", " ", "x", "-1", "1.5", "0x1", "99999999999999999999999", "12:60", "é", "a=b", "ns_", "://"];

    /// What libraries say of values that they cannot read.
    const FOREIGN: &[&str] = &[
        "invalid digit",
        "too large to fit",
        "too small to fit",
        "empty string",
        "invalid float",
        "is not in ",
        "invalid character",
        "invalid length",
        "invalid IP",
        "provided string",
        "premature end",
        "failed to parse",
        "os error",
    ];

    /// Checks that a refusal says what was expected, in the words of this program.
    pub(crate) fn is_plain(refusal: &str) {
        assert!(!FOREIGN.iter().any(|words| refusal.contains(words)), "{refusal}");
        assert!(!refusal.contains('\n') && refusal.contains('('), "{refusal}");
    }

    /// Each value of each flag and positional argument, alone. Those of `serve` are in `serve::settings`.
    fn refusals_below(command: &clap::Command, all: &mut Vec<String>) {
        for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
            for wrong in WRONG {
                let typed = match argument.get_long() {
                    Some(name) => vec![format!("--{name}={wrong}")],
                    None => vec!["--".to_owned(); usize::from(argument.is_last_set())]
                        .into_iter()
                        .chain(vec![(*wrong).to_owned(); argument.get_index().unwrap_or(1)])
                        .collect(),
                };
                let alone = command.clone().no_binary_name(true).subcommand_required(false);
                if let Err(error) = alone.try_get_matches_from(typed)
                    && matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue)
                {
                    all.push(of_clap(&error, &crate::root()).to_string());
                }
            }
        }
        command.get_subcommands().for_each(|command| refusals_below(command, all));
    }

    #[test]
    fn every_wrong_value_of_a_command_is_refused_in_plain_words() {
        let mut root = crate::root();
        root.build();
        let mut all = Vec::new();
        refusals_below(&root, &mut all);
        assert!(all.len() > 300, "only {} values were refused", all.len());
        all.iter().for_each(|refusal| is_plain(refusal));
    }

    #[test]
    fn a_secret_at_the_wrong_flag_is_not_quoted() {
        let token = format!("ns_ZGVmYXVsdA_{}", "5".repeat(64));
        let line = format!("unexpected argument 'postgres://me:pw@db1/events' and '{token}', ns_x, a@b found");
        let shown = super::without_secrets(&line);
        assert_eq!(shown, "unexpected argument 'postgres://…@db1/events' and 'ns_… ns_x, a@b found");
    }
}
