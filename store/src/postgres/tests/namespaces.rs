//! Deletion against appends, counts, storage that goes away.

use std::sync::Arc;

use eventodb_protocol::Scope;
use eventodb_protocol::request::ListPage;

use super::fixture::{Fixture, new_namespace, select, settings};
use crate::Error;
use crate::model::{Counts, Incarnation};
use crate::postgres::Postgres;
use crate::storage::{AppendError, Backend as _};
use eventodb_testing::postgres;

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
    fixture.backend.promote(next.incarnation).await.expect("it lives");
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
