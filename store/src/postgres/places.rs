//! Which node each log is on, and how a log is followed that moves to another node.
//!
//! A log that moves has a place that changes: the periodic look sees it, and so does a call that does not find the
//! schema any more where it was. In either case the database has the log's new place before the old schema is gone, so
//! that a look after the failure finds it. The look asks home, and moves all logs of this server with one statement.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::Failure;
use super::line::Line;
use super::node::{Home, Node};
use super::placement::{Address, Placement};
use super::pool::retrying;
use super::settings::Settings;
use crate::error::Chain;
use crate::model::Incarnation;

/// How often it is looked for logs that have moved.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Logs that one statement asks about.
const ASK_AT_ONCE: usize = 1_000;

/// The nodes, and the places of the logs that are open.
#[derive(Debug)]
pub(super) struct Places {
    placement: Placement,
    settings: Arc<Settings>,
    home: Arc<Node>,
    others: Mutex<HashMap<Address, Arc<Node>>>,
    open: Mutex<Vec<Weak<Place>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The place of one log, which may change.
#[derive(Debug)]
pub(super) struct Place {
    log: Incarnation,
    site: RwLock<Arc<Site>>,
}

/// A log at one node.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) node: Arc<Node>,
    /// The connection of the log's appends there.
    pub(super) line: Line,
}

impl Place {
    /// Where the log is, as far as it is known.
    pub(super) fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.read())
    }

    /// Notes the node of the log.
    fn found(&self, node: Arc<Node>) {
        let mut site = self.site.write();
        if !Arc::ptr_eq(&site.node, &node) {
            let (from, to) = (name(&site.node), name(&node));
            tracing::info!(log = self.log.0, from, to, "a log has moved to another node");
            *site = Arc::new(Site { node, line: Line::default() });
        }
    }
}

fn name(node: &Node) -> String {
    node.name().map_or_else(|| "home".to_owned(), |name| name.to_string())
}

impl Places {
    pub(super) fn new(
        placement: Placement,
        settings: Arc<Settings>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let home = Arc::new(Node::home(&settings));
        Self { placement, settings, home, others: Mutex::default(), open: Mutex::default(), tasks, stop }
    }

    /// The server that the URL names.
    pub(super) fn home(&self) -> &Arc<Node> {
        &self.home
    }

    /// Where it is written which node has which log.
    pub(super) fn placement(&self) -> Placement {
        self.placement
    }

    /// Whether logs may be at other nodes than home.
    pub(super) fn are_several(&self) -> bool {
        !matches!(self.placement, Placement::One)
    }

    /// The nodes of those of these logs that are not at home. Without several nodes, nothing is asked.
    pub(super) async fn away(&self, logs: &[Incarnation]) -> Result<HashMap<Incarnation, Arc<Node>>, Failure> {
        let mut away = HashMap::new();
        if !self.are_several() {
            return Ok(away);
        }
        let readers = &self.home.pools().await.readers;
        for logs in logs.chunks(ASK_AT_ONCE) {
            let found = retrying!(readers, connection => self.placement.find(connection, logs))?;
            away.extend(found.into_iter().map(|(log, address)| (log, self.node(address))));
        }
        Ok(away)
    }

    /// The place of a log, which is kept up to date from now on.
    pub(super) async fn of(&self, log: Incarnation) -> Result<Arc<Place>, Failure> {
        let node = self.away(&[log]).await?.remove(&log).unwrap_or_else(|| Arc::clone(&self.home));
        let place = Arc::new(Place { log, site: RwLock::new(Arc::new(Site { node, line: Line::default() })) });
        if self.are_several() {
            self.open.lock().push(Arc::downgrade(&place));
        }
        Ok(place)
    }

    /// Looks where a log is. Returns whether that is another place than `site`.
    pub(super) async fn has_moved(&self, place: &Place, site: &Arc<Site>) -> Result<bool, Failure> {
        let away = self.away(&[place.log]).await?;
        place.found(self.of_found(&away, place.log));
        Ok(!Arc::ptr_eq(&place.site(), site))
    }

    /// Looks again and again for logs that have moved, until the end.
    pub(super) async fn follow(self: Arc<Self>) {
        if !self.are_several() {
            return;
        }
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let Some(looked) = self.stop.run_until_cancelled(self.look()).await else { return };
            if let Err(error) = looked {
                tracing::debug!(error = %Chain(&error), "cannot look for logs that have moved");
            }
        }
    }

    async fn look(&self) -> Result<(), Failure> {
        let open: Vec<Arc<Place>> = {
            let mut open = self.open.lock();
            open.retain(|place| place.strong_count() > 0);
            open.iter().filter_map(Weak::upgrade).collect()
        };
        let logs: Vec<Incarnation> = open.iter().map(|place| place.log).collect();
        let away = self.away(&logs).await?;
        for place in open {
            place.found(self.of_found(&away, place.log));
        }
        Ok(())
    }

    fn of_found(&self, away: &HashMap<Incarnation, Arc<Node>>, log: Incarnation) -> Arc<Node> {
        Arc::clone(away.get(&log).unwrap_or(&self.home))
    }

    fn node(&self, address: Address) -> Arc<Node> {
        let mut others = self.others.lock();
        let make = |address: &Address| {
            let (settings, readers) = (Arc::clone(&self.settings), Arc::clone(self.home.readers_of_home()));
            let home = Home { settings, readers, placement: self.placement };
            Node::at(address, &home, &self.tasks, &self.stop)
        };
        Arc::clone(others.entry(address).or_insert_with_key(make))
    }

    /// Closes idle connections, and the nodes at which no open log is any more.
    pub(super) fn shrink(&self) {
        self.home.shrink();
        self.others.lock().retain(|_, node| {
            node.shrink();
            Arc::strong_count(node) > 1
        });
    }

    /// Closes all connections.
    pub(super) fn close(&self) {
        self.home.close();
        self.others.lock().values().for_each(|node| node.close());
    }
}
