//! The list of all connections, held to their time limits.
//!
//! One task looks at every connection a few times within the shortest limit. That costs a few
//! loads for each and nothing on the way of a request; a limit is kept to within one look.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::addresses::Subnet;
use super::gauge::Pending;
use super::limits::Limits;
use super::traffic::Traffic;
use super::vitals::{Order, Phase, Vitals};

/// Looks within the shortest limit.
const LOOKS: u32 = 8;
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long the end of a subscription waits for a client that takes nothing, while the server
/// stops. It loses nothing: it goes on elsewhere by its Last-Event-ID.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a connection without a token keeps its place before another may have it.
const SETTLED: Duration = Duration::from_secs(1);
/// How often room is made at most: each time looks at all connections.
const ROOM_PAUSE: Duration = Duration::from_millis(10);
/// When room is made, the connections that may be cut are divided by this, and that many are cut at once.
const CUT_PART: usize = 32;

/// All connections of a server.
pub(crate) struct Watch {
    list: Mutex<List>,
    next: AtomicU64,
    /// Whether clients are told to leave.
    is_leaving: AtomicBool,
    is_draining: AtomicBool,
    head: Duration,
    idle: Duration,
    stall: Duration,
    traffic: Arc<Traffic>,
}

#[derive(Default)]
struct List {
    connections: HashMap<u64, Watched>,
    /// Replies that HTTP/2 sends each at its own pace.
    streams: HashMap<u64, Stream>,
    /// What every connection, later ones too, has been told.
    order: Option<Order>,
    /// When room was made last.
    made_room: Option<Instant>,
}

struct Watched {
    vitals: Arc<Vitals>,
    /// Of its peer.
    address: Subnet,
    changes: Since<u32>,
    sending: Since<Option<u32>>,
}

struct Stream {
    pending: Arc<Pending>,
    connection: Arc<Vitals>,
    sending: Since<Option<u32>>,
}

/// Clients that took nothing and were cut at one look, of which the log has one line.
#[derive(Default)]
struct Stalled {
    first: Option<Arc<Vitals>>,
    more: u64,
}

impl Stalled {
    fn cut(&mut self, connection: &Arc<Vitals>) {
        connection.give(Order::Cut);
        match self.first {
            None => self.first = Some(Arc::clone(connection)),
            Some(_) => self.more += 1,
        }
    }

    fn tell(self, list: &List) {
        let Some(first) = self.first else { return };
        let watched = list.connections.values().find(|watched| Arc::ptr_eq(&watched.vitals, &first));
        let address = watched.map(|watched| watched.address.to_string());
        let (namespace, more) = (first.namespace().map(|name| &**name), (self.more > 0).then_some(self.more));
        tracing::warn!(address, namespace, more, "a client that takes nothing of what is sent to it is cut");
    }
}

/// A value, and since when it is so.
struct Since<T> {
    value: T,
    since: Instant,
}

impl<T: PartialEq> Since<T> {
    /// How long the value has been the same.
    fn look(&mut self, value: T, now: Instant) -> Duration {
        if self.value != value {
            *self = Self { value, since: now };
        }
        now.duration_since(self.since)
    }
}

