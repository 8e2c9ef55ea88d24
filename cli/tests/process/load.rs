//! Writers and a subscriber that go on while a server fails, and what must hold afterwards: no acknowledged message is
//! lost, none is doubled, positions are dense, no refused message exists, an unanswered write that is repeated with its
//! id is written exactly once, and the subscriber misses no message.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::http::Http;
use super::server::*;

pub(crate) const WRITERS: u64 = 8;
const STREAMS: u64 = 25;
/// How long a writer waits after it was refused.
const PAUSE: Duration = Duration::from_millis(10);

/// One write: its own mark, its id if it has one, and where it went.
#[derive(Clone, Debug)]
struct Write {
    mark: String,
    stream: String,
    id: Option<Uuid>,
}

impl Write {
    fn call(&self) -> Value {
        let options = self.id.map_or_else(|| json!({}), |id| json!({ "id": id.to_string() }));
        json!(["stream.write", self.stream, { "type": "T", "data": { "mark": self.mark } }, options])
    }
}

/// What the writers know.
#[derive(Default)]
struct Known {
    acknowledged: Vec<(Write, i64, i64)>,
    /// Writes whose outcome is unknown.
    unanswered: Vec<Write>,
    /// How many were certainly not written.
    refused: usize,
    /// How many of each writer were acknowledged.
    by_writer: HashMap<u64, usize>,
}

/// When a writer writes again.
enum Next {
    AtOnce,
    Later,
    Nothing,
}

/// A poke: stream, position, global position.
type Poke = (String, i64, i64);

/// All writes and pokes since the beginning, over all servers and cycles.
#[derive(Clone, Default)]
pub(crate) struct Load {
    known: Arc<Mutex<Known>>,
    stop: Arc<AtomicBool>,
}

/// The pokes of one subscriber.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Poke>>>);

impl Load {
    /// Starts writers on a server. They end when the server fails, or when they are stopped.
    pub(crate) fn start(&self, server: &Server, cycle: u64) -> Vec<JoinHandle<()>> {
        let begin = |writer| {
            let (load, address) = (self.clone(), server.address.clone());
            tokio::spawn(async move { load.write_until_it_breaks(&address, writer, cycle).await })
        };
        (0..WRITERS).map(begin).collect()
    }

