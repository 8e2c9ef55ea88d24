//! The flags of `eventodb serve`, as they are typed.
//!
//! Each flag takes its default from the settings of the crate that uses it, and refuses a value out of its range.
//! `config` checks what depends on more than one flag.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use eventodb_protocol::limits::{BODY_BYTES, JSON_DEPTH, MESSAGE_BYTES, NAME_BYTES};
use eventodb_protocol::typed::whole;
use eventodb_server::config::TEST_NAMESPACES;
use eventodb_server::{AccessLog, Bounds, Changeable, Network, OtlpEndpoint, Rates, Timeouts};
use eventodb_store::Settings;
use eventodb_store::{postgres, sqlite};

use super::logging::{Format, Level};
use super::secret::{DATA_DIR, Database, Secret};

/// Flags of `serve`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on.
    #[arg(long, env = "EVENTODB_HOST", default_value = "127.0.0.1")]
    pub(super) host: String,

    /// Port to listen on. With 0 the system chooses a free port, and the server prints it.
    #[arg(
        long, env = "EVENTODB_PORT", default_value_t = 8080, allow_hyphen_values = true,
        value_parser = whole(0..=u16::MAX, 8080)
    )]
    pub(super) port: u16,

    #[command(flatten)]
    pub(super) database: Database,

    /// Directory of the SQLite files. It is created if it does not exist.
    #[arg(long, env = "EVENTODB_DATA_DIR", default_value = DATA_DIR)]
    pub(super) data_dir: PathBuf,

    /// Token of the namespace `default`, which is the administrator's. Without this flag the first start generates a
    /// token and
    /// shows it once: on a terminal, otherwise in the file of --token-out.
    // Its id differs from that of the clients' token, because clap carries global values upwards.
    #[arg(long, env = "EVENTODB_SERVE_TOKEN", hide_env_values = true)]
    pub(super) token: Option<Secret>,

    /// File that contains the token, in place of --token, so that the list of processes does not show it.
    #[arg(long, env = "EVENTODB_SERVE_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    pub(super) token_file: Option<PathBuf>,

    /// File into which a generated token is written, readable by its owner only. On SQLite `admin-token` in the data
    /// directory if left out.
    #[arg(long, env = "EVENTODB_SERVE_TOKEN_OUT", value_name = "FILE")]
    pub(super) token_out: Option<PathBuf>,

    /// For tests: tokens are optional, and a namespace is created when it is first used.
    #[arg(
        long, env = "EVENTODB_TEST_MODE", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = switch(), action = clap::ArgAction::Set
    )]
    pub(super) test_mode: bool,

    /// Accept --test-mode on an address that other machines reach. Every machine that reaches it may then do
    /// everything.
    #[arg(
        long, env = "EVENTODB_ALLOW_INSECURE", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = switch(), action = clap::ArgAction::Set
    )]
    pub(super) allow_insecure: bool,

    /// Most namespaces that exist at once because test mode created them.
    #[arg(
        long, env = "EVENTODB_TEST_NAMESPACES", value_name = "COUNT", default_value_t = TEST_NAMESPACES,
        value_parser = whole(0.., 1_000_usize)
    )]
    pub(super) test_namespaces: usize,

    /// Origins such as `https://shop.example`, separated by commas, whose pages may call the server. Without this flag
    /// all
    /// origins may, and in test mode only those of this machine.
    #[arg(long, env = "EVENTODB_CORS_ORIGIN", value_name = "ORIGIN,…", value_delimiter = ',')]
    pub(super) cors_origin: Vec<String>,

    /// Host names, separated by commas, by which clients may address a server in test mode, besides localhost and IP
    /// addresses.
    #[arg(long, env = "EVENTODB_ALLOWED_HOST", value_name = "HOST,…", value_delimiter = ',')]
    pub(super) allowed_host: Vec<String>,

    /// What is logged: error, warn, info, debug or trace.
    #[arg(long, env = "EVENTODB_LOG_LEVEL", default_value = "info", value_enum)]
    pub(super) log_level: Level,

    /// Form of the log, which is written to standard error.
    #[arg(long, env = "EVENTODB_LOG_FORMAT", default_value = "console", value_enum)]
    pub(super) log_format: Format,

    /// Log one line for each request: method, status, duration, namespace, token, address, bytes.
    #[arg(
        long, env = "EVENTODB_ACCESS_LOG", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = switch(), action = clap::ArgAction::Set
    )]
    pub(super) access_log: bool,

    /// Show the metrics at /metrics to everybody. Without this flag they need a token of `default` with the right read in
    /// all categories.
    #[arg(
        long, env = "EVENTODB_METRICS_PUBLIC", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = switch(), action = clap::ArgAction::Set
    )]
    pub(super) metrics_public: bool,

    /// Send spans of calls by OTLP over HTTP to this receiver of OpenTelemetry, such as http://127.0.0.1:4318. A call is traced
    /// if its `traceparent` is sampled. It needs a program that was built with the feature `otel`.
    #[arg(long, env = "EVENTODB_OTLP_ENDPOINT", value_name = "URL")]
    pub(super) otlp_endpoint: Option<OtlpEndpoint>,

    /// Lines of the access log a second. Of more requests only a part has a line, which says of how many it is one
    /// (`one_in`).
    #[arg(
        long, env = "EVENTODB_ACCESS_LOG_PER_SECOND", value_name = "COUNT",
        default_value_t = AccessLog::default().per_second, value_parser = lines
    )]
    pub(super) access_log_per_second: NonZeroU32,

    /// Refuse every call that may change the store, with BACKEND_UNAVAILABLE.
    #[arg(
        long, env = "EVENTODB_READ_ONLY", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = switch(), action = clap::ArgAction::Set
    )]
    pub(super) read_only: bool,

    /// Whether new subscriptions are taken. With `off` they are refused with OVERLOADED, and those that are there stay.
    #[arg(
        long, env = "EVENTODB_SUBSCRIPTIONS", value_name = "on|off", default_value = "on",
        value_parser = on_off(), action = clap::ArgAction::Set
    )]
    pub(super) subscriptions: bool,

    #[command(flatten)]
    pub(super) tls: Tls,
    #[command(flatten)]
    pub(super) limits: Limits,
    #[command(flatten)]
    pub(super) per_client: PerClient,
    #[command(flatten)]
    pub(super) times: Times,
    #[command(flatten)]
    pub(super) memory: Memory,
    #[command(flatten)]
    pub(super) sqlite: Sqlite,
    #[command(flatten)]
    pub(super) postgres: Postgres,
}

