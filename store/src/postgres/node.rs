//! One database server that has logs, and the connections to it.
//!
//! **Home** is the server that the URL names. On Citus logs may be at other nodes. Each node has connections of its own,
//! and whatever bounds them: a node that does not answer holds up its own logs and no others.
//!
//! A node may not be reachable from here under the name that the database has for it. Its logs are then used by way of
//! home, which costs home as much work again; that is looked at again from time to time. A node that was reached once is
//! not given up: if it dies, home cannot reach it either.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::error::OpenError;
use super::placement::Address;
use super::pool::Pool;
use super::settings::Settings;
use crate::error::Chain;

/// Logs of one node whose counts are folded at the same time.
const FOLDS: usize = 2;
/// The pause before it is tried again to reach a node directly.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Connections to one server for the logs of one node, with what bounds them.
#[derive(Debug)]
pub(super) struct Pools {
    /// For reads. Those of home also serve calls to the registry with a valid token.
    pub(super) readers: Arc<Pool>,
    /// For appends, and for the reads that planning an append needs.
    pub(super) sequencers: Arc<Pool>,
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

impl Pools {
    fn new(settings: &Arc<Settings>) -> Self {
        Self {
            readers: Arc::new(Pool::new(settings, settings.pool_min, settings.pool_max)),
            sequencers: Arc::new(Pool::new(settings, 1, settings.sequencer_connections)),
            turns: Arc::new(Semaphore::new(settings.sequencer_connections / 2)),
            folds: Semaphore::new(FOLDS),
        }
    }

    fn each(&self) -> [&Pool; 2] {
        [&self.readers, &self.sequencers]
    }
}

impl Node {
    /// The server that the URL names.
    pub(super) fn home(settings: &Arc<Settings>) -> Self {
        Self { direct: Pools::new(settings), remote: None }
    }

    /// Another one. Until it is known how it is reached, its callers wait.
    pub(super) fn at(
        address: &Address,
        home: &Arc<Settings>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let settings = settings_at(address, home);
        let way = watch::Sender::new(if settings.is_some() { Way::Unknown } else { Way::ByHome });
        let remote = Remote { name: address.to_string().into(), by_home: Pools::new(home), way };
        let direct = Pools::new(settings.as_ref().unwrap_or(home));
        let node = Arc::new(Self { direct, remote: Some(remote) });
        match settings {
            Some(settings) => _ = tasks.spawn(find_way(Arc::downgrade(&node), settings, stop.clone())),
            None => tracing::warn!(node = %address, "{NOT_FROM_HERE}"),
        }
        node
    }

    pub(super) fn is_home(&self) -> bool {
        self.remote.is_none()
    }

    /// The name of a node that is not home.
    pub(super) fn name(&self) -> Option<Arc<str>> {
        self.remote.as_ref().map(|remote| Arc::clone(&remote.name))
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

const NOT_FROM_HERE: &str = "a node of the database cannot be reached under its name from here: its namespaces are \
                             used by way of the URL that was given, which costs that server as much work again";

/// The settings for a node; `None` if its name means something else here: a node that calls itself `localhost` means
/// itself.
fn settings_at(address: &Address, home: &Arc<Settings>) -> Option<Arc<Settings>> {
    let url = home.url.at(&address.host, address.port).ok()?;
    let is_usable = home.url.is_local() || !url.is_local();
    is_usable.then(|| Arc::new(Settings { url, ..Settings::clone(home) }))
}

/// Tries to reach a node until it was reached once, or is not used any more.
async fn find_way(node: Weak<Node>, settings: Arc<Settings>, stop: CancellationToken) {
    loop {
        let outcome = stop.run_until_cancelled(Connection::open(&settings)).await;
        let Some(node) = node.upgrade() else { return };
        let Some(remote) = &node.remote else { return };
        match outcome {
            None => {
                // Whoever still waits finds the pools closed.
                remote.way.send_replace(Way::ByHome);
                return;
            }
            // A node without a free slot is there.
            Some(Ok(_) | Err(OpenError::NoSlot { .. })) => {
                if remote.way.send_replace(Way::Direct) == Way::ByHome {
                    tracing::info!(node = %remote.name, "a node of the database is reached under its name by now");
                }
                return;
            }
            Some(Err(error)) => {
                if remote.way.send_replace(Way::ByHome) == Way::Unknown {
                    tracing::warn!(node = %remote.name, error = %Chain(&error), "{NOT_FROM_HERE}");
                }
            }
        }
        drop(node);
        if stop.run_until_cancelled(sleep(TRY_AGAIN)).await.is_none() {
            return;
        }
    }
}
