//! The errors of PostgreSQL, told apart by SQLSTATE and never by the text of a message.

use std::io;
use std::sync::Arc;

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::error::{Cause, Error};
use crate::storage::AppendError;

/// Why the backend could not be opened: a line for the operator, with its causes behind it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing answers at that address.
    #[error("cannot reach PostgreSQL at {place}")]
    Unreachable {
        /// Host and port.
        place: String,
        /// What happened.
        #[source]
        cause: io::Error,
    },
    /// PostgreSQL does not let this user in.
    #[error("PostgreSQL at {place} refuses user {user}: wrong password, unknown role, or no entry in pg_hba.conf")]
    Refused {
        /// Host and port.
        place: String,
        /// The user.
        user: String,
    },
    /// There is no such database.
    #[error(
        "there is no database {database} at {place}; create it with: CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0"
    )]
    MissingDatabase {
        /// Host and port.
        place: String,
        /// The database.
        database: String,
    },
    /// All its connection slots are taken, or those of the role or the database.
    #[error("PostgreSQL at {place} has no connection slot left: raise max_connections, or close other sessions")]
    NoSlot {
        /// Host and port.
        place: String,
    },
    /// The handshake failed.
    #[error("TLS to PostgreSQL at {place} failed")]
    Tls {
        /// Host and port.
        place: String,
        /// What happened.
        #[source]
        cause: io::Error,
    },
    /// The server is too old.
    #[error("PostgreSQL {0} is too old; 14 or newer is needed")]
    TooOld(String),
    /// The database holds another encoding.
    #[error("the database has the encoding {0}; it must be UTF8")]
    NotUtf8(String),
    /// A privilege is missing.
    #[error("a privilege is missing: {0}")]
    Privilege(String),
    /// Something in the schemas belongs to another role.
    #[error("the database cannot be trusted: {0}")]
    Stranger(String),
    /// Namespaces cannot be spread over the nodes of this cluster.
    #[error("Citus cannot be used: {0}")]
    Citus(String),
    /// The schema was made by a newer version.
    #[error(
        "schema {schema} needs a newer version of this program: {needs} or newer, and this is {}",
        eventodb_protocol::VERSION
    )]
    NewerSchema {
        /// The schema.
        schema: String,
        /// The oldest version that may use it.
        needs: String,
    },
    /// The schema is older than this version, and may not be changed.
    #[error("schema {0} needs a migration: run `eventodb migrate`, or allow it with --auto-migrate")]
    MigrationNeeded(String),
    /// Something else.
    #[error("PostgreSQL cannot be used")]
    Other(#[source] Cause),
}

/// A host with which no session could be begun, for a reason that has no variant of its own.
#[derive(Debug, thiserror::Error)]
#[error("no session with {place}")]
pub(super) struct NoSession {
    pub(super) place: String,
    #[source]
    pub(super) cause: tokio_postgres::Error,
}

impl OpenError {
    /// [`OpenError::Other`] because of `cause`.
    pub(super) fn other(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(Arc::from(cause.into()))
    }

    /// As the error of a statement at the start.
    pub(super) fn of_statement(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) => Self::of_refusal(refusal),
            None => Self::other(error),
        }
    }

    /// As the answer of PostgreSQL to a session or a statement at the start.
    pub(super) fn of_refusal(refusal: &DbError) -> Self {
        match *refusal.code() {
            SqlState::INSUFFICIENT_PRIVILEGE => Self::Privilege(refusal.message().to_owned()),
            _ => Self::other(Refusal::new(refusal)),
        }
    }
}

/// Why a statement has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It never reached PostgreSQL, or could not have changed anything there.
    #[error(transparent)]
    NotSent(Cause),
    /// PostgreSQL answered with an error: the statement and its transaction are undone.
    #[error(transparent)]
    Undone(Arc<Refusal>),
    /// It was sent, and no answer came.
    #[error(transparent)]
    Open(Cause),
}