/// Encryption of what clients send and receive.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(super) struct Tls {
    /// File of the server's certificate in PEM, followed by those between it and its authority. With it the port speaks
    /// TLS and nothing else. A changed file is noticed within some seconds, and at once after SIGHUP.
    #[arg(long, env = "EVENTODB_TLS_CERT", value_name = "FILE")]
    pub(super) tls_cert: Option<PathBuf>,
    /// File of the certificate's private key in PEM, without a password.
    #[arg(long, env = "EVENTODB_TLS_KEY", value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,
    /// File of authorities in PEM. With it every client must show a certificate that one of them has signed.
    #[arg(long, env = "EVENTODB_TLS_CLIENT_CA", value_name = "FILE")]
    pub(super) tls_client_ca: Option<PathBuf>,
}

/// What clients may send.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits on what clients send")]
pub(super) struct Limits {
    /// Bytes of the name of a stream, a type or a namespace.
    #[arg(
        long, env = "EVENTODB_MAX_NAME_BYTES", value_name = "BYTES",
        default_value_t = NAME_BYTES, value_parser = count
    )]
    pub(super) max_name_bytes: usize,
    /// Bytes of one message: data and metadata together.
    #[arg(
        long, env = "EVENTODB_MAX_MESSAGE_BYTES", value_name = "BYTES",
        default_value_t = MESSAGE_BYTES, value_parser = count
    )]
    pub(super) max_message_bytes: usize,
    /// Bytes of the body of a request.
    #[arg(
        long, env = "EVENTODB_MAX_BODY_BYTES", value_name = "BYTES",
        default_value_t = BODY_BYTES, value_parser = count
    )]
    pub(super) max_body_bytes: usize,
    /// Levels of nesting in data or metadata.
    #[arg(
        long, env = "EVENTODB_MAX_JSON_DEPTH", value_name = "LEVELS",
        default_value_t = JSON_DEPTH, value_parser = count
    )]
    pub(super) max_json_depth: usize,
    /// Connections at once. More wait to be accepted.
    #[arg(
        long, env = "EVENTODB_MAX_CONNECTIONS", value_name = "COUNT",
        default_value_t = Bounds::default().connections, value_parser = permits
    )]
    pub(super) max_connections: usize,
    /// Requests at once on one HTTP/2 connection.
    #[arg(
        long, env = "EVENTODB_MAX_HTTP2_STREAMS", value_name = "COUNT",
        default_value_t = Bounds::default().http2_streams, value_parser = whole(1.., 100_u32)
    )]
    pub(super) max_http2_streams: u32,
    /// Imports at once, half of them of one namespace. More are refused with OVERLOADED.
    #[arg(
        long, env = "EVENTODB_MAX_IMPORTS", value_name = "COUNT", default_value_t = Bounds::default().imports,
        value_parser = permits
    )]
    pub(super) max_imports: usize,
}

