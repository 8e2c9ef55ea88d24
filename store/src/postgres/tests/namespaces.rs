//! Deletion against appends, counts, storage that goes away.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::Scope;
use eventodb_protocol::request::ListPage;

use tokio::time::timeout;

use super::fixture::{Fixture, new_namespace, open_store, select, settings};
use super::replacing::EXPIRE;
use crate::Error;
use crate::conformance::support::PATIENCE;
use crate::model::{Batch, Counts, Incarnation, Size};
use crate::postgres::{Postgres, Settings};
use crate::storage::{AppendError, Backend as _, Hint};
use eventodb_testing::postgres;
use eventodb_testing::proxy::{Hold, Proxy};

#[tokio::test(flavor = "multi_thread")]
async fn no_append_is_acknowledged_after_the_deletion_and_none_before_is_missing() {
    let fixture = Arc::new(Fixture::new().await);
    let writer = Arc::clone(&fixture);
    let (started, has_started) = tokio::sync::oneshot::channel();
    let writing = tokio::spawn(async move {
        let mut started = Some(started);
        let mut batch = writer.batch(&[("a-1", "A")]).await;
        loop {
            match writer.append(&batch).await {
                Ok(entries) => {
                    let last = entries[0].message();
                    let after = crate::model::Head {
                        position: last.global_position,
                        batch: batch.after.batch + 1,
                        id: batch.id,
                        time: last.time,
                    };
                    let next = super::fixture::message("a-1", "A", last.position + 1, last.global_position + 1);
                    batch = super::fixture::batch(after, vec![next]);
                    if batch.after.position == 20
                        && let Some(started) = started.take()
                    {
                        started.send(()).expect("the test waits");
                    }
                }
                Err(AppendError::Behind) => return batch,
                Err(error) => panic!("{error}"),
            }
        }
    });
    has_started.await.expect("it writes");
    fixture.backend.delete(fixture.log).await.expect("it answers").expect("it lives");
    let held = fixture.number("SELECT count(*) FROM {log}.messages").await;
    let refused = writing.await.expect("no panic");
    assert_eq!(held, refused.after.position, "what was acknowledged is there, and nothing else");
    assert_eq!(fixture.storage.counts().await.expect("still there").messages, held as u64);
    assert!(matches!(fixture.storage.head().await, Err(Error::Closed)));
    assert!(matches!(fixture.backend.open(fixture.log).await, Err(Error::Closed)));
    assert_eq!(fixture.backend.delete(fixture.log).await.expect("it answers"), None);
    fixture.purge_all().await;
    assert!(matches!(fixture.append(&refused).await, Err(AppendError::Closed)));
    assert!(matches!(fixture.storage.read(&select(Scope::All)).await, Err(Error::Closed)));
    assert_eq!(fixture.number("SELECT count(*) FROM eventodb.namespaces").await, 0);
}

#[tokio::test]
async fn storage_in_use_is_dropped_later() {
    let fixture = Fixture::new().await;
    fixture.write(&[("a-1", "A")]).await;
    // As pg_dump does for as long as it takes.
    let dump = postgres::connect(&fixture.url).await;
    let read =
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM eventodb_{}.messages", fixture.log.0);
    dump.batch_execute(&read).await.expect("good SQL");
    let next = fixture.backend.stage(fixture.log).await.expect("it lives");
    assert!(next.incarnation > fixture.log && &*next.name == "test");
    fixture.backend.promote(next.incarnation, Size::default()).await.expect("it lives");
    fixture.long_ago().await;
    fixture.backend.purge().await.expect("it answers");
    assert_eq!(fixture.number("SELECT count(*) FROM {log}.messages").await, 1);
    dump.batch_execute("COMMIT").await.expect("it is open");
    fixture.purge_all().await;
    assert_eq!(fixture.number("SELECT count(*) FROM pg_namespace WHERE nspname = '{log}'").await, 0);
    assert!(matches!(fixture.backend.stage(fixture.log).await, Err(Error::NamespaceNotFound)));
}

