//! SIGKILL at random moments during parallel writes.
//!
//! Nothing acknowledged is lost, nothing is doubled, positions are dense, a write that was not
//! answered happens exactly once when it is tried again with its id, and a subscriber that resumes
//! where it was misses nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_store::testing::{seed, tell};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use uuid::Uuid;

use super::http::Http;
use super::server::*;

const CYCLES: u64 = 20;
const WRITERS: u64 = 8;
const STREAMS: u64 = 25;

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
    unanswered: Vec<Write>,
}

async fn write_until_it_breaks(address: String, writer: u64, cycle: u64, known: Arc<Mutex<Known>>) {
    let Ok(mut http) = Http::connect(&address, TOKEN).await else { return };
    let mut random = StdRng::seed_from_u64(cycle * WRITERS + writer);
    for at in 0.. {
        let write = Write {
            mark: format!("{cycle}/{writer}/{at}"),
            stream: format!("s{}-{}", writer % 3, random.random_range(0..STREAMS)),
            id: writer.is_multiple_of(2).then(Uuid::new_v4),
        };
        match http.call(&write.call()).await {
            Ok((200, place)) => {
                let place = (integer(&place["position"]), integer(&place["globalPosition"]));
                known.lock().acknowledged.push((write, place.0, place.1));
            }
            Ok((status, error)) => panic!("{status} {error}"),
            Err(_) => return known.lock().unanswered.push(write),
        }
    }
}

/// Follows the log from where it was, until the server breaks.
async fn follow(address: String, pokes: Arc<Mutex<Vec<(String, i64, i64)>>>) {
    let Ok(mut http) = Http::connect(&address, TOKEN).await else { return };
    let last = pokes.lock().last().map_or(0, |poke| poke.2);
    if http.subscribe(last).await.is_err() {
        return;
    }
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = http.chunk().await {
        text.extend(chunk);
        // Only whole frames count.
        while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
            let frame = String::from_utf8(text.drain(..end + 2).collect()).expect("frames are UTF-8");
            if let Some(data) = frame.lines().find_map(|line| line.strip_prefix("data: ")) {
                let poke: Value = serde_json::from_str(data).expect("a poke is JSON");
                let stream = poke["stream"].as_str().expect("a name").to_owned();
                pokes.lock().push((stream, integer(&poke["position"]), integer(&poke["globalPosition"])));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_server_is_killed() {
    let mut random = StdRng::seed_from_u64(seed());
    let directory = tempfile::tempdir().expect("a temporary folder");
    let known = Arc::new(Mutex::new(Known::default()));
    let pokes = Arc::new(Mutex::new(Vec::new()));
    for cycle in 0..CYCLES {
        let started = Instant::now();
        let server = Server::start(directory.path(), &[]).await;
        let ready = started.elapsed();
        retry_unanswered(&server, &known).await;
        let follower = tokio::spawn(follow(server.address.clone(), pokes.clone()));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write_until_it_breaks(server.address.clone(), writer, cycle, known.clone())))
            .collect();
        // The moment is what is random about the test; nothing waits for this to be enough.
        tokio::time::sleep(Duration::from_millis(random.random_range(5..400))).await;
        server.kill().await;
        for writer in writers {
            writer.await.expect("a writer does not panic");
        }
        follower.await.expect("a follower does not panic");
        let known = known.lock();
        let (acknowledged, unanswered) = (known.acknowledged.len(), known.unanswered.len());
        tell(&format!(
            "cycle {cycle}: listening after {ready:?}, {acknowledged} acknowledged, {unanswered} unanswered"
        ));
    }

    let server = Server::start(directory.path(), &[]).await;
    retry_unanswered(&server, &known).await;
    let all = server.all().await;
    check_log(&all, &known.lock());
    let follower = tokio::spawn(follow(server.address.clone(), pokes.clone()));
    let deadline = Instant::now() + PATIENCE;
    while pokes.lock().last().is_none_or(|poke| poke.2 < all.len() as i64) {
        assert!(Instant::now() < deadline, "the subscriber does not reach the head");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop().await;
    follower.await.expect("a follower does not panic");
    let told: Vec<_> = all
        .iter()
        .map(|message| (message[1].as_str().expect("a name").to_owned(), integer(&message[3]), integer(&message[4])))
        .collect();
    assert!(*pokes.lock() == told, "the subscriber was told something else than what there is");
}

/// Tries every unanswered write with an id again, twice: it is there once, and stays where it is.
async fn retry_unanswered(server: &Server, known: &Mutex<Known>) {
    let unanswered: Vec<Write> = {
        let mut known = known.lock();
        let (with_id, without) = known.unanswered.drain(..).partition(|write| write.id.is_some());
        known.unanswered = without;
        with_id
    };
    let mut http = server.connect().await;
    for write in unanswered {
        let place = call(&mut http, &write.call()).await;
        assert_eq!(call(&mut http, &write.call()).await, place, "{write:?}");
        let place = (integer(&place["position"]), integer(&place["globalPosition"]));
        known.lock().acknowledged.push((write, place.0, place.1));
    }
}

fn check_log(all: &[Value], known: &Known) {
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
        let message = marks.remove(&*write.mark).unwrap_or_else(|| panic!("an acknowledged write is lost: {write:?}"));
        let place = (message[1].as_str(), integer(&message[3]), integer(&message[4]));
        assert_eq!(place, (Some(&*write.stream), *position, *global_position), "{write:?}");
    }
    // What is left was not answered and had no id: it may be there, once.
    let open: HashSet<&str> = known.unanswered.iter().map(|write| &*write.mark).collect();
    assert!(marks.keys().all(|mark| open.contains(mark)), "there is what nobody wrote");
}

/// A server that is killed before anything was indexed reads the rest of the log when it starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_with_its_indexer_far_behind_starts_soon() {
    const APPENDS: i64 = 90;
    const MESSAGES: i64 = 500;
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(directory.path(), &["--index-batch", "1000000"]).await;
    let mut http = server.connect().await;
    for append in 0..APPENDS {
        let message = json!({ "type": "T", "data": { "append": append } });
        let messages = vec![message; MESSAGES as usize];
        call(&mut http, &json!(["stream.append", format!("s-{append}"), messages])).await;
    }
    server.kill().await;
    let started = Instant::now();
    let server = Server::start(directory.path(), &[]).await;
    let listening = started.elapsed();
    let mut http = server.connect().await;
    for append in [0, APPENDS - 1] {
        let version = call(&mut http, &json!(["stream.version", format!("s-{append}")])).await;
        assert_eq!(version, json!(MESSAGES - 1));
    }
    let answered = started.elapsed();
    tell(&format!(
        "{} messages behind: listening after {listening:?}, answering after {answered:?}",
        APPENDS * MESSAGES
    ));
    let place = call(&mut http, &json!(["stream.write", "s-0", { "type": "T", "data": {} }])).await;
    assert_eq!(place, json!({ "position": MESSAGES, "globalPosition": APPENDS * MESSAGES + 1 }));
    server.stop().await;
}