impl Watch {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            list: Mutex::default(),
            next: AtomicU64::new(0),
            is_leaving: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            head: limits.head,
            idle: limits.idle,
            stall: limits.stall,
            traffic: Arc::default(),
        }
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.list.lock().connections.len()
    }

    /// What came and went over all connections.
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Tells clients to leave from now on: every reply closes its connection.
    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether clients are told to leave, although requests are still answered.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// Whether a connection has not sent its first request yet, or not all of a request's head.
    pub(super) fn awaits_requests(&self) -> bool {
        let list = self.list.lock();
        list.connections.values().any(|watched| matches!(watched.vitals.phase(), Phase::New | Phase::Head))
    }

    /// Whether the server drains.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Takes a connection into the list, until the result is dropped.
    pub(super) fn add(self: &Arc<Self>, vitals: &Arc<Vitals>, address: Subnet) -> Listed {
        let now = Instant::now();
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let mut list = self.list.lock();
        let watched = Watched {
            vitals: Arc::clone(vitals),
            address,
            changes: Since { value: vitals.changes(), since: now },
            sending: Since { value: None, since: now },
        };
        list.connections.insert(key, watched);
        if let Some(order) = list.order {
            vitals.give(order);
        }
        Listed { watch: Arc::clone(self), key }
    }

    /// Takes a reply of an HTTP/2 connection into the list, until the result is dropped.
    pub(super) fn add_stream(self: &Arc<Self>, pending: &Arc<Pending>, connection: &Arc<Vitals>) -> Listed {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let stream = Stream {
            pending: Arc::clone(pending),
            connection: Arc::clone(connection),
            sending: Since { value: None, since: Instant::now() },
        };
        self.list.lock().streams.insert(key, stream);
        Listed { watch: Arc::clone(self), key }
    }

    /// Cuts some connections that have shown no valid token and wait for their clients: those of the address that has the
    /// most of them, the longest unchanged first. A new one keeps its place for a while, unless it makes room for an
    /// address that has fewer of them.
    pub(super) fn make_room(&self, address: Subnet) {
        let now = Instant::now();
        let mut list = self.list.lock();
        if list.made_room.is_some_and(|made| now.duration_since(made) < ROOM_PAUSE) {
            return;
        }
        list.made_room = Some(now);
        let mut by_address: HashMap<Subnet, Vec<(Duration, Arc<Vitals>)>> = HashMap::new();
        for watched in list
            .connections
            .values_mut()
            .filter(|watched| watched.vitals.is_expendable() && watched.vitals.told() == Order::None)
        {
            let unchanged = watched.changes.look(watched.vitals.changes(), now);
            by_address.entry(watched.address).or_default().push((unchanged, Arc::clone(&watched.vitals)));
        }
        drop(list);
        let own = by_address.get(&address).map_or(0, Vec::len);
        for all in by_address.values_mut().filter(|all| all.len() <= own + 1) {
            all.retain(|(unchanged, _)| *unchanged >= SETTLED);
        }
        let Some(mut most) = by_address.into_values().max_by_key(Vec::len) else { return };
        most.sort_by_key(|(unchanged, _)| std::cmp::Reverse(*unchanged));
        // Several at once where there are many, so that not each new connection looks at all of them.
        let cut = most.len().div_ceil(CUT_PART);
        for (_, vitals) in most.into_iter().take(cut) {
            tracing::debug!("a connection without a token is cut to make room");
            vitals.give(Order::Cut);
        }
    }

    /// Gives all connections an order, also those to come.
    pub(super) fn give_all(&self, order: Order) {
        self.is_draining.store(true, Ordering::Relaxed);
        let mut list = self.list.lock();
        list.order = list.order.max(Some(order));
        for watched in list.connections.values() {
            watched.vitals.give(order);
        }
    }

    /// Cuts connections that exceed a limit, until `end`.
    pub(super) async fn keep(&self, end: CancellationToken) {
        while end.run_until_cancelled(tokio::time::sleep(self.pause())).await.is_some() {
            self.look(Instant::now());
        }
    }

    /// How long the next look may wait.
    fn pause(&self) -> Duration {
        let shortest = self.head.min(self.idle).min(self.stall);
        let shortest = if self.is_draining() { shortest.min(FAREWELL) } else { shortest };
        (shortest / LOOKS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }

    fn look(&self, now: Instant) {
        let mut list = self.list.lock();
        let mut stalled = Stalled::default();
        for watched in list.connections.values_mut().filter(|watched| watched.vitals.told() != Order::Cut) {
            if self.takes_nothing(watched, now) {
                stalled.cut(&watched.vitals);
            } else if let Some(reason) = self.verdict(watched, now) {
                tracing::debug!(reason, "a connection is cut");
                watched.vitals.give(Order::Cut);
            }
        }
        for stream in list.streams.values_mut().filter(|stream| stream.connection.told() != Order::Cut) {
            let blocked = stream.pending.blocked_at();
            if stream.sending.look(blocked, now) >= self.stall && blocked.is_some() {
                stalled.cut(&stream.connection);
            }
        }
        stalled.tell(&list);
    }

    /// Whether its client has taken nothing of what is sent to it for too long.
    fn takes_nothing(&self, watched: &mut Watched, now: Instant) -> bool {
        let is_leaving = watched.vitals.phase() == Phase::Open && self.is_draining();
        let stall = if is_leaving { self.stall.min(FAREWELL) } else { self.stall };
        let blocked = watched.vitals.sending.blocked_at();
        watched.sending.look(blocked, now) >= stall && blocked.is_some()
    }

    fn verdict(&self, watched: &mut Watched, now: Instant) -> Option<&'static str> {
        let phase = watched.vitals.phase();
        let unchanged = watched.changes.look(watched.vitals.changes(), now);
        match phase {
            Phase::New | Phase::Head if unchanged >= self.head => Some("no whole head came"),
            Phase::Waiting if unchanged >= self.idle => Some("it is idle"),
            _ => None,
        }
    }
}

