//! A database's URL, `postgres://user:password@host:port/database?option=value`, as libpq knows it.
//!
//! The driver knows neither all values of `sslmode` nor `sslrootcert`, so that these options are taken out here. Each
//! host has its own configuration, and so its own time limit: a host that does not answer takes no time from the next.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Connection, Socket};

use crate::tls::{self, Stream, Tls, Verify};

/// What the sessions of this program are called in `pg_stat_activity` if their URL has no name, without the version behind it.
/// Before 0.2.0 there was no version.
pub const APPLICATION: &str = "eventodb";
/// The name with the version, which tells what servers are still to be upgraded.
const APPLICATION_NAME: &str = concat!("eventodb ", env!("CARGO_PKG_VERSION"));
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Why a URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It does not have the right form.
    #[error("the database URL is not usable: {0}")]
    Form(&'static str),
    /// The root certificates cannot be read.
    #[error("the root certificates for the database, {0}, are not usable")]
    Certificates(String, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The address of a database, and how to log in. Neither `Debug` nor `Display` shows the password.
#[derive(Clone)]
pub struct Url {
    hosts: Arc<[Config]>,
    /// What `sslmode` says; a host that is a Unix socket has no TLS all the same.
    mode: SslMode,
    tls: Tls,
}

impl Url {
    /// One configuration per host, in order.
    pub fn hosts(&self) -> &[Config] {
        &self.hosts
    }

    /// Whether a session to another machine may be in clear text because `sslmode` is `prefer` or left out. An attacker
    /// on the network can then force clear text and read it.
    pub fn may_be_clear_text(&self) -> bool {
        self.hosts.iter().any(|config| config.get_ssl_mode() == SslMode::Prefer && !is_near(config))
    }

    /// Whether all its hosts are this machine: Unix sockets and loopback addresses.
    pub fn is_local(&self) -> bool {
        self.hosts.iter().all(is_near)
    }

    /// The same database at another server: user, password, options and TLS stay. With `sslmode=verify-full` the
    /// certificate has to have the name of the other server.
    ///
    /// # Errors
    /// [`UrlError::Form`] if `host` is empty or has a control character.
    pub fn at(&self, host: &str, port: u16) -> Result<Self, UrlError> {
        if host.is_empty() || host.contains(char::is_control) {
            return Err(UrlError::Form("the name of its other server is empty or has a control character"));
        }
        let mut place = Config::new();
        place.host(host).port(port);
        let like = &self.hosts[0];
        let mode = if is_socket(&place) { SslMode::Disable } else { self.mode };
        let config = like_at(like, place, mode, like.get_target_session_attrs());
        Ok(Self { hosts: [config].into(), mode: self.mode, tls: self.tls.clone() })
    }

    /// Connects to the first host that accepts the session.
    ///
    /// # Errors
    /// The error of the last host.
    pub async fn connect(&self) -> Result<(Client, Connection<Socket, Stream<Socket>>), tokio_postgres::Error> {
        let (last, others) = self.hosts.split_last().expect("a URL has at least one host");
        for host in others {
            if let Ok(connected) = host.connect(self.tls.clone()).await {
                return Ok(connected);
            }
        }
        last.connect(self.tls.clone()).await
    }

    /// How connections are encrypted.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }
}

impl FromStr for Url {
    type Err = UrlError;

    /// # Errors
    /// [`UrlError::Form`], and [`UrlError::Certificates`] if `sslrootcert` cannot be read.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(UrlError::Form("it does not begin with postgres://"));
        }
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        check_place(place)?;
        let mut options = Options::default();
        let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !options.take(pair)).collect();
        let (mode, verify) = options.tls()?;
        // The driver's own message may quote a part of the password, so it is not passed on.
        let mut config: Config = format!("{place}?{}", kept.join("&"))
            .parse()
            .map_err(|_| UrlError::Form("expected postgres://user:password@host:port/database?option=value"))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(UrlError::Form("it names no host"));
        }
        config.ssl_mode(mode);
        let hosts = each_host(&config)?;
        let url = Self { hosts: hosts.into(), mode, tls: tls::connector(verify, options.root_certificate)? };
        if url.to_string().contains(char::is_control) {
            return Err(UrlError::Form("its host or database has a control character"));
        }
        Ok(url)
    }
}

/// Checks that no part of an unencoded password is taken for a host or a database, because those are shown.
fn check_place(place: &str) -> Result<(), UrlError> {
    let (_, place) = place.split_once("://").unwrap_or_default();
    let Some((user, rest)) = place.split_once('@') else { return Ok(()) };
    if user.contains('/') || rest.contains('@') {
        return Err(UrlError::Form("write @ as %40 and / as %2F in the user and the password"));
    }
    Ok(())
}

/// The options that the driver does not know.
#[derive(Default)]
struct Options {
    mode: Option<String>,
    root_certificate: Option<PathBuf>,
}

