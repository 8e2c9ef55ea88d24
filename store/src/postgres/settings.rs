//! Settings of this backend: the address of the database, and every bound.

use std::time::Duration;

use eventodb_pg::Url;

/// Connections of the sequencers, beside the pool's.
const SEQUENCER_CONNECTIONS: usize = 8;
/// Connections for groups, beside the pool's.
const GROUP_CONNECTIONS: usize = 4;

/// Settings of the PostgreSQL backend.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the database is.
    pub url: Url,
    /// Where servers notify each other, if not at `url`: a pooler forwards no notifications, and a node of a cluster
    /// none to another. The database there needs no tables.
    pub listen_url: Option<Url>,
    /// Number of connections for reads that are kept open while they are idle.
    pub pool_min: usize,
    /// Number of connections for reads, at most.
    pub pool_max: usize,
    /// Number of connections for appends, at most, and of those for the heads that reads ask for. Reads use up none of the
    /// former, and wait for one only if another server's writes have to be followed first, which a run of the sequencer
    /// does.
    pub sequencer_connections: usize,
    /// Number of connections for decisions about groups, at most.
    pub group_connections: usize,
    /// How long a call waits for a connection of the pool.
    pub acquire_timeout: Duration,
    /// After how long without use a connection beyond `pool_min` is closed.
    pub idle_timeout: Duration,
    /// How long one host may take from the first packet to an open session.
    pub connect_timeout: Duration,
    /// How long a statement may run. PostgreSQL is told this limit, and is waited for little longer.
    pub statement_timeout: Duration,
    /// Index entries that one statement with a filter looks at.
    pub examined_rows: usize,
    /// Written messages after which the counts of a log are folded.
    pub fold_messages: usize,
    /// Whether statements are prepared. They must not be behind a pooler in transaction mode.
    pub prepare: bool,
    /// For tests: whether a table `eventodb.test_placements`, with the columns `schema_name`, `nodename`, `nodeport` and
    /// `identity`, tells which node has a log's schema, instead of Citus. It is never looked for otherwise.
    pub stand_in: bool,
    /// Whether an older schema is brought up to date; otherwise it is refused.
    pub auto_migrate: bool,
}

impl Settings {
    /// The default bounds for the database at `url`.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            listen_url: None,
            pool_min: 1,
            pool_max: 16,
            sequencer_connections: SEQUENCER_CONNECTIONS,
            group_connections: GROUP_CONNECTIONS,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            examined_rows: 50_000,
            fold_messages: 5_000,
            prepare: true,
            stand_in: false,
            auto_migrate: true,
        }
    }

    /// Settings of the sessions that notify other servers.
    pub(super) fn of_notifier(&self) -> Self {
        match &self.listen_url {
            // Whoever can listen there keeps a session, and with it prepared statements.
            Some(url) => Self { url: url.clone(), prepare: true, ..self.clone() },
            None => self.clone(),
        }
    }

    /// Where to listen for notifications; `None` means that only polling tells of other servers.
    pub(super) fn listen_at(&self) -> Option<&Url> {
        self.listen_url.as_ref().or(self.prepare.then_some(&self.url))
    }
}
