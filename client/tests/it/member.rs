//! A worker on a group, against a server that loses replies and hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eventodb_client::worker::{Context, Failing, Worker, WorkerError};
use eventodb_client::{AppendMany, Expected, Message, NewMessage, RetryPolicy};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fake::{Answer, Fake, Request};

const ROW: &str = r#""00000000-0000-0000-0000-000000000001","a-1","T",0,1,{},null,"2026-01-02T03:04:05.123456Z""#;

/// A membership of one partition, for the lists of a reply.
fn lists(session_ms: u64) -> String {
    format!(
        r#""generation":1,"sessionMs":{session_ms},"assigned":[{{"partition":0,"epoch":5,"checkpoint":0}}],"revoking":[]"#
    )
}

fn membership(session_ms: u64) -> Answer {
    let lists = lists(session_ms);
    Answer::ok(format!(r#"{{"member":"m","heartbeatMs":1,"partitionCount":1,"fenced":[],{lists}}}"#))
}

fn page(session_ms: u64, messages: &str, retries: &str, up_to: i64) -> Answer {
    let lists = lists(session_ms);
    Answer::ok(format!(
        r#"{{"messages":[{messages}],"retries":[{retries}],"drained":[],"upTo":{{"0":{up_to}}},"fenced":[],{lists}}}"#
    ))
}

fn method(request: &Request) -> String {
    let call: Value = serde_json::from_str(&request.body).expect("a call");
    call[0].as_str().expect("a method").to_owned()
}

/// The methods that were called, but for heartbeats.
fn methods(fake: &Fake) -> Vec<String> {
    let requests = fake.requests.lock();
    requests.iter().map(method).filter(|method| method != "group.heartbeat").collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let come = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), come).await.unwrap_or_else(|_| panic!("{what} did not come"));
}

/// A handler that commits, and whose commit the test awaits no longer than the handler does.
async fn commit(message: Message, context: Context<eventodb_client::worker::Atomic>) -> anyhow::Result<()> {
    let done = NewMessage::new("Done", json!({"of": message.global_position()}));
    let append = AppendMany::new().entry("done-1", Expected::Any, &[done])?;
    // The handler gives up before the server has answered.
    tokio::time::timeout(Duration::from_millis(20), context.commit_with(append)).await??;
    Ok(())
}

/// The commit of a retry that is not answered may still make its stream flow again. A read meanwhile would pass over what it
/// withholds of the stream.
#[tokio::test]
async fn nothing_is_read_while_the_outcome_of_a_retrys_commit_is_unknown() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let tried = Arc::clone(&attempts);
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" | "group.heartbeat" => membership(30_000),
        "group.read" if tried.load(Ordering::Relaxed) == 0 => page(30_000, "", &format!("[{ROW},0,2,9]"), 1),
        "group.read" => Answer::Hang,
        "streams.append" => match tried.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Cut(Vec::new()),
            1 => Answer::error(503, "BACKEND_UNAVAILABLE"),
            2 => Answer::error(504, "TIMEOUT"),
            _ => Answer::ok(r#"[{"firstPosition":0,"lastPosition":0,"firstGlobalPosition":2,"lastGlobalPosition":2}]"#),
        },
        _ => Answer::ok("{}"),
    })
    .await;
    let client = fake.client().with_retry_policy(RetryPolicy::none());
    let stop = CancellationToken::new();
    let worker = tokio::spawn(Worker::atomic(&client, "g").otherwise(commit).run(stop.clone()));
    until("another read", || {
        methods(&fake).last().is_some_and(|last| last == "group.read") && methods(&fake).len() > 3
    })
    .await;
    let called = methods(&fake);
    let first = called.iter().position(|method| method == "streams.append").expect("a commit");
    assert_eq!(called[first..], ["streams.append"; 4].iter().copied().chain(["group.read"]).collect::<Vec<_>>());
    let appends: Vec<String> = fake.bodies().into_iter().filter(|body| body.contains("streams.append")).collect();
    assert!(appends.iter().all(|append| *append == appends[0]), "the same append");
    stop.cancel();
    assert_eq!(worker.await.expect("no panic").expect("it ends well").messages, 1);
}

