//! Connections that are cut and delayed at random, statements and replies alike, while two servers
//! write to one log, one of them undisturbed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use eventodb_protocol::message::{Expected, Message, NewMessage};
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use super::fixture::settings;
use super::pair::{Pair, tail, take_until};
use crate::conformance::support::{PATIENCE, message, write_expecting};
use crate::log::Log;
use crate::testing::{seed, tell};
use crate::{Error, Settings};
use eventodb_testing::postgres;
use eventodb_testing::proxy::{Faults, Hold, Proxy};

const WRITERS: usize = 16;
/// Writes through the disturbed server that must be acknowledged under faults.
const ENOUGH: usize = 100;
/// Every so often a connection is cut, or a piece comes later than the server waits for it.
const FAULTS: Faults = Faults {
    cut: 0.005,
    delay: 0.008,
    shortest: Duration::from_millis(20),
    longest: Duration::from_secs(2),
    forge: 0.0,
    states: &[],
};

/// A write, told from all others by its message's type.
#[derive(Clone)]
pub(super) struct Write {
    pub(super) stream: String,
    pub(super) message: NewMessage,
}

/// Stream, position, global position.
type Place = (String, i64, i64);

/// What the writers were told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) acknowledged: HashMap<String, Place>,
    /// Certainly not written.
    pub(super) refused: usize,
    pub(super) unknown: Vec<Write>,
}

/// Writes until `done`; every other message has an id of the writer's choice.
async fn write_many(name: &'static str, log: Arc<Log>, done: Arc<AtomicBool>, told: Arc<Mutex<Told>>) {
    for at in 0.. {
        if done.load(SeqCst) {
            return;
        }
        let mut message = message(&format!("{name}/{at}/{}", Uuid::new_v4()));
        message.id = (at % 2 == 0).then(Uuid::new_v4);
        write(&log, Write { stream: format!("s-{}", at % 20), message }, &told).await;
    }
}

pub(super) async fn write(log: &Arc<Log>, write: Write, told: &Mutex<Told>) {
    let outcome = write_expecting(log, &write.stream, Expected::Any, write.message.clone()).await;
    let mut told = told.lock();
    match outcome {
        Ok(place) => {
            let place = (write.stream, place.first_position, place.first_global_position);
            told.acknowledged.insert(write.message.kind.to_string(), place);
        }
        Err(Error::Unavailable(_) | Error::Overloaded) => told.refused += 1,
        Err(Error::Unknown(_)) => told.unknown.push(write),
        Err(error) => panic!("{error}"),
    }
}

/// Waits until `condition` holds of what the writers were told.
pub(super) async fn until(told: &Mutex<Told>, condition: impl Fn(&Told) -> bool) {
    let holds = async {
        while !condition(&told.lock()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, holds).await.expect("the writers get on");
}

/// Holds replies back for so long that the server gives up finding out what became of a batch.
async fn leave_in_the_dark(proxy: &Proxy, told: &Mutex<Told>) {
    while told.lock().unknown.is_empty() {
        let refused = told.lock().refused;
        proxy.hold(Hold { requests: false, replies: true });
        // If it caught no append, all that comes is refused.
        until(told, |told| told.refused > refused || !told.unknown.is_empty()).await;
        proxy.hold(Hold::default());
        let acknowledged = told.lock().acknowledged.len();
        until(told, |told| told.acknowledged.len() > acknowledged).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_wrongly_denied_over_bad_connections() {
    let url = postgres::database().await;
    let proxy = Proxy::to_database(&url, seed()).await;
    let mut disturbed = settings(&proxy.database_url(&url));
    disturbed.statement_timeout = Duration::from_millis(300);
    // Few enough versions that most appends have to find those of their streams.
    let bounds = Settings { version_cache: 4, ..Settings::default() };
    let pair = Pair::of(url.clone(), [disturbed, settings(&url)], bounds).await;
    let [log, other] = pair.logs().await;
    let (total, last) = watch::channel(0);
    let subscribers = [&log, &other].map(|log| tokio::spawn(take_until(log.clone(), last.clone())));
    let (done, told, elsewhere) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(tokio::spawn(write_many("disturbed", log.clone(), done.clone(), Arc::clone(&told))));
    }
    writers.push(tokio::spawn(write_many("undisturbed", other.clone(), done.clone(), Arc::clone(&elsewhere))));

    proxy.faults(FAULTS);
    until(&told, |told| told.acknowledged.len() >= ENOUGH).await;
    // Without faults meanwhile, so that an append is under way soon.
    proxy.faults(Faults::default());
    leave_in_the_dark(&proxy, &told).await;
    proxy.faults(FAULTS);
    let before = told.lock().acknowledged.len();
    until(&told, |told| told.acknowledged.len() >= before + ENOUGH).await;
    done.store(true, SeqCst);
    for writer in writers {
        writer.await.expect("a writer does not panic");
    }
    let unknown = std::mem::take(&mut told.lock().unknown);
    let (cuts, delays) = proxy.fallen();
    let [through, beside] = [&told, &elsewhere].map(|told| told.lock().acknowledged.len());
    let refused = told.lock().refused;
    tell(&format!(
        "{cuts} connections cut, {delays} pieces delayed: {through} writes acknowledged, {refused} refused, {} unknown; \
         {beside} acknowledged by the other server",
        unknown.len()
    ));
    proxy.faults(Faults::default());
    // Sent again with its id, a write is there once, wherever it is sent to.
    let (retried, open): (Vec<Write>, Vec<Write>) = unknown.into_iter().partition(|write| write.message.id.is_some());
    for again in &retried {
        write(&log, again.clone(), &told).await;
        let place = told.lock().acknowledged[&*again.message.kind].clone();
        write(&other, again.clone(), &told).await;
        assert_eq!(told.lock().acknowledged[&*again.message.kind], place);
    }
    let found = tail(other, done.clone()).await;
    assert!(found == tail(log, done).await, "both servers show the same");
    check(&found, told.lock().acknowledged.iter().chain(&elsewhere.lock().acknowledged), &open);
    total.send_replace(found.len() as i64);
    for subscriber in subscribers {
        subscriber.await.expect("a subscriber does not panic");
    }
    pair.close().await;
}

/// What was acknowledged is in its place, once; what else is there is a write that nobody knew of.
pub(super) fn check<'a>(
    found: &[Message],
    acknowledged: impl Iterator<Item = (&'a String, &'a Place)>,
    open: &[Write],
) {
    let mut rest: HashMap<&str, &Message> = HashMap::new();
    for message in found {
        assert!(rest.insert(&message.kind, message).is_none(), "it is there twice: {message:?}");
    }
    for (mark, (stream, position, global_position)) in acknowledged {
        let message = rest.remove(&**mark).unwrap_or_else(|| panic!("{mark} was acknowledged and is lost"));
        let place = (&*message.stream, message.position, message.global_position);
        assert_eq!(place, (&**stream, *position, *global_position), "{mark}");
    }
    for mark in rest.keys() {
        assert!(open.iter().any(|write| *write.message.kind == **mark), "{mark} was refused, and is there");
    }
}
