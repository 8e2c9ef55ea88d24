//! What a server says about a write is true, whatever the connection does at whatever point of the call: a write that
//! was answered with "certainly not written" is never found.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use super::faults::{Told, Write, check, until, write};
use super::fixture::settings;
use super::pair::{Pair, tail};
use crate::Settings;
use crate::conformance::support::{PATIENCE, message};
use crate::log::Log;
use crate::testing::{seed, tell};
use eventodb_testing::nodes::Nodes;
use eventodb_testing::postgres;
use eventodb_testing::proxy::{Cut, Faults, Hold, Proxy};

const WRITERS: usize = 8;
/// Writes in the suite.
const WRITES: usize = 600;
/// Sets another number of writes.
const VARIABLE: &str = "EVENTODB_TEST_OUTCOMES";
/// The answers to a statement that is done, as a node gives them that forwarded it and lost the connection or session, or
/// was told to cancel it.
const STATES: &[&str] =
    &["08000", "08003", "08006", "08007", "08P01", "57014", "57P01", "57P02", "57P03", "57P05", "XX000"];
const FAULTS: Faults = Faults {
    cut: 0.005,
    delay: 0.002,
    shortest: Duration::from_millis(20),
    longest: Duration::from_millis(1_500),
    forge: 0.1,
    states: STATES,
};
/// More bytes than the requests and the replies of an append have.
const CALL_BYTES: (usize, usize) = (3_000, 400);
/// Writes between two moments in which no connection can be made.
const WRITES_BETWEEN_OUTAGES: usize = 100;
/// Outages between two long times in which nothing comes back. The suite's writes have none.
const OUTAGES_BETWEEN_SILENCES: usize = 10;
/// How long an outage lasts at most.
const OUTAGE: Duration = Duration::from_millis(300);
/// Refusals that end an outage: the writers would be done within one otherwise.
const REFUSALS: usize = 5;

/// Writes, each message to be told from all others, until `left` is used up.
async fn write_some(log: Arc<Log>, left: Arc<AtomicUsize>, told: Arc<Mutex<Told>>) {
    while left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
        let mut message = message(&Uuid::new_v4().to_string());
        // An id is looked up before the append is sent.
        message.id = rand::random_bool(0.5).then(Uuid::new_v4);
        let stream = format!("s-{}", rand::random_range(0..20));
        write(&log, Write { stream, message }, &told).await;
    }
}

/// Cuts one connection after the other, at every point of a call in the end.
async fn cut_everywhere(proxy: Arc<Proxy>, mut random: StdRng, cuts: Arc<AtomicUsize>) {
    loop {
        if proxy.has_cut() {
            cuts.fetch_add(1, SeqCst);
            let is_request = random.random_bool(0.5);
            let at = random.random_range(0..if is_request { CALL_BYTES.0 } else { CALL_BYTES.1 });
            // Calls between two cuts.
            let calls = random.random_range(0..20);
            proxy.cut_at(match is_request {
                true => Cut::Request(at + calls * CALL_BYTES.0),
                false => Cut::Reply(at + calls * CALL_BYTES.1),
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Now and then, lets no connection be made, or nothing come back until some writes are refused.
async fn interrupt(proxy: &Proxy, left: &AtomicUsize, told: &Mutex<Told>) {
    for at in 1.. {
        let next = left.load(SeqCst).saturating_sub(WRITES_BETWEEN_OUTAGES);
        if next == 0 {
            return;
        }
        until(told, |_| left.load(SeqCst) <= next).await;
        let refused = told.lock().refused;
        let refused = until(told, |told| told.refused >= refused + REFUSALS || left.load(SeqCst) == 0);
        if at % OUTAGES_BETWEEN_SILENCES == 0 {
            proxy.hold(Hold { requests: false, replies: true });
            refused.await;
            proxy.hold(Hold::default());
        } else {
            proxy.faults(Faults { cut: 1.0, ..FAULTS });
            // An append whose outcome is being found out holds up the others.
            _ = tokio::time::timeout(OUTAGE, refused).await;
            proxy.faults(FAULTS);
        }
    }
}

/// Waits until PostgreSQL has ended all sessions that came through the proxy, and with them what they were at.
async fn until_sessions_ended(url: &str) {
    let session = postgres::connect(url).await;
    let ended = async {
        let count = "SELECT count(*) FROM pg_stat_activity
                     WHERE application_name = 'relayed' AND datname = current_database()";
        while session.query_one(count, &[]).await.expect("good SQL").get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("they end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_said_not_to_be_written_is_never_found() {
    let writes = std::env::var(VARIABLE).map_or(WRITES, |writes| writes.parse().expect("a number of writes"));
    // A database of several nodes, as only those cancel a statement that is done.
    let (url, seed) = (Nodes::shared().database().await.home, seed());
    let proxy = Arc::new(Proxy::to_database(&url, seed).await);
    let mut disturbed = crate::postgres::Settings { stand_in: true, ..settings(&proxy.database_url(&url)) };
    disturbed.statement_timeout = Duration::from_millis(300);
    disturbed.acquire_timeout = Duration::from_millis(300);
    let [server, bystander] = Pair::of(url.clone(), [disturbed, settings(&url)], Settings::default()).await.servers;
    let log = server.log(super::pair::NAME).await.expect("it lives");
    let (left, told) = (Arc::new(AtomicUsize::new(writes)), Arc::<Mutex<Told>>::default());
    let cuts = Arc::new(AtomicUsize::new(0));
    proxy.faults(FAULTS);
    let cutting = tokio::spawn(cut_everywhere(Arc::clone(&proxy), StdRng::seed_from_u64(seed), Arc::clone(&cuts)));
    let writers = (0..WRITERS).map(|_| tokio::spawn(write_some(log.clone(), Arc::clone(&left), Arc::clone(&told))));
    let writers: Vec<_> = writers.collect();
    interrupt(&proxy, &left, &told).await;
    for writer in writers {
        writer.await.expect("a writer does not panic");
    }
    cutting.abort();
    let (cut, delayed) = proxy.fallen();
    proxy.faults(Faults::default());
    server.close().await;
    proxy.cut_all();
    until_sessions_ended(&url).await;

    let told = std::mem::take(&mut *told.lock());
    tell(&format!(
        "{writes} writes: {} acknowledged, {} certainly not written, {} unknown; {} connections cut, {delayed} pieces \
         delayed, {} answers forged",
        told.acknowledged.len(),
        told.refused,
        told.unknown.len(),
        cut + cuts.load(SeqCst),
        proxy.forged(),
    ));
    assert_eq!(told.acknowledged.len() + told.refused + told.unknown.len(), writes);
    let log = bystander.log(super::pair::NAME).await.expect("it lives");
    let found = tail(log, Arc::new(AtomicBool::new(true))).await;
    check(&found, told.acknowledged.iter(), &told.unknown);
    assert!(told.refused > 0 && proxy.forged() > 0, "there were answers to check");
    bystander.close().await;
}