/// What one client may have.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits on each client")]
pub(super) struct PerClient {
    /// Networks, separated by commas, of proxies whose `X-Forwarded-For` or `Forwarded` names the client: the last address
    /// there that is in none of these networks. Without this flag the headers are ignored.
    #[arg(long, env = "EVENTODB_TRUSTED_PROXY", value_name = "NETWORK,…", value_delimiter = ',')]
    pub(super) trusted_proxy: Vec<Network>,
    /// Connections of one address, or of one IPv6 network of 64 bits, except those of trusted proxies. More are closed at
    /// once. If left out, there is no such limit.
    #[arg(long, env = "EVENTODB_MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT", value_parser = count)]
    pub(super) max_connections_per_address: Option<usize>,
    /// Subscriptions of one namespace. More are refused with OVERLOADED.
    #[arg(
        long, env = "EVENTODB_MAX_SUBSCRIPTIONS_PER_NAMESPACE", value_name = "COUNT",
        default_value_t = Changeable::default().subscriptions.per_namespace, value_parser = count
    )]
    pub(super) max_subscriptions_per_namespace: usize,
    /// Subscriptions with one token. More are refused with OVERLOADED.
    #[arg(
        long, env = "EVENTODB_MAX_SUBSCRIPTIONS_PER_TOKEN", value_name = "COUNT",
        default_value_t = Changeable::default().subscriptions.per_token, value_parser = count
    )]
    pub(super) max_subscriptions_per_token: usize,
    /// Calls of one namespace that wait for a message (`waitMs`). More are refused with OVERLOADED.
    #[arg(
        long, env = "EVENTODB_MAX_WAITS_PER_NAMESPACE", value_name = "COUNT",
        default_value_t = Changeable::default().waits.per_namespace, value_parser = count
    )]
    pub(super) max_waits_per_namespace: usize,
    /// Calls with one token that wait for a message. More are refused with OVERLOADED.
    #[arg(
        long, env = "EVENTODB_MAX_WAITS_PER_TOKEN", value_name = "COUNT",
        default_value_t = Changeable::default().waits.per_token, value_parser = count
    )]
    pub(super) max_waits_per_token: usize,
    /// Requests a second of one address, or of one IPv6 network of 64 bits. More are refused with RATE_LIMITED before their
    /// body is read. Probes are not counted. If left out, there is no such limit.
    #[arg(long, env = "EVENTODB_MAX_REQUESTS_PER_ADDRESS", value_name = "COUNT", value_parser = rate)]
    pub(super) max_requests_per_address: Option<u32>,
    /// Requests a second with one token. More are refused with RATE_LIMITED before their body is read. If left out, there is
    /// no such limit.
    #[arg(long, env = "EVENTODB_MAX_REQUESTS_PER_TOKEN", value_name = "COUNT", value_parser = rate)]
    pub(super) max_requests_per_token: Option<u32>,
    /// Wrong tokens a second of one address that are refused as wrong. More are refused with RATE_LIMITED. Requests with a
    /// right token are never refused for them. With 0 there is no such limit.
    #[arg(
        long, env = "EVENTODB_MAX_WRONG_TOKENS", value_name = "COUNT", default_value_t = wrong_tokens(),
        value_parser = whole(0..=MOST_A_SECOND, 20)
    )]
    pub(super) max_wrong_tokens: u32,
}

