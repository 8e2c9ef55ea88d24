//! SIGTERM and SIGINT: the first stops the server gracefully, the second at once. SIGHUP: the
//! file of settings and the TLS certificate are read again.

use std::sync::Arc;

use eventodb_server::Stop;
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

/// Does this at each SIGHUP.
///
/// # Errors
/// The system's.
pub(super) fn at_hangup(act: impl Fn() + Send + Sync + 'static) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let act = Arc::new(act);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let act = Arc::clone(&act);
            // It reads files. If it panics, the panic hook has told, and the next signal may succeed.
            let _ = tokio::task::spawn_blocking(move || act()).await;
        }
    });
    Ok(())
}
