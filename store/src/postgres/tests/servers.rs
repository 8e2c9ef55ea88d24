//! Two servers that write to one log at once, and what each sees of the other's messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use eventodb_protocol::message::Expected;

use tokio::sync::watch;

use super::fixture::settings;
use super::pair::{Pair, percentiles, tail, take_until};
use crate::conformance::support::{PATIENCE, category, message, subscribe, take, write, write_expecting};
use crate::error::Conflict;
use crate::log::{Event, Log, Start};
use crate::postgres::connection::Connection;
use crate::postgres::turns::holders;
use crate::testing::tell;
use crate::{Error, Settings};
use eventodb_testing::postgres::{connect, database};
use eventodb_testing::proxy::Proxy;

const WRITERS: usize = 16;
const WRITES: usize = 60;
const SHARED_STREAMS: usize = 50;

/// A write that was acknowledged: its own mark and its place.
struct Acknowledged {
    mark: String,
    stream: String,
    position: i64,
    global_position: i64,
    at: Instant,
}

/// Writes through `own`; every few times asks `other` what it knows of the stream.
async fn write_many(writer: usize, own: Arc<Log>, other: Arc<Log>) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for at in 0..WRITES {
        let stream = match at % 3 {
            0 => format!("own{writer}-{at}"),
            _ => format!("shared-{}", (writer * 7 + at * 3) % SHARED_STREAMS),
        };
        let mark = format!("{writer}/{at}");
        let expected = match at % 4 {
            0 => Expected::Version(own.version(&stream).await.expect("it answers").unwrap_or(-1)),
            _ => Expected::Any,
        };
        let written = match write_expecting(&own, &stream, expected, message(&mark)).await {
            Ok(written) => written,
            Err(Error::VersionConflict(conflicts)) => {
                // Somebody was faster; the version is another than the expected one, and a later one.
                assert!(
                    matches!(conflicts[0], Conflict::Version { actual, .. } if Expected::Version(actual) != expected)
                );
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        acknowledged.push(Acknowledged {
            mark,
            stream: stream.clone(),
            position: written.first_position,
            global_position: written.first_global_position,
            at: Instant::now(),
        });
        if at % 8 == 0 {
            let seen = other.version(&stream).await.expect("it answers");
            assert!(seen >= Some(written.first_position), "{stream}: {seen:?} after {}", written.first_position);
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_write_one_log_without_a_gap() {
    let pair = Pair::new().await;
    let logs = pair.logs().await;
    let done = Arc::new(AtomicBool::new(false));
    let (total, last) = watch::channel(0);
    let readers: Vec<_> = (0..3).map(|at| tokio::spawn(tail(logs[at % 2].clone(), done.clone()))).collect();
    let subscribers: Vec<_> = logs.iter().map(|log| tokio::spawn(take_until(log.clone(), last.clone()))).collect();
    let started = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (own, other) = (logs[writer % 2].clone(), logs[(writer + 1) % 2].clone());
            tokio::spawn(write_many(writer, own, other))
        })
        .collect();
    let mut acknowledged = [Vec::new(), Vec::new()];
    for (writer, outcome) in writers.into_iter().enumerate() {
        acknowledged[writer % 2].extend(outcome.await.expect("a writer does not panic"));
    }
    let took = started.elapsed();
    done.store(true, SeqCst);
    let count = acknowledged[0].len() + acknowledged[1].len();
    total.send_replace(count as i64);
    for reader in readers {
        let seen = reader.await.expect("a reader does not panic");
        assert_eq!(seen.len(), count, "what was acknowledged is there, and nothing else");
        for write in acknowledged.iter().flatten() {
            let message = &seen[usize::try_from(write.global_position).expect("positive") - 1];
            assert_eq!(
                (&*message.kind, &*message.stream, message.position),
                (&*write.mark, &*write.stream, write.position)
            );
        }
        let mut next: HashMap<&str, i64> = HashMap::new();
        for message in &seen {
            let position = next.entry(&message.stream).or_default();
            assert_eq!(message.position, *position, "positions in a stream are dense");
            *position += 1;
        }
    }
    tell(&format!("{count} messages by {WRITERS} writers on two servers in {took:?}"));
    for (at, subscriber) in subscribers.into_iter().enumerate() {
        let poked = subscriber.await.expect("a subscriber does not panic");
        let foreign = acknowledged[(at + 1) % 2].iter().map(|write| {
            let place = usize::try_from(write.global_position).expect("positive") - 1;
            poked[place].saturating_duration_since(write.at)
        });
        tell(&format!("from the other server's reply to the poke, under load: {}", percentiles(foreign.collect())));
    }
    pair.close().await;
}

/// A server farther from the database needs longer to decide and loses each race, were it to run them all.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_starves_no_slower_one() {
    const SLOW: usize = 100;
    let url = database().await;
    let proxy = Proxy::to_database(&url, 0).await;
    let pair = Pair::of(url.clone(), [settings(&proxy.database_url(&url)), settings(&url)], Settings::default()).await;
    let [slow, busy] = pair.logs().await;
    let done = Arc::new(AtomicBool::new(false));
    let stop = done.clone();
    let busy = tokio::spawn(async move {
        let mut written = 0;
        while !stop.load(SeqCst) {
            write(&busy, &format!("busy-{}", written % 20), "T").await;
            written += 1;
        }
        written
    });
    let started = Instant::now();
    for at in 0..SLOW {
        write(&slow, &format!("slow-{}", at % 20), "T").await;
    }
    let took = started.elapsed();
    done.store(true, SeqCst);
    let written = busy.await.expect("a writer does not panic");
    tell(&format!("{SLOW} writes through the slower server in {took:?}, {written} through the busy one"));
    assert!(written < 30 * SLOW, "{written}");
    pair.close().await;
}

/// Writes through one server, waits for the poke through the other, again and again.
async fn poke_times(pair: &Pair, rounds: usize) -> Vec<Duration> {
    let [own, other] = pair.logs().await;
    let mut subscription = subscribe(&own, category("ping"), Start::Now);
    assert_eq!(subscription.next().await, Event::CaughtUp(own.head()));
    let mut times = Vec::with_capacity(rounds);
    for at in 0..rounds {
        let written = write(&other, &format!("ping-{at}"), "T").await;
        let replied = Instant::now();
        let poked = take(&mut subscription, 1).await;
        times.push(replied.elapsed());
        assert_eq!(poked[0].2, written.first_global_position);
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_poked_about_a_write_through_the_other_server() {
    // Notified, with a poll that comes too late for all of them.
    let patient = Settings { poll_interval: Duration::from_secs(600), ..Settings::default() };
    let pair = Pair::with(patient, |_| {}).await;
    tell(&format!("from reply to poke, notified: {}", percentiles(poke_times(&pair, 300).await)));
    pair.close().await;
    // By the poll alone: without prepared statements it is taken for granted that there is a pooler.
    let quick = Settings { poll_interval: Duration::from_millis(100), ..Settings::default() };
    let pair = Pair::with(quick, |backend| backend.prepare = false).await;
    tell(&format!("from reply to poke, polled each 100 ms: {}", percentiles(poke_times(&pair, 30).await)));
    pair.close().await;
}

/// A server that waits for its turn to append shows meanwhile what others write.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_poked_while_its_server_waits_for_its_turn() {
    const ROUNDS: usize = 10;
    // A server that shows nothing while it waits shows one, when it does without its turn.
    const ENOUGH: usize = 4;
    let patient = Settings { poll_interval: Duration::from_secs(600), ..Settings::default() };
    let pair = Pair::with(patient, |_| {}).await;
    let [own, other] = pair.logs().await;
    let mut subscription = subscribe(&own, category("ping"), Start::Now);
    assert_eq!(subscription.next().await, Event::CaughtUp(own.head()));
    // Somebody has the turn and does nothing with it: a server waits for a while, and then does without for longer.
    let key = format!("hashtextextended('eventodb turn', {})", own.namespace().incarnation.0);
    let holder = connect(&pair.url).await;
    holder.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({key})")).await.expect("good SQL");
    let mut shown_meanwhile = async || {
        write(&other, "patience-1", "T").await;
        let own = own.clone();
        let waiting = tokio::spawn(async move { write(&own, "waiting-1", "T").await });
        let mut shown = 0;
        // Each is shown before the next is written.
        while shown < ENOUGH && !waiting.is_finished() {
            let written = write(&other, "ping-1", "T").await;
            assert_eq!(take(&mut subscription, 1).await[0].2, written.first_global_position);
            shown += 1;
        }
        waiting.await.expect("a writer does not panic");
        shown
    };
    // On a slow machine the wait may be over before the other server has written so often.
    for _ in 0..ROUNDS {
        if shown_meanwhile().await == ENOUGH {
            pair.close().await;
            return;
        }
        // By then a server waits again.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    panic!("a server that waits shows nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_lock_leaves_no_session_waiting_and_is_named() {
    // No limit of the session ends the wait.
    let pair = Pair::with(Settings::default(), |backend| backend.statement_timeout = Duration::from_secs(3_600)).await;
    let [own, other] = pair.logs().await;
    write(&own, "a-1", "T").await;
    let incarnation = own.namespace().incarnation;
    let session = connect(&pair.url).await;
    let lock = format!(
        "SET application_name = 'a stranger'; SELECT pg_advisory_lock(hashtextextended('eventodb turn', {}))",
        incarnation.0
    );
    session.batch_execute(&lock).await.expect("any role may");
    for at in 0..4 {
        write(if at % 2 == 0 { &own } else { &other }, "a-1", "T").await;
    }
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let all_gone = async {
        while session.query_one(waiting, &[]).await.expect("good SQL").get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_gone).await.expect("who gives up waiting leaves no session behind");
    let mut connection = Connection::open(&settings(&pair.url)).await.expect("it answers");
    let holders = holders(&mut connection, incarnation).await.expect("it answers");
    let [holder] = &holders[..] else { panic!("{holders:?}") };
    assert_eq!((&*holder.user, &*holder.application), ("postgres", "a stranger"));
    session.batch_execute("SELECT pg_advisory_unlock_all()").await.expect("it is its own");
    pair.close().await;
}