/// How long things may take.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Times")]
pub(super) struct Times {
    /// Milliseconds that a client has to send the head of a request.
    #[arg(
        long, env = "EVENTODB_HEAD_TIMEOUT_MS", value_name = "MS",
        default_value_t = Millis(Timeouts::default().head), value_parser = time
    )]
    pub(super) head_timeout_ms: Millis,
    /// Milliseconds that may pass between two pieces of a request's body.
    #[arg(
        long, env = "EVENTODB_BODY_PAUSE_TIMEOUT_MS", value_name = "MS",
        default_value_t = Millis(Timeouts::default().body_gap), value_parser = time
    )]
    pub(super) body_pause_timeout_ms: Millis,
    /// Milliseconds that a request's body may take in all. An import has no such limit.
    #[arg(
        long, env = "EVENTODB_BODY_TIMEOUT_MS", value_name = "MS",
        default_value_t = Millis(Timeouts::default().body_total), value_parser = time
    )]
    pub(super) body_timeout_ms: Millis,
    /// Milliseconds that a connection may stay open between requests.
    #[arg(
        long, env = "EVENTODB_IDLE_TIMEOUT_MS", value_name = "MS",
        default_value_t = Millis(Timeouts::default().idle), value_parser = time
    )]
    pub(super) idle_timeout_ms: Millis,
    /// Milliseconds after which the server cuts a client that reads nothing of a reply or a subscription.
    #[arg(
        long, env = "EVENTODB_STALL_TIMEOUT_MS", value_name = "MS",
        default_value_t = Millis(Timeouts::default().stall), value_parser = time
    )]
    pub(super) stall_timeout_ms: Millis,
    /// Milliseconds of silence after which a subscription gets a heartbeat.
    #[arg(
        long, env = "EVENTODB_HEARTBEAT_MS", value_name = "MS",
        default_value_t = Millis(Timeouts::default().heartbeat), value_parser = time
    )]
    pub(super) heartbeat_ms: Millis,
    /// Milliseconds for which pokes that follow a poke are gathered, to go out together. The first poke never waits. At
    /// most 60000.
    #[arg(
        long, env = "EVENTODB_POKE_GAP_MS", value_name = "MS",
        default_value_t = Millis(Settings::default().poke_gap), value_parser = poke_gap
    )]
    pub(super) poke_gap_ms: Millis,
    /// Milliseconds after SIGTERM for which the port stays open and requests are answered, while /health/ready is 503
    /// and each reply closes its connection, so that load balancers and clients go elsewhere. At most 3600000.
    #[arg(
        long, env = "EVENTODB_DRAIN_GRACE", value_name = "MS", default_value_t = Millis(Timeouts::default().grace),
        value_parser = drain_grace
    )]
    pub(super) drain_grace: Millis,
    /// Milliseconds that requests in progress have to end once the port is closed after SIGTERM.
    #[arg(
        long, env = "EVENTODB_DRAIN_TIMEOUT_MS", value_name = "MS",
        default_value_t = Millis(Timeouts::default().drain), value_parser = pause
    )]
    pub(super) drain_timeout_ms: Millis,
    /// Milliseconds that a write waits for its commit before the reply is TIMEOUT.
    #[arg(
        long, env = "EVENTODB_APPEND_TIMEOUT_MS", value_name = "MS",
        default_value_t = Millis(Timeouts::default().append), value_parser = time
    )]
    pub(super) append_timeout_ms: Millis,
    /// Milliseconds after which a request counts as slow and is logged. The time that it asked to wait does not count.
    #[arg(
        long, env = "EVENTODB_SLOW_QUERY_THRESHOLD_MS", value_name = "MS",
        default_value_t = Millis(Changeable::default().slow), value_parser = pause
    )]
    pub(super) slow_query_threshold_ms: Millis,
    /// Milliseconds that the oldest waiting append of a namespace may wait. If it waits longer for all of
    /// --queue-interval-ms, new appends are refused with OVERLOADED until it does not.
    #[arg(
        long, env = "EVENTODB_QUEUE_TARGET_MS", value_name = "MS",
        default_value_t = Millis(Settings::default().queue_target), value_parser = time
    )]
    pub(super) queue_target_ms: Millis,
    /// Milliseconds for which the oldest append must wait too long before others are refused. An append waits as long
    /// for room in a queue that is full (--queue-appends, --queue-bytes).
    #[arg(
        long, env = "EVENTODB_QUEUE_INTERVAL_MS", value_name = "MS",
        default_value_t = Millis(Settings::default().queue_interval), value_parser = time
    )]
    pub(super) queue_interval_ms: Millis,
}