/// As where the node of the first one is dead, and home answers for it.
#[tokio::test]
async fn a_schema_that_cannot_be_dropped_holds_up_no_other() {
    let fixture = Fixture::new().await;
    let next = fixture.backend.create(&new_namespace("next")).await.expect("the name is free").incarnation;
    fixture.backend.open(next).await.expect("it lives");
    let refuse = format!(
        "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE schema_name = 'eventodb_{}') THEN
                 RAISE EXCEPTION 'the node is dead' USING ERRCODE = '08006';
             END IF;
         END $$;
         CREATE EVENT TRIGGER refuse ON sql_drop EXECUTE FUNCTION public.refuse()",
        fixture.log.0
    );
    fixture.sql(&refuse).await;
    fixture.sql("UPDATE eventodb.namespaces SET deleted_at = now()").await;
    fixture.long_ago().await;
    fixture.backend.purge().await.expect("it answers");
    assert_eq!(fixture.number("SELECT min(incarnation) FROM eventodb.namespaces").await, fixture.log.0);
    assert_eq!(fixture.number("SELECT count(*) FROM eventodb.namespaces").await, 1);
    fixture.sql("DROP EVENT TRIGGER refuse").await;
    fixture.purge_all().await;
}

/// Home waits for the node of the schema, which does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_takes_long_holds_up_neither_the_start_nor_the_registry() {
    let fixture = Fixture::new().await;
    let gone = fixture.backend.create(&new_namespace("gone")).await.expect("the name is free").incarnation;
    fixture.backend.open(gone).await.expect("it lives");
    let hold = "CREATE TABLE public.held AS SELECT 1;
        CREATE FUNCTION public.hold() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            WHILE EXISTS (SELECT FROM public.held) LOOP PERFORM pg_sleep(0.01); END LOOP;
        END $$;
        CREATE EVENT TRIGGER hold ON sql_drop EXECUTE FUNCTION public.hold()";
    fixture.sql(hold).await;
    fixture.backend.delete(gone).await.expect("it answers").expect("it lives");
    fixture.long_ago().await;
    let patient = Settings { statement_timeout: 2 * PATIENCE, ..settings(&fixture.url) };
    let opening = timeout(PATIENCE, open_store(patient, crate::Settings::default()));
    let store = opening.await.expect("it does not wait for the drop");
    let dropping = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND state = 'active' AND query LIKE 'DROP SCHEMA%'";
    fixture.until(dropping, 1).await;
    fixture.backend.stage(fixture.log).await.expect("it lives");
    fixture.sql(EXPIRE).await;
    fixture.until("SELECT count(*) FROM eventodb.namespaces WHERE staged_until IS NOT NULL", 0).await;
    assert_eq!(fixture.number(dropping).await, 1, "all that while it was dropping");
    fixture.sql("DELETE FROM public.held").await;
    fixture.until(&format!("SELECT count(*) FROM pg_namespace WHERE nspname = 'eventodb_{}'", gone.0), 0).await;
    store.close().await;
}