/// If nobody can know whether an unanswered commit will arrive, the worker gets new epochs, which refuse it.
#[tokio::test]
async fn a_commit_that_may_still_arrive_ends_the_membership() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let tried = Arc::clone(&attempts);
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" | "group.heartbeat" => membership(30_000),
        "group.read" if tried.load(Ordering::Relaxed) == 0 => page(30_000, "", &format!("[{ROW},0,2,9]"), 1),
        "group.read" => Answer::Hang,
        "streams.append" => match tried.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Cut(Vec::new()),
            _ => Answer::error(507, "QUOTA_EXCEEDED"),
        },
        _ => Answer::ok("{}"),
    })
    .await;
    let stop = CancellationToken::new();
    let worker = tokio::spawn(Worker::atomic(&fake.client(), "g").otherwise(commit).run(stop.clone()));
    until("another membership", || methods(&fake).iter().filter(|method| *method == "group.join").count() == 2).await;
    let called = methods(&fake);
    let first = called.iter().position(|method| method == "streams.append").expect("a commit");
    assert_eq!(called[first..first + 4], ["streams.append", "streams.append", "group.leave", "group.join"]);
    stop.cancel();
    worker.await.expect("no panic").expect("it ends well");
}

/// A read that is given up may have handed out more of the stream, which then comes again after a session only.
#[tokio::test]
async fn a_retry_is_told_after_the_reply_to_the_read_that_is_under_way() {
    let reads = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" | "group.heartbeat" => membership(30_000),
        "group.read" => match reads.fetch_add(1, Ordering::Relaxed) {
            0 => page(30_000, "", &format!("[{ROW},0,2,9]"), 1),
            1 => page(30_000, "", "", 7),
            _ => Answer::Hang,
        },
        "group.handled" => Answer::ok(r#"{"flowing":true,"rev":10}"#),
        _ => Answer::ok("{}"),
    })
    .await;
    let stop = CancellationToken::new();
    let worker = Worker::new(&fake.client(), "g").otherwise(|_, _| std::future::ready(Ok::<_, std::io::Error>(())));
    let worker = tokio::spawn(worker.run(stop.clone()));
    until("the call", || methods(&fake).iter().any(|method| method == "group.handled")).await;
    assert_eq!(methods(&fake)[..4], ["group.join", "group.read", "group.read", "group.handled"]);
    let bodies: Vec<_> = fake.bodies().into_iter().filter(|body| !body.contains("heartbeat")).collect();
    assert!(bodies[1].contains("waitMs") && !bodies[2].contains("waitMs"), "{bodies:?}");
    assert!(bodies[3].contains(r#""readTo":7"#), "{bodies:?}");
    stop.cancel();
    worker.await.expect("no panic").expect("it ends well");
}

/// A server that answers no read, and the first heartbeats only by silence: the lease lasts.
#[tokio::test]
async fn neither_failing_reads_nor_a_connection_that_hangs_cost_the_lease() {
    const SESSION_MS: u64 = 600;
    let beats = Arc::new(AtomicUsize::new(0));
    let beaten = Arc::clone(&beats);
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" => membership(SESSION_MS),
        "group.heartbeat" => match beaten.fetch_add(1, Ordering::Relaxed) {
            0 | 3 => Answer::Hang,
            _ => membership(SESSION_MS),
        },
        "group.read" => Answer::error(503, "OVERLOADED"),
        _ => Answer::ok("{}"),
    })
    .await;
    let stop = CancellationToken::new();
    let worker = Worker::new(&fake.client(), "g").otherwise(|_, _| std::future::ready(Ok::<_, std::io::Error>(())));
    let worker = tokio::spawn(worker.run(stop.clone()));
    until("heartbeats for two sessions", || beats.load(Ordering::Relaxed) >= 10).await;
    assert_eq!(methods(&fake).iter().filter(|method| *method == "group.join").count(), 1);
    stop.cancel();
    worker.await.expect("no panic").expect("it ends well");
}

