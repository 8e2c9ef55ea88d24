//! Notifications between servers. Each is only a hint: the tables are the truth, and a poll covers a lost notification.
//!
//! The append's own transaction never notifies, because a notifying commit takes a lock that the whole instance shares.
//! After the commit, positions are gathered and sent together on a connection of their own.
//! One connection listens for all namespaces. PostgreSQL delivers a notification to sessions of the same server and
//! database: servers that reach the data in different ways name one database for both connections.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventodb_pg::Url;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use super::connection::{self, Connection};
use super::error::{OpenError, TimedOut};
use super::settings::Settings;
use super::statement::NOTIFY;
use crate::error::Chain;
use crate::figures::Counter;
use crate::model::Incarnation;
use crate::seldom::{Due, outage};
use crate::storage::Hint;
use crate::storage::groups::GroupTag;

/// Hints that may wait to be taken; more become one [`Hint::All`].
const WAITING_HINTS: usize = 1_024;
/// Notifications of one transaction.
const PAYLOADS: usize = 1_000;
/// Pause between two transactions that notify; positions that come meanwhile are sent together.
const NOTIFY_PAUSE: Duration = Duration::from_millis(2);
/// How often it is checked that the listening connection is alive.
const LISTENER_PING: Duration = Duration::from_secs(10);
/// Pause before a broken connection is made anew, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Tells other servers what this one did.
#[derive(Debug)]
pub(super) struct Notifier {
    /// Tells this server's notifications from others'.
    server: String,
    pending: Mutex<Pending>,
    wake: Notify,
    sent: Counter,
}

#[derive(Debug, Default)]
struct Pending {
    written: HashMap<Incarnation, i64>,
    groups: HashSet<(Incarnation, GroupTag)>,
    wanted: HashSet<(Incarnation, GroupTag)>,
    registry: bool,
}

impl Notifier {
    pub(super) fn new() -> Self {
        let server = format!("{:016x}", rand::random::<u64>());
        Self { server, pending: Mutex::default(), wake: Notify::new(), sent: Counter::default() }
    }

    /// How many notifications were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// A log has reached this position.
    pub(super) fn written(&self, log: Incarnation, position: i64) {
        let mut pending = self.pending.lock();
        let known = pending.written.entry(log).or_default();
        *known = position.max(*known);
        drop(pending);
        self.wake.notify_one();
    }

    /// A group of a log has changed.
    pub(super) fn group(&self, log: Incarnation, group: GroupTag) {
        self.pending.lock().groups.insert((log, group));
        self.wake.notify_one();
    }

    /// Others are always first to change a group of a log.
    pub(super) fn wanted(&self, log: Incarnation, group: GroupTag) {
        self.pending.lock().wanted.insert((log, group));
        self.wake.notify_one();
    }

    /// Namespaces were created or deleted, or tokens changed.
    pub(super) fn registry(&self) {
        self.pending.lock().registry = true;
        self.wake.notify_one();
    }

    /// Sends the gathered notifications until `stop`.
    pub(super) async fn run(self: Arc<Self>, settings: Settings, stop: CancellationToken) {
        let mut connection = None;
        let mut pause = RETRY.0;
        while stop.run_until_cancelled(self.wake.notified()).await.is_some() {
            let payloads = self.take();
            if payloads.is_empty() {
                continue;
            }
            match send(&mut connection, &settings, &payloads).await {
                Ok(()) => {
                    self.sent.add(payloads.len() as u64);
                    pause = RETRY.0;
                }
                // These notifications are lost: the other servers poll.
                Err(error) => {
                    tracing::debug!(error = %Chain(&*error), "cannot notify other servers");
                    connection = None;
                    pause = longer(pause);
                }
            }
            let rest = if connection.is_some() { NOTIFY_PAUSE } else { pause };
            if stop.run_until_cancelled(sleep(rest)).await.is_none() {
                return;
            }
        }
    }

    /// At most one transaction's worth of payloads.
    fn take(&self) -> Vec<String> {
        let mut pending = self.pending.lock();
        let mut payloads = Vec::new();
        if std::mem::take(&mut pending.registry) {
            payloads.push(format!("{} registry", self.server));
        }
        let logs: Vec<Incarnation> = pending.written.keys().copied().take(PAYLOADS).collect();
        for log in logs {
            if let Some(position) = pending.written.remove(&log) {
                payloads.push(format!("{} {} {position}", self.server, log.0));
            }
        }
        for (log, group) in take_some(&mut pending.groups) {
            payloads.push(format!("{} group {} {}", self.server, log.0, group.0));
        }
        for (log, group) in take_some(&mut pending.wanted) {
            payloads.push(format!("{} wanted {} {}", self.server, log.0, group.0));
        }
        if !pending.written.is_empty() || !pending.groups.is_empty() || !pending.wanted.is_empty() {
            self.wake.notify_one();
        }
        payloads
    }

    /// The hint in another server's notification; `None` for one of this server's own, or one that no server sends.
    fn understand(&self, payload: &str) -> Option<Hint> {
        let mut words = payload.split(' ');
        if words.next()? == self.server {
            return None;
        }
        match (words.next()?, words.next(), words.next()) {
            ("registry", None, None) => Some(Hint::Registry),
            (kind @ ("group" | "wanted"), Some(log), Some(tag)) => {
                let (log, tag) = (Incarnation(log.parse().ok()?), GroupTag(tag.parse().ok()?));
                Some(if kind == "group" { Hint::Group(log, tag) } else { Hint::Wanted(log, tag) })
            }
            (log, Some(position), None) => Some(Hint::Written(Incarnation(log.parse().ok()?), position.parse().ok()?)),
            _ => None,
        }
    }
}

