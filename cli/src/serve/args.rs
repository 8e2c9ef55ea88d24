//! The flags of `eventodb serve`, as they are typed. What they mean is checked in `config`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use eventodb_server::{Bounds, Timeouts};
use eventodb_store::Settings;
use eventodb_store::backend::sqlite;

use super::logging::{Format, Level};
use super::secret::{Database, Secret};

/// Flags of `serve`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on.
    #[arg(long, env = "EVENTODB_HOST", default_value = "127.0.0.1")]
    pub(super) host: String,

    /// Port to listen on; 0 lets the system choose one, which is printed.
    #[arg(long, env = "EVENTODB_PORT", default_value_t = 8080, allow_hyphen_values = true)]
    pub(super) port: u16,

    #[command(flatten)]
    pub(super) database: Database,

    /// Directory of the SQLite files; it is created where it is missing.
    #[arg(long, env = "EVENTODB_DATA_DIR", default_value = "./data")]
    pub(super) data_dir: PathBuf,

    /// Token of the namespace `default`, which is the administrator's. Without it one is made when the namespace is
    /// created, and shown once: on a terminal, else in the file of --token-out.
    // Its id differs from that of the clients' token, as clap carries global values upwards.
    #[arg(long, env = "EVENTODB_SERVE_TOKEN", hide_env_values = true)]
    pub(super) token: Option<Secret>,

    /// File that has the token in place of --token, so that it stands in no list of processes.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(super) token_file: Option<PathBuf>,

    /// File, for its owner alone, into which a token goes that is made; on SQLite `admin-token` in the data directory
    /// if left out.
    #[arg(long, value_name = "FILE")]
    pub(super) token_out: Option<PathBuf>,

    /// For tests: tokens are optional, and namespaces come into being when they are used.
    #[arg(long, env = "EVENTODB_TEST_MODE", value_parser = switch())]
    pub(super) test_mode: bool,

    /// Take --test-mode on an address that other machines reach: whoever reaches it may do everything.
    #[arg(long)]
    pub(super) allow_insecure: bool,

    /// Most namespaces that come into being by use in test mode and live at once.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub(super) test_namespaces: usize,

    /// Origins such as `https://shop.example` whose pages may talk to the server, separated by commas; without it all may,
    /// and in test mode those of this machine.
    #[arg(long, value_name = "ORIGIN,…", value_delimiter = ',')]
    pub(super) cors_origin: Vec<String>,

    /// Names, separated by commas, by which the server may be called in test mode beside localhost and addresses.
    #[arg(long, value_name = "HOST,…", value_delimiter = ',')]
    pub(super) allowed_host: Vec<String>,

    /// What is logged: error, warn, info, debug or trace.
    #[arg(long, env = "EVENTODB_LOG_LEVEL", default_value = "info", value_enum)]
    pub(super) log_level: Level,

    /// How it is logged, to standard error.
    #[arg(long, env = "EVENTODB_LOG_FORMAT", default_value = "console", value_enum)]
    pub(super) log_format: Format,

    /// Log every request, one line each: method, status, duration, namespace.
    #[arg(long, env = "EVENTODB_ACCESS_LOG", value_parser = switch())]
    pub(super) access_log: bool,

    #[command(flatten)]
    pub(super) limits: Limits,
    #[command(flatten)]
    pub(super) times: Times,
    #[command(flatten)]
    pub(super) memory: Memory,
    #[command(flatten)]
    pub(super) sqlite: Sqlite,
    #[command(flatten)]
    pub(super) postgres: Postgres,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a default is short")
}

