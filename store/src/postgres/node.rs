//! One database server that has logs, and the connections to it.
//!
//! **Home** is the server that the URL names. On Citus logs may be at other nodes. Each node has connections of its own,
//! and whatever bounds them: a node that does not answer holds up its own logs and no others.
//!
//! A node may not be reachable from here under the name that the database has for it, or another server may be. Its logs
//! are then used by way of home, which costs home as much work again. Which way leads to a node is looked at again and
//! again, over a session that is kept for that. If the node is dead, neither way does.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::error::OpenError;
use super::guard::Guard;
use super::placement::{Address, Placement};
use super::pool::{Pool, retrying};
use super::settings::Settings;
use crate::error::Chain;

/// Logs of one node whose counts are folded at the same time.
const FOLDS: usize = 2;
/// Looks one after the other that fail before a node is not used directly any more.
const LEAVE_AFTER: u32 = 2;
/// The pause between two looks whether a node is reached directly.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Connections to one server for the logs of one node, with what bounds them.
#[derive(Debug)]
pub(super) struct Pools {
    /// For reads. Those of home also serve calls to the registry with a valid token.
    pub(super) readers: Arc<Pool>,
    /// For the heads that reads ask for. A read of what is in memory asks for nothing else, and waits for no read of
    /// history.
    pub(super) heads: Arc<Pool>,
    /// For appends, for the reads that planning an append needs, and for following other servers.
    pub(super) sequencers: Arc<Pool>,
    /// For decisions about groups.
    pub(super) groups: Arc<Pool>,
    /// Bounds the connections that logs hold for their turns.
    pub(super) turns: Arc<Semaphore>,
    /// Bounds the logs whose counts are folded.
    pub(super) folds: Semaphore,
}

/// A server that has logs.
#[derive(Debug)]
pub(super) struct Node {
    direct: Pools,
    /// `None` at home.
    remote: Option<Remote>,
}

/// What a node has that is not home.
#[derive(Debug)]
struct Remote {
    name: Arc<str>,
    by_home: Pools,
    way: watch::Sender<Way>,
}

/// How a node is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is not known yet.
    Unknown,
    /// Under its own name.
    Direct,
    /// Through home.
    ByHome,
}

/// What is known of home where another node is.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) settings: Arc<Settings>,
    /// Connections to it.
    pub(super) readers: Arc<Pool>,
    pub(super) placement: Placement,
}

impl Pools {
    fn new(settings: &Arc<Settings>, guard: Option<&Arc<Guard>>) -> Self {
        let pool = |keep, most| Pool::guarded(settings, guard.cloned(), keep, most);
        let readers = Arc::new(pool(settings.pool_min, settings.pool_max));
        Self {
            heads: Arc::new(pool(1, settings.sequencer_connections).borrowing(&readers)),
            // These borrow none: a busy log does not give its session back.
            sequencers: Arc::new(pool(1, settings.sequencer_connections)),
            groups: Arc::new(pool(0, settings.group_connections).borrowing(&readers)),
            readers,
            turns: Arc::new(Semaphore::new(settings.sequencer_connections / 2)),
            folds: Semaphore::new(FOLDS),
        }
    }

    fn each(&self) -> [&Pool; 4] {
        [&self.readers, &self.heads, &self.sequencers, &self.groups]
    }
}

impl Node {
    /// The server that the URL names.
    pub(super) fn home(settings: &Arc<Settings>) -> Self {
        Self { direct: Pools::new(settings, None), remote: None }
    }

    /// Another one. Until it is known how it is reached, its callers wait.
    pub(super) fn at(address: &Address, home: &Home, tasks: &TaskTracker, stop: &CancellationToken) -> Arc<Self> {
        let settings = settings_at(address, &home.settings);
        let way = watch::Sender::new(if settings.is_ok() { Way::Unknown } else { Way::ByHome });
        let by_home = Pools::new(&home.settings, None);
        let remote = Remote { name: address.to_string().into(), by_home, way };
        let guard = Arc::new(Guard::new(home.placement));
        let direct = Pools::new(settings.as_ref().unwrap_or(&home.settings), Some(&guard));
        let node = Arc::new(Self { direct, remote: Some(remote) });
        match settings {
            Ok(settings) => {
                let look = Look { address: address.clone(), settings, home: home.clone(), guard, session: None };
                tasks.spawn(find_way(Arc::downgrade(&node), look, stop.clone()));
            }
            Err(error) => tracing::warn!(node = %address, %error, "{BY_HOME}"),
        }
        node
    }

    /// Its connections for reads, if it is home.
    pub(super) fn readers_of_home(&self) -> &Arc<Pool> {
        &self.direct.readers
    }

    pub(super) fn is_home(&self) -> bool {
        self.remote.is_none()
    }

    /// The name of a node that is not home.
    pub(super) fn name(&self) -> Option<Arc<str>> {
        self.remote.as_ref().map(|remote| Arc::clone(&remote.name))
    }

    /// The connections to the node itself.
    pub(super) fn direct(&self) -> &Pools {
        &self.direct
    }

