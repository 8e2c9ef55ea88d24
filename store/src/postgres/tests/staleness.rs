//! What a server says of a log that another server has just changed, while it has not heard of that.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::Token;
use eventodb_protocol::message::Expected;
use eventodb_protocol::request::Read;

use super::fixture::{open_store, settings};
use super::pair::{NAME, Pair};
use crate::conformance::support::{
    PATIENCE, all, everything, is_conflict, message, namespace, subscribe, write, write_expecting,
};
use crate::error::Conflict;
use crate::log::{Event, Log, Start};
use crate::model::NamespaceUpdate;
use crate::testing::tell;
use crate::{Error, Settings};
use eventodb_testing::postgres;
use eventodb_testing::proxy::{Faults, Proxy};

const DELAY: Duration = Duration::from_secs(1);

/// Two servers that hear of each other a second late.
async fn late(poll_interval: Duration) -> (Pair, Proxy) {
    let url = postgres::database().await;
    let proxy = Proxy::to_database(&url, 0).await;
    let mut backend = settings(&url);
    backend.listen_url = Some(proxy.database_url(&url).parse().expect("a good URL"));
    let settings = Settings { poll_interval, ..Settings::default() };
    let pair = Pair::of(url.clone(), [backend.clone(), backend], settings).await;
    pair.logs().await;
    // Over a slow way no session begins in time: both servers notify once before.
    for server in &pair.servers {
        server.backend().update(NAME.into(), &NamespaceUpdate::default()).await.expect("it lives");
    }
    let session = postgres::connect(&url).await;
    let notifiers = "SELECT count(*) FROM pg_stat_activity
                     WHERE query LIKE '%pg_notify%' AND datname = current_database() AND pid <> pg_backend_pid()";
    while session.query_one(notifiers, &[]).await.expect("good SQL").get::<_, i64>(0) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.faults(Faults { delay: 1.0, shortest: DELAY, longest: DELAY, ..Faults::default() });
    (pair, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn late_notifications_make_nothing_stale() {
    // No poll comes to the rescue.
    let (pair, _proxy) = late(PATIENCE).await;
    let logs = pair.logs().await;
    let started = Instant::now();
    let mut version = -1;
    // Long enough for old notifications to come in between.
    while started.elapsed() < 3 * DELAY {
        for (writer, reader) in [(&logs[0], &logs[1]), (&logs[1], &logs[0])] {
            let kind = format!("T{}", version + 1);
            let written = write_expecting(writer, "a-1", Expected::Version(version), message(&kind)).await;
            let place = written.expect("it is so").first_position;
            assert_eq!(reader.version("a-1").await.expect("it answers"), Some(place));
            let last = all(reader).await.pop().expect("there is one");
            assert_eq!((last.position, &*last.kind), (place, &*kind));
            let refused = write_expecting(reader, "a-1", Expected::Version(version), message("T")).await;
            let Err(Error::VersionConflict(conflicts)) = refused else { panic!("{refused:?}") };
            let told = matches!(conflicts[0], Conflict::Version { actual, .. } if actual == place);
            assert!(told, "{conflicts:?} in place of {place}");
            // What the other has written is what is expected here; there is no false conflict.
            let next = write_expecting(reader, "a-1", Expected::Version(place), message("T")).await;
            version = next.expect("it is so").first_position;
            assert!(is_conflict(
                &write_expecting(writer, "a-1", Expected::Version(place), message("T")).await.expect_err("it is old")
            ));
        }
    }
    tell(&format!("{} writes in turns", version + 1));
    pair.close().await;
}

/// Appends by a token as long as that opens a log; how many were acknowledged.
async fn append_until_refused(pair: &Pair, token: &Token) -> usize {
    let mut acknowledged = 0;
    while let Some(access) = pair.servers[0].authorize(token).await.expect("it answers") {
        match write_expecting(access.log(), "a-1", Expected::Any, message("old")).await {
            Ok(_) => acknowledged += 1,
            Err(Error::Closed) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_created_anew_through_the_other_server_is_another() {
    let (pair, _proxy) = late(Settings::default().poll_interval).await;
    let [old, _] = pair.logs().await;
    let other = &pair.servers[1];
    write(&old, "a-1", "old").await;
    let mut subscription = subscribe(&old, everything(), Start::Now);
    let new_token = Token::generate(NAME);
    let recreate = async {
        while old.head() < 20 {
            tokio::task::yield_now().await;
        }
        let (_, messages) = other.delete(NAME).await.expect("it lives");
        other.create(namespace(NAME, &new_token)).await.expect("the name is free");
        let recreated = Instant::now();
        // Nothing that could be old is served from here on, whatever this server has in memory.
        let read = old.read(Read::forward(everything(), 1, 100)).await;
        assert!(matches!(read, Err(Error::Closed)), "{read:?}");
        let refused = write_expecting(&old, "a-1", Expected::Any, message("old")).await;
        assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
        let new =
            pair.servers[0].authorize(&new_token).await.expect("it answers").expect("it is the token").log().clone();
        assert!(all(&new).await.is_empty());
        (messages, recreated, new)
    };
    let ended = async {
        while subscription.next().await != Event::Closed {}
        Instant::now()
    };
    let ((messages, recreated, new), acknowledged, ended) =
        tokio::join!(recreate, append_until_refused(&pair, &pair.token), ended);
    assert_eq!(messages, acknowledged as u64 + 1, "what was acknowledged was deleted, and nothing else");
    tell(&format!("the old token opens nothing, and its subscription has ended, {:?} later", ended - recreated));
    assert!(all(&new).await.is_empty());
    assert_eq!(write(&new, "a-1", "new").await.first_global_position, 1);
    assert_eq!(all(&other.log(NAME).await.expect("it lives")).await.len(), 1);
    pair.close().await;
}

/// Lets the end of a log wait for an advisory lock, and appends go on.
const LATE_END: &str = "
    CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(22);
        RETURN NEW;
    END $$;
    CREATE TRIGGER late BEFORE INSERT ON {log}.batches
        FOR EACH ROW WHEN (NEW.last_position IS NULL) EXECUTE FUNCTION public.wait()";

/// The poll of the server that deletes sees the deletion before the log has ended, and closes the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_counts_what_was_acknowledged_before_the_log_had_ended() {
    let url = postgres::database().await;
    let server = |poll_interval| open_store(settings(&url), Settings { poll_interval, ..Settings::default() });
    let (other, deleting) = (server(PATIENCE).await, server(Duration::from_millis(20)).await);
    other.create(namespace(NAME, &Token::generate(NAME))).await.expect("the name is free");
    let (log, closing) = (other.log(NAME).await.expect("it lives"), deleting.log(NAME).await.expect("it lives"));
    write(&log, "a-1", "T").await;
    let schema = format!("eventodb_{}", log.namespace().incarnation.0);
    postgres::run(&url, &LATE_END.replace("{log}", &schema)).await;
    let holder = postgres::connect(&url).await;
    holder.batch_execute("SELECT pg_advisory_lock(22)").await.expect("nobody has it");
    let deletion = tokio::spawn(async move { deleting.delete(NAME).await });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 22
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while holder.query_one(waiting, &[]).await.expect("good SQL").get::<_, i64>(0) == 0 {}
    write(&log, "a-1", "T").await;
    while !closing.is_closed() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    holder.batch_execute("SELECT pg_advisory_unlock(22)").await.expect("it has the lock");
    let (_, messages) = deletion.await.expect("no panic").expect("it lives");
    assert_eq!(messages, 2);
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_poll_ends_what_was_deleted_through_the_other_server() {
    let (pair, _proxy) = late(Settings::default().poll_interval).await;
    let [log, _] = pair.logs().await;
    // Only a subscription waits here: nothing is asked that the database would refuse.
    let mut subscription = subscribe(&log, everything(), Start::Now);
    assert_eq!(subscription.next().await, Event::CaughtUp(0));
    pair.servers[1].delete(NAME).await.expect("it lives");
    let deleted = Instant::now();
    assert_eq!(subscription.next().await, Event::Closed);
    tell(&format!("an idle subscription has ended {:?} after the deletion", deleted.elapsed()));
    assert!(pair.servers[0].authorize(&pair.token).await.expect("it answers").is_none());
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_replaced_through_the_other_server_goes_on_at_once() {
    // Neither a notification nor a poll tells of it.
    let (pair, _proxy) = late(PATIENCE).await;
    let [log, _] = pair.logs().await;
    write(&log, "a-1", "old").await;
    pair.servers[1].replace(NAME, None).await.expect("it lives").finish().await.expect("nothing is in the way");
    assert!(matches!(log.read(Read::forward(everything(), 1, 100)).await, Err(Error::Closed)));
    let log =
        pair.servers[0].authorize(&pair.token).await.expect("it answers").expect("the token is the same").log().clone();
    assert!(all(&log).await.is_empty());
    pair.close().await;
}

/// A real pg_dump that has begun, and waits for somebody to take what it writes.
struct Dump(std::process::Child);

impl Dump {
    async fn begin(url: &str, log: &Arc<Log>) -> Self {
        // More than fits into a pipe.
        let mut filler = message("T");
        filler.data = format!("\"{}\"", "x".repeat(1 << 20)).as_str().into();
        write_expecting(log, "filler-1", Expected::Any, filler).await.expect("nothing is in the way");
        let mut command = Command::new(postgres::program("pg_dump"));
        command.arg("--dbname").arg(url).stdin(Stdio::null()).stdout(Stdio::piped());
        let dump = Self(command.spawn().expect("it was found"));
        let session = postgres::connect(url).await;
        let copies = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' \
                      AND datname = current_database() AND query LIKE 'COPY eventodb_%messages%'";
        while session.query_one(copies, &[]).await.expect("good SQL").get::<_, i64>(0) == 0 {}
        dump
    }

    /// Whether it is still at it.
    fn is_open(&mut self) -> bool {
        self.0.try_wait().expect("it is our child").is_none()
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_dump_delays_nobody() {
    let pair = Pair::new().await;
    let [first, second] = pair.logs().await;
    let mut dump = Dump::begin(&pair.url, &first).await;
    let started = Instant::now();
    for at in 0..50 {
        write(&first, "a-1", "T").await;
        write(&second, "a-1", "T").await;
        assert_eq!(first.version("a-1").await.expect("it answers"), Some(2 * at + 1));
    }
    pair.servers[1].delete(NAME).await.expect("it lives");
    let token = Token::generate(NAME);
    pair.servers[1].create(namespace(NAME, &token)).await.expect("the name is free");
    for server in &pair.servers {
        assert!(
            server
                .authorize(&pair.token)
                .await
                .expect("it answers")
                .is_none_or(|known| Arc::ptr_eq(known.log(), &first))
        );
        let new = server.authorize(&token).await.expect("it answers").expect("it is the token").log().clone();
        write(&new, "b-1", "T").await;
    }
    assert_eq!(pair.servers[0].info(NAME).await.expect("it lives").message_count, 2);
    tell(&format!("100 writes, a deletion and a creation beside an open pg_dump: {:?}", started.elapsed()));
    assert!(dump.is_open(), "the dump did not end meanwhile");
    drop(dump);
    pair.close().await;
}
