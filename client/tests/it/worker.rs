//! Workers: pages, checkpoints, errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eventodb_client::RetryPolicy;
use eventodb_client::checkpoint::{CheckpointError, CheckpointStore as _, MemoryCheckpoint, StreamCheckpoint};
use eventodb_client::worker::{Checkpointed, Handlers, Observer, OnError, StaticWorker, WorkerError};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fake::{Answer, Fake, Request};

/// A log of messages whose type is `T` and whose data is their position, with writes to streams kept.
#[derive(Default)]
struct Log {
    length: i64,
    written: Vec<(String, Value)>,
}

impl Log {
    fn answer(&mut self, request: &Request) -> Answer {
        if request.target.starts_with("/subscribe") {
            return Answer::Events { text: ": ready\n\n".to_owned(), then_cut: false };
        }
        let call: Value = serde_json::from_str(&request.body).expect("a call");
        match call[0].as_str() {
            Some("category.get") => self.page(&call[2]),
            Some("stream.last") => self.last(call[1].as_str().expect("a name")),
            Some("stream.get") => self.get(call[1].as_str().expect("a name"), &call[2]),
            Some("stream.write") => self.write(&call),
            other => panic!("unexpected {other:?}"),
        }
    }

    /// A page of everything: what was written, and nothing else.
    fn page_of_all(&self, options: &Value) -> Answer {
        let from = options["globalPosition"].as_i64().expect("a position").max(1);
        let row = |(position, message): (i64, &(String, Value))| {
            let id = uuid::Uuid::from_u128(position.unsigned_abs().into());
            let (stream, message) = message;
            json!([
                id.to_string(),
                stream,
                message["type"],
                0,
                position,
                message["data"],
                message["metadata"],
                "2026-01-01T00:00:00Z"
            ])
        };
        let rows: Vec<Value> = (1..).zip(&self.written).filter(|(position, _)| *position >= from).map(row).collect();
        Answer::ok(Value::from(rows).to_string()).with_header(&format!("x-eventodb-head: {}", self.written.len()))
    }