    /// Tells the writers to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    async fn write_until_it_breaks(&self, address: &str, writer: u64, cycle: u64) {
        let Ok(mut http) = Http::connect(address, TOKEN).await else { return };
        let mut random = StdRng::seed_from_u64(cycle * WRITERS + writer);
        let mut at = 0;
        while !self.stop.load(SeqCst) {
            at += 1;
            let write = Write {
                mark: format!("{cycle}/{writer}/{at}"),
                stream: format!("s{}-{}", writer % 3, random.random_range(0..STREAMS)),
                id: writer.is_multiple_of(2).then(Uuid::new_v4),
            };
            let answer = http.call(&write.call()).await;
            match self.note(writer, write, answer) {
                Next::AtOnce => {}
                Next::Later => tokio::time::sleep(PAUSE).await,
                Next::Nothing => return,
            }
        }
    }

    /// Remembers the answer to a write.
    fn note(&self, writer: u64, write: Write, answer: std::io::Result<(u16, Value)>) -> Next {
        let mut known = self.known.lock();
        match answer {
            Ok((200, place)) => {
                let place = (integer(&place["position"]), integer(&place["globalPosition"]));
                known.acknowledged.push((write, place.0, place.1));
                *known.by_writer.entry(writer).or_default() += 1;
                Next::AtOnce
            }
            Ok((503, _)) => {
                known.refused += 1;
                Next::Later
            }
            Ok((504, _)) => {
                known.unanswered.push(write);
                Next::Later
            }
            Ok((status, error)) => panic!("{status} {error}"),
            Err(_) => {
                known.unanswered.push(write);
                Next::Nothing
            }
        }
    }

    /// Waits until each writer has been acknowledged once more.
    pub(crate) async fn until_all_write(&self) {
        let count = |known: &Known, writer| known.by_writer.get(&writer).copied().unwrap_or_default();
        let before: Vec<usize> = (0..WRITERS).map(|writer| count(&self.known.lock(), writer)).collect();
        let deadline = Instant::now() + PATIENCE;
        let is_behind = |writer: u64| {
            let before = before[usize::try_from(writer).expect("there are few")];
            count(&self.known.lock(), writer) <= before
        };
        while (0..WRITERS).any(is_behind) {
            assert!(Instant::now() < deadline, "the server does not recover");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Repeats every unanswered write with an id, twice: it is written once, and keeps its position.
    pub(crate) async fn retry_unanswered(&self, server: &Server) {
        let unanswered: Vec<Write> = {
            let mut known = self.known.lock();
            let (with_id, without) = known.unanswered.drain(..).partition(|write| write.id.is_some());
            known.unanswered = without;
            with_id
        };
        let mut http = server.connect().await;
        for write in unanswered {
            let place = call(&mut http, &write.call()).await;
            assert_eq!(call(&mut http, &write.call()).await, place, "{write:?}");
            let place = (integer(&place["position"]), integer(&place["globalPosition"]));
            self.known.lock().acknowledged.push((write, place.0, place.1));
        }
    }

    /// A line about the writers' results.
    pub(crate) fn tally(&self) -> String {
        let Known { acknowledged, unanswered, refused, .. } = &*self.known.lock();
        format!("{} acknowledged, {} unanswered, {refused} refused", acknowledged.len(), unanswered.len())
    }

    /// Compares the whole log with what the writers know.
    pub(crate) fn check(&self, all: &[Value]) {
        let known = self.known.lock();
        let mut next: HashMap<&str, i64> = HashMap::new();
        let (mut ids, mut marks) = (HashSet::new(), HashMap::new());
        for (at, message) in all.iter().enumerate() {
            assert_eq!(integer(&message[4]), at as i64 + 1, "global positions are dense");
            let position = next.entry(message[1].as_str().expect("a name")).or_default();
            assert_eq!(integer(&message[3]), *position, "positions are dense: {message}");
            *position += 1;
            assert!(ids.insert(message[0].as_str().expect("an id")), "an id is there twice: {message}");
            let mark = message[5]["mark"].as_str().expect("each has a mark");
            assert!(marks.insert(mark, message).is_none(), "a write is there twice: {message}");
        }
        for (write, position, global_position) in &known.acknowledged {
            let message =
                marks.remove(&*write.mark).unwrap_or_else(|| panic!("an acknowledged write is lost: {write:?}"));
            let place = (message[1].as_str(), integer(&message[3]), integer(&message[4]));
            assert_eq!(place, (Some(&*write.stream), *position, *global_position), "{write:?}");
        }
        // The other messages were unanswered and had no id. Each may exist, once.
        let open: HashSet<&str> = known.unanswered.iter().map(|write| &*write.mark).collect();
        assert!(marks.keys().all(|mark| open.contains(mark)), "there is what nobody wrote, or what was refused");
    }
}

impl Told {
    /// Follows the log of a server from where it was, until that breaks.
    pub(crate) fn follow(&self, server: &Server) -> JoinHandle<()> {
        let (told, address) = (self.0.clone(), server.address.clone());
        tokio::spawn(async move {
            let Ok(mut http) = Http::connect(&address, TOKEN).await else { return };
            let last = told.lock().last().map_or(0, |poke| poke.2);
            if http.subscribe(last).await.is_err() {
                return;
            }
            while let Ok(Some(pokes)) = http.pokes().await {
                told.lock().extend(pokes);
            }
        })
    }

    /// Waits until all of these messages were poked, and compares.
    pub(crate) async fn check(&self, all: &[Value]) {
        let deadline = Instant::now() + PATIENCE;
        while self.0.lock().last().is_none_or(|poke| poke.2 < all.len() as i64) {
            assert!(Instant::now() < deadline, "the subscriber does not reach the head");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let stream = |message: &Value| message[1].as_str().expect("a name").to_owned();
        let there: Vec<Poke> =
            all.iter().map(|message| (stream(message), integer(&message[3]), integer(&message[4]))).collect();
        assert!(*self.0.lock() == there, "the subscriber was told something else than what there is");
    }
}