    /// The connections to be used.
    pub(super) async fn pools(&self) -> &Pools {
        let Some(remote) = &self.remote else { return &self.direct };
        let mut way = *remote.way.borrow();
        if way == Way::Unknown {
            let found = remote.way.subscribe().wait_for(|way| *way != Way::Unknown).await.map(|way| *way);
            way = found.expect("the sender is part of this node");
        }
        if way == Way::Direct { &self.direct } else { &remote.by_home }
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn shrink(&self) {
        self.each_pool().for_each(Pool::shrink);
    }

    /// Closes all connections.
    pub(super) fn close(&self) {
        self.each_pool().for_each(Pool::close);
    }

    fn each_pool(&self) -> impl Iterator<Item = &Pool> {
        let by_home = self.remote.iter().flat_map(|remote| remote.by_home.each());
        self.direct.each().into_iter().chain(by_home)
    }
}

const BY_HOME: &str = "a node of the database is not used directly: its namespaces are used by way of the URL that was \
                       given, which costs that server as much work again";

/// Why it is not even tried to reach a node directly.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NotDirect {
    #[error("its name means something else here, or nothing")]
    Name,
    #[error(
        "sessions with it could be in clear text, as sslmode is prefer or left out; sslmode=verify-full encrypts them, \
         sslmode=disable allows clear text"
    )]
    ClearText,
}

/// The settings for a node. A node that calls itself `localhost` means itself. Nobody was told that sessions may be in
/// clear text on the network if the URL names this machine.
fn settings_at(address: &Address, home: &Arc<Settings>) -> Result<Arc<Settings>, NotDirect> {
    let url = home.url.at(&address.host, address.port).map_err(|_| NotDirect::Name)?;
    if url.is_local() && !home.url.is_local() {
        return Err(NotDirect::Name);
    }
    if url.may_be_clear_text() && !home.url.may_be_clear_text() {
        return Err(NotDirect::ClearText);
    }
    Ok(Arc::new(Settings { url, ..Settings::clone(home) }))
}

/// Home does not have the node.
#[derive(Debug, thiserror::Error)]
#[error("the database has no such node")]
struct NoSuchNode;

/// What looks whether a node is reached directly.
struct Look {
    address: Address,
    settings: Arc<Settings>,
    home: Home,
    guard: Arc<Guard>,
    /// The session that found it.
    session: Option<Connection>,
}

impl Look {
    /// Succeeds if the server of that name answers and is the node that is meant. One without a free slot does not.
    async fn look(&mut self) -> Result<(), OpenError> {
        self.ask_home().await?;
        if let Some(mut session) = self.session.take()
            && self.guard.check(&mut session).await.is_ok()
        {
            self.session = Some(session);
            return Ok(());
        }
        let mut session = Connection::open(&self.settings).await?;
        self.guard.check(&mut session).await?;
        self.session = Some(session);
        Ok(())
    }

    /// Asks home which server is meant. While home does not answer, or does not have the node, what it said before holds.
    async fn ask_home(&self) -> Result<(), OpenError> {
        let Home { readers, placement, .. } = &self.home;
        match retrying!(readers, connection => placement.node(connection, &self.address)) {
            Ok(Some(identity)) => self.guard.expect(identity),
            _ if self.guard.is_informed() => {}
            Ok(None) => return Err(OpenError::other(NoSuchNode)),
            Err(failure) => return Err(OpenError::other(failure)),
        }
        Ok(())
    }
}

/// Looks again and again how a node is reached, until it is not used any more.
async fn find_way(node: Weak<Node>, mut look: Look, stop: CancellationToken) {
    let mut failed = 0;
    loop {
        let outcome = stop.run_until_cancelled(look.look()).await;
        let Some(node) = node.upgrade() else { return };
        let Some(remote) = &node.remote else { return };
        match outcome {
            None => {
                // Whoever still waits finds the pools closed.
                remote.way.send_replace(Way::ByHome);
                return;
            }
            Some(Ok(())) => {
                failed = 0;
                if remote.way.send_replace(Way::Direct) == Way::ByHome {
                    tracing::info!(node = %remote.name, "a node of the database is reached under its name by now");
                }
            }
            Some(Err(error)) => {
                failed += 1;
                let is_slow = *remote.way.borrow() == Way::Direct && failed < LEAVE_AFTER;
                if !is_slow && remote.way.send_replace(Way::ByHome) != Way::ByHome {
                    tracing::warn!(node = %remote.name, error = %Chain(&error), "{BY_HOME}");
                }
            }
        }
        drop(node);
        if stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(home: &str, host: &str) -> Result<String, NotDirect> {
        let home = Arc::new(Settings::new(home.parse().expect("a good URL")));
        settings_at(&Address { host: host.to_owned(), port: 5432 }, &home).map(|settings| settings.url.to_string())
    }

    #[test]
    fn a_node_that_means_itself_is_not_looked_for_here() {
        assert_eq!(at("postgres://coord/events?sslmode=require", "localhost"), Err(NotDirect::Name));
        assert_eq!(at("postgres://coord/events?sslmode=require", ""), Err(NotDirect::Name));
        assert!(at("postgres://127.0.0.1/events", "localhost").is_ok());
    }

    #[test]
    fn a_node_is_not_used_in_clear_text_because_home_is_on_this_machine() {
        for home in ["postgres://localhost/events", "postgres://%2Ftmp/events?sslmode=prefer"] {
            assert_eq!(at(home, "worker1"), Err(NotDirect::ClearText), "{home}");
            assert!(at(home, "127.0.0.1").is_ok(), "{home}");
        }
        // The first two say what they want; a start warns about the last one.
        for home in [
            "postgres://localhost/events?sslmode=require",
            "postgres://localhost/events?sslmode=disable",
            "postgres://coord/events",
        ] {
            assert_eq!(at(home, "worker1").as_deref(), Ok("postgres://worker1:5432/events"), "{home}");
        }
    }
}
