//! The configuration that the flags make up. It is checked before a socket is bound or a file is opened.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eventodb_protocol::{DEFAULT_NAMESPACE, Token};
use eventodb_server::{
    AccessLog, AtOnce, Bounds, Changeable, Config, Network, OtlpEndpoint, Pages, Rates, Timeouts, Tls, TlsError,
    TlsFiles,
};
use eventodb_store::{postgres, sqlite};

use super::args::{self, Args, Times};
use super::logging::{Format, Level};
use super::memory;
use super::secret::{self, Secret};
use crate::usage::Usage;

/// The variable by which clients take their token.
pub(super) const CLIENT_VARIABLE: &str = "EVENTODB_TOKEN";

/// A checked configuration.
pub(super) struct Checked {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) storage: Storage,
    pub(super) token: GivenToken,
    /// The file for a token that the server generates.
    pub(super) token_out: Option<PathBuf>,
    pub(super) test_mode: bool,
    /// Most namespaces that exist at once because test mode created them.
    pub(super) test_namespaces: usize,
    pub(super) log_level: Level,
    pub(super) log_format: Format,
    pub(super) store: eventodb_store::Settings,
    /// The server's settings, except the mode: test mode depends on `test_mode`.
    pub(super) server: Config,
}

/// The administrator's token as it was given.
pub(super) enum GivenToken {
    /// By a flag or the server's variable: the server starts only if it is the stored token.
    Administrators(Token),
    /// By `EVENTODB_TOKEN`, the clients' variable, which was the server's variable once: it is ignored if it is not the stored token.
    Clients(Token),
    /// Not at all, or the variable holds something else than a token of the namespace `default`.
    None,
}

/// What does not fit together, and the names of the settings that it is about.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) settings: &'static [&'static str],
    pub(super) error: Usage,
}

/// All that does not fit together, so that one look tells everything.
#[derive(Debug, Default)]
struct Misfits(Vec<Misfit>);

impl Misfits {
    /// The value, or nothing and one misfit more.
    fn keep<T>(&mut self, settings: &'static [&'static str], outcome: Result<T, Usage>) -> Option<T> {
        outcome.map_err(|error| self.0.push(Misfit { settings, error })).ok()
    }
}

/// Where messages are kept.
pub(super) enum Storage {
    Sqlite(sqlite::Location, sqlite::Settings),
    Postgres(Box<postgres::Settings>),
}

impl Checked {
    /// The configuration that these flags make up.
    ///
    /// # Errors
    /// All that does not fit together.
    pub(super) fn of(args: Args) -> Result<Self, Vec<Misfit>> {
        let mut misfits = Misfits::default();
        let parts = (storage(&args, &mut misfits), given_token(&args, &mut misfits), server(&args, &mut misfits));
        let (Some(storage), Some(token), Some(server)) = parts else { return Err(misfits.0) };
        Ok(Self {
            storage,
            token,
            store: store(&args),
            server,
            token_out: args.token_out,
            host: args.host,
            port: args.port,
            test_mode: args.test_mode,
            test_namespaces: args.test_namespaces,
            log_level: args.log_level,
            log_format: args.log_format,
        })
    }

    /// The values of settings that depend on the machine if they are left out, by the names of their flags.
    pub(super) fn computed(&self) -> Vec<(&'static str, usize)> {
        let mut computed = vec![("memory-budget", self.server.bounds.memory)];
        if let Storage::Sqlite(_, settings) = &self.storage {
            computed.extend([("writer-threads", settings.writer_threads), ("readers", settings.readers)]);
        }
        computed
    }