    fn page(&self, options: &Value) -> Answer {
        let from = options["globalPosition"].as_i64().expect("a position").max(1);
        let limit = options["batchSize"].as_i64().expect("a limit");
        let end = from.saturating_add(limit - 1).min(self.length);
        let rows: Vec<String> = (from..=end)
            .map(|p| {
                let id = uuid::Uuid::from_u128(p.unsigned_abs().into());
                format!(r#"["{id}","a-{p}","T",0,{p},{{"n":{p}}},null,"2026-01-01T00:00:00Z"]"#)
            })
            .collect();
        let head = if i64::try_from(rows.len()).expect("small") == limit { end } else { self.length };
        Answer::ok(format!("[{}]", rows.join(","))).with_header(&format!("x-eventodb-head: {head}"))
    }

    /// The written messages of a stream, as rows.
    fn rows(&self, stream: &str) -> Vec<Value> {
        let written = self.written.iter().filter(|(name, _)| name == stream);
        let row = |(position, message): (usize, &Value)| {
            let (id, time) = ("00000000-0000-0000-0000-000000000001", "2026-01-01T00:00:00Z");
            json!([id, message["type"], position, 1, message["data"], message["metadata"], time])
        };
        written.map(|(_, message)| message).enumerate().map(row).collect()
    }

    fn last(&self, stream: &str) -> Answer {
        Answer::ok(self.rows(stream).last().unwrap_or(&Value::Null).to_string())
    }

    /// Behaves as a server that ignores `waitMs`.
    fn get(&self, stream: &str, options: &Value) -> Answer {
        let from = options["position"].as_u64().expect("a position");
        let rows = self.rows(stream);
        Answer::ok(Value::from(rows.get(usize::try_from(from).expect("small")..).unwrap_or_default()).to_string())
    }

    fn write(&mut self, call: &Value) -> Answer {
        let stream = call[1].as_str().expect("a name");
        let version = self.version(stream);
        if call[3]["expectedVersion"].as_i64().is_some_and(|expected| expected != version) {
            return Answer::error(409, "STREAM_VERSION_CONFLICT");
        }
        self.written.push((stream.to_owned(), call[2].clone()));
        Answer::ok(json!({"position": version + 1, "globalPosition": 1}).to_string())
    }

    fn version(&self, stream: &str) -> i64 {
        i64::try_from(self.written.iter().filter(|(name, _)| name == stream).count()).expect("small") - 1
    }
}

async fn log(length: i64) -> (Fake, Arc<Mutex<Log>>) {
    let log = Arc::new(Mutex::new(Log { length, written: Vec::new() }));
    let served = log.clone();
    (Fake::start(move |request| served.lock().answer(request)).await, log)
}

type Seen = Arc<Mutex<Vec<i64>>>;

/// Records positions, and fails `failures` times at message 7.
fn noting(seen: &Seen, failures: usize) -> Handlers {
    let (seen, left) = (seen.clone(), Arc::new(AtomicUsize::new(failures)));
    Handlers::new().on("T", move |message| {
        let (seen, left) = (seen.clone(), left.clone());
        async move {
            let fails = message.global_position() == 7
                && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
            if fails {
                return Err(std::io::Error::other("not now"));
            }
            seen.lock().push(message.global_position());
            Ok(())
        }
    })
}

fn quick() -> RetryPolicy {
    RetryPolicy { first: Duration::from_millis(1), ..RetryPolicy::default() }
}

#[tokio::test]
async fn every_message_is_handled_once_and_the_place_is_kept() {
    let (fake, log) = log(25).await;
    let (seen, checkpoint) = (Seen::default(), MemoryCheckpoint::new());
    let run = || async {
        StaticWorker::new(&fake.client(), Checkpointed::new(noting(&seen, 0), checkpoint.clone()))
            .categories(["a"])
            .page_size(10)
            .until_caught_up()
            .run(CancellationToken::new())
            .await
            .expect("caught up")
    };
    assert_eq!(run().await.messages, 25);
    assert_eq!(checkpoint.position(), Some(25));
    log.lock().length = 31;
    assert_eq!(run().await.messages, 6);
    assert_eq!(*seen.lock(), (1..=31).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_failed_message_is_tried_again() {
    let (fake, _) = log(10).await;
    let seen = Seen::default();
    let worker = StaticWorker::new(&fake.client(), Checkpointed::new(noting(&seen, 3), MemoryCheckpoint::new()));
    worker.categories(["a"]).retry(quick()).until_caught_up().run(CancellationToken::new()).await.expect("caught up");
    assert_eq!(*seen.lock(), (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_that_keeps_failing_stops_skips_or_parks() {
    let (fake, log) = log(10).await;
    for on_error in [OnError::Stop, OnError::Skip, OnError::Park("parked-1".to_owned())] {
        let (seen, checkpoint) = (Seen::default(), MemoryCheckpoint::new());
        let result =
            StaticWorker::new(&fake.client(), Checkpointed::new(noting(&seen, usize::MAX), checkpoint.clone()))
                .categories(["a"])
                .retry(RetryPolicy::none())
                .on_error(on_error.clone())
                .until_caught_up()
                .run(CancellationToken::new())
                .await;
        if on_error == OnError::Stop {
            assert!(matches!(result, Err(WorkerError::Handler { global_position: 7, .. })), "{result:?}");
            assert_eq!(checkpoint.position(), Some(6), "what came before is saved");
        } else {
            assert_eq!(result.expect("caught up").messages, 10);
            assert_eq!(*seen.lock(), [1, 2, 3, 4, 5, 6, 8, 9, 10]);
        }
    }
    let log = log.lock();
    let [(stream, parked)] = &log.written[..] else { panic!("one message is parked") };
    assert_eq!(stream, "parked-1");
    assert_eq!(parked["data"], json!({"n": 7}));
    assert_eq!(parked["metadata"]["causationMessageGlobalPosition"], 7);
    assert_eq!(parked["metadata"]["parkedBecause"], "not now");
}

#[tokio::test]
async fn stopping_finishes_the_message_in_hand_and_saves() {
    let (fake, _) = log(1000).await;
    let (stop, checkpoint) = (CancellationToken::new(), MemoryCheckpoint::new());
    let at_five = stop.clone();
    let handlers = Handlers::new().otherwise(move |message| {
        if message.global_position() == 5 {
            at_five.cancel();
        }
        async { Ok::<_, std::io::Error>(()) }
    });
    let worker = StaticWorker::new(&fake.client(), Checkpointed::new(handlers, checkpoint.clone())).categories(["a"]);
    let summary = worker.run(stop).await.expect("stopped");
    assert_eq!((summary.messages, checkpoint.position()), (5, Some(5)));
}

/// Notes saved positions above the head.
#[derive(Clone, Default)]
struct Ahead(Arc<Mutex<Vec<(i64, i64)>>>);

impl Observer for Ahead {
    fn ahead_of_head(&self, position: i64, head: i64) {
        self.0.lock().push((position, head));
    }
}

#[tokio::test]
async fn a_saved_position_above_the_head_is_told() {
    let log = Arc::new(Mutex::new(Log { length: 10, written: Vec::new() }));
    let (served, reads, stop) = (log.clone(), AtomicUsize::new(0), CancellationToken::new());
    let enough = stop.clone();
    let fake = Fake::start(move |request| {
        if request.body.starts_with(r#"["category.get""#) && reads.fetch_add(1, Ordering::Relaxed) == 5 {
            enough.cancel();
        }
        served.lock().answer(request)
    })
    .await;
    let (observer, mut checkpoint) = (Ahead::default(), MemoryCheckpoint::new());
    checkpoint.save(20).await.expect("saved");
    let worker = || {
        StaticWorker::new(&fake.client(), Checkpointed::new(noting(&Seen::default(), 0), checkpoint.clone()))
            .categories(["a"])
            .poll_every(Duration::from_millis(2))
            .observer(observer.clone())
    };
    let result = worker().until_caught_up().run(stop.clone()).await;
    assert!(matches!(result, Err(WorkerError::AheadOfHead { position: 20, head: 10 })), "{result:?}");
    assert!(observer.0.lock().is_empty(), "the error tells it");
    worker().run(stop).await.expect("stopped");
    assert_eq!(*observer.0.lock(), [(20, 10)], "it is told once");
    assert_eq!(checkpoint.position(), Some(20));
}

#[tokio::test]
async fn a_poke_wakes_a_worker_that_waits() {
    let log = Arc::new(Mutex::new(Log { length: 3, written: Vec::new() }));
    let served = log.clone();
    let fake = Fake::start(move |request| {
        let mut log = served.lock();
        if request.target.starts_with("/subscribe") {
            log.length = 4;
            let text =
                "id: 4\nevent: poke\ndata: {\"stream\":\"a-4\",\"position\":0,\"globalPosition\":4}\n\n".to_owned();
            return Answer::Events { text, then_cut: false };
        }
        log.answer(request)
    })
    .await;
    let stop = CancellationToken::new();
    let at_four = stop.clone();
    let handlers = Handlers::new().otherwise(move |message| {
        if message.global_position() == 4 {
            at_four.cancel();
        }
        async { Ok::<_, std::io::Error>(()) }
    });
    let worker = StaticWorker::new(&fake.client(), Checkpointed::new(handlers, MemoryCheckpoint::new()))
        .categories(["a"])
        .poll_every(Duration::from_secs(3600));
    assert_eq!(worker.run(stop).await.expect("stopped").messages, 4);
    let subscribed = fake.requests.lock().iter().find(|request| request.target.contains("subscribe")).cloned();
    assert_eq!(subscribed.expect("subscribed").target, "/subscribe?category=a&position=4");
}

#[tokio::test]
async fn the_second_worker_of_one_name_is_told_and_the_first_stays() {
    let (fake, _) = log(0).await;
    let client = fake.client();
    let mut first = StreamCheckpoint::new(&client, &["a"], "x", None);
    first.load().await.expect("loaded");
    first.save(10).await.expect("saved");
    let mut second = StreamCheckpoint::new(&client, &["a"], "x", None);
    assert_eq!(second.load().await.expect("loaded"), Some(10));
    // The second worker is faster: the first one writes again, and then the second one finds out.
    second.save(11).await.expect("nobody was in the way");
    first.save(12).await.expect("the older one stays");
    assert!(matches!(second.save(13).await, Err(CheckpointError::Taken(_))));
    assert!(matches!(second.load().await, Err(CheckpointError::Taken(_))));
    first.save(14).await.expect("undisturbed");
    assert_eq!(first.load().await.expect("loaded again after a failure"), Some(14));
    let mut next = StreamCheckpoint::new(&client, &["a"], "x", None);
    assert_eq!(next.load().await.expect("loaded"), Some(14));
}

/// A younger worker with many messages may write again after each look of the older one.
#[tokio::test]
async fn the_first_worker_saves_however_often_the_second_writes() {
    let (fake, served) = log(0).await;
    let log = served.clone();
    let busy = Fake::start(move |request| {
        let mut log = log.lock();
        let answer = log.answer(request);
        if request.body.starts_with(r#"["stream.last""#) {
            let again = log.written.last().cloned();
            log.written.extend(again);
        }
        answer
    })
    .await;
    let mut first = StreamCheckpoint::new(&busy.client(), &["a"], "x", None);
    first.load().await.expect("loaded");
    let mut second = StreamCheckpoint::new(&fake.client(), &["a"], "x", None);
    second.load().await.expect("loaded");
    second.save(11).await.expect("nobody was in the way");
    first.save(12).await.expect("the older one stays");
    assert!(matches!(second.save(13).await, Err(CheckpointError::Taken(_))));
}

#[tokio::test]
async fn idle_workers_of_one_name_find_each_other() {
    let (fake, _) = log(0).await;
    let (client, categories) = (fake.client(), ["a"]);
    let mut first = StreamCheckpoint::new(&client, &categories, "x", None);
    let mut second = StreamCheckpoint::new(&client, &categories, "x", None);
    first.load().await.expect("loaded");
    second.load().await.expect("loaded");
    // The first worker finds the second one's message here, and must remember it.
    assert_eq!(first.load().await.expect("loaded"), None);
    tokio::select! {
        error = first.taken() => panic!("the first was here before: {error}"),
        error = second.taken() => assert!(matches!(error, CheckpointError::Taken(_)), "{error}"),
    }
}

/// The server may do a killed worker's last write after the next worker has begun to load.
#[tokio::test]
async fn what_a_killed_worker_had_sent_does_not_stop_the_next_one() {
    let (fake, served) = log(0).await;
    let mut killed = StreamCheckpoint::new(&fake.client(), &["a"], "x", None);
    killed.load().await.expect("loaded");
    killed.save(10).await.expect("saved");
    let sent = served.lock().written.last().cloned().map(|(stream, mut message)| {
        message["data"]["position"] = json!(20);
        (stream, message)
    });
    let (sent, log) = (Mutex::new(sent), served.clone());
    let late = Fake::start(move |request| {
        let mut log = log.lock();
        let answer = log.answer(request);
        if request.body.starts_with(r#"["stream.last""#) {
            log.written.extend(sent.lock().take());
        }
        answer
    })
    .await;
    let mut next = StreamCheckpoint::new(&late.client(), &["a"], "x", None);
    assert_eq!(next.load().await.expect("loaded"), Some(20));
    next.save(30).await.expect("nobody else is alive");
}

/// Runs a worker until it has polled many times, and returns what was written meanwhile.
async fn written_while_idle(categories: &[&str], begin: Log, grows_by: i64) -> (usize, Vec<(String, Value)>) {
    const LOOKS: usize = 50;
    let (log, looks, stop) = (Arc::new(Mutex::new(begin)), AtomicUsize::new(0), CancellationToken::new());
    let (served, enough) = (log.clone(), stop.clone());
    let everything = categories.is_empty();
    let fake = Fake::start(move |request| {
        let mut log = served.lock();
        if request.body.starts_with(r#"["category.get""#) {
            if looks.fetch_add(1, Ordering::Relaxed) >= LOOKS {
                enough.cancel();
            }
            if everything {
                let call: Value = serde_json::from_str(&request.body).expect("a call");
                return log.page_of_all(&call[2]);
            }
            // Writes to other categories move the head.
            log.length += grows_by;
            return Answer::ok("[]").with_header(&format!("x-eventodb-head: {}", log.length));
        }
        log.answer(request)
    })
    .await;
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    let handlers = Handlers::new().otherwise(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, std::io::Error>(()) }
    });
    let checkpoint = StreamCheckpoint::new(&fake.client(), categories, "x", None);
    StaticWorker::new(&fake.client(), Checkpointed::new(handlers, checkpoint))
        .categories(categories.iter().copied())
        .checkpoint_every(1, Duration::from_millis(1))
        .poll_every(Duration::from_millis(2))
        .run(stop)
        .await
        .expect("stopped");
    let written = log.lock().written.clone();
    (handled.load(Ordering::Relaxed), written)
}

#[tokio::test]
async fn a_worker_over_everything_does_not_feed_on_its_own_positions() {
    let message = ("a-1".to_owned(), json!({"type": "T", "data": {}}));
    let begin = Log { length: 0, written: vec![message] };
    let (handled, written) = written_while_idle(&[], begin, 0).await;
    assert_eq!(handled, 1, "only the message is news");
    let types: Vec<&Value> = written.iter().map(|(_, message)| &message["type"]).collect();
    assert_eq!(
        types[..3],
        ["T", "Claimed", "Recorded"],
        "the worker claims its place and saves the message's position"
    );
    assert!(types.len() <= 4, "nothing more, but for the place where it was stopped: {types:?}");
}

#[tokio::test]
async fn an_idle_worker_writes_nothing() {
    let (handled, written) = written_while_idle(&["a"], Log::default(), 100).await;
    assert_eq!(handled, 0);
    assert!(written.len() <= 2, "only its claim, and the place where it was stopped: {written:?}");
}