/// A worker whose handler runs when this answers its second read. Returns how it ended, and whether the handler ended before
/// and whether it left, in this order.
async fn ended_by(answer: impl Fn() -> Answer + Send + Sync + 'static) -> (WorkerError, Vec<&'static str>) {
    let calls = Arc::new(Mutex::new(Vec::<&str>::new()));
    let reads = Arc::new(AtomicUsize::new(0));
    let (noted, read) = (Arc::clone(&calls), Arc::clone(&reads));
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" | "group.heartbeat" => membership(30_000),
        "group.read" => match read.fetch_add(1, Ordering::Relaxed) {
            0 => page(30_000, &format!("[{ROW},0]"), "", 1),
            _ => answer(),
        },
        "group.leave" => {
            noted.lock().push("left");
            Answer::ok("{}")
        }
        _ => Answer::ok("{}"),
    })
    .await;
    /// Notes when it is dropped.
    struct Ended(Arc<Mutex<Vec<&'static str>>>);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.lock().push("ended");
        }
    }
    let handler = Arc::clone(&calls);
    let worker = Worker::new(&fake.client(), "g").otherwise(move |_, _| {
        let ended = Ended(Arc::clone(&handler));
        async move {
            std::future::pending::<()>().await;
            drop(ended);
            Ok::<_, std::io::Error>(())
        }
    });
    let error = worker.run(CancellationToken::new()).await.expect_err("it is refused");
    let calls = calls.lock().clone();
    (error, calls)
}

#[tokio::test]
async fn a_worker_that_fails_leaves_once_its_handlers_have_ended() {
    let (error, calls) = ended_by(|| Answer::error(403, "AUTH_UNAUTHORIZED")).await;
    assert!(matches!(error, WorkerError::Client(eventodb_client::Error::Forbidden { .. })), "{error}");
    assert_eq!(calls, ["ended", "left"]);
}

/// It has no membership any more that it could leave.
#[tokio::test]
async fn a_worker_whose_name_is_taken_ends_once_its_handlers_have_ended() {
    let replaced = r#"{"error":{"code":"FENCED","message":"m","details":{"reason":"replaced"}}}"#;
    let answer = || Answer::Reply { status: 409, headers: String::new(), body: replaced.to_owned() };
    let (error, calls) = ended_by(answer).await;
    assert!(matches!(error, WorkerError::Duplicate(_)), "{error}");
    assert_eq!(calls, ["ended"]);
}

/// What a worker failed with must not be forgotten because its lease ends before all that is under way has ended.
#[tokio::test]
async fn a_failure_outlives_the_lease() {
    let other = ROW.replace("a-1", "b-1").replace(",0,1,", ",0,2,");
    let (joins, reads) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" if joins.fetch_add(1, Ordering::Relaxed) == 0 => membership(500),
        "group.join" => Answer::error(403, "AUTH_UNAUTHORIZED"),
        "group.read" if reads.fetch_add(1, Ordering::Relaxed) == 0 => {
            page(500, &format!("[{ROW},0],[{other},0]"), "", 2)
        }
        _ => Answer::Hang,
    })
    .await;
    let worker = Worker::new(&fake.client(), "g").failing(Failing::Stop).retry(RetryPolicy::none());
    let worker = worker.otherwise(|message: Message, _| async move {
        if message.stream() == "b-1" {
            std::future::pending::<()>().await;
        }
        Err::<(), _>(std::io::Error::other("bad"))
    });
    let error = worker.run(CancellationToken::new()).await.expect_err("a message failed");
    assert!(matches!(error, WorkerError::Handler { ref stream, .. } if stream == "a-1"), "{error}");
}

#[tokio::test]
async fn a_worker_waits_for_its_server_already_when_it_makes_the_group_and_hears_a_stop() {
    let creates = AtomicUsize::new(0);
    let fake = Fake::start(move |_| match creates.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::error(503, "OVERLOADED"),
        _ => Answer::Hang,
    })
    .await;
    let stop = CancellationToken::new();
    let client = fake.client().with_retry_policy(RetryPolicy::none());
    let worker = tokio::spawn(Worker::new(&client, "g").categories(["a"]).run(stop.clone()));
    until("another attempt", || methods(&fake).len() == 2).await;
    stop.cancel();
    assert_eq!(worker.await.expect("no panic").expect("it was stopped").messages, 0);
    assert_eq!(methods(&fake), ["group.create"; 2]);
}