    /// A line for each setting that is allowed but unsafe.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.server.tls.is_none() && !is_loopback(&self.host) {
            warnings.push(format!(
                "tokens and messages cross the network in clear text on --host {}: set --tls-cert and --tls-key, or let only a \
                 proxy that ends TLS reach this address",
                self.host
            ));
        }
        if self.server.trusted_proxies.iter().any(Network::is_everything) {
            warnings.push(
                "--trusted-proxy has a network of all addresses: every client may name another address as its own, so that \
                 no limit on addresses holds"
                    .to_owned(),
            );
        }
        if self.test_mode && !matches!(self.storage, Storage::Sqlite(sqlite::Location::Memory, _)) {
            warnings
                .push("test mode asks for no token, and this store lasts: whoever reaches it may change it".to_owned());
        }
        if let GivenToken::Administrators(token) | GivenToken::Clients(token) = &self.token
            && is_guessable(token)
        {
            warnings.push(
                "the administrator's token repeats itself and may be guessed: take 64 digits from a random source"
                    .to_owned(),
            );
        }
        if let Storage::Postgres(settings) = &self.storage
            && settings.listen_url.iter().chain([&settings.url]).any(postgres::Url::may_be_clear_text)
        {
            warnings.push(
                "sslmode=prefer lets sessions to PostgreSQL be in clear text, which whoever is in the way can enforce: \
                 say sslmode=verify-full, or sslmode=disable where that is meant"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// Whether the secret part of a token is not random. 64 random digits have 63 pairs of neighbours, of which 56 are different
/// on average, with a standard deviation of 2.4. A secret that was typed or repeated has fewer than 40 different pairs.
fn is_guessable(token: &Token) -> bool {
    const LEAST: usize = 40;
    let digits = token.as_str().rsplit('_').next().unwrap_or_default().to_ascii_lowercase();
    let pairs: std::collections::HashSet<&[u8]> = digits.as_bytes().windows(2).collect();
    pairs.len() < LEAST
}

fn given_token(args: &Args, misfits: &mut Misfits) -> Option<GivenToken> {
    if let Some(file) = &args.token_file {
        let token = secret::read("token-file", file).and_then(|text| administrator_token("token-file", &text));
        return misfits.keep(&["token-file"], token).map(GivenToken::Administrators);
    }
    if let Some(Secret(text)) = &args.token {
        return misfits.keep(&["token"], administrator_token("token", text)).map(GivenToken::Administrators);
    }
    let clients = std::env::var(CLIENT_VARIABLE).ok().and_then(|text| administrator_token("token", &text).ok());
    Some(clients.map_or(GivenToken::None, GivenToken::Clients))
}

fn administrator_token(flag: &str, text: &str) -> Result<Token, Usage> {
    let token: Token =
        text.parse().map_err(|error: eventodb_protocol::token::ParseTokenError| Usage::at(flag, error))?;
    if token.namespace() != DEFAULT_NAMESPACE {
        return Err(Usage::new(format!("--{flag} must be a token of the namespace {DEFAULT_NAMESPACE}")));
    }
    Ok(token)
}

fn storage(args: &Args, misfits: &mut Misfits) -> Option<Storage> {
    let flags = &args.sqlite;
    let defaults = sqlite::Settings::default();
    let settings = sqlite::Settings {
        open_namespaces: flags.open_namespaces,
        memtable_messages: flags.memtable_messages,
        memtables_messages: flags.memtables_messages,
        index_batch: flags.index_batch,
        writer_threads: flags.writer_threads.unwrap_or(defaults.writer_threads),
        readers: flags.readers.unwrap_or(defaults.readers),
        examined_rows: flags.examined_rows,
        min_free: flags.min_free,
        ..defaults
    };
    let url = misfits.keep(&["db-url-file"], args.database.url())?;
    let location = match url.as_deref() {
        None if args.test_mode => sqlite::Location::Memory,
        Some("sqlite://:memory:") => sqlite::Location::Memory,
        Some(url) if is_postgres(url) => {
            return postgres(url, args, misfits).map(|settings| Storage::Postgres(Box::new(settings)));
        }
        url => sqlite::Location::Directory(misfits.keep(&["db-url", "db-url-file"], directory(url, &args.data_dir))?),
    };
    Some(Storage::Sqlite(location, settings))
}

/// Where a store is.
pub(crate) enum Place {
    Memory,
    Directory(PathBuf),
    Postgres,
}

/// Where the store of this URL is.
///
/// # Errors
/// The URL names none.
pub(super) fn place(url: &str, data_dir: &Path) -> Result<Place, Usage> {
    match url {
        "sqlite://:memory:" => Ok(Place::Memory),
        url if is_postgres(url) => Ok(Place::Postgres),
        url => directory(Some(url), data_dir).map(Place::Directory),
    }
}

/// The existing storage that these two flags name, with default bounds.
///
/// # Errors
/// [`Usage`] if there is no store in the directory.
pub(super) fn existing_storage(db_url: Option<&str>, data_dir: &Path) -> Result<Storage, Usage> {
    if let Some(url) = db_url.filter(|url| is_postgres(url)) {
        let url = url.parse().map_err(|error: postgres::UrlError| Usage::at("db-url", error))?;
        return Ok(Storage::Postgres(Box::new(postgres::Settings::new(url))));
    }
    let directory = directory(db_url, data_dir)?;
    match directory.join("registry.db").try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(Usage::new(format!("there is no store in {}", directory.display()))),
        Err(error) => return Err(Usage::new(format!("cannot look into {}: {error}", directory.display()))),
    }
    // An operator may have to work on a disk that has no room left.
    let settings = sqlite::Settings { min_free: 0, ..sqlite::Settings::default() };
    Ok(Storage::Sqlite(sqlite::Location::Directory(directory), settings))
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// The directory of SQLite's files.
fn directory(db_url: Option<&str>, data_dir: &Path) -> Result<PathBuf, Usage> {
    match db_url {
        None => Ok(data_dir.to_owned()),
        Some(url) => Ok(data_dir.join(sqlite_file(url)?)),
    }
}

/// The file that `sqlite://FILE` names: a relative path below the data directory.
fn sqlite_file(url: &str) -> Result<PathBuf, Usage> {
    let wrong = || {
        // Only the scheme is shown: the rest may be a password, and a value without a scheme may be a token.
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        let this = match scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            Some(scheme) => format!("this one begins with {scheme}://"),
            None => "this one has no scheme".to_owned(),
        };
        Usage::new(format!("--db-url must be postgres://…, sqlite://FILE or sqlite://:memory:, {this}"))
    };
    let file = PathBuf::from(url.strip_prefix("sqlite://").filter(|file| !file.is_empty()).ok_or_else(wrong)?);
    let plain = file.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !plain {
        return Err(Usage::new("--db-url sqlite://FILE must be a relative path below --data-dir".to_owned()));
    }
    Ok(file)
}

fn postgres(url: &str, args: &Args, misfits: &mut Misfits) -> Option<postgres::Settings> {
    let flags = &args.postgres;
    let parse = |flag: &str, url: &str| url.parse().map_err(|error: postgres::UrlError| Usage::at(flag, error));
    let pool = match flags.pg_pool_min > flags.pg_pool_max {
        true => Err(Usage::new("--pg-pool-min must be at most --pg-pool-max")),
        false => Ok(()),
    };
    let pool = misfits.keep(&["pg-pool-min", "pg-pool-max"], pool);
    let listen = listen_url(flags).and_then(|url| url.map(|url| parse("listen-url", &url)).transpose());
    let listen = misfits.keep(&["listen-url", "listen-url-file"], listen);
    let url = misfits.keep(&["db-url", "db-url-file"], parse("db-url", url));
    let ((), listen_url, url) = (pool?, listen?, url?);
    Some(postgres::Settings {
        listen_url,
        pool_min: flags.pg_pool_min,
        pool_max: flags.pg_pool_max,
        sequencer_connections: flags.pg_append_connections,
        acquire_timeout: flags.pg_acquire_timeout_ms.0,
        idle_timeout: flags.pg_idle_timeout_ms.0,
        connect_timeout: flags.pg_connect_timeout_ms.0,
        statement_timeout: flags.pg_statement_timeout_ms.0,
        prepare: flags.pg_prepare,
        auto_migrate: flags.auto_migrate,
        ..postgres::Settings::new(url)
    })
}

fn listen_url(flags: &args::Postgres) -> Result<Option<String>, Usage> {
    match (&flags.listen_url_file, &flags.listen_url) {
        (Some(file), _) => secret::read("listen-url-file", file).map(Some),
        (None, given) => Ok(given.as_ref().map(|Secret(url)| url.clone())),
    }
}

fn store(args: &Args) -> eventodb_store::Settings {
    let memory = &args.memory;
    eventodb_store::Settings {
        queue_appends: memory.queue_appends,
        queue_bytes: memory.queue_bytes,
        queue_target: args.times.queue_target_ms.0,
        queue_interval: args.times.queue_interval_ms.0,
        batch_messages: memory.batch_messages,
        batch_bytes: memory.batch_bytes,
        tail_messages: memory.tail_messages,
        tail_bytes: memory.tail_bytes,
        version_cache: memory.version_cache,
        slice_rows: memory.slice_rows,
        slice_bytes: memory.slice_bytes,
        page_bytes: memory.page_bytes,
        poke_bytes: memory.poke_bytes,
        poke_gap: args.times.poke_gap_ms.0,
        poll_interval: args.postgres.poll_interval_ms.0,
        ..eventodb_store::Settings::default()
    }
}

fn server(args: &Args, misfits: &mut Misfits) -> Option<Config> {
    let (limits, per_client) = (&args.limits, &args.per_client);
    let memory = memory_budget(args.memory.memory_budget, limits.max_body_bytes);
    let memory = misfits.keep(&["memory-budget", "max-body-bytes"], memory);
    let origins = misfits.keep(&["cors-origin"], origins(args));
    let mode = misfits.keep(&["test-mode", "host"], reachable(args));
    let tls = tls(args, misfits);
    let otlp = misfits.keep(&["otlp-endpoint"], otlp(args));
    let (memory, origins, (), tls, otlp) = (memory?, origins?, mode?, tls?, otlp?);
    Some(Config {
        limits: eventodb_protocol::Limits {
            name_bytes: limits.max_name_bytes,
            message_bytes: limits.max_message_bytes,
            body_bytes: limits.max_body_bytes,
            json_depth: limits.max_json_depth,
        },
        timeouts: timeouts(&args.times),
        bounds: Bounds {
            connections: limits.max_connections,
            connections_per_address: per_client.max_connections_per_address.unwrap_or(usize::MAX),
            imports: limits.max_imports,
            http2_streams: limits.max_http2_streams,
            memory,
        },
        changeable: changeable(args),
        trusted_proxies: per_client.trusted_proxy.clone().into(),
        pages: Pages { origins, hosts: args.allowed_host.clone() },
        tls,
        metrics_public: args.metrics_public,
        usable_memory: Some(memory::available()),
        otlp,
        ..Config::default()
    })
}

/// The settings of the server that may change while it runs.
pub(super) fn changeable(args: &Args) -> Changeable {
    let per_client = &args.per_client;
    Changeable {
        read_only: args.read_only,
        takes_subscriptions: args.subscriptions,
        subscriptions: AtOnce {
            per_namespace: per_client.max_subscriptions_per_namespace,
            per_token: per_client.max_subscriptions_per_token,
        },
        waits: AtOnce { per_namespace: per_client.max_waits_per_namespace, per_token: per_client.max_waits_per_token },
        rates: Rates {
            requests_per_address: per_client.max_requests_per_address.and_then(NonZeroU32::new),
            requests_per_token: per_client.max_requests_per_token.and_then(NonZeroU32::new),
            wrong_tokens: NonZeroU32::new(per_client.max_wrong_tokens),
        },
        slow: args.times.slow_query_threshold_ms.0,
        access_log: AccessLog { is_on: args.access_log, per_second: args.access_log_per_second },
    }
}

/// Where spans are sent.
fn otlp(args: &Args) -> Result<Option<OtlpEndpoint>, Usage> {
    if args.otlp_endpoint.is_some() && !cfg!(feature = "otel") {
        return Err(Usage::new("--otlp-endpoint needs a program that was built with the feature otel".to_owned()));
    }
    Ok(args.otlp_endpoint.clone())
}

/// TLS, if there is a certificate.
fn tls(args: &Args, misfits: &mut Misfits) -> Option<Option<Arc<Tls>>> {
    const ALL: &[&str] = &["tls-cert", "tls-key", "tls-client-ca"];
    let flags = &args.tls;
    let mut is_readable = true;
    for (name, file) in [(&ALL[..1], &flags.tls_cert), (&ALL[1..2], &flags.tls_key), (&ALL[2..], &flags.tls_client_ca)]
    {
        let readable = file.as_ref().map_or(Ok(()), |file| secret::readable(name[0], file));
        is_readable &= misfits.keep(name, readable).is_some();
    }
    let files = match (flags.tls_cert.clone(), flags.tls_key.clone()) {
        (Some(certificate), Some(key)) => Ok(TlsFiles { certificate, key, client_ca: flags.tls_client_ca.clone() }),
        (None, None) if flags.tls_client_ca.is_none() => return Some(None),
        (None, _) => Err(Usage::new("--tls-cert is missing: a server speaks TLS with it and --tls-key")),
        (Some(_), None) => Err(Usage::new("--tls-key is missing: the key of --tls-cert")),
    };
    let files = misfits.keep(ALL, files).filter(|_| is_readable)?;
    let client_ca = files.client_ca.clone();
    let flag = |error: &TlsError| match error {
        TlsError::Key(..) => "tls-key",
        TlsError::ClientCa(..) => "tls-client-ca",
        TlsError::Read(file, _) | TlsError::Certificates(file, _) if Some(file) == client_ca.as_ref() => {
            "tls-client-ca"
        }
        _ => "tls-cert",
    };
    let loaded = Tls::load(files).map_err(|error| Usage::at(flag(&error), error));
    misfits.keep(ALL, loaded).map(|tls| Some(Arc::new(tls)))
}

/// The memory budget. It has room for eight of the largest bodies, so that one client's body always finds some.
fn memory_budget(wanted: Option<usize>, body_bytes: usize) -> Result<usize, Usage> {
    let least = body_bytes.saturating_mul(8);
    match wanted {
        None => Ok((memory::available() / 4).max(least)),
        Some(bytes) if bytes >= least => Ok(bytes),
        Some(_) => {
            Err(Usage::new(format!("--memory-budget must be at least 8 times --max-body-bytes, which is {least}")))
        }
    }
}

fn origins(args: &Args) -> Result<Vec<String>, Usage> {
    for origin in &args.cors_origin {
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        if authority.is_empty() || authority.contains('/') {
            return Err(Usage::new(
                "--cors-origin takes origins such as https://shop.example: scheme, host and port alone",
            ));
        }
    }
    Ok(args.cors_origin.clone())
}

/// Whether an address that other machines reach asks for tokens, or is meant not to.
fn reachable(args: &Args) -> Result<(), Usage> {
    match args.test_mode && !is_loopback(&args.host) && !args.allow_insecure {
        true => Err(Usage::new(
            "--test-mode on this --host would let everybody who reaches it do everything: leave --host at 127.0.0.1, or \
             say --allow-insecure",
        )),
        false => Ok(()),
    }
}

/// Whether only this machine reaches an address.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn timeouts(times: &Times) -> Timeouts {
    Timeouts {
        head: times.head_timeout_ms.0,
        body_gap: times.body_pause_timeout_ms.0,
        body_total: times.body_timeout_ms.0,
        idle: times.idle_timeout_ms.0,
        stall: times.stall_timeout_ms.0,
        append: times.append_timeout_ms.0,
        heartbeat: times.heartbeat_ms.0,
        grace: times.drain_grace.0,
        drain: times.drain_timeout_ms.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_repeat_themselves_are_told_from_random_ones() {
        for _ in 0..1000 {
            assert!(!is_guessable(&Token::generate(DEFAULT_NAMESPACE)));
        }
        for digits in ["0".repeat(64), "0123456789abcdef".repeat(4), "deadbeef".repeat(8)] {
            let token = format!("ns_ZGVmYXVsdA_{digits}").parse().expect("a token's form");
            assert!(is_guessable(&token), "{digits}");
        }
    }
}