/// As many as go in one transaction.
fn take_some(groups: &mut HashSet<(Incarnation, GroupTag)>) -> Vec<(Incarnation, GroupTag)> {
    let some: Vec<_> = groups.iter().copied().take(PAYLOADS).collect();
    some.iter().for_each(|group| {
        groups.remove(group);
    });
    some
}

async fn send(
    connection: &mut Option<Connection>,
    settings: &Settings,
    payloads: &[String],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if !connection.as_ref().is_some_and(Connection::is_clean) {
        *connection = Some(Connection::open(settings).await?);
    }
    let open = connection.as_mut().expect("it was just opened");
    open.query(NOTIFY.on_registry(), &[&payloads]).await?;
    Ok(())
}

/// The end at which hints are put in.
#[derive(Debug)]
pub(super) struct Hints {
    sender: mpsc::Sender<Hint>,
    /// One did not fit.
    lost: AtomicBool,
}

impl Hints {
    /// Both ends.
    pub(super) fn new() -> (Self, mpsc::Receiver<Hint>) {
        let (sender, receiver) = mpsc::channel(WAITING_HINTS);
        (Self { sender, lost: AtomicBool::new(false) }, receiver)
    }

    fn put(&self, hint: Hint) {
        let hint = if self.lost.swap(false, Ordering::Relaxed) { Hint::All } else { hint };
        if self.sender.try_send(hint).is_err() {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Puts in [`Hint::All`] for the hints that did not fit, once there is room.
    fn catch_up(&self) {
        if self.lost.load(Ordering::Relaxed) {
            self.put(Hint::All);
        }
    }
}

/// Listens until `stop`; a broken connection is made anew.
pub(super) async fn listen(notifier: Arc<Notifier>, hints: Hints, settings: Arc<Settings>, stop: CancellationToken) {
    let Some(url) = settings.listen_at().cloned() else { return };
    let hints = Arc::new(hints);
    let mut pause = RETRY.0;
    loop {
        let began = Instant::now();
        let session = listen_once(&notifier, &hints, &url, &settings);
        let Some(Err(error)) = stop.run_until_cancelled(session).await else { return };
        if let Some(Due { held_back }) = outage("listen") {
            tracing::warn!(error = %Chain(&error), held_back, "not listening for other servers' notifications; polling goes on");
        }
        pause = if began.elapsed() > LISTENER_PING { RETRY.0 } else { longer(pause) };
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// Listens until the connection breaks.
async fn listen_once(
    notifier: &Arc<Notifier>,
    hints: &Arc<Hints>,
    url: &Url,
    settings: &Settings,
) -> Result<std::convert::Infallible, OpenError> {
    let limit = settings.statement_timeout;
    let (client, _driver) = connection::connect(url, settings.connect_timeout, |mut connection| {
        let (notifier, hints) = (Arc::clone(notifier), Arc::clone(hints));
        async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message
                    && let Some(hint) = notifier.understand(notification.payload())
                {
                    hints.put(hint);
                }
            }
        }
    })
    .await?;
    let silent = |_| OpenError::other(TimedOut("answer the listening connection"));
    timeout(limit, client.batch_execute("LISTEN eventodb")).await.map_err(silent)?.map_err(OpenError::of_statement)?;
    // Notifications that were sent while this server did not listen are lost.
    hints.put(Hint::All);
    loop {
        sleep_until(Instant::now() + LISTENER_PING).await;
        hints.catch_up();
        timeout(limit, client.batch_execute("")).await.map_err(silent)?.map_err(OpenError::of_statement)?;
    }
}

/// The next pause after this one: twice as long, up to a bound, with some chance in it so that servers do not wait in
/// step.
fn longer(pause: Duration) -> Duration {
    (pause * 2).min(RETRY.1).mul_f64(rand::random_range(0.75..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_others_and_not_itself() {
        let (ours, theirs) = (Notifier::new(), Notifier::new());
        theirs.written(Incarnation(3), 5);
        theirs.written(Incarnation(3), 4);
        theirs.registry();
        theirs.group(Incarnation(4), GroupTag::of("g"));
        theirs.group(Incarnation(4), GroupTag::of("g"));
        theirs.wanted(Incarnation(4), GroupTag::of("h"));
        let payloads = theirs.take();
        let heard: Vec<_> = payloads.iter().filter_map(|payload| ours.understand(payload)).collect();
        let changed = Hint::Group(Incarnation(4), GroupTag::of("g"));
        let wanted = Hint::Wanted(Incarnation(4), GroupTag::of("h"));
        assert_eq!(heard, [Hint::Registry, Hint::Written(Incarnation(3), 5), changed, wanted]);
        assert!(payloads.iter().all(|payload| theirs.understand(payload).is_none()));
        for strange in ["", "x", "x y", "x 1 y", "x registry 1", "x group 1", "x group 1 y"] {
            assert_eq!(ours.understand(strange), None, "{strange}");
        }
    }

    #[test]
    fn hints_that_do_not_fit_become_one_that_says_look_at_everything() {
        let (hints, mut receiver) = Hints::new();
        for position in 0..=WAITING_HINTS as i64 {
            hints.put(Hint::Written(Incarnation(1), position));
        }
        assert_eq!(receiver.try_recv(), Ok(Hint::Written(Incarnation(1), 0)));
        hints.catch_up();
        let mut last = None;
        while let Ok(hint) = receiver.try_recv() {
            last = Some(hint);
        }
        assert_eq!(last, Some(Hint::All));
    }
}