/// What clients may send.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits on what clients send")]
pub(super) struct Limits {
    /// Bytes of a stream's, type's or namespace's name.
    #[arg(long, value_name = "BYTES", default_value_t = 255)]
    pub(super) max_name_bytes: usize,
    /// Bytes of one message: data and metadata.
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024)]
    pub(super) max_message_bytes: usize,
    /// Bytes of a request body.
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024)]
    pub(super) max_body_bytes: usize,
    /// Nesting of data or metadata.
    #[arg(long, value_name = "LEVELS", default_value_t = 128)]
    pub(super) max_json_depth: usize,
    /// Connections at once; more wait to be accepted.
    #[arg(long, value_name = "COUNT", default_value_t = Bounds::default().connections)]
    pub(super) max_connections: usize,
    /// Requests at once on one HTTP/2 connection.
    #[arg(long, value_name = "COUNT", default_value_t = Bounds::default().http2_streams)]
    pub(super) max_http2_streams: u32,
}

/// How long things may take.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Times")]
pub(super) struct Times {
    /// Milliseconds that a client has to send the head of a request.
    #[arg(long, value_name = "MS", default_value_t = ms(Timeouts::default().head))]
    pub(super) head_timeout_ms: u64,
    /// Milliseconds that may pass between two pieces of a request's body.
    #[arg(long, value_name = "MS", default_value_t = ms(Timeouts::default().body_gap))]
    pub(super) body_pause_timeout_ms: u64,
    /// Milliseconds that a request's body may take in all; an import has no such limit.
    #[arg(long, value_name = "MS", default_value_t = ms(Timeouts::default().body_total))]
    pub(super) body_timeout_ms: u64,
    /// Milliseconds that a connection may stay open between requests.
    #[arg(long, value_name = "MS", default_value_t = ms(Timeouts::default().idle))]
    pub(super) idle_timeout_ms: u64,
    /// Milliseconds after which a client is cut that takes nothing of a reply or subscription.
    #[arg(long, value_name = "MS", default_value_t = ms(Timeouts::default().stall))]
    pub(super) stall_timeout_ms: u64,
    /// Milliseconds of silence after which a subscription gets a heartbeat.
    #[arg(long, value_name = "MS", default_value_t = ms(Timeouts::default().heartbeat))]
    pub(super) heartbeat_ms: u64,
    /// Milliseconds within which what comes after a poke goes out together; the first poke never waits.
    #[arg(long, value_name = "MS", default_value_t = ms(Settings::default().poke_gap))]
    pub(super) poke_gap_ms: u64,
    /// Milliseconds that requests in progress have to end after SIGTERM.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub(super) drain_timeout_ms: u64,
    /// Milliseconds that a write waits for its commit before it is answered with TIMEOUT.
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    pub(super) append_timeout_ms: u64,
    /// Milliseconds after which a request counts as slow and is logged.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    pub(super) slow_request_ms: u64,
    /// Milliseconds that an append waits for room in a full queue before it is refused as overload.
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    pub(super) queue_wait_ms: u64,
}

/// Bounds on memory.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Memory")]
pub(super) struct Memory {
    /// Bytes of what waits for clients: connections, bodies of calls, imports, pages, replies; more are refused as overload.
    /// A quarter of what the process may use (the limit of its cgroup, else the machine's memory) if left out.
    #[arg(long, value_name = "BYTES")]
    pub(super) memory_budget: Option<usize>,
    /// Appends of one namespace that may wait to be committed.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub(super) queue_appends: usize,
    /// Bytes of appends of one namespace that may wait to be committed.
    #[arg(long, value_name = "BYTES", default_value_t = 64 * 1024 * 1024)]
    pub(super) queue_bytes: usize,
    /// Messages that are committed together.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    pub(super) batch_messages: usize,
    /// Bytes that are committed together.
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().batch_bytes)]
    pub(super) batch_bytes: usize,
    /// Newest messages of one namespace that are kept in memory.
    #[arg(long, value_name = "COUNT", default_value_t = 16_384)]
    pub(super) tail_messages: usize,
    /// Bytes of newest messages that are kept in memory, of all namespaces together.
    #[arg(long, value_name = "BYTES", default_value_t = 64 * 1024 * 1024)]
    pub(super) tail_bytes: usize,
    /// Streams of one namespace whose version is remembered.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub(super) version_cache: usize,
    /// Bytes of a page that are gathered before its reply begins; a larger page is streamed.
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().page_bytes)]
    pub(super) page_bytes: usize,
    /// Messages that one query of a read fetches.
    #[arg(long, value_name = "COUNT", default_value_t = Settings::default().slice_rows)]
    pub(super) slice_rows: usize,
    /// Bytes after which one query of a read stops.
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().slice_bytes)]
    pub(super) slice_bytes: usize,
    /// Bytes of pokes that a subscription is sent at once.
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().poke_bytes)]
    pub(super) poke_bytes: usize,
}