impl Options {
    /// Takes the pair if it is one of these options, and returns whether it is.
    fn take(&mut self, pair: &str) -> bool {
        match pair.split_once('=') {
            Some(("sslmode", mode)) => self.mode = Some(mode.to_owned()),
            Some(("sslrootcert", path)) => {
                self.root_certificate = Some(percent_decode_str(path).decode_utf8_lossy().into_owned().into());
            }
            _ => return false,
        }
        true
    }

    fn tls(&self) -> Result<(SslMode, Verify), UrlError> {
        // With root certificates `require` checks the chain, as libpq does.
        let required = if self.root_certificate.is_some() { Verify::Chain } else { Verify::Nothing };
        match self.mode.as_deref() {
            Some("disable") => Ok((SslMode::Disable, Verify::Nothing)),
            None | Some("prefer") => Ok((SslMode::Prefer, Verify::Nothing)),
            Some("require") => Ok((SslMode::Require, required)),
            Some("verify-ca") => Ok((SslMode::Require, Verify::Chain)),
            Some("verify-full") => Ok((SslMode::Require, Verify::ChainAndName)),
            Some(_) => Err(UrlError::Form("sslmode must be disable, prefer, require, verify-ca or verify-full")),
        }
    }
}

fn each_host(config: &Config) -> Result<Vec<Config>, UrlError> {
    let (names, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = names.len().max(addresses.len());
    let uneven = (!names.is_empty() && !addresses.is_empty() && names.len() != addresses.len())
        || (ports.len() > 1 && ports.len() != count);
    if uneven {
        return Err(UrlError::Form("it has another number of ports or addresses than of hosts"));
    }
    Ok((0..count).map(|at| one_host(config, at, count)).collect())
}

fn one_host(config: &Config, at: usize, count: usize) -> Config {
    let mut one = Config::new();
    match config.get_hosts().get(at) {
        Some(Host::Tcp(name)) => _ = one.host(name),
        #[cfg(unix)]
        Some(Host::Unix(path)) => {
            // PostgreSQL has no TLS on a Unix socket.
            one.host_path(path);
        }
        None => {}
    }
    if let Some(&address) = config.get_hostaddrs().get(at) {
        one.hostaddr(address);
    }
    one.port(config.get_ports().get(at).or(config.get_ports().first()).copied().unwrap_or(5432));
    let mode = if is_socket(&one) { SslMode::Disable } else { config.get_ssl_mode() };
    // If there are several hosts, only the primary is wanted.
    let attributes = if count > 1 { TargetSessionAttrs::ReadWrite } else { config.get_target_session_attrs() };
    like_at(config, one, mode, attributes)
}

/// The session that `like` describes, at the host, address and port of `one`.
fn like_at(like: &Config, mut one: Config, mode: SslMode, attributes: TargetSessionAttrs) -> Config {
    one.ssl_mode(mode).target_session_attrs(attributes);
    one.ssl_negotiation(like.get_ssl_negotiation()).channel_binding(like.get_channel_binding());
    one.application_name(like.get_application_name().unwrap_or(APPLICATION_NAME));
    if let Some(user) = like.get_user() {
        one.user(user);
    }
    if let Some(password) = like.get_password() {
        one.password(password);
    }
    if let Some(database) = like.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = like.get_options() {
        one.options(options);
    }
    one.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL).keepalives_retries(KEEPALIVE_RETRIES);
    one
}

fn is_socket(config: &Config) -> bool {
    config.get_hosts().iter().any(|host| !matches!(host, Host::Tcp(_)))
}