/// Behind a pooler the role's settings hold, and its transactions keep their snapshot.
#[tokio::test]
async fn a_log_is_ended_behind_an_append_that_is_committed_meanwhile() {
    let url = postgres::database().await;
    let default = "DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation TO %L', current_database(), 'repeatable read');
    END $$";
    postgres::run(&url, default).await;
    let fixture = Fixture::at(url, |settings| settings.prepare = false).await;
    fixture.write(&[("a-1", "A")]).await;
    let other = postgres::connect(&fixture.url).await;
    let append = format!(
        "BEGIN; INSERT INTO eventodb_{log}.batches (seq, batch_id, last_position, message_count, stream_count, time)
         SELECT seq + 1, gen_random_uuid(), last_position, message_count, stream_count, time
         FROM eventodb_{log}.batches ORDER BY seq DESC LIMIT 1",
        log = fixture.log.0
    );
    other.batch_execute(&append).await.expect("good SQL");
    let deleting = tokio::spawn({
        let (backend, log) = (fixture.backend.clone(), fixture.log);
        async move { backend.delete(log).await }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    fixture.until(waiting, 1).await;
    other.batch_execute("COMMIT").await.expect("it is open");
    deleting.await.expect("no panic").expect("it is deleted, and its log has ended").expect("it lived");
    assert_eq!(fixture.number("SELECT count(*) FROM {log}.batches WHERE last_position IS NULL").await, 1);
}

/// The server that deleted it has died before it ended the log, and the schema cannot be dropped.
#[tokio::test]
async fn a_purge_ends_the_log_of_a_deleted_namespace() {
    let fixture = Fixture::new().await;
    fixture.write(&[("a-1", "A")]).await;
    let batch = fixture.batch(&[("a-1", "A")]).await;
    let dump = postgres::connect(&fixture.url).await;
    let read = format!("BEGIN; SELECT count(*) FROM eventodb_{}.messages", fixture.log.0);
    dump.batch_execute(&read).await.expect("good SQL");
    fixture.sql("UPDATE eventodb.namespaces SET deleted_at = now()").await;
    fixture.long_ago().await;
    for _ in 0..2 {
        // A server that has met somebody there pauses.
        let server = Postgres::open(settings(&fixture.url)).await.expect("the database is fine");
        server.purge().await.expect("it answers");
        assert_eq!(fixture.number("SELECT count(*) FROM {log}.batches WHERE last_position IS NULL").await, 1);
    }
    assert!(matches!(fixture.append(&batch).await, Err(AppendError::Behind)));
    assert!(matches!(fixture.storage.head().await, Err(Error::Closed)));
    assert_eq!(fixture.storage.counts().await.expect("still there").messages, 1);
}

/// How many batches that nothing can follow a log has.
const ENDS: &str = "SELECT count(*) FROM {log}.batches WHERE last_position IS NULL";

/// The server that deleted it has died before it ended the log.
async fn half_deleted() -> (Fixture, Batch) {
    let fixture = Fixture::new().await;
    fixture.write(&[("a-1", "A")]).await;
    let batch = fixture.batch(&[("a-1", "A")]).await;
    fixture.sql("UPDATE eventodb.namespaces SET deleted_at = now()").await;
    (fixture, batch)
}

#[tokio::test]
async fn a_second_deletion_answers_once_the_log_has_ended() {
    let (fixture, batch) = half_deleted().await;
    assert_eq!(fixture.backend.delete(fixture.log).await.expect("it answers"), None);
    assert!(matches!(fixture.append(&batch).await, Err(AppendError::Behind)));
    assert_eq!(fixture.number(ENDS).await, 1);
}

#[tokio::test]
async fn a_deletion_that_finds_no_namespace_answers_once_the_log_has_ended() {
    let (fixture, batch) = half_deleted().await;
    let server = open_store(settings(&fixture.url), crate::Settings::default()).await;
    assert!(matches!(server.delete("test").await, Err(Error::NamespaceNotFound)));
    assert!(matches!(fixture.append(&batch).await, Err(AppendError::Behind)));
    server.close().await;
}

#[tokio::test]
async fn a_name_is_given_again_once_the_earlier_log_has_ended() {
    let (fixture, batch) = half_deleted().await;
    let holder = postgres::connect(&fixture.url).await;
    let lock = format!("BEGIN; LOCK TABLE eventodb_{}.batches", fixture.log.0);
    holder.batch_execute(&lock).await.expect("nobody writes");
    let hasty = Settings { statement_timeout: Duration::from_millis(200), ..settings(&fixture.url) };
    let hasty = Postgres::open(hasty).await.expect("the database is fine");
    let refused = hasty.create(&new_namespace("test")).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(hasty.namespace("test").await.expect("it answers").is_none(), "nothing was created");
    holder.batch_execute("ROLLBACK").await.expect("it is open");
    let created = fixture.backend.create(&new_namespace("test")).await.expect("the name is free");
    assert!(created.incarnation > fixture.log);
    assert!(matches!(fixture.append(&batch).await, Err(AppendError::Behind)));
    hasty.close().await;
}

/// Lets the commit of a deletion wait for the lock that [`HELD`] takes.
const SLOW: &str = "
    CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(21);
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON eventodb.namespaces DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.wait()";
const HELD: &str = "SELECT pg_advisory_lock(21)";

/// The deletion is done, and the report of its commit never comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_of_unknown_outcome_ends_the_log_and_tells_the_other_servers() {
    let fixture = Fixture::new().await;
    fixture.write(&[("a-1", "A")]).await;
    let batch = fixture.batch(&[("a-1", "A")]).await;
    fixture.sql(SLOW).await;
    let other = fixture.second().await;
    let mut hints = other.backend.hints().expect("nobody has taken them");
    while hints.recv().await != Some(Hint::All) {}
    let holder = postgres::connect(&fixture.url).await;
    holder.batch_execute(HELD).await.expect("nobody has it");
    let proxy = Proxy::to_database(&fixture.url, 0).await;
    let server = Postgres::open(settings(&proxy.database_url(&fixture.url))).await.expect("the database is fine");
    let log = fixture.log;
    let deleting = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.delete(log).await }
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 21
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while fixture.number(waiting).await == 0 {}
    proxy.hold(Hold { requests: false, replies: true });
    holder.batch_execute("SELECT pg_advisory_unlock(21)").await.expect("it has the lock");
    while fixture.number("SELECT count(*) FROM eventodb.namespaces WHERE deleted_at IS NULL").await > 0 {}
    proxy.until_held().await;
    proxy.cut_all();
    proxy.hold(Hold::default());
    let outcome = deleting.await.expect("no panic");
    assert!(matches!(outcome, Err(Error::Unknown(_))), "{outcome:?}");
    assert!(matches!(fixture.append(&batch).await, Err(AppendError::Behind)));
    let told = async { while hints.recv().await != Some(Hint::Registry) {} };
    tokio::time::timeout(PATIENCE, told).await.expect("the other server is told");
    server.close().await;
}