/// Bounds of SQLite.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "SQLite")]
pub(super) struct Sqlite {
    /// Namespaces whose files are open at once.
    #[arg(long, value_name = "COUNT", default_value_t = sqlite::Settings::default().open_namespaces)]
    pub(super) open_namespaces: usize,
    /// Messages of one namespace that may wait to be indexed; appends wait beyond it.
    #[arg(long, value_name = "COUNT", default_value_t = sqlite::Settings::default().memtable_messages)]
    pub(super) memtable_messages: usize,
    /// Messages of all namespaces that may wait to be indexed before the indexer hurries.
    #[arg(long, value_name = "COUNT", default_value_t = sqlite::Settings::default().memtables_messages)]
    pub(super) memtables_messages: usize,
    /// Messages that are indexed in one transaction.
    #[arg(long, value_name = "COUNT", default_value_t = sqlite::Settings::default().index_batch)]
    pub(super) index_batch: usize,
    /// Threads that commit, for all namespaces; two for each core if left out.
    #[arg(long, value_name = "COUNT")]
    pub(super) writer_threads: Option<usize>,
    /// Reads that run at once, for all namespaces; two for each core if left out. A reader keeps up to 8 MiB of the log in
    /// memory while it is used.
    #[arg(long, value_name = "COUNT")]
    pub(super) readers: Option<usize>,
    /// Messages that one query of a read looks at in search of matches.
    #[arg(long, value_name = "COUNT", default_value_t = sqlite::Settings::default().examined_rows)]
    pub(super) examined_rows: usize,
}

/// Settings of PostgreSQL.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "PostgreSQL")]
pub(super) struct Postgres {
    /// Connections that are kept open for reads.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(super) pg_pool_min: usize,
    /// Most connections for reads.
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    pub(super) pg_pool_max: usize,
    /// Most connections for appends.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    pub(super) pg_append_connections: usize,
    /// Milliseconds that a call waits for a connection of the pool.
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    pub(super) pg_acquire_timeout_ms: u64,
    /// Milliseconds after which an unused connection beyond the minimum is closed.
    #[arg(long, value_name = "MS", default_value_t = 600_000)]
    pub(super) pg_idle_timeout_ms: u64,
    /// Milliseconds that connecting to one host may take.
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    pub(super) pg_connect_timeout_ms: u64,
    /// Milliseconds that a statement may take.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub(super) pg_statement_timeout_ms: u64,
    /// Whether statements are prepared; `off` behind a PgBouncer that knows no prepared statements.
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = on_off(), action = clap::ArgAction::Set)]
    pub(super) pg_prepare: bool,
    /// Where to listen for notifications, where --db-url is a pooler; without it polling must do there.
    #[arg(long, env = "EVENTODB_LISTEN_URL", hide_env_values = true)]
    pub(super) listen_url: Option<String>,
    /// Milliseconds between two looks at what other servers did, beside their notifications.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub(super) poll_interval_ms: u64,
    /// Whether an older schema is brought up to date at start; otherwise it is refused.
    #[arg(long, value_name = "BOOL", default_value = "true", value_parser = true_false(), action = clap::ArgAction::Set)]
    pub(super) auto_migrate: bool,
}

/// A switch; its variable takes 1, true, 0 or false.
fn switch() -> impl clap::builder::TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["1", "true", "0", "false"]).map(|text| matches!(text.as_str(), "1" | "true"))
}

fn true_false() -> impl clap::builder::TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["true", "false"]).map(|text| text == "true")
}

fn on_off() -> impl clap::builder::TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["on", "off"]).map(|text| text == "on")
}