/// Bounds on memory.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Memory")]
pub(super) struct Memory {
    /// Bytes of what waits for clients: connections, bodies of calls, imports, pages, replies. Beyond it requests are
    /// refused with OVERLOADED. At least 8 times --max-body-bytes. If left out, a quarter of what the process may use,
    /// which is the limit
    /// of its cgroup or else the machine's memory.
    #[arg(long, env = "EVENTODB_MEMORY_BUDGET", value_name = "BYTES", value_parser = bytes)]
    pub(super) memory_budget: Option<usize>,
    /// Appends that may wait to be committed, in one namespace.
    #[arg(
        long, env = "EVENTODB_QUEUE_APPENDS", value_name = "COUNT",
        default_value_t = Settings::default().queue_appends, value_parser = count
    )]
    pub(super) queue_appends: usize,
    /// Bytes of appends that may wait to be committed, in one namespace.
    #[arg(
        long, env = "EVENTODB_QUEUE_BYTES", value_name = "BYTES",
        default_value_t = Settings::default().queue_bytes, value_parser = count
    )]
    pub(super) queue_bytes: usize,
    /// Messages that are committed together.
    #[arg(
        long, env = "EVENTODB_BATCH_MESSAGES", value_name = "COUNT",
        default_value_t = Settings::default().batch_messages, value_parser = count
    )]
    pub(super) batch_messages: usize,
    /// Bytes that are committed together.
    #[arg(
        long, env = "EVENTODB_BATCH_BYTES", value_name = "BYTES",
        default_value_t = Settings::default().batch_bytes, value_parser = count
    )]
    pub(super) batch_bytes: usize,
    /// Newest messages of one namespace that are kept in memory.
    #[arg(
        long, env = "EVENTODB_TAIL_MESSAGES", value_name = "COUNT",
        default_value_t = Settings::default().tail_messages, value_parser = count
    )]
    pub(super) tail_messages: usize,
    /// Bytes of newest messages that are kept in memory, of all namespaces together.
    #[arg(
        long, env = "EVENTODB_TAIL_BYTES", value_name = "BYTES",
        default_value_t = Settings::default().tail_bytes, value_parser = bytes
    )]
    pub(super) tail_bytes: usize,
    /// Streams of one namespace whose version is remembered.
    #[arg(
        long, env = "EVENTODB_VERSION_CACHE", value_name = "COUNT",
        default_value_t = Settings::default().version_cache, value_parser = count
    )]
    pub(super) version_cache: usize,
    /// Bytes of a page that are gathered before its reply begins. A larger page is streamed.
    #[arg(
        long, env = "EVENTODB_PAGE_BYTES", value_name = "BYTES",
        default_value_t = Settings::default().page_bytes, value_parser = count
    )]
    pub(super) page_bytes: usize,
    /// Messages that one query of a read fetches.
    #[arg(
        long, env = "EVENTODB_SLICE_ROWS", value_name = "COUNT",
        default_value_t = Settings::default().slice_rows, value_parser = count
    )]
    pub(super) slice_rows: usize,
    /// Bytes after which one query of a read stops.
    #[arg(
        long, env = "EVENTODB_SLICE_BYTES", value_name = "BYTES",
        default_value_t = Settings::default().slice_bytes, value_parser = count
    )]
    pub(super) slice_bytes: usize,
    /// Bytes of pokes that one subscription is sent at once.
    #[arg(
        long, env = "EVENTODB_POKE_BYTES", value_name = "BYTES",
        default_value_t = Settings::default().poke_bytes, value_parser = count
    )]
    pub(super) poke_bytes: usize,
}