#[tokio::test]
async fn a_log_that_could_not_be_ended_is_not_taken_for_one_that_was_never_made() {
    let fixture = Fixture::new().await;
    let deleted = fixture.backend.create(&new_namespace("never")).await.expect("the name is free").incarnation;
    assert!(fixture.backend.delete(deleted).await.expect("it was never made").is_some());
    let refusing = fixture.backend.create(&new_namespace("refusing")).await.expect("the name is free").incarnation;
    let refuse =
        "CREATE SCHEMA eventodb_#; CREATE FUNCTION eventodb_#.tombstone_2(uuid) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'the disk is broken' USING ERRCODE = '58030'; END $$";
    fixture.sql(&refuse.replace('#', &refusing.0.to_string())).await;
    let outcome = fixture.backend.delete(refusing).await;
    assert!(matches!(outcome, Err(Error::Unknown(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_deletion_ends_a_log_behind_its_seal() {
    let fixture = Fixture::new().await;
    fixture.write(&[("a-1", "A")]).await;
    let batch = fixture.batch(&[("a-1", "A")]).await;
    let staged = fixture.backend.stage(fixture.log).await.expect("it lives");
    fixture.backend.delete(fixture.log).await.expect("it answers").expect("it lives");
    // Whoever looks at the seal now finds it no longer the last batch.
    fixture.backend.discard(staged.incarnation).await.expect("it answers");
    assert!(matches!(fixture.append(&batch).await, Err(AppendError::Behind)));
    assert!(matches!(fixture.storage.head().await, Err(Error::Closed)));
    assert_eq!(fixture.number("SELECT count(*) FROM {log}.batches WHERE last_position IS NULL").await, 2);
}

#[tokio::test]
async fn the_registry_keeps_what_it_was_given() {
    let fixture = Fixture::new().await;
    let new = new_namespace("ü'; DROP SCHEMA eventodb CASCADE; --");
    let created = fixture.backend.create(&new).await.expect("the name is free");
    assert!(matches!(fixture.backend.create(&new).await, Err(Error::NamespaceExists)));
    let found = fixture.backend.namespace(&new.name).await.expect("it answers").expect("it lives");
    assert_eq!(
        (found.incarnation, &*found.name, &*found.description, found.created_at),
        (created.incarnation, &*new.name, &*new.description, created.created_at)
    );
    let token = fixture.backend.token(&new.name, &new.token_hash).await.expect("it answers").expect("it is the first");
    assert_eq!((token.origin, &*token.namespace), (created.origin, &*new.name));
    assert_eq!(fixture.backend.token("none", &new.token_hash).await.expect("it answers"), None);
    let names: Vec<_> = fixture.backend.namespaces().await.expect("it answers").into_iter().map(|n| n.name).collect();
    assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["test", &*new.name]);
}

#[tokio::test]
async fn counts_are_exact_whether_folded_or_not() {
    for fold_messages in [1, 1_000_000] {
        let fixture = Fixture::with(|settings| settings.fold_messages = fold_messages).await;
        let unopened = fixture.backend.create(&new_namespace("unopened")).await.expect("the name is free");
        for _ in 0..3 {
            fixture.write(&[("a-1", "A"), ("b-1", "B"), ("a-2", "A"), ("a-1", "A")]).await;
        }
        if fold_messages == 1 {
            while fixture.number("SELECT position FROM {log}.folded").await < 12 {}
        }
        let counts = fixture.storage.counts().await.expect("it answers");
        let last = fixture.storage.head().await.expect("it answers").time;
        assert_eq!(counts, Counts { messages: 12, streams: 3, last_activity: Some(last) });
        let everything = ListPage { prefix: String::new(), after: None, limit: 1000 };
        let categories = fixture.storage.categories(&everything).await.expect("it answers");
        let categories: Vec<_> = categories.iter().map(|c| (&*c.category, c.stream_count, c.message_count)).collect();
        assert_eq!(categories, [("a", 2, 9), ("b", 1, 3)]);
        let mut counts: Vec<(Incarnation, u64)> = fixture.backend.message_counts().await.expect("it answers");
        counts.sort();
        assert_eq!(counts, [(fixture.log, 12), (unopened.incarnation, 0)]);
    }
}
