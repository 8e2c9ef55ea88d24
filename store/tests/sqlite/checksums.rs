//! A stored message that is not as it was written: never served, never passed over, named, and given up on demand.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::message::{Expected, NewMessage};
use eventodb_protocol::request::{Append, AppendEntry, Read};
use eventodb_protocol::{Direction, Filter, Scope};
use eventodb_store::log::{Event, Start, Subscribe};
use eventodb_store::sqlite::Settings;
use eventodb_store::sqlite::maintenance::{Error as MaintenanceError, Permissions, backup, give_up, repair, verify};
use eventodb_store::{Error, Log, Result};
use rusqlite::Connection;
use tempfile::TempDir;

use super::support::*;

/// The message that is damaged, of a hundred.
const DAMAGED: i64 = 50;

/// Every way to change it.
const CHANGES: [&str; 11] = [
    "stream = 'a-6'",
    "position = position + 1",
    "starts_stream = 1 - starts_stream",
    "id = randomblob(16)",
    "type = 'V'",
    "correlation = 'p'",
    "time = time + 1",
    "metadata = '{\"a\":1}'",
    "data = '{\"at\":59}'",
    "data = CAST(x'7bff7d' AS TEXT)",
    "checksum = NULL",
];

fn tamper(directory: &Path, sql: &str) {
    let connection = Connection::open(log_file(directory)).expect("a database");
    connection.execute_batch(sql).expect("a log");
}

fn change(directory: &Path, to: &str) {
    tamper(directory, &format!("UPDATE messages SET {to} WHERE global_position = {DAMAGED}"));
}

/// Global positions on one page, and up to where it is complete.
async fn page(log: &Arc<Log>, read: Read) -> Result<(Vec<i64>, Option<i64>)> {
    available(|| async {
        let mut page = log.read(read.clone()).await?;
        let mut positions = Vec::new();
        while let Some(chunk) = page.next().await? {
            positions.extend(chunk.iter().map(|message| message.global_position));
        }
        Ok((positions, page.head()))
    })
    .await
}

fn is_damaged<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Damaged(DAMAGED)))
}

