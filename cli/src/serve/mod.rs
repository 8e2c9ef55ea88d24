//! `eventodb serve`: from the command line to a running server, and to its end.

mod administrator;
mod args;
mod banner;
mod config;
mod files;
mod logging;
#[cfg(test)]
mod page;
mod signals;
mod storage;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use eventodb_server::{Config, Mode};
use eventodb_store::{Backend, EventStore};
use tokio::net::TcpListener;

pub(crate) use self::args::Args;
use self::config::Checked;
use crate::usage::Usage;

/// Starts the server and serves until a signal comes.
///
/// # Errors
/// [`Usage`] for what the caller can mend: the address, the data directory, the database, the token.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = Checked::try_from(args)?;
    let _log = logging::start(checked.log_level, checked.log_format);
    let stop = signals::listen().context("cannot listen for signals")?;
    files::raise_limit();
    let listener = bind(&checked).await?;
    let backend = storage::open(&checked.storage).await?;
    let store = EventStore::open(backend, checked.store).await.map_err(Usage::new)?;
    let administrator = match administrator::prepare(&store, checked.token).await {
        Ok(administrator) => administrator,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    let address = listener.local_addr().context("the socket has no address")?;
    banner::print(&checked.storage, address, checked.test_mode, &administrator);
    let mode = match checked.test_mode {
        true => Mode::Test { default_token: administrator.token },
        false => Mode::Production,
    };
    eventodb_server::run(listener, store.clone(), Config { mode, ..checked.server }, stop).await;
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

/// The backend that these two flags name, with default bounds; it must exist.
///
/// # Errors
/// [`Usage`] where it does not, or where a server uses the directory.
pub(crate) async fn existing_backend(db_url: Option<&str>, data_dir: &Path) -> Result<Arc<dyn Backend>, Usage> {
    storage::open(&config::existing_storage(db_url, data_dir)?).await
}

async fn bind(checked: &Checked) -> Result<TcpListener, Usage> {
    let (host, port) = (checked.host.as_str(), checked.port);
    TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Usage(format!("{host}:{port} is in use by another program: choose another --port"))
        }
        _ => Usage(format!("cannot listen on --host {host} --port {port}: {error}")),
    })
}
