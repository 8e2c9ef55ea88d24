//! `eventodb serve`: starts the server from the command line, and stops it.

mod administrator;
mod args;
mod banner;
mod config;
mod files;
#[cfg(test)]
mod fuzz;
mod idle;
mod logging;
mod manager;
mod memory;
#[cfg(test)]
mod page;
mod plan;
mod secret;
mod settings;
mod signals;
mod steer;
mod storage;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use eventodb_protocol::Token;
use eventodb_server::{Config, Live, Mode, Steering, Tls, Totals};
use eventodb_store::sqlite::Location;
use eventodb_store::{Backend, EventStore};
use tokio::net::{TcpListener, TcpSocket};

use self::administrator::{Administrator, Shown};
use self::config::Checked;
pub(crate) use self::config::Place;
use self::logging::Format;
pub(crate) use self::logging::audit;
pub(crate) use self::plan::{Plan, Stored};
pub(crate) use self::secret::{DATA_DIR, Database, is_open_to_all, read as first_line};
use self::settings::Examined;
pub(crate) use self::settings::{Problems, Settings, SettingsBesideToken, stray_variables};
use self::steer::Steer;
pub(crate) use self::storage::of_postgres;
use crate::usage::{Exit, Refused, Usage, of_store};

/// Starts the server and serves until a signal comes.
///
/// # Errors
/// [`crate::usage::Usage`] for a wrong configuration, [`Refused`] if the address, the data directory or the database
/// cannot be used.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let Examined { layers, layered, mut checked } = settings.examined().map_err(Usage::from)?;
    let (_log, level) = logging::start(checked.log_level, checked.log_format);
    layered.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    checked.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let stop = signals::listen().context("cannot listen for signals")?;
    let live = Arc::new(Live::new(checked.server.changeable));
    checked.store.self_test = Some(live.takes_writes());
    let steer = Arc::new(Steer::new(layers, layered.effective(&checked), Arc::clone(&live), level));
    (checked.server.live, checked.server.steering) = (Some(live), Some(Arc::clone(&steer) as Arc<dyn Steering>));
    listen_for_reloads(&settings, checked.server.tls.clone(), Arc::clone(&steer))?;
    files::raise_limit();
    let listener = bind(&checked).await?;
    checked.server.bounds.connections = files::bound_connections(checked.server.bounds.connections);
    let (version, storage) = (eventodb_protocol::VERSION, banner::describe(&checked.storage));
    tracing::info!(version, storage, config = steer.hash(), "starting");
    let backend = manager::starting(storage::open(&checked.storage)).await?;
    let store = manager::starting(EventStore::open(backend, checked.store.clone())).await;
    let store = store.map_err(|error| Refused::new(of_store(&error), error))?;
    let administrator = match administrator::prepare(&store, &checked).await {
        Ok(administrator) => administrator,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    let address = listener.local_addr().context("the socket has no address")?;
    let url = format!("{}://{address}", if checked.server.tls.is_some() { "https" } else { "http" });
    tell(&checked, &url, &administrator);
    let told = manager::Told::serving(&url, &stop, &store);
    let mode = match checked.test_mode {
        true => Mode::Test { namespaces: checked.test_namespaces },
        false => Mode::Production,
    };
    let serving = eventodb_server::run(listener, store.clone(), Config { mode, ..checked.server }, stop);
    let begin = Instant::now();
    let Totals { connections, requests, refused, failed, bytes_in, bytes_out } = serving.await;
    store.close().await;
    told.stopped().await;
    let seconds = begin.elapsed().as_secs();
    tracing::info!(seconds, connections, requests, refused, failed, bytes_in, bytes_out, "stopped");
    Ok(ExitCode::SUCCESS)
}