/// Reads along a scope, in both directions, end at the damaged message.
async fn check_scope(log: &Arc<Log>, filter: Filter, all: &[i64]) {
    let (before, behind): (Vec<i64>, Vec<i64>) = all.iter().partition(|at| **at < DAMAGED);
    let behind: Vec<i64> = behind.into_iter().filter(|at| *at != DAMAGED).collect();
    let (found, head) = page(log, Read::forward(filter.clone(), 0, 1_000)).await.expect("sound messages come first");
    assert_eq!((&found, head), (&before, before.last().copied()), "{filter:?}");
    let next = page(log, Read::forward(filter.clone(), head.expect("there are some") + 1, 1_000)).await;
    assert!(is_damaged(&next), "{filter:?}: {next:?}");
    let (found, _) = page(log, Read::forward(filter.clone(), DAMAGED + 1, 1_000)).await.expect("it begins behind it");
    assert_eq!(found, behind, "{filter:?}");

    let backward = |from| Read { direction: Direction::Backward, from, ..Read::forward(filter.clone(), 0, 1_000) };
    let (mut found, _) = page(log, backward(None)).await.expect("sound messages come first");
    found.reverse();
    assert_eq!(found, behind, "{filter:?}");
    let next = page(log, backward(Some(DAMAGED))).await;
    assert!(is_damaged(&next), "{filter:?}: {next:?}");
    let (found, _) = page(log, backward(Some(DAMAGED - 1))).await.expect("it begins before it");
    assert_eq!(found.len(), before.len(), "{filter:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_message_is_never_served_whatever_was_changed() {
    for to in CHANGES {
        let (directory, mut model) = store_of(100).await;
        change(directory.path(), to);
        let store = open(directory.path(), Settings::default()).await;
        let log = log(&store, NAME).await;
        let damaged = &model.0[DAMAGED as usize - 1];
        let of = |is_wanted: &dyn Fn(&str) -> bool| -> Vec<i64> {
            let wanted = model.0.iter().filter(|message| is_wanted(&message.stream));
            wanted.map(|message| message.global_position).collect()
        };
        check_scope(&log, Filter::new(Scope::All), &of(&|_| true)).await;
        let category = damaged.category().to_owned();
        let in_category = Filter::new(Scope::Categories(vec![category.as_str().into()]));
        check_scope(&log, in_category, &of(&|stream| stream.starts_with(&format!("{category}-")))).await;
        let stream = damaged.stream.clone();
        check_scope(&log, Filter::new(Scope::Stream(stream.clone())), &of(&|other| other == &*stream)).await;
        let typed = Filter { types: vec!["T".into(), "U".into()], ..Filter::new(Scope::All) };
        check_scope(&log, typed, &of(&|_| true)).await;
        assert!(store.degraded().iter().any(|reason| reason.code == "DATA_DAMAGED"), "{to}");
        // Writes go on, to its stream, too.
        model.write(&log, 10).await;
        store.close().await;
    }
}

/// Along the log itself, where there are too many categories to look for types by the index.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_along_the_log_passes_over_no_damaged_message() {
    for to in CHANGES {
        let (directory, _) = store_of(100).await;
        change(directory.path(), to);
        let settings = Settings { merged_categories: 1, ..Settings::default() };
        let store = open(directory.path(), settings).await;
        let log = log(&store, NAME).await;
        // No message is of this type: nothing comes before the damaged one.
        let typed = Filter { types: vec!["V".into()], ..Filter::new(Scope::All) };
        let found = page(&log, Read::forward(typed, 0, 1_000)).await;
        assert!(is_damaged(&found), "{to}: {found:?}");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_before_a_damaged_message() {
    let (directory, _) = store_of(100).await;
    change(directory.path(), "data = '{}'");
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, NAME).await;
    for coalesce in [None, Some(Duration::ZERO)] {
        let filter = Filter::new(Scope::All);
        let heartbeat = Duration::from_secs(15);
        let mut subscription = log.subscribe(Subscribe { filter, start: Start::Global(1), coalesce, heartbeat });
        let mut pokes = String::new();
        loop {
            match subscription.next().await {
                Event::Pokes(frames) => pokes += std::str::from_utf8(&frames).expect("frames are text"),
                Event::Damaged(at) => break assert_eq!(at, DAMAGED),
                other => panic!("{other:?}"),
            }
        }
        assert!(pokes.contains("\"globalPosition\":49}") && !pokes.contains("\"globalPosition\":50}"), "{pokes}");
        assert_eq!(subscription.position(), DAMAGED - 1);
    }
    store.close().await;
}

fn append_of(id: uuid::Uuid, stream: &str) -> Append {
    let message = NewMessage { id: Some(id), kind: "T".into(), data: "{}".into(), metadata: None };
    let entry = AppendEntry { stream: stream.into(), expected: Expected::Any, messages: vec![message] };
    Append { entries: vec![entry], checks: Vec::new(), group: None }
}

/// A write that repeats the id of a damaged message can be called neither new nor a repetition. Others go on.
#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_damaged_message_fails_the_write_that_has_it_alone() {
    let (directory, model) = store_of(100).await;
    change(directory.path(), "data = '{}'");
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, NAME).await;
    let repeated = model.0[DAMAGED as usize - 1].id;
    let writes = (0..40).map(|at| {
        let id = if at == 20 { repeated } else { uuid::Uuid::new_v4() };
        let (log, append) = (log.clone(), append_of(id, "d-1"));
        tokio::spawn(async move { (at, log.append(append).await) })
    });
    for write in writes.collect::<Vec<_>>() {
        let (at, outcome) = write.await.expect("it does not panic");
        assert_eq!(is_damaged(&outcome), at == 20, "{at}: {outcome:?}");
        assert_eq!(outcome.is_ok(), at != 20, "{at}: {outcome:?}");
    }
    store.close().await;
}