/// An error that PostgreSQL answered, in one line, without the parts that quote rows.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {}{})", .state.code(), .constraint.as_ref().map(|name| format!(", constraint {name}")).unwrap_or_default())]
pub(super) struct Refusal {
    pub(super) state: SqlState,
    constraint: Option<String>,
    message: String,
}

/// A time limit that has passed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("PostgreSQL did not {0} in time")]
pub(super) struct TimedOut(pub(super) &'static str);

impl Failure {
    /// The outcome of a statement that may have changed something, if it was sent at all.
    pub(super) fn of_sent(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            // An answer that leaves the outcome open may have come after the commit.
            Some(refusal) if !leaves_open(refusal.parsed_severity(), refusal.code()) => {
                Self::Undone(Arc::new(Refusal::new(refusal)))
            }
            _ => Self::Open(Arc::new(error)),
        }
    }

    /// The outcome of a call that changes nothing, such as the preparation of a statement.
    pub(super) fn of_harmless(error: tokio_postgres::Error) -> Self {
        Self::of_sent(error).before_commit()
    }

    /// As the failure of what changes nothing, or was not told to commit: nothing has changed, and nothing will.
    pub(super) fn before_commit(self) -> Self {
        match self {
            Self::Open(cause) => Self::NotSent(cause),
            other => other,
        }
    }

    /// As the failure of a read of what a commit has left: the outcome of the change is open.
    pub(super) fn after_commit(self) -> Self {
        match self {
            Self::NotSent(cause) | Self::Open(cause) => Self::Open(cause),
            Self::Undone(refusal) => Self::Open(refusal),
        }
    }

    /// As the failure of a statement that may have been forwarded to another node, or of a commit. Where a statement is
    /// cancelled, another node may have committed its part.
    pub(super) fn of_forwarded(self) -> Self {
        match self {
            Self::Undone(refusal) if refusal.state == SqlState::QUERY_CANCELED => Self::Open(refusal),
            other => other,
        }
    }

    /// As the error of an append that failed before its statement was sent.
    pub(super) fn before_append(self) -> AppendError {
        self.before_commit().of_append()
    }

    /// PostgreSQL's code, if it answered.
    pub(super) fn state(&self) -> Option<&SqlState> {
        match self {
            Self::Undone(refusal) => Some(&refusal.state),
            _ => None,
        }
    }

    /// Whether something that a statement names is not there: its schema, a table, or a function.
    pub(super) fn is_missing(&self) -> bool {
        let missing = [SqlState::INVALID_SCHEMA_NAME, SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_FUNCTION];
        self.state().is_some_and(|state| missing.contains(state))
    }

    /// Whether another transaction came first.
    pub(super) fn is_lost_race(&self) -> bool {
        self.state() == Some(&SqlState::T_R_SERIALIZATION_FAILURE)
    }

    /// Whether another transaction held a lock for longer than was to be waited.
    pub(super) fn is_lock_lost(&self) -> bool {
        self.state() == Some(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// Whether PostgreSQL takes no writes.
    pub(super) fn is_read_only(&self) -> bool {
        self.state() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
    }

    /// As the error of a call that changes nothing.
    pub(super) fn of_read(self) -> Error {
        match self {
            Self::NotSent(cause) | Self::Open(cause) => Error::Unavailable(cause),
            Self::Undone(refusal) => match kind(&refusal.state) {
                Kind::Gone => Error::Closed,
                Kind::Passing => Error::Unavailable(refusal),
                Kind::Row | Kind::Lost | Kind::Other => Error::Failed(refusal),
            },
        }
    }

    /// As the error of a change to the registry.
    pub(super) fn of_change(self) -> Error {
        match self {
            Self::Open(cause) => Error::Unknown(cause),
            other => other.of_read(),
        }
    }

    /// As the error of an append.
    pub(super) fn of_append(self) -> AppendError {
        match self {
            Self::NotSent(cause) => AppendError::Unavailable(cause),
            Self::Open(cause) => AppendError::Unknown(cause),
            Self::Undone(refusal) => match kind(&refusal.state) {
                Kind::Gone => AppendError::Closed,
                Kind::Row => AppendError::Rejected(refusal),
                Kind::Lost => AppendError::Behind,
                Kind::Passing | Kind::Other => AppendError::Unavailable(refusal),
            },
        }
    }
}

impl Refusal {
    fn new(error: &DbError) -> Self {
        Self {
            state: error.code().clone(),
            constraint: error.constraint().map(str::to_owned),
            message: error.message().to_owned(),
        }
    }
}

/// The meaning of an SQLSTATE for the store.
enum Kind {
    /// The schema is gone, and with it the incarnation.
    Gone,
    /// A row is at fault.
    Row,
    /// Another transaction came first.
    Lost,
    /// It may work later.
    Passing,
    /// None of these.
    Other,
}

fn kind(state: &SqlState) -> Kind {
    match *state {
        SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME => Kind::Gone,
        SqlState::T_R_SERIALIZATION_FAILURE => Kind::Lost,
        SqlState::READ_ONLY_SQL_TRANSACTION | SqlState::LOCK_NOT_AVAILABLE => Kind::Passing,
        // A pooler or an administrator took away the session's prepared statements.
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::FEATURE_NOT_SUPPORTED => Kind::Passing,
        _ => match &state.code()[..2] {
            "21" | "22" | "23" | "54" => Kind::Row,
            "25" | "40" | "53" | "55" | "57" | "58" => Kind::Passing,
            _ => Kind::Other,
        },
    }
}

/// Whether the session cannot be used any more after this answer, although the transaction is certainly undone.
pub(super) fn spoils_session(state: &SqlState) -> bool {
    matches!(
        *state,
        SqlState::READ_ONLY_SQL_TRANSACTION
            | SqlState::INVALID_SQL_STATEMENT_NAME
            | SqlState::FEATURE_NOT_SUPPORTED
            | SqlState::DUPLICATE_PSTATEMENT
    )
}

/// Whether an answer leaves open whether the statement is or will be committed. The session ends, or the answer is one
/// of a middleman that sent the statement on: it lost the connection (class 08), or passes on that the session there
/// ended (57P0x) or something unexpected happened (XX000). PostgreSQL itself undoes a statement that ends with XX000;
/// to leave its outcome open costs one question and harms nothing.
fn leaves_open(severity: Option<Severity>, state: &SqlState) -> bool {
    let code = state.code();
    !matches!(severity, Some(Severity::Error)) || code.starts_with("08") || code.starts_with("57P0") || code == "XX000"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_statement_that_may_have_been_forwarded_is_open() {
        let undone = |code| {
            let state = SqlState::from_code(code);
            Failure::Undone(Arc::new(Refusal { state, constraint: None, message: String::new() })).of_forwarded()
        };
        assert!(matches!(undone("57014").of_append(), AppendError::Unknown(_)));
        assert!(matches!(undone("57014").of_change(), Error::Unknown(_)));
        assert!(matches!(undone("55P03").of_append(), AppendError::Unavailable(_)));
    }

    #[test]
    fn an_answer_that_may_come_after_the_commit_leaves_the_outcome_open() {
        let open = ["08000", "08003", "08006", "08P01", "57P01", "57P02", "57P03", "57P05", "XX000"];
        let certain =
            ["23505", "22003", "40001", "40P01", "42P01", "53100", "53300", "55P03", "57014", "58030", "XX001"];
        for (codes, is_open) in [(&open[..], true), (&certain[..], false)] {
            for code in codes {
                let state = SqlState::from_code(code);
                assert_eq!(leaves_open(Some(Severity::Error), &state), is_open, "{code}");
                for severity in [Some(Severity::Fatal), Some(Severity::Panic), None] {
                    assert!(leaves_open(severity, &state), "{code}");
                }
            }
        }
    }
}