/// Bounds of SQLite.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "SQLite")]
pub(super) struct Sqlite {
    /// Namespaces whose files are open at once.
    #[arg(
        long, env = "EVENTODB_OPEN_NAMESPACES", value_name = "COUNT",
        default_value_t = sqlite().open_namespaces, value_parser = count
    )]
    pub(super) open_namespaces: usize,
    /// Messages of one namespace that may wait to be indexed. Beyond it appends wait.
    #[arg(
        long, env = "EVENTODB_MEMTABLE_MESSAGES", value_name = "COUNT",
        default_value_t = sqlite().memtable_messages, value_parser = count
    )]
    pub(super) memtable_messages: usize,
    /// Messages of all namespaces that may wait to be indexed before the indexer hurries.
    #[arg(
        long, env = "EVENTODB_MEMTABLES_MESSAGES", value_name = "COUNT",
        default_value_t = sqlite().memtables_messages, value_parser = count
    )]
    pub(super) memtables_messages: usize,
    /// Messages that are indexed in one transaction.
    #[arg(
        long, env = "EVENTODB_INDEX_BATCH", value_name = "COUNT",
        default_value_t = sqlite().index_batch, value_parser = count
    )]
    pub(super) index_batch: usize,
    /// Threads that commit, for all namespaces. Two for each core if left out.
    #[arg(long, env = "EVENTODB_WRITER_THREADS", value_name = "COUNT", value_parser = threads)]
    pub(super) writer_threads: Option<usize>,
    /// Reads that run at once, for all namespaces. Two for each core if left out. Each keeps up to 8 MiB of the log in
    /// memory while it is used, and less if many namespaces are open.
    #[arg(long, env = "EVENTODB_READERS", value_name = "COUNT", value_parser = threads)]
    pub(super) readers: Option<usize>,
    /// Bytes that stay free on the disk of the data directory: if fewer are left, writes are refused with
    /// BACKEND_UNAVAILABLE until there is room again. 0 takes writes until the disk is full.
    #[arg(
        long, env = "EVENTODB_MIN_FREE", value_name = "BYTES", default_value_t = sqlite().min_free,
        value_parser = whole(0.., 1_073_741_824_u64)
    )]
    pub(super) min_free: u64,
    /// Messages that one query of a read examines in search of matches.
    #[arg(
        long, env = "EVENTODB_EXAMINED_ROWS", value_name = "COUNT",
        default_value_t = sqlite().examined_rows, value_parser = count
    )]
    pub(super) examined_rows: usize,
}

/// Settings of PostgreSQL.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "PostgreSQL")]
pub(super) struct Postgres {
    /// Connections for reads that are kept open although nobody uses them, with each node. At most --pg-pool-max.
    #[arg(
        long, env = "EVENTODB_PG_POOL_MIN", value_name = "COUNT", default_value_t = postgres().pool_min,
        value_parser = whole(0.., 4_usize)
    )]
    pub(super) pg_pool_min: usize,
    /// Most connections for reads, with each node of the database that has namespaces.
    #[arg(
        long, env = "EVENTODB_PG_POOL_MAX", value_name = "COUNT",
        default_value_t = postgres().pool_max, value_parser = count
    )]
    pub(super) pg_pool_max: usize,
    /// Most connections for appends, and for the heads that reads ask for, with each node of the database that has
    /// namespaces.
    #[arg(
        long, env = "EVENTODB_PG_APPEND_CONNECTIONS", value_name = "COUNT",
        default_value_t = postgres().sequencer_connections, value_parser = count
    )]
    pub(super) pg_append_connections: usize,
    /// Milliseconds that a call waits for a connection of the pool.
    #[arg(
        long, env = "EVENTODB_PG_ACQUIRE_TIMEOUT_MS", value_name = "MS",
        default_value_t = Millis(postgres().acquire_timeout), value_parser = time
    )]
    pub(super) pg_acquire_timeout_ms: Millis,
    /// Milliseconds after which an unused connection beyond the minimum is closed.
    #[arg(
        long, env = "EVENTODB_PG_IDLE_TIMEOUT_MS", value_name = "MS",
        default_value_t = Millis(postgres().idle_timeout), value_parser = time
    )]
    pub(super) pg_idle_timeout_ms: Millis,
    /// Milliseconds that connecting to one host may take.
    #[arg(
        long, env = "EVENTODB_PG_CONNECT_TIMEOUT_MS", value_name = "MS",
        default_value_t = Millis(postgres().connect_timeout), value_parser = time
    )]
    pub(super) pg_connect_timeout_ms: Millis,
    /// Milliseconds that a statement may take.
    #[arg(
        long, env = "EVENTODB_PG_STATEMENT_TIMEOUT_MS", value_name = "MS",
        default_value_t = Millis(postgres().statement_timeout), value_parser = time
    )]
    pub(super) pg_statement_timeout_ms: Millis,
    /// Whether statements are prepared. `off` is for a PgBouncer that does not support prepared statements.
    #[arg(
        long, env = "EVENTODB_PG_PREPARE", value_name = "on|off",
        default_value = "on", value_parser = on_off(), action = clap::ArgAction::Set
    )]
    pub(super) pg_prepare: bool,
    /// URL of the database by which servers notify each other, the same for all of them: that of PostgreSQL itself if
    /// --db-url is a pooler, and of one node of a cluster. --db-url if left out. A server that cannot listen polls.
    #[arg(long, env = "EVENTODB_LISTEN_URL", hide_env_values = true)]
    pub(super) listen_url: Option<Secret>,
    /// File that contains that URL, in place of --listen-url, so that the list of processes does not show its password.
    #[arg(long, env = "EVENTODB_LISTEN_URL_FILE", value_name = "FILE", conflicts_with = "listen_url")]
    pub(super) listen_url_file: Option<PathBuf>,
    /// Milliseconds between two polls for what other servers did, besides their notifications.
    #[arg(
        long, env = "EVENTODB_POLL_INTERVAL_MS", value_name = "MS",
        default_value_t = Millis(Settings::default().poll_interval), value_parser = time
    )]
    pub(super) poll_interval_ms: Millis,
    /// Whether an older schema is migrated at start. With `false` the server does not start on it.
    #[arg(
        long, env = "EVENTODB_AUTO_MIGRATE", value_name = "BOOL", default_value = "true",
        value_parser = true_false(), action = clap::ArgAction::Set
    )]
    pub(super) auto_migrate: bool,
}

