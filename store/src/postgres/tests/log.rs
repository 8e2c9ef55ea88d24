//! Appending, fencing, reading.

use std::sync::Arc;

use eventodb_protocol::filter::Traits;
use eventodb_protocol::{Direction, Filter, Scope};

use super::fixture::{Fixture, batch, message, open_batch, positions, select};
use crate::model::{Entry, Head, Select};
use crate::storage::{AppendError, Settled};

#[tokio::test]
async fn what_is_appended_is_read() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.storage.head().await.expect("it answers"), Head::default());
    let batch = fixture.batch(&[("a-1", "A"), ("b-1", "B"), ("a-1", "A")]).await;
    let entries = fixture.append(&batch).await.expect("nobody else writes");
    let slice = fixture.read(select(Scope::All)).await;
    let read: Vec<_> = slice.rows.iter().map(|message| message.to_message()).collect();
    let written: Vec<_> = entries.iter().map(|entry| entry.message().clone()).collect();
    assert_eq!(read, written);
    assert_eq!(slice.covered, i64::MAX);
    let head = fixture.storage.head().await.expect("it answers");
    assert_eq!((head.position, head.batch, head.time), (3, 1, written[0].time));
    let versions = fixture.storage.versions(&["b-1".into(), "none".into(), "a-1".into()]).await;
    assert_eq!(versions.expect("it answers"), [0, -1, 1]);
    let found = fixture.storage.find(&[written[1].id, uuid::Uuid::nil()]).await.expect("it answers");
    assert_eq!(found, written[1..2]);
}

#[tokio::test]
async fn a_batch_after_an_old_head_is_behind() {
    let fixture = Fixture::new().await;
    let late = fixture.batch(&[("a-1", "A")]).await;
    fixture.write(&[("b-1", "B")]).await;
    assert!(matches!(fixture.append(&late).await, Err(AppendError::Behind)));
    // Also where the number fits and the position does not.
    let head = fixture.storage.head().await.expect("it answers");
    let wrong = batch(Head { position: 7, ..head }, vec![message("a-1", "A", 0, 8)]);
    assert!(matches!(fixture.append(&wrong).await, Err(AppendError::Behind)));
    assert_eq!(positions(&fixture.read(select(Scope::All)).await), [1]);
}

#[tokio::test]
async fn an_append_may_be_begun_behind_the_one_that_it_follows() {
    let fixture = Fixture::new().await;
    for wins in [true, false] {
        let first = fixture.batch(&[("a-1", "A")]).await;
        let position = first.head().position + 1;
        let second = batch(first.head(), vec![message("b-1", "B", i64::from(!wins), position)]);
        if !wins {
            fixture.write(&[("c-1", "C")]).await;
        }
        let (first, second) = tokio::join!(fixture.append(&first), fixture.append(&second));
        if wins {
            assert_eq!(first.expect("nobody else writes").len(), 1);
            assert_eq!(second.expect("it follows the first").len(), 1);
        } else {
            assert!(matches!(first, Err(AppendError::Behind)));
            assert!(matches!(second, Err(AppendError::Behind)));
        }
    }
    assert_eq!(positions(&fixture.read(select(Scope::All)).await), [1, 2, 3]);
}

/// Stream, position and whether it is the first, of each.
fn places(entries: &[Arc<Entry>]) -> Vec<(&str, i64, bool)> {
    let messages = entries.iter().map(|entry| (entry.message(), entry.starts_stream()));
    messages.map(|(message, starts)| (&*message.stream, message.position, starts)).collect()
}

