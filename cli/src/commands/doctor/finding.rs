//! What a doctor says of a fault: what it is, why it matters, and what to do.

use serde::Serialize;

/// How bad a fault is. The numbers are the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// It works, and is not as it should be.
    Warning = 1,
    /// It does not work, or messages are at risk.
    Error = 2,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// Tells the kind of fault; stable.
    pub(super) code: &'static str,
    /// The fault, with what was found.
    pub(super) what: String,
    /// Why it matters.
    pub(super) why: &'static str,
    /// What to do.
    pub(super) cure: String,
}

impl Finding {
    /// A fault with which the server does not work, or by which messages are at risk.
    pub(super) fn error(
        code: &'static str,
        what: impl Into<String>,
        why: &'static str,
        cure: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Error, code, what: what.into(), why, cure: cure.into() }
    }

    /// A fault with which the server works.
    pub(super) fn warning(
        code: &'static str,
        what: impl Into<String>,
        why: &'static str,
        cure: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, what, why, cure) }
    }
}

/// A number of bytes as people say it.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} bytes"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}

/// A span of time as people say it.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
