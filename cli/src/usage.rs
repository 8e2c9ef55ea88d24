//! What is wrong with how the command was called, in one line.

use clap::error::{ContextKind, ContextValue};

/// The exit code for wrong usage; source: `EX_USAGE` of BSD's `sysexits.h`.
pub(crate) const EXIT_CODE: u8 = 64;

/// All exit codes, as the help and the manual page tell them.
pub(crate) const EXIT_CODES: &str = "0 done, 1 failed, 64 wrong usage or configuration.";

/// A call or configuration that cannot be carried out; in one line that says what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

impl Usage {
    /// A usage error about anything that can be shown.
    pub(crate) fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl From<&clap::Error> for Usage {
    /// The first line of clap's message, with the arguments it lists below it.
    fn from(error: &clap::Error) -> Self {
        let text = error.to_string();
        let mut line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").trim_end().to_owned();
        if line.ends_with(':')
            && let Some(ContextValue::Strings(arguments)) = error.get(ContextKind::InvalidArg)
        {
            line = format!("{line} {}", arguments.join(", "));
        }
        Self(format!("{line} (see `eventodb --help`)"))
    }
}