/// A place in the list.
pub(super) struct Listed {
    watch: Arc<Watch>,
    key: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut list = self.watch.list.lock();
        if list.connections.remove(&self.key).is_none() {
            list.streams.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::budget::Budget;
    use super::super::exchange::Exchange;
    use super::super::request_id::RequestId;
    use super::*;

    /// The address with this last byte.
    fn address(last: u8) -> Subnet {
        Subnet::of(IpAddr::from([10, 0, 0, last]))
    }

    fn watch() -> Arc<Watch> {
        Arc::new(Watch::new(&Limits::default()))
    }

    fn is_cut(vitals: &Vitals) -> bool {
        vitals.told() == Order::Cut
    }

    #[test]
    fn each_phase_has_its_limit() {
        for (phase, limit) in [
            (Phase::New, Some(10)),
            (Phase::Head, Some(10)),
            (Phase::Waiting, Some(120)),
            (Phase::Open, None),
            (Phase::Answering, None),
        ] {
            let (watch, vitals) = (watch(), Arc::new(Vitals::new(&Arc::new(Budget::new(1024)), None)));
            let _listed = watch.add(&vitals, address(1));
            vitals.set_phase(phase);
            let start = Instant::now();
            watch.look(start);
            let limit = Duration::from_secs(limit.unwrap_or(100_000));
            watch.look(start + limit - Duration::from_secs(1));
            assert!(!is_cut(&vitals), "{phase:?}");
            watch.look(start + limit);
            assert_eq!(is_cut(&vitals), limit < Duration::from_secs(100_000), "{phase:?}");
        }
    }

    #[test]
    fn who_takes_nothing_is_cut_and_who_takes_something_is_not() {
        let (watch, vitals) = (watch(), Arc::new(Vitals::new(&Arc::new(Budget::new(1024)), None)));
        let _listed = watch.add(&vitals, address(1));
        vitals.set_phase(Phase::Open);
        let start = Instant::now();
        for second in 0..100 {
            vitals.sending.advance();
            vitals.sending.block();
            watch.look(start + Duration::from_secs(second));
        }
        assert!(!is_cut(&vitals));
        watch.look(start + Duration::from_secs(99 + 30));
        assert!(is_cut(&vitals));
    }

    #[test]
    fn a_stopping_server_does_not_wait_for_a_subscriber_that_takes_nothing() {
        for (phase, is_waited_for) in [(Phase::Open, false), (Phase::Answering, true)] {
            let (watch, vitals) = (watch(), Arc::new(Vitals::new(&Arc::new(Budget::new(1024)), None)));
            let _listed = watch.add(&vitals, address(1));
            vitals.set_phase(phase);
            vitals.sending.block();
            let start = Instant::now();
            watch.look(start);
            watch.look(start + FAREWELL);
            assert!(!is_cut(&vitals), "{phase:?}");
            watch.give_all(Order::Drain);
            watch.look(start + FAREWELL);
            assert_eq!(is_cut(&vitals), !is_waited_for, "{phase:?}");
        }
    }

    #[test]
    fn room_is_made_by_those_without_a_token_of_the_address_that_has_most() {
        let watch = watch();
        let listed = |last: u8, phase: Phase| {
            let vitals = Arc::new(Vitals::new(&Arc::new(Budget::new(1024)), None));
            vitals.set_phase(phase);
            let listed = watch.add(&vitals, address(last));
            (vitals, listed)
        };
        let hog: Vec<_> = (0..4).map(|_| listed(1, Phase::Waiting)).collect();
        let (guest, other) = (listed(2, Phase::New), listed(1, Phase::Answering));
        let make_room = |last: u8| {
            watch.list.lock().made_room = None;
            watch.make_room(address(last));
            hog.iter().filter(|(vitals, _)| is_cut(vitals)).count()
        };
        assert_eq!(make_room(1), 0, "they came just now");
        assert_eq!(make_room(3), 1, "for an address that has fewer");
        for watched in watch.list.lock().connections.values_mut() {
            watched.changes.since -= SETTLED;
        }
        let end = CancellationToken::new();
        Exchange::begin(&hog[0].0, RequestId::new()).belongs_to(&"a".into(), &end).expect("it takes nothing");
        hog[0].0.set_phase(Phase::Waiting);
        make_room(1);
        assert!(make_room(1) >= 1);
        assert!(!is_cut(&guest.0) && !is_cut(&other.0));
    }

    #[test]
    fn later_connections_get_the_order_too() {
        let (watch, vitals) = (watch(), Arc::new(Vitals::new(&Arc::new(Budget::new(1024)), None)));
        watch.give_all(Order::Drain);
        let listed = watch.add(&vitals, address(1));
        assert_eq!(vitals.told(), Order::Drain);
        assert_eq!(watch.connections(), 1);
        drop(listed);
        assert_eq!(watch.connections(), 0);
    }
}