/// The server tells by the refusal of a commit that the stream was parked. A read that was sent before may bring more of it.
#[tokio::test]
async fn what_a_read_under_way_brings_of_a_stream_that_is_found_parked_is_dropped() {
    let later = ROW.replace(",0,1,", ",1,2,");
    let other = ROW.replace("a-1", "b-1").replace(",0,1,", ",0,3,");
    let (reads, appends, is_dropped) = (AtomicUsize::new(0), AtomicUsize::new(0), CancellationToken::new());
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.read" => match reads.fetch_add(1, Ordering::Relaxed) {
            0 => page(30_000, &format!("[{ROW},0]"), "", 1),
            1 => {
                let more = page(30_000, &format!("[{later},0],[{other},0]"), "", 3);
                Answer::Later(is_dropped.clone(), Box::new(more))
            }
            _ => Answer::Hang,
        },
        "streams.append" if appends.fetch_add(1, Ordering::Relaxed) == 0 => Answer::Reply {
            status: 409,
            headers: String::new(),
            body: r#"{"error":{"code":"FENCED","message":"","details":{"reason":"parked","partition":0}}}"#.to_owned(),
        },
        "streams.append" => {
            Answer::ok(r#"[{"firstPosition":0,"lastPosition":0,"firstGlobalPosition":4,"lastGlobalPosition":4}]"#)
        }
        _ => {
            if request.body.contains("checkpoints") {
                is_dropped.cancel();
            }
            membership(30_000)
        }
    })
    .await;
    let (handled, stop) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
    let noted = Arc::clone(&handled);
    let worker = Worker::atomic(&fake.client(), "g").otherwise(move |message: Message, context| {
        noted.lock().push(message.global_position());
        commit(message, context)
    });
    let worker = tokio::spawn(worker.run(stop.clone()));
    until("the other stream", || handled.lock().last() == Some(&3)).await;
    stop.cancel();
    worker.await.expect("no panic").expect("it ends well");
    assert_eq!(handled.lock()[..], [1, 3]);
}

/// If it arrived while the message is tried again, the stream would be parked before a message that is handled.
#[tokio::test]
async fn a_park_that_may_still_arrive_ends_the_membership() {
    let (reads, parks) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" | "group.heartbeat" => membership(30_000),
        "group.read" if reads.fetch_add(1, Ordering::Relaxed) == 0 => page(30_000, &format!("[{ROW},0]"), "", 1),
        "group.read" => Answer::Hang,
        "group.park" => match parks.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Cut(Vec::new()),
            _ => Answer::error(409, "PARK_FULL"),
        },
        _ => Answer::ok("{}"),
    })
    .await;
    let stop = CancellationToken::new();
    let worker = Worker::new(&fake.client(), "g").retry(RetryPolicy::none());
    let worker = worker.otherwise(|_, _| std::future::ready(Err::<(), _>(std::io::Error::other("bad"))));
    let worker = tokio::spawn(worker.run(stop.clone()));
    until("another call", || methods(&fake).iter().skip_while(|method| *method != "group.park").count() > 3).await;
    let called = methods(&fake);
    let first = called.iter().position(|method| method == "group.park").expect("a park");
    assert_eq!(called[first..first + 4], ["group.park", "group.park", "group.leave", "group.join"]);
    stop.cancel();
    worker.await.expect("no panic").expect("it ends well");
}

/// With a single place for handlers, a message that fails for ever does not hold up another stream.
#[tokio::test]
async fn a_message_that_is_tried_again_for_ever_holds_no_place() {
    let other = ROW.replace("a-1", "b-1").replace(",0,1,", ",0,2,");
    let reads = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" | "group.heartbeat" => membership(30_000),
        "group.read" => match reads.fetch_add(1, Ordering::Relaxed) {
            0 => page(30_000, &format!("[{ROW},0],[{other},0]"), "", 2),
            _ => Answer::Hang,
        },
        _ => Answer::ok("{}"),
    })
    .await;
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let stop = CancellationToken::new();
    let worker = Worker::new(&fake.client(), "g").concurrency(1).failing(Failing::Retry).otherwise(
        move |message: Message, _| {
            let is_bad = message.stream() == "a-1";
            count.fetch_add(usize::from(!is_bad), Ordering::Relaxed);
            std::future::ready(if is_bad { Err(std::io::Error::other("bad")) } else { Ok(()) })
        },
    );
    let worker = tokio::spawn(worker.run(stop.clone()));
    until("the other stream", || handled.load(Ordering::Relaxed) == 1).await;
    stop.cancel();
    assert_eq!(worker.await.expect("no panic").expect("it ends well").messages, 1);
}