/// A damaged message tells no time: a read from a time on passes over none that may be at or after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_from_a_time_on_begins_at_no_later_message_than_a_damaged_one() {
    let (directory, model) = store_of(100).await;
    change(directory.path(), "time = 0");
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, NAME).await;
    for message in &model.0 {
        let first = model.0.iter().find(|first| first.time >= message.time).expect("it is one");
        let from = log.position_at(message.time).await.expect("its neighbours tell times");
        let expected = first.global_position;
        let is_beside_damage = expected == DAMAGED || expected == DAMAGED + 1;
        assert!(from == expected || is_beside_damage && from == DAMAGED, "{from} in place of {expected}");
    }
    let lost = log.message(model.0[DAMAGED as usize - 1].id).await;
    assert!(is_damaged(&lost), "{lost:?}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_gone_is_not_passed_over() {
    let (directory, model) = store_of(100).await;
    tamper(directory.path(), &format!("DELETE FROM messages WHERE global_position = {DAMAGED}"));
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, NAME).await;
    let stream = model.0[DAMAGED as usize - 1].stream.clone();
    for scope in [Scope::All, Scope::Stream(stream), Scope::Categories(vec!["a".into(), "b".into(), "c".into()])] {
        let filter = Filter::new(scope);
        let (found, head) =
            page(&log, Read::forward(filter.clone(), 0, 1_000)).await.expect("sound messages come first");
        assert!(found.iter().all(|at| *at < DAMAGED), "{found:?}");
        let next = page(&log, Read::forward(filter, head.expect("there are some") + 1, 1_000)).await;
        assert!(is_damaged(&next), "{next:?}");
    }
    store.close().await;
}