fn sqlite() -> sqlite::Settings {
    sqlite::Settings::default()
}

/// The default settings. Their URL is a placeholder: only --db-url names the database.
fn postgres() -> postgres::Settings {
    postgres::Settings::new("postgres://localhost".parse().expect("it is a database URL"))
}

/// A time that is typed as a number of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Millis(pub(super) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_millis())
    }
}

/// A number of things that is not zero.
fn count(text: &str) -> Result<usize, String> {
    whole(1.., 1_000)(text)
}

/// A number of bytes that may be zero.
fn bytes(text: &str) -> Result<usize, String> {
    whole(0.., 1_048_576)(text)
}

/// A time that is not zero.
fn time(text: &str) -> Result<Millis, String> {
    millis(1.., text)
}

/// A time that may be zero.
fn pause(text: &str) -> Result<Millis, String> {
    millis(0.., text)
}

/// Between two requests there is at least a microsecond.
const MOST_A_SECOND: u32 = 1_000_000;

fn rate(text: &str) -> Result<u32, String> {
    whole(1..=MOST_A_SECOND, 500)(text)
}

fn lines(text: &str) -> Result<NonZeroU32, String> {
    whole(1..=u32::MAX, 1_000)(text).map(|lines| NonZeroU32::new(lines).unwrap_or(NonZeroU32::MIN))
}

/// The default number of wrong tokens.
fn wrong_tokens() -> u32 {
    Rates::default().wrong_tokens.map_or(0, NonZeroU32::get)
}

fn threads(text: &str) -> Result<usize, String> {
    /// More threads than any machine has cores, and fewer than a system refuses to start.
    const MOST: usize = 1_024;
    whole(1..=MOST, 8)(text)
}

fn permits(text: &str) -> Result<usize, String> {
    /// What a semaphore can count.
    const MOST: usize = tokio::sync::Semaphore::MAX_PERMITS;
    whole(1..=MOST, 1_000)(text)
}

fn poke_gap(text: &str) -> Result<Millis, String> {
    /// A subscriber may ask for merging within at most the same time.
    const MOST: u64 = 60_000;
    millis(0..=MOST, text)
}

fn drain_grace(text: &str) -> Result<Millis, String> {
    const MOST: u64 = 3_600_000;
    millis(0..=MOST, text)
}

fn millis(range: impl RangeBounds<u64> + Clone + Send + Sync + 'static, text: &str) -> Result<Millis, String> {
    whole(range, 5_000)(text).map(|time| Millis(Duration::from_millis(time)))
}

/// A flag that means `true` without a value. Behind an equals sign, and in its variable, it takes 1, true, 0 or false.
fn switch() -> impl clap::builder::TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["1", "true", "0", "false"]).map(|text| matches!(text.as_str(), "1" | "true"))
}

fn true_false() -> impl clap::builder::TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["true", "false"]).map(|text| text == "true")
}

fn on_off() -> impl clap::builder::TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["on", "off"]).map(|text| text == "on")
}