/// A group of one partition with `lag` unhandled messages, as `group.status` tells it.
fn status(is_paused: bool, head: i64, lag: i64) -> Answer {
    Answer::ok(format!(
        r#"{{"group":"g","description":"","categories":[],"types":[],"partitionCount":1,"sessionMs":30000,
        "maxParked":9,"createdAt":"2026-01-02T03:04:05Z","paused":{is_paused},"resizing":false,"resizingTo":null,
        "head":{head},"members":[],"partitions":[{{"partition":0,"owner":null,"epoch":5,"leaseMs":0,"checkpoint":0,
        "checkpointAt":"2026-01-02T03:04:05Z","lag":{{"messages":{lag},"atLeast":false,"ms":0}},
        "parked":{{"streams":0,"oldestMs":0}},"why":{{"code":"working"}}}}]}}"#
    ))
}

#[tokio::test]
async fn a_group_that_is_paused_has_not_caught_up() {
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" | "group.heartbeat" => membership(30_000),
        "group.read" => page(30_000, "", "", 0),
        "group.status" => status(true, 3, 3),
        _ => Answer::ok("{}"),
    })
    .await;
    let worker = Worker::new(&fake.client(), "g").until_caught_up();
    let error = worker.run(CancellationToken::new()).await.expect_err("it is paused");
    assert!(matches!(error, WorkerError::Paused(ref group) if group == "g"), "{error}");
    assert_eq!(methods(&fake).last().map(String::as_str), Some("group.leave"));
}

/// A read looks at so many messages only, and a paused group hands out nothing: an empty page is not the end.
#[tokio::test]
async fn a_worker_has_caught_up_once_it_has_read_to_where_the_head_was() {
    let reads = AtomicUsize::new(0);
    let last = ROW.replace(",0,1,", ",0,7,");
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" | "group.heartbeat" => membership(30_000),
        "group.read" => match reads.fetch_add(1, Ordering::Relaxed) {
            0 => page(30_000, "", "", 5),
            1 => page(30_000, &format!("[{last},0]"), "", 9),
            // Others write on.
            more => page(30_000, "", "", 9 + i64::try_from(more).expect("few")),
        },
        "group.status" => status(false, 9, 1),
        _ => Answer::ok("{}"),
    })
    .await;
    let worker = Worker::new(&fake.client(), "g").until_caught_up();
    assert_eq!(worker.run(CancellationToken::new()).await.expect("it ends well").messages, 1);
}

#[tokio::test]
async fn without_the_right_to_read_a_worker_has_caught_up_once_nothing_at_all_is_new() {
    let reads = AtomicUsize::new(0);
    let last = ROW.replace(",0,1,", ",0,7,");
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" | "group.heartbeat" => membership(30_000),
        "group.read" => match reads.fetch_add(1, Ordering::Relaxed) {
            0 => page(30_000, "", "", 5),
            1 => page(30_000, &format!("[{last},0]"), "", 9),
            _ => page(30_000, "", "", 9),
        },
        "group.status" => Answer::error(403, "AUTH_UNAUTHORIZED"),
        _ => Answer::ok("{}"),
    })
    .await;
    let worker = Worker::new(&fake.client(), "g").until_caught_up();
    assert_eq!(worker.run(CancellationToken::new()).await.expect("it ends well").messages, 1);
}