#[tokio::test]
async fn an_append_finds_the_versions_that_are_open() {
    let fixture = Fixture::new().await;
    fixture.write(&[("a-1", "A"), ("c-1", "C"), ("a-1", "A")]).await;
    let head = fixture.storage.head().await.expect("it answers");
    let messages = [("a-1", 0), ("b-1", 0), ("c-1", 1), ("a-1", 1), ("d-1", 0), ("b-1", 1)];
    let messages = messages.iter().zip(4..).map(|(&(stream, position), at)| message(stream, "T", position, at));
    let first = open_batch(head, messages.collect(), &["a-1", "b-1"]);
    // Behind it, one stream is open in both.
    let messages = vec![message("e-1", "T", 0, 10), message("b-1", "T", 0, 11)];
    let second = open_batch(first.head(), messages, &["b-1", "e-1"]);
    let (first, second) = tokio::join!(fixture.append(&first), fixture.append(&second));
    let (first, second) = (first.expect("nobody else writes"), second.expect("it follows the first"));
    let expected = [
        ("a-1", 2, false),
        ("b-1", 0, true),
        ("c-1", 1, false),
        ("a-1", 3, false),
        ("d-1", 0, true),
        ("b-1", 1, false),
    ];
    assert_eq!(places(&first), expected);
    assert_eq!(places(&second), [("e-1", 0, true), ("b-1", 2, false)]);
    let written: Vec<_> = first.iter().chain(&second).map(|entry| entry.message().clone()).collect();
    let slice = fixture.read(select(Scope::All)).await;
    let read: Vec<_> = slice.rows.iter().skip(3).map(|message| message.to_message()).collect();
    assert_eq!(read, written);
    let counts = fixture.storage.counts().await.expect("it answers");
    assert_eq!((counts.messages, counts.streams), (11, 5));
    assert_eq!(fixture.number("SELECT count(*) FROM {log}.messages WHERE starts_stream").await, 5);
}

#[tokio::test]
async fn versions_that_were_open_are_found_by_the_fence_too() {
    let fixture = Fixture::new().await;
    fixture.write(&[("a-1", "A")]).await;
    let head = fixture.storage.head().await.expect("it answers");
    let batch = open_batch(head, vec![message("a-1", "A", 0, 2), message("b-1", "B", 0, 3)], &["a-1", "b-1"]);
    let written = fixture.append(&batch).await.expect("nobody else writes");
    assert_eq!(places(&written), [("a-1", 1, false), ("b-1", 0, true)]);
    fixture.write(&[("a-1", "A"), ("b-1", "B")]).await;
    assert!(matches!(fixture.append(&batch).await, Err(AppendError::Behind)));
    let Ok(Settled::Committed(found)) = fixture.settle(&batch).await else { panic!("it was committed") };
    assert_eq!(places(&found), places(&written));
}

#[tokio::test]
async fn a_row_that_cannot_be_is_rejected_and_nothing_is_written() {
    let fixture = Fixture::new().await;
    let first = fixture.write(&[("a-1", "A")]).await;
    let mut same_id = fixture.batch(&[("b-1", "B"), ("b-2", "B")]).await;
    same_id.messages[1].id = first.messages[0].id;
    assert!(matches!(fixture.append(&same_id).await, Err(AppendError::Rejected(_))));
    let head = fixture.storage.head().await.expect("it answers");
    let same_position = batch(head, vec![message("a-1", "A", 0, 2)]);
    assert!(matches!(fixture.append(&same_position).await, Err(AppendError::Rejected(_))));
    assert_eq!(fixture.storage.head().await.expect("it answers"), head);
    assert_eq!(positions(&fixture.read(select(Scope::All)).await), [1]);
}

#[tokio::test]
async fn a_fence_keeps_a_batch_out_or_finds_it() {
    let fixture = Fixture::new().await;
    let lost = fixture.batch(&[("a-1", "A")]).await;
    for _ in 0..2 {
        assert!(matches!(fixture.settle(&lost).await, Ok(Settled::NotCommitted)));
    }
    assert!(matches!(fixture.append(&lost).await, Err(AppendError::Behind)));
    let written = fixture.batch(&[("a-1", "A"), ("b-1", "B")]).await;
    let entries = fixture.append(&written).await.expect("nobody else writes");
    fixture.write(&[("c-1", "C")]).await;
    let expected: Vec<_> = entries.iter().map(|entry| entry.message().clone()).collect();
    for prune in [false, true] {
        if prune {
            fixture.sql("DELETE FROM {log}.batches WHERE seq < 3").await;
        }
        let Ok(Settled::Committed(found)) = fixture.settle(&written).await else { panic!("it was committed") };
        let found: Vec<_> = found.iter().map(|entry| entry.message().clone()).collect();
        assert_eq!(found, expected);
        assert!(matches!(fixture.settle(&lost).await, Ok(Settled::NotCommitted)));
    }
}