/// Has the file of settings and the TLS certificate read again at each SIGHUP. A server that has neither ends by it, as
/// when its terminal is closed.
fn listen_for_reloads(settings: &Settings, tls: Option<Arc<Tls>>, steer: Arc<Steer>) -> anyhow::Result<()> {
    let has_file = settings.has_file();
    if !has_file && tls.is_none() {
        return Ok(());
    }
    let act = move || {
        if has_file {
            steer.reload_and_tell();
        }
        if let Some(tls) = &tls {
            tls.reload();
        }
    };
    signals::at_hangup(act).context("cannot listen for SIGHUP")
}

/// Logs the address, and prints the banner before it if the log is for people. A generated token is in the banner at
/// most, never in the log.
fn tell(checked: &Checked, url: &str, administrator: &Administrator) {
    if checked.log_format == Format::Console {
        banner::print(&checked.storage, url, checked.test_mode, administrator);
    }
    if let Some(Shown::File(file)) = &administrator.shown {
        tracing::info!(file = banner::full(file), "the administrator's token was made; it is in this file only");
    }
    tracing::info!(address = url, test_mode = checked.test_mode, "ready");
}

/// Where the store is that the variables of a server name, and the variable that says so; nothing if neither does.
///
/// # Errors
/// The file of the variable cannot be read, or the URL names no store.
pub(crate) fn database_of_variables(data_dir: &Path) -> Result<Option<(&'static str, Place)>, Usage> {
    let Some((variable, url)) = secret::database_of_variables()? else { return Ok(None) };
    Ok(Some((variable, config::place(&url, data_dir)?)))
}

/// An existing store, opened with default bounds.
pub(crate) struct Existing {
    /// The backend.
    pub(crate) backend: Arc<dyn Backend>,
    storage: config::Storage,
}

impl Existing {
    /// Opens the store that these flags name.
    ///
    /// # Errors
    /// A usage error if there is no store, [`Refused`] if a server uses the directory or the database cannot be
    /// reached.
    pub(crate) async fn open(database: &Database, data_dir: &Path) -> Result<Self, Refused> {
        Self::of(config::existing_storage(database.url()?.as_deref(), data_dir)?).await
    }

    /// Opens the store in the directory that was named, although a variable names a database elsewhere. The URL of a variable
    /// that names a file below a data directory names one below this.
    ///
    /// # Errors
    /// As [`Existing::open`].
    pub(crate) async fn in_directory(data_dir: &Path) -> Result<Self, Refused> {
        let directory = match database_of_variables(data_dir)? {
            Some((_, Place::Directory(directory))) => directory,
            _ => data_dir.to_owned(),
        };
        Self::of(config::existing_storage(None, &directory)?).await
    }

    async fn of(storage: config::Storage) -> Result<Self, Refused> {
        Ok(Self { backend: storage::open(&storage).await?, storage })
    }

    /// Writes the administrator's new token into the file of the old one, if there is such a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn renew_token_file(&self, token: &Token) -> Result<(), Refused> {
        match &self.storage {
            config::Storage::Sqlite(Location::Directory(directory), _) => administrator::renew(directory, token),
            _ => Ok(()),
        }
    }
}

/// Connections that may wait in the kernel until they are accepted. The kernel has a bound of its own
/// (`net.core.somaxconn`). If more connections wait, the next client's attempt to connect takes seconds.
const BACKLOG: u32 = 4096;

async fn bind(checked: &Checked) -> Result<TcpListener, Refused> {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    let (host, port) = (checked.host.as_str(), checked.port);
    listen(host, port).await.map_err(|error| match error.kind() {
        AddrInUse => {
            let error = anyhow!("{host}:{port} is in use by another program: choose another --port");
            Refused::new(Exit::CannotCreate, error)
        }
        kind => {
            let exit =
                if matches!(kind, AddrNotAvailable | PermissionDenied) { Exit::CannotCreate } else { Exit::Usage };
            Refused::because(exit, format!("cannot listen on --host {host} --port {port}"), error)
        }
    })
}

/// Listens on the first address of a host that can be bound.
async fn listen(host: &str, port: u16) -> std::io::Result<TcpListener> {
    let mut failed = std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, "the host has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Connections of an earlier server that are still closing do not block the port. A server that listens on it
        // does.
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