#[tokio::test]
async fn a_worker_without_a_partition_ends_once_the_others_have_caught_up() {
    let lists = r#""generation":1,"sessionMs":30000,"assigned":[],"revoking":[],"fenced":[]"#;
    let asked = AtomicUsize::new(0);
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" | "group.heartbeat" => {
            Answer::ok(format!(r#"{{"member":"m","heartbeatMs":1,"partitionCount":1,{lists}}}"#))
        }
        "group.read" => Answer::ok(format!(r#"{{"messages":[],"retries":[],"drained":[],"upTo":{{}},{lists}}}"#)),
        "group.status" if asked.fetch_add(1, Ordering::Relaxed) == 0 => status(false, 9, 1),
        "group.status" => status(false, 9, 0),
        _ => Answer::ok("{}"),
    })
    .await;
    let worker = Worker::new(&fake.client(), "g").until_caught_up();
    let ended = tokio::time::timeout(Duration::from_secs(20), worker.run(CancellationToken::new())).await;
    assert_eq!(ended.expect("it ends").expect("it ends well").messages, 0);
    assert_eq!(methods(&fake).iter().filter(|method| *method == "group.status").count(), 2);
    let is_waiting = |body: &String| body.contains(r#""waitMs":1000"#);
    assert!(fake.bodies().iter().filter(|body| body.contains("group.read")).all(is_waiting), "{:?}", fake.bodies());
}

/// After a failover that lost rows, what the worker has read and handled lies above the head.
#[tokio::test]
async fn what_the_server_has_lost_is_given_up_without_its_checkpoints() {
    let reads = AtomicUsize::new(0);
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" => membership(30_000),
        "group.read" => match reads.fetch_add(1, Ordering::Relaxed) {
            0 => page(30_000, &format!("[{ROW},0]"), "", 1),
            1 => Answer::error(400, "INVALID_REQUEST"),
            _ => Answer::Hang,
        },
        "group.leave" => Answer::ok("{}"),
        _ => Answer::Hang,
    })
    .await;
    let stop = CancellationToken::new();
    let worker = Worker::new(&fake.client(), "g").otherwise(|_, _| std::future::ready(Ok::<_, std::io::Error>(())));
    let worker = tokio::spawn(worker.run(stop.clone()));
    until("another read", || methods(&fake).len() > 5).await;
    assert_eq!(methods(&fake)[2..], ["group.read", "group.leave", "group.join", "group.read"]);
    let left = fake.bodies().into_iter().find(|body| body.contains("group.leave")).expect("a call");
    assert!(left.contains(r#""checkpoints":{}"#), "{left}");
    stop.cancel();
    worker.await.expect("no panic").expect("it ends well");
}

#[tokio::test]
async fn a_worker_ends_if_its_first_read_is_refused() {
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" | "group.heartbeat" => membership(30_000),
        "group.read" => Answer::error(400, "INVALID_REQUEST"),
        _ => Answer::ok("{}"),
    })
    .await;
    let error = Worker::new(&fake.client(), "g").run(CancellationToken::new()).await.expect_err("it is refused");
    assert!(matches!(error, WorkerError::Client(eventodb_client::Error::InvalidRequest { .. })), "{error}");
    assert_eq!(methods(&fake), ["group.join", "group.read", "group.leave"]);
}

/// The server may make a member whose worker is stopped meanwhile. Nobody else could leave for it.
#[tokio::test]
async fn a_worker_that_is_stopped_while_it_joins_leaves() {
    let (answered, stop) = (CancellationToken::new(), CancellationToken::new());
    let answer = answered.clone();
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" => Answer::Later(answer.clone(), Box::new(membership(30_000))),
        _ => Answer::ok("{}"),
    })
    .await;
    let worker = tokio::spawn(Worker::new(&fake.client(), "g").run(stop.clone()));
    until("a join", || methods(&fake).len() == 1).await;
    stop.cancel();
    tokio::task::yield_now().await;
    answered.cancel();
    worker.await.expect("no panic").expect("it ends well");
    assert_eq!(methods(&fake), ["group.join", "group.leave"]);
}

/// A server that hangs may still take the heartbeats of the old membership when it goes on, and renew its lease.
#[tokio::test]
async fn a_worker_whose_time_is_over_leaves_and_joins_again() {
    let joins = AtomicUsize::new(0);
    let fake = Fake::start(move |request| match method(request).as_str() {
        "group.join" if joins.fetch_add(1, Ordering::Relaxed) == 0 => membership(500),
        "group.join" => membership(30_000),
        "group.leave" => Answer::ok("{}"),
        _ => Answer::Hang,
    })
    .await;
    let stop = CancellationToken::new();
    let worker = tokio::spawn(Worker::new(&fake.client(), "g").run(stop.clone()));
    let count = |name: &str| methods(&fake).iter().filter(|method| *method == name).count();
    until("another membership", || count("group.join") == 2 && count("group.leave") == 1).await;
    stop.cancel();
    worker.await.expect("no panic").expect("it ends well");
}
