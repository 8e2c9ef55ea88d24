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

/// The name of a session in `pg_stat_activity` if the URL has none.
const APPLICATION_NAME: &str = "eventodb";
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
    #[error("the root certificates for the database are not usable")]
    Certificates(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The address of a database, and how to log in. Neither `Debug` nor `Display` shows the password.
#[derive(Clone)]
pub struct Url {
    hosts: Arc<[Config]>,
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
        let is_near = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
            }
        };
        self.hosts
            .iter()
            .any(|config| config.get_ssl_mode() == SslMode::Prefer && !config.get_hosts().iter().all(is_near))
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
        let url = Self { hosts: hosts.into(), tls: tls::connector(verify, options.root_certificate)? };
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
    let is_socket = matches!(config.get_hosts().get(at), Some(Host::Unix(_)));
    one.ssl_mode(if is_socket { SslMode::Disable } else { config.get_ssl_mode() });
    one.ssl_negotiation(config.get_ssl_negotiation()).channel_binding(config.get_channel_binding());
    one.application_name(config.get_application_name().unwrap_or(APPLICATION_NAME));
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(database) = config.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    // If there are several hosts, only the primary is wanted.
    let attributes = if count > 1 { TargetSessionAttrs::ReadWrite } else { config.get_target_session_attrs() };
    one.target_session_attrs(attributes);
    one.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL).keepalives_retries(KEEPALIVE_RETRIES);
    one
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
