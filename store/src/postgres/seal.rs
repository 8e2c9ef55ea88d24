//! Seals. While an incarnation is being filled that is to take a log's place, a batch at the end of the log keeps every
//! server from appending. The log's messages are still read.
//!
//! A seal holds only while the registry has an incarnation that is staged for the log's place and kept. A server that
//! meets a seal that does not hold takes it away, so that nothing has to be repaired if a server dies while it replaces
//! a namespace.
//!
//! The log of a deleted incarnation ends with such a batch, too, which nobody takes away.

use tokio::time::Instant;
use uuid::Uuid;

use super::connection::Connection;
use super::error::Failure;
use super::staging;
use super::statement::{HEAD, LIVES, TOMBSTONE, UNSEAL};
use crate::model::{Head, Incarnation};

/// The first half of the ids of seals. The ids of other batches are random UUIDs of version 4.
const PREFIX: u64 = 0x6576_656e_746f_8000;
/// The id of the last batch of a deleted log. All have the same, so that one is found where it was put before.
const END: Uuid = Uuid::from_u64_pair(0x6576_656e_746f_8001, 0x8000_0000_0000_0000);

/// The id of a new seal.
fn new_id() -> Uuid {
    Uuid::from_u64_pair(PREFIX, Uuid::new_v4().as_u64_pair().1)
}

/// Whether this is the id of a seal.
pub(super) fn is_seal(id: Uuid) -> bool {
    id.as_u64_pair().0 == PREFIX
}

/// Puts a seal behind the last batch of a log, and behind the append that is under way.
pub(super) async fn put(connection: &mut Connection, log: Incarnation) -> Result<(), Failure> {
    put_last(connection, log, new_id()).await
}

/// Ends the log of a deleted incarnation: no append is committed afterwards. May be repeated.
pub(super) async fn end(connection: &mut Connection, log: Incarnation) -> Result<(), Failure> {
    put_last(connection, log, END).await
}

/// Puts a last batch, and again if an append was committed meanwhile. Where the role's transactions keep their snapshot,
/// the function cannot see that append, and PostgreSQL ends it.
async fn put_last(connection: &mut Connection, log: Incarnation, id: Uuid) -> Result<(), Failure> {
    let deadline = Instant::now() + connection.limit();
    loop {
        match connection.query(TOMBSTONE.on(log), &[&id]).await {
            Err(failure) if failure.is_lost_race() && Instant::now() < deadline => {}
            outcome => return outcome.map(|_| ()),
        }
    }
}

/// Whether a log takes appends, by its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It takes appends.
    Open,
    /// It refuses them while another incarnation is being filled.
    Held,
    /// The log's place is taken.
    Gone,
}

/// The id of the seal at the end of a log.
pub(super) async fn find(connection: &mut Connection, log: Incarnation) -> Result<Option<Uuid>, Failure> {
    let last = connection.query_one(HEAD.on(log), &[&Head::default().batch]).await?;
    Ok(last.map(|row| row.get(3)).filter(|id| is_seal(*id)))
}

/// What the registry says about a log that is sealed. If it is open, its seal does not hold.
pub(super) async fn judge(connection: &mut Connection, log: Incarnation) -> Result<Verdict, Failure> {
    if staging::is_kept(connection, log).await? == Some(false) {
        staging::discard_expired(connection).await?;
    }
    if staging::is_kept(connection, log).await?.is_some() {
        return Ok(Verdict::Held);
    }
    Ok(if lives(connection, log).await? { Verdict::Open } else { Verdict::Gone })
}

/// Takes away a seal that does not hold. The incarnation that was staged can never take the log's place any more; the
/// next one has another seal.
pub(super) async fn take_away(connection: &mut Connection, log: Incarnation, seal: Uuid) -> Result<(), Failure> {
    connection.query(UNSEAL.on(log), &[&seal, &Uuid::new_v4()]).await?;
    Ok(())
}

/// Whether an incarnation lives.
pub(super) async fn lives(connection: &mut Connection, log: Incarnation) -> Result<bool, Failure> {
    Ok(connection.query_one(LIVES.on_registry(), &[&log.0]).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_are_told_from_other_batches() {
        assert!(is_seal(new_id()));
        assert!(!is_seal(Uuid::nil()) && !is_seal(END));
        assert!(!(0..1000).any(|_| is_seal(Uuid::new_v4())));
    }
}
