//! SIGTERM and SIGINT: the first stops the server gracefully, the second at once.

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