/// Whether a host is this machine.
fn is_near(config: &Config) -> bool {
    let is_loopback = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(is_loopback) && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        for (at, host) in self.hosts.iter().enumerate() {
            f.write_str(if at > 0 { "," } else { "" })?;
            write_host(f, host)?;
        }
        write!(f, "/{}", self.hosts[0].get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn write_host(f: &mut fmt::Formatter<'_>, host: &Config) -> fmt::Result {
    match host.get_hosts().first() {
        Some(Host::Tcp(name)) => f.write_str(name)?,
        #[cfg(unix)]
        Some(Host::Unix(path)) => write!(f, "{}", path.display())?,
        None => {
            if let Some(address) = host.get_hostaddrs().first() {
                write!(f, "{address}")?;
            }
        }
    }
    write!(f, ":{}", host.get_ports().first().copied().unwrap_or(5432))
}

/// `host:port`, for messages.
pub fn place(host: &Config) -> String {
    struct Place<'a>(&'a Config);
    impl fmt::Display for Place<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_host(f, self.0)
        }
    }
    Place(host).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_not_encoded_is_not_taken_for_a_host() {
        for bad in
            ["postgres://me:s3@cret@db1/events", "postgres://me/s3cret@db1/events", "postgres://me:a/s3cret@db1/events"]
        {
            let error = bad.parse::<Url>().expect_err("it must be encoded").to_string();
            assert!(error.contains("%40") && !error.contains("cret"), "{error}");
        }
        assert!("postgres://me:s3%40cret@db1/events".parse::<Url>().is_ok());
        for bad in ["postgres://me@db1\n/events", "postgres://me@db1/events%0a"] {
            assert!(bad.parse::<Url>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn shows_where_but_not_the_password() {
        let url: Url = "postgres://me:s3cret@db1:5433,db2:5434/events?sslmode=require".parse().expect("a good URL");
        assert_eq!(url.to_string(), "postgres://db1:5433,db2:5434/events");
        assert_eq!(format!("{url:?}"), "postgres://db1:5433,db2:5434/events");
        assert_eq!(url.hosts().len(), 2);
        assert_eq!(url.hosts()[1].get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn bad_urls_are_refused_without_quoting_them() {
        for bad in [
            "mysql://me:s3cret@db/events",
            "postgres://me:s3cret@db:port/events",
            "postgres://me:s3cret@db/events?sslmode=maybe",
            "postgres://me:s3cret@db/events?s3cret=1",
            "postgres://me:s3cret@db1,db2:1,db3:2,/events?port=1,2",
            "postgres:///events",
        ] {
            let error = bad.parse::<Url>().expect_err(bad).to_string();
            assert!(!error.contains("s3") && !error.contains("cret"), "{error}");
        }
    }

    #[test]
    fn another_server_of_the_same_database_has_everything_but_the_place() {
        let url: Url = "postgres://me:s3cret@db1:5433,db2:5434/events?sslmode=require&application_name=mine"
            .parse()
            .expect("a good URL");
        let node = url.at("node-2.internal", 6000).expect("a good name");
        assert_eq!(node.to_string(), "postgres://node-2.internal:6000/events");
        let [host] = node.hosts() else { panic!("{node}") };
        assert_eq!(host.get_hosts(), [Host::Tcp("node-2.internal".to_owned())]);
        assert!(host.get_hostaddrs().is_empty());
        assert_eq!((host.get_user(), host.get_password()), (Some("me"), Some(&b"s3cret"[..])));
        assert_eq!((host.get_dbname(), host.get_application_name()), (Some("events"), Some("mine")));
        assert_eq!(host.get_ssl_mode(), SslMode::Require);
        assert_eq!(host.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        for bad in ["", "a\nb"] {
            assert!(url.at(bad, 1).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn another_server_is_encrypted_as_the_url_says_although_a_socket_is_not() {
        let url: Url = "postgres://%2Ftmp/events?sslmode=require".parse().expect("a good URL");
        assert_eq!(url.hosts()[0].get_ssl_mode(), SslMode::Disable);
        assert_eq!(url.at("db2", 5432).expect("a good name").hosts()[0].get_ssl_mode(), SslMode::Require);
        assert_eq!(url.at("/run", 5432).expect("a good name").hosts()[0].get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn only_this_machine_is_local() {
        for (text, is_local) in [
            ("postgres://127.0.0.1/x", true),
            ("postgres://localhost,[::1]/x", true),
            ("postgres://%2Ftmp/x", true),
            ("postgres://localhost,db2/x", false),
            ("postgres:///x?hostaddr=10.0.0.1", false),
        ] {
            assert_eq!(text.parse::<Url>().expect("a good URL").is_local(), is_local, "{text}");
        }
    }

    #[test]
    fn root_certificates_that_cannot_be_read_are_named() {
        for (file, named) in [("/nowhere/root.pem", "\"/nowhere/root.pem\""), ("/dev/null", "\"/dev/null\"")] {
            let url = format!("postgres://localhost/x?sslmode=verify-full&sslrootcert={file}").parse::<Url>();
            let refused = url.expect_err("there are none").to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[test]
    fn options_are_percent_decoded() {
        let mut options = Options::default();
        assert!(options.take("sslrootcert=%2Ftmp%2Fa%20b%"));
        assert_eq!(options.root_certificate, Some("/tmp/a b%".into()));
    }

    mod fuzz {
        use eventodb_protocol::testing::mangled_text;
        use proptest::prelude::*;

        use super::*;

        const GOOD: &str = "postgres://me:s3cretPassword@db1:5433,[::1]:5434/events?sslmode=require&connect_timeout=3&options=-c%20x%3D1";

        /// Whether the password is still at the place of a password. Without an @ after it, it is a host or a database.
        fn is_a_password(text: &str) -> bool {
            let place = text.split('?').next().unwrap_or_default();
            let last = ["s3cret", "Password"].iter().filter_map(|part| text.rfind(part)).max();
            place.rfind('@') > last
        }

        proptest! {
            #[test]
            fn any_url_is_refused_or_shown_without_the_password(text in mangled_text(Just(GOOD.to_owned()))) {
                let shown = match text.parse::<Url>() {
                    Ok(url) => {
                        prop_assert!(!url.hosts().is_empty());
                        url.to_string()
                    }
                    Err(error) => error.to_string(),
                };
                prop_assert!(!shown.contains('\n'), "{}", shown);
                let is_hidden = !shown.contains("s3cret") && !shown.contains("Password");
                prop_assert!(is_hidden || !is_a_password(&text), "{}", shown);
            }
        }
    }
}