/// A crash left everything to be indexed: whose stream a damaged message was of is not known.
async fn not_indexed() -> (TempDir, Model) {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let mut model = Model::default();
    let store = open(directory.path(), lazy()).await;
    create(&store, NAME).await;
    model.write(&log(&store, NAME).await, 100).await;
    let copy = crash_copy(directory.path());
    store.close().await;
    fs::remove_file(index_file(copy.path())).expect("it is there");
    let _ = fs::remove_file(beside(&index_file(copy.path()), "-wal"));
    (copy, model)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_message_that_no_index_has_stops_writes_and_ends_every_stream() {
    for settings in
        [Settings::default(), tiny(), Settings { index_batch: 3, memtable_messages: 8, ..Settings::default() }]
    {
        let (directory, model) = not_indexed().await;
        change(directory.path(), "stream = 'a-6', data = '{}'");
        // Twice: the second time the index has everything else.
        for _ in 0..2 {
            let store = open(directory.path(), settings.clone()).await;
            let log = log(&store, NAME).await;
            let (found, _) =
                page(&log, Read::forward(Filter::new(Scope::All), DAMAGED + 1, 1_000)).await.expect("sound");
            assert_eq!(found.len(), 50);
            for scope in [Scope::Stream("a-0".into()), Scope::Categories(vec!["a".into()])] {
                let read = Read::forward(Filter::new(scope), 0, 1_000);
                let (found, head) = page(&log, read.clone()).await.expect("sound messages come first");
                assert!(!found.is_empty() && found.iter().all(|at| *at < DAMAGED), "{found:?}");
                let next = page(&log, Read { from: head.map(|head| head + 1), ..read }).await;
                assert!(is_damaged(&next), "{next:?}");
            }
            let refused = log.append(append_of(uuid::Uuid::new_v4(), "d-1")).await;
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
            let version = log.version("none-1").await;
            assert!(is_damaged(&version), "{version:?}");
            let version = log.version(&model.0[99].stream).await.expect("its last message lies behind");
            assert_eq!(version, Some(model.0[99].position));
            assert!(store.degraded().iter().any(|reason| reason.code == "DAMAGED_LOG"));
            store.close().await;
        }
        give_up(directory.path(), NAME, DAMAGED, &mut |_| {}).expect("it is damaged");
        let report = verify(directory.path(), &mut |_| {}).expect("it can be read");
        assert!(report.is_sound(), "{report:?}");
        let store = open(directory.path(), settings.clone()).await;
        let log = log(&store, NAME).await;
        let everything = messages(&log, Read::forward(Filter::new(Scope::All), 0, 1_000)).await;
        assert_eq!(everything.len(), 100);
        assert_eq!((&*everything[49].stream, &*everything[49].kind), ("$damaged-50", "$damaged"));
        append_any(&log, "d-1").await.expect("writes are taken again");
        store.close().await;
    }
}

/// The lost message began its stream; what followed it is found all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lost_its_first_message_goes_on() {
    let (directory, mut model) = not_indexed().await;
    tamper(directory.path(), "UPDATE messages SET data = '{}' WHERE global_position = 1");
    let store = open(directory.path(), tiny()).await;
    let refused = log(&store, NAME).await.append(append_of(uuid::Uuid::new_v4(), "d-1")).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    store.close().await;
    give_up(directory.path(), NAME, 1, &mut |_| {}).expect("it is damaged");
    assert!(verify(directory.path(), &mut |_| {}).expect("it can be read").is_sound());
    let store = open(directory.path(), tiny()).await;
    let log = log(&store, NAME).await;
    let stream = model.0[0].stream.clone();
    let found = messages(&log, Read::forward(Filter::new(Scope::Stream(stream.clone())), 0, 1_000)).await;
    model.0.remove(0);
    let expected: Vec<_> =
        model.0.iter().filter(|message| message.stream == stream).map(|m| m.global_position).collect();
    assert_eq!(found.iter().map(|message| message.global_position).collect::<Vec<_>>(), expected);
    append_any(&log, &stream).await.expect("writes are taken again");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_and_backup_name_each_damaged_message_and_repair_touches_none() {
    for to in CHANGES {
        let (directory, _) = store_of(100).await;
        change(directory.path(), to);
        tamper(directory.path(), "UPDATE messages SET data = '{}' WHERE global_position = 70");
        let report = verify(directory.path(), &mut |_| {}).expect("it can be read");
        let told = report.files[1].problems.join("\n");
        assert!(
            told.contains("global position 50 is damaged") && told.contains("position 70 is damaged"),
            "{to}: {told}"
        );

        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = folder.path().join("backup");
        let manifest = backup(directory.path(), &output, &mut |_| {}).expect("it can be copied");
        assert_eq!(
            (manifest.namespaces[0].messages, &manifest.namespaces[0].damaged[..]),
            (100, &[50, 70][..]),
            "{to}"
        );
        let told = verify(&output, &mut |_| {}).expect("it can be read").files[1].problems.join("\n");
        assert!(
            told.contains("global position 50 is damaged") && told.contains("position 70 is damaged"),
            "{to}: {told}"
        );

        let before = fs::read(log_file(directory.path())).expect("it is there");
        let outcomes = repair(directory.path(), Permissions::default(), &mut |_| {}).expect("it can be read");
        assert!(!outcomes[1].is_usable && outcomes[1].done[0].contains("--give-up"), "{outcomes:?}");
        assert_eq!(fs::read(log_file(directory.path())).expect("it is there"), before, "{to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_given_up_keeps_its_place_by_the_index() {
    let changes = CHANGES.map(|to| format!("UPDATE messages SET {to} WHERE global_position = {DAMAGED}"));
    let gone = format!("DELETE FROM messages WHERE global_position = {DAMAGED}");
    for sql in changes.iter().chain([&gone]) {
        let (directory, mut model) = store_of(100).await;
        tamper(directory.path(), sql);
        let outcomes = give_up(directory.path(), NAME, DAMAGED, &mut |_| {}).expect("it is damaged");
        assert!(outcomes.iter().all(|outcome| outcome.is_usable), "{outcomes:?}");
        let report = verify(directory.path(), &mut |_| {}).expect("it can be read");
        assert!(report.is_sound(), "{sql}: {report:?}");
        let log_db = Connection::open(log_file(directory.path())).expect("a database");
        let noted: i64 = log_db.query_row("SELECT global_position FROM given_up", [], |row| row.get(0)).expect("noted");
        assert_eq!(noted, DAMAGED);
        drop(log_db);
        let given_up = &mut model.0[DAMAGED as usize - 1];
        (given_up.kind, given_up.data, given_up.metadata) = ("$damaged".into(), "{}".into(), None);
        let store = open(directory.path(), Settings::default()).await;
        model.check(&store).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sound_is_not_given_up() {
    let (directory, mut model) = store_of(100).await;
    for at in [1, 50, 100, 101, 0, -1] {
        let refused = give_up(directory.path(), NAME, at, &mut |_| {}).expect_err("it is sound, or none");
        assert!(matches!(refused, MaintenanceError::NotDamaged(..)), "{at}: {refused}");
    }
    let refused = give_up(directory.path(), "none", 50, &mut |_| {}).expect_err("there is none");
    assert!(matches!(refused, MaintenanceError::NoNamespace(_)), "{refused}");
    let store = open(directory.path(), Settings::default()).await;
    model.check(&store).await;
    store.close().await;
}

/// The time of the last message is the lowest that the next may have.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_time_of_the_last_message_is_in_no_later_one() {
    let (directory, _) = store_of(100).await;
    tamper(directory.path(), "UPDATE messages SET time = time + 1000000000000000 WHERE global_position = 100");
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, NAME).await;
    append_any(&log, "d-1").await.expect("writes are taken");
    let read = Read::forward(Filter::new(Scope::All), 101, 1_000);
    let written = messages(&log, read).await[0].time;
    let ahead = written.as_micros() - eventodb_protocol::Timestamp::now().as_micros();
    assert!(ahead < 1_000_000_000, "{written}");
    store.close().await;
}

/// A page that SQLite cannot read: the log is copied around it, and its messages are given up one by one.
#[tokio::test(flavor = "multi_thread")]
async fn the_messages_of_a_page_that_cannot_be_read_are_given_up() {
    const PAGE: usize = 4096;
    let (directory, mut model) = store_of(500).await;
    let file = log_file(directory.path());
    let mut bytes = fs::read(&file).expect("it is there");
    // The first pages are those of smaller tables.
    let page_of_messages = bytes.len() / PAGE * 3 / 4 * PAGE;
    bytes[page_of_messages..page_of_messages + PAGE].fill(0);
    fs::write(&file, bytes).expect("it is ours");
    let mut given_up = Vec::new();
    loop {
        let store = open(directory.path(), Settings::default()).await;
        let log = log(&store, NAME).await;
        let next = given_up.last().map_or(1, |last| last + 1);
        let before = page(&log, Read::forward(Filter::new(Scope::All), next, 1_000)).await;
        let damaged = match before {
            Err(Error::Damaged(at)) => Some(at),
            Err(error) => panic!("{error}"),
            Ok((_, Some(500))) => None,
            Ok((_, head)) => Some(head.expect("forward pages have one") + 1),
        };
        store.close().await;
        let Some(damaged) = damaged else { break };
        give_up(directory.path(), NAME, damaged, &mut |_| {}).expect("it is damaged");
        given_up.push(damaged);
    }
    assert!(given_up.len() > 1 && given_up.len() < 100, "{given_up:?}");
    let report = verify(directory.path(), &mut |_| {}).expect("it can be read");
    assert!(report.is_sound(), "{report:?}");
    for at in given_up {
        let given_up = model.0.iter_mut().find(|message| message.global_position == at).expect("it was written");
        (given_up.kind, given_up.data, given_up.metadata) = ("$damaged".into(), "{}".into(), None);
    }
    let store = open(directory.path(), Settings::default()).await;
    let everything = messages(&log(&store, NAME).await, Read::forward(Filter::new(Scope::All), 0, 1_000)).await;
    let found = everything.iter().map(|message| (message.global_position, &message.data));
    let expected = model.0.iter().map(|message| (message.global_position, &message.data));
    assert!(found.eq(expected));
    append_any(&log(&store, NAME).await, "d-1").await.expect("writes are taken");
    store.close().await;
}