#[tokio::test]
async fn an_append_still_running_cannot_succeed_after_the_fence() {
    let fixture = Fixture::new().await;
    let second = fixture.second().await;
    let batch = fixture.batch(&[("a-1", "A")]).await;
    // A transaction that holds the number stands for an append whose client is gone.
    let stuck = eventodb_testing::postgres::connect(&fixture.url).await;
    let insert =
        format!("BEGIN; INSERT INTO eventodb_{}.batches VALUES (1, '{}', 1, 1, 1, now())", fixture.log.0, batch.id);
    stuck.batch_execute(&insert).await.expect("good SQL");
    let fencing = tokio::spawn(async move { second.settle(&batch).await.map(|_| second) });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while fixture.number(waits).await == 0 {}
    stuck.batch_execute("ROLLBACK").await.expect("it is open");
    fencing.await.expect("no panic").expect("the fence holds");
    assert_eq!(fixture.storage.head().await.expect("it answers").batch, 1);
    assert_eq!(fixture.number("SELECT count(*) FROM {log}.batches WHERE last_position = 0").await, 2);
}

/// The positions that slices of three rows find one after the other; each covers what the next one begins after.
async fn walk(fixture: &Fixture, mut wanted: Select) -> Vec<i64> {
    let mut found = Vec::new();
    loop {
        let slice = fixture.read(wanted.clone()).await;
        assert!(slice.rows.len() <= 3);
        found.extend(positions(&slice));
        if slice.covered == wanted.to {
            return found;
        }
        wanted.from = match wanted.direction {
            Direction::Forward => {
                assert!(slice.covered >= wanted.from);
                slice.covered + 1
            }
            Direction::Backward => {
                assert!(slice.covered <= wanted.from);
                slice.covered - 1
            }
        };
    }
}

#[tokio::test]
async fn slices_cover_everything_in_both_directions() {
    let fixture = Fixture::new().await;
    let places: Vec<(String, &str)> =
        (0..60).map(|at| (format!("{}-{}", ["a", "b", "c"][at % 3], at % 7), ["A", "B"][at % 2])).collect();
    let places: Vec<(&str, &str)> = places.iter().map(|(stream, kind)| (&**stream, *kind)).collect();
    fixture.write(&places).await;
    let scopes = [
        Scope::All,
        Scope::Stream("a-3".into()),
        Scope::Categories(vec!["b".into()]),
        Scope::Categories(vec!["c".into(), "a".into()]),
    ];
    let others = [(vec![], None), (vec!["A".into()], None), (vec![], eventodb_protocol::ConsumerGroup::new(1, 3))];
    let filters = scopes.iter().flat_map(|scope| {
        others.iter().map(|(types, group)| Filter { types: types.clone(), group: *group, ..Filter::new(scope.clone()) })
    });
    let all = fixture.read(select(Scope::All)).await;
    for filter in filters {
        let matching = all.rows.iter().filter(|m| {
            m.global_position <= 57 && filter.matches(Traits { stream: m.stream, kind: m.kind, correlation: None })
        });
        let mut expected: Vec<i64> = matching.map(|m| m.global_position).collect();
        let forward = Select { filter: Arc::new(filter), rows: 3, head: 57, ..select(Scope::All) };
        assert_eq!(walk(&fixture, forward.clone()).await, expected, "{forward:?}");
        expected.reverse();
        let backward = Select { direction: Direction::Backward, from: i64::MAX, to: 1, ..forward };
        assert_eq!(walk(&fixture, backward.clone()).await, expected, "{backward:?}");
    }
}

#[tokio::test]
async fn an_answer_of_class_08_leaves_the_outcome_open() {
    let fixture = Fixture::new().await;
    // As something between PostgreSQL and the server answers that lost its own connection.
    let lost = "CREATE FUNCTION {log}.lose() RETURNS trigger LANGUAGE plpgsql
                AS $$BEGIN RAISE 'lost' USING ERRCODE = 'connection_failure'; END$$;
                CREATE TRIGGER lose AFTER INSERT ON {log}.messages EXECUTE FUNCTION {log}.lose()";
    fixture.sql(lost).await;
    let batch = fixture.batch(&[("a-1", "A")]).await;
    let outcome = fixture.append(&batch).await;
    assert!(matches!(outcome, Err(AppendError::Unknown(_))), "{outcome:?}");
    fixture.sql("DROP TRIGGER lose ON {log}.messages").await;
    assert!(matches!(fixture.settle(&batch).await, Ok(Settled::NotCommitted)));
    assert!(matches!(fixture.append(&batch).await, Err(AppendError::Behind)), "it never happens any more");
}
