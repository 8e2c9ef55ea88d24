//! SIGTERM and SIGINT: the first stops the server gracefully, the second at once. SIGHUP: the TLS certificate is read
//! again.

use std::sync::Arc;

use eventodb_server::{Stop, Tls};
use tokio::signal::unix::{SignalKind, signal};

/// Listens for the signals from now on.
///
/// # Errors
/// The system's.
pub(super) fn listen() -> std::io::Result<Stop> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = Stop::default();
    let told = stop.clone();
    tokio::spawn(async move {
        for order in [&told.soft, &told.hard] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            order.cancel();
        }
        // A third one ends the process without waiting.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(1);
    });
    Ok(stop)
}

/// Reads the TLS certificate again at each SIGHUP. A server without TLS ends by it, as when its terminal is closed.
///
/// # Errors
/// The system's.
pub(super) fn reload(tls: Arc<Tls>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tls.reload();
        }
    });
    Ok(())
}
