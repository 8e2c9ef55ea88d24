//! Room for a connection, made by closing others where there is none.

use std::pin::pin;
use std::time::Duration;

use super::addresses::Subnet;
use super::watch::Watch;

/// How long a connection waits for room before more connections without a token are closed.
const PAUSE: Duration = Duration::from_millis(250);

/// Waits for `room` for a connection from an address. While there is none, connections without a token are closed for it.
pub(super) async fn make<T>(watch: &Watch, address: Subnet, room: impl Future<Output = T>) -> T {
    let mut room = pin!(room);
    if let Ok(room) = tokio::time::timeout(Duration::ZERO, &mut room).await {
        return room;
    }
    loop {
        watch.make_room(address);
        if let Ok(room) = tokio::time::timeout(PAUSE, &mut room).await {
            return room;
        }
    }
}
