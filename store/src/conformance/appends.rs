//! Promises about appends.

use std::sync::Arc;

use eventodb_protocol::limits::POSITION_MAX;
use eventodb_protocol::message::{Expected, Message, NewMessage};
use eventodb_protocol::request::{Check, Read};
use eventodb_protocol::{Direction, Filter, Timestamp};
use uuid::Uuid;

use super::World;
use super::support::*;
use crate::Error;
use crate::error::Conflict;
use crate::log::{Log, Start};

pub(super) async fn positions_are_dense(world: &mut World) {
    let log = world.log().await;
    for at in 0..10 {
        let written = write(&log, ["a-1", "a-2", "b"][at % 3], "T").await;
        assert_eq!(written.first_global_position, at as i64 + 1);
        assert_eq!(written.first_position, at as i64 / 3);
    }
    assert_eq!(global_positions(&all(&log).await), (1..=10).collect::<Vec<_>>());
    assert_eq!(log.version("a-1").await.expect("the storage answers"), Some(3));
    assert_eq!(log.version("none").await.expect("the storage answers"), None);
}

pub(super) async fn versions_are_checked(world: &mut World) {
    let log = world.log().await;
    for (expected, admitted) in [
        (Expected::Version(0), false),
        (Expected::NoStream, true),
        (Expected::NoStream, false),
        (Expected::Version(5), false),
        (Expected::Version(0), true),
        (Expected::Version(0), false),
    ] {
        let before = all(&log).await;
        let outcome = write_expecting(&log, "a-1", expected, message("T")).await;
        assert_eq!(outcome.is_ok(), admitted, "{expected:?}");
        if let Err(error) = outcome {
            let actual = before.len() as i64 - 1;
            let Error::VersionConflict(conflicts) = error else { panic!("{error}") };
            assert_eq!(conflicts, vec![Conflict::Version { check: None, stream: "a-1".into(), expected, actual }]);
            assert_eq!(all(&log).await, before, "a refused append writes nothing");
        }
    }
}

pub(super) async fn one_of_many_wins_each_round(world: &mut World) {
    let log = world.log().await;
    for round in 0..5 {
        let expected = if round == 0 { Expected::NoStream } else { Expected::Version(round - 1) };
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let log = log.clone();
                tokio::spawn(async move { write_expecting(&log, "a-1", expected, message("T")).await })
            })
            .collect();
        let mut winners = 0;
        for task in tasks {
            match task.await.expect("a writer does not panic") {
                Ok(written) => {
                    winners += 1;
                    assert_eq!(written.first_position, round);
                }
                Err(error) => assert!(is_conflict(&error), "{error}"),
            }
        }
        assert_eq!(winners, 1, "round {round}");
    }
    assert_eq!(positions(&all(&log).await), vec![0, 1, 2, 3, 4]);
}

pub(super) async fn expectations_have_words(world: &mut World) {
    let log = world.log().await;
    let outcome = write_expecting(&log, "a-1", Expected::Exists, message("T")).await;
    let Err(Error::VersionConflict(conflicts)) = outcome else { panic!("{outcome:?}") };
    let missing = Conflict::Version { check: None, stream: "a-1".into(), expected: Expected::Exists, actual: -1 };
    assert_eq!(conflicts, vec![missing]);
    write_expecting(&log, "a-1", Expected::Any, message("T")).await.expect("anything goes");
    write_expecting(&log, "a-1", Expected::Exists, message("T")).await.expect("it exists now");
}

pub(super) async fn all_conflicts_are_told(world: &mut World) {
    let log = world.log().await;
    write(&log, "a-1", "T").await;
    let mut wanted = append(vec![
        entry("a-1", Expected::NoStream, vec![message("T")]),
        entry("a-2", Expected::NoStream, vec![message("T")]),
        entry("a-3", Expected::Version(4), vec![message("T")]),
    ]);
    wanted.checks = vec![
        Check::Version { stream: "a-4".into(), expected: Expected::Exists },
        Check::Version { stream: "a-1".into(), expected: Expected::Version(0) },
    ];
    let Err(Error::VersionConflict(conflicts)) = log.append(wanted.clone()).await else { panic!("it conflicts") };
    let told: Vec<_> = conflicts
        .iter()
        .map(|conflict| match conflict {
            Conflict::Version { check, stream, actual, .. } => (*check, &**stream, *actual),
            condition @ Conflict::Condition { .. } => panic!("there is none: {condition:?}"),
        })
        .collect();
    assert_eq!(told, vec![(None, "a-1", 0), (None, "a-3", -1), (Some(0), "a-4", -1)]);
    assert_eq!(all(&log).await.len(), 1);
    wanted.entries.remove(2);
    wanted.entries[0].expected = Expected::Version(0);
    wanted.checks.remove(0);
    let results = log.append(wanted).await.expect("everything is as expected");
    assert_eq!(results.iter().map(|result| result.first_position).collect::<Vec<_>>(), vec![1, 0]);
}

pub(super) async fn an_append_is_all_or_nothing(world: &mut World) {
    let log = world.log().await;
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let log = log.clone();
            tokio::spawn(async move {
                let messages = (0..7).map(|_| message(&format!("T{number}"))).collect();
                log.append(append(vec![
                    entry("a-1", Expected::Any, messages),
                    entry(&format!("b-{number}"), Expected::NoStream, vec![message(&format!("T{number}"))]),
                ]))
                .await
                .expect("nothing is in the way")
            })
        })
        .collect();
    for task in tasks {
        let results = task.await.expect("a writer does not panic");
        assert_eq!(results[0].last_position - results[0].first_position, 6);
        assert_eq!(results[1].first_global_position, results[0].last_global_position + 1);
    }
    let written = all(&log).await;
    assert_eq!(global_positions(&written), (1..=160).collect::<Vec<_>>());
    for run in written.chunks(8) {
        assert!(run.iter().all(|message| message.kind == run[0].kind), "an append is contiguous");
    }
}

pub(super) async fn a_repeated_id_returns_the_original(world: &mut World) {
    let log = world.log().await;
    let id = Uuid::new_v4();
    let first = NewMessage { id: Some(id), metadata: Some("{\"a\":1}".into()), ..message("T") };
    let original = write_expecting(&log, "a-1", Expected::NoStream, first.clone()).await.expect("it is new");
    for _ in 0..10 {
        write(&log, "a-2", "T").await;
    }
    for expected in [Expected::NoStream, Expected::Any, Expected::Version(77)] {
        let again = write_expecting(&log, "a-1", expected, first.clone()).await;
        assert_eq!(again.expect("it was written before"), original);
    }
    assert_eq!(all(&log).await.len(), 11);
    // The same in one batch: many at once, one writes.
    let id = Uuid::new_v4();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let log = log.clone();
            let message = NewMessage { id: Some(id), ..message("U") };
            tokio::spawn(async move { write_expecting(&log, "a-3", Expected::NoStream, message).await })
        })
        .collect();
    for task in tasks {
        let written = task.await.expect("a writer does not panic").expect("the same message");
        assert_eq!((written.first_position, written.first_global_position), (0, 12));
    }
}

pub(super) async fn a_repeated_id_with_something_else_conflicts(world: &mut World) {
    let log = world.log().await;
    let id = Uuid::new_v4();
    let first = NewMessage { id: Some(id), ..message("T") };
    write_expecting(&log, "a-1", Expected::Any, first.clone()).await.expect("it is new");
    for (stream, other) in [
        ("a-2", first.clone()),
        ("a-1", NewMessage { kind: "U".into(), ..first.clone() }),
        ("a-1", NewMessage { data: "{\"a\":1}".into(), ..first.clone() }),
        ("a-1", NewMessage { metadata: Some("{}".into()), ..first.clone() }),
    ] {
        let outcome = write_expecting(&log, stream, Expected::Any, other).await;
        assert!(matches!(outcome, Err(Error::IdConflict(conflict)) if conflict == id), "{outcome:?}");
    }
    assert_eq!(all(&log).await.len(), 1);
}

pub(super) async fn a_repeated_batch_returns_the_original(world: &mut World) {
    let log = world.log().await;
    let messages: Vec<_> = (0..5).map(|_| NewMessage { id: Some(Uuid::new_v4()), ..message("T") }).collect();
    let both = append(vec![
        entry("a-1", Expected::NoStream, messages[..3].to_vec()),
        entry("a-2", Expected::NoStream, messages[3..].to_vec()),
    ]);
    let original = log.append(both.clone()).await.expect("it is new");
    assert_eq!(log.append(both.clone()).await.expect("it was written before"), original);
    let refused = |entries| {
        let log = log.clone();
        async move { matches!(log.append(append(entries)).await, Err(Error::IdConflict(_))) }
    };
    let reversed = messages[..3].iter().rev().cloned().collect();
    assert!(refused(vec![entry("a-1", Expected::Any, reversed)]).await, "another order");
    let with_new = vec![messages[0].clone(), message("T")];
    assert!(refused(vec![entry("a-1", Expected::Any, with_new)]).await, "known and new ids");
    let gap = vec![messages[0].clone(), messages[2].clone()];
    assert!(refused(vec![entry("a-1", Expected::Any, gap)]).await, "a gap");
    let twice = NewMessage { id: Some(Uuid::new_v4()), ..message("T") };
    assert!(refused(vec![entry("a-1", Expected::Any, vec![twice.clone(), twice])]).await, "one id twice");
    assert_eq!(all(&log).await.len(), 5);
}

pub(super) async fn parallel_appends_lose_nothing(world: &mut World) {
    let log = world.log().await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut written = Vec::new();
                for at in 0..25 {
                    let stream = format!("c{}-{}", at % 3, writer % 4);
                    let result = write(&log, &stream, "T").await;
                    let seen =
                        read(&log, stream_read(&stream, Some(result.first_position), Default::default(), 1)).await;
                    assert_eq!(global_positions(&seen), vec![result.first_global_position], "read what was written");
                    written.push((stream, result.first_position, result.first_global_position));
                }
                written
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("a writer does not panic"));
    }
    acknowledged.sort_by_key(|(_, _, global)| *global);
    let stored: Vec<_> = all(&log)
        .await
        .iter()
        .map(|message| (message.stream.to_string(), message.position, message.global_position))
        .collect();
    assert_eq!(stored, acknowledged);
}

pub(super) async fn answered_positions_are_those_that_are_read(world: &mut World) {
    let token = world.create("kept").await;
    // Nothing is remembered of the streams that there were before, the second time.
    for round in 0..2 {
        let log = world
            .store
            .authorize(&token)
            .await
            .expect("the storage answers")
            .expect("the token opens it")
            .log()
            .clone();
        let before = all(&log).await.len();
        let writers: Vec<_> = (0..16).map(|writer| tokio::spawn(write_in_many_ways(log.clone(), writer))).collect();
        let mut answered = Vec::new();
        for writer in writers {
            answered.extend(writer.await.expect("a writer does not panic"));
        }
        answered.sort_by_key(|(_, _, global)| *global);
        let stored = all(&log).await;
        let read: Vec<_> = stored[before..]
            .iter()
            .map(|message| (message.stream.to_string(), message.position, message.global_position))
            .collect();
        assert_eq!(read, answered, "round {round}");
        for stream in stored.iter().map(|message| &message.stream) {
            let of_stream = stored.iter().filter(|message| message.stream == *stream);
            assert!(of_stream.zip(0..).all(|(message, position)| message.position == position), "{stream}");
        }
        let counts = log.counts().await.expect("the storage answers");
        let starts = stored.iter().filter(|message| message.position == 0).count();
        assert_eq!((counts.messages, counts.streams), (stored.len() as u64, starts as u64));
        drop(log);
        if !world.reopen().await {
            return;
        }
    }
}

/// Writes to streams that others write to as well: some appends expect a version, some give an id, some are of
/// several streams. Returns stream, position and global position of each message, as they were answered.
async fn write_in_many_ways(log: Arc<Log>, writer: usize) -> Vec<(String, i64, i64)> {
    let mut answered = Vec::new();
    for at in 0..12 {
        let [first, second] = [writer + at, 7 * at + 3 * writer + 1].map(|n| format!("c-{}", n % 12));
        let mut wanted = append(vec![entry(&first, Expected::Any, vec![message("T"), message("T")])]);
        match (writer + at) % 4 {
            0 => wanted.entries[0].messages[1].id = Some(Uuid::new_v4()),
            1 if at > 6 => {
                wanted.checks = vec![Check::Version { stream: first.clone().into(), expected: Expected::Exists }];
            }
            2 if first != second => wanted.entries.push(entry(&second, Expected::Any, vec![message("T")])),
            _ => {}
        }
        let streams: Vec<_> = wanted.entries.iter().map(|entry| entry.stream.to_string()).collect();
        let results = match log.append(wanted.clone()).await {
            Ok(results) => results,
            // Nobody has written there yet.
            Err(error) if is_conflict(&error) => continue,
            Err(error) => panic!("{error}"),
        };
        if wanted.entries[0].messages[1].id.is_some() {
            wanted.entries[0].messages.remove(0);
            let again = log.append(wanted).await.expect("it was written before");
            assert_eq!(again[0].first_position, results[0].last_position);
        }
        for (stream, result) in streams.into_iter().zip(results) {
            let positions = result.first_position..=result.last_position;
            let globals = result.first_global_position..=result.last_global_position;
            answered.extend(positions.zip(globals).map(|(position, global)| (stream.clone(), position, global)));
        }
    }
    answered
}

pub(super) async fn ids_are_checked_after_a_restart(world: &mut World) {
    let token = world.create("kept").await;
    let log = world.store.log("kept").await.expect("it was just created");
    let messages: Vec<_> = (0..12).map(|_| NewMessage { id: Some(Uuid::new_v4()), ..message("T") }).collect();
    let mut originals = Vec::new();
    for message in &messages {
        originals.push(write_expecting(&log, "a-1", Expected::Any, message.clone()).await.expect("it is new"));
    }
    drop(log);
    if !world.reopen().await {
        return;
    }
    let log =
        world.store.authorize(&token).await.expect("the storage answers").expect("the token opens it").log().clone();
    for (message, original) in messages.iter().zip(originals) {
        let again = write_expecting(&log, "a-1", Expected::NoStream, message.clone()).await;
        assert_eq!(again.expect("it was written before"), original);
    }
    assert_eq!(write(&log, "a-1", "T").await.first_position, 12);
}

pub(super) async fn text_comes_back_byte_for_byte(world: &mut World) {
    let log = world.log().await;
    let texts = [
        r#"{"n":[9007199254740993,1e400,-0,1.10,12345678901234567890123]}"#,
        r#"{"a":1,"a":2,"\u0061":3}"#,
        r#"{"s":"\u0041\/\u0000\ud800 x\"\\ ümlaut 🎉"}"#,
    ];
    let stream_name = "zählung: \"odd\" \\ name+x-ä🎉+-";
    for text in texts {
        let new = NewMessage { data: text.into(), metadata: Some(text.into()), ..message("Tÿp \"q\"") };
        write_expecting(&log, stream_name, Expected::Any, new).await.expect("any JSON is kept");
    }
    let stored = read(&log, stream_read(stream_name, None, Default::default(), 10)).await;
    assert_eq!(stored.len(), texts.len());
    for (message, text) in stored.iter().zip(texts) {
        assert_eq!((&*message.data, message.metadata.as_deref(), &*message.kind), (text, Some(text), "Tÿp \"q\""));
    }
    assert_eq!(
        read(&log, eventodb_protocol::request::Read::forward(category("zählung: \"odd\" \\ name+x"), 0, 10)).await,
        stored
    );
}

pub(super) async fn time_never_goes_back(world: &mut World) {
    let log = world.log().await;
    for _ in 0..20 {
        write(&log, "a-1", "T").await;
    }
    let times: Vec<Timestamp> = all(&log).await.iter().map(|message| message.time).collect();
    assert!(times.is_sorted());
    // A time of the future that was imported does not drag later writes along.
    let future = Timestamp::from_micros(4_000_000_000_000_000);
    log.import(vec![record("a-1", 100, 200, future)]).await.expect("it lies above");
    write(&log, "a-1", "T").await;
    let last = all(&log).await.pop().expect("there are messages");
    assert_eq!((last.position, last.global_position), (101, 201));
    assert!(last.time < future && last.time >= times[19]);
}

pub(super) fn record(stream: &str, position: i64, global_position: i64, time: Timestamp) -> Message {
    Message {
        id: Uuid::new_v4(),
        stream: stream.into(),
        kind: "Imported".into(),
        position,
        global_position,
        data: "{\"i\":1}".into(),
        metadata: None,
        time,
    }
}

pub(super) async fn an_import_keeps_positions_and_times(world: &mut World) {
    let log = world.log().await;
    let times = [5_000_000, 3_000_001, 4_000_000, 0].map(Timestamp::from_micros);
    let records = vec![
        record("a-1", 2, 10, times[0]),
        record("b-1", 0, 11, times[1]),
        record("a-1", 5, 20, times[2]),
        record("c", 7, 33, times[3]),
    ];
    assert_eq!(log.import(records.clone()).await.expect("it fits"), 33);
    assert_eq!(all(&log).await, records);
    assert_eq!(log.version("a-1").await.expect("the storage answers"), Some(5));
    let written = write(&log, "a-1", "T").await;
    assert_eq!((written.first_position, written.first_global_position), (6, 34));
    assert_eq!(log.counts().await.expect("the storage answers").messages, 5);
    assert_eq!(log.counts().await.expect("the storage answers").streams, 3);
    // A stream that begins above 0 reads and counts as any other.
    let found = read(&log, stream_read("c", Some(0), Default::default(), 10)).await;
    assert_eq!(positions(&found), vec![7]);
    // Neither does a wide gap end a read that looks for something, or keep it busy.
    let far = Message { kind: "Far".into(), ..record("a-1", 7, 1 << 50, times[3]) };
    log.import(vec![far.clone()]).await.expect("it fits");
    let filter = Filter { types: vec!["Far".into()], ..everything() };
    assert_eq!(read(&log, Read::forward(filter.clone(), 0, 10)).await, vec![far.clone()]);
    let backward = Read { direction: Direction::Backward, from: None, ..Read::forward(filter, 0, 10) };
    assert_eq!(read(&log, backward).await, vec![far]);
    let filter = Filter { types: vec!["None".into()], ..everything() };
    let backward = Read { direction: Direction::Backward, from: None, ..Read::forward(filter, 0, 10) };
    assert_eq!(read(&log, backward).await, vec![]);
}

pub(super) async fn an_import_that_does_not_fit_changes_nothing(world: &mut World) {
    let log = world.log().await;
    let time = Timestamp::from_micros(1);
    let there = record("a-1", 3, 10, time);
    log.import(vec![there.clone()]).await.expect("it fits");
    let fine = record("b-1", 0, 11, time);
    for (bad, what) in [
        (record("a-1", 4, 10, time), "a global position that is taken"),
        (record("a-1", 4, 9, time), "a global position below the head"),
        (record("a-1", 3, 12, time), "a position that is taken"),
        (record("a-1", 2, 12, time), "a position below the stream's last"),
        (Message { id: there.id, ..record("d-1", 0, 12, time) }, "an id that is taken"),
        (Message { id: fine.id, ..record("d-1", 0, 12, time) }, "an id twice"),
    ] {
        let outcome = log.import(vec![fine.clone(), bad]).await;
        assert!(matches!(outcome, Err(Error::PositionExists(1))), "{what}: {outcome:?}");
        assert_eq!(all(&log).await, vec![there.clone()], "{what}");
    }
    let log: Arc<_> = log;
    log.import(vec![fine]).await.expect("alone it fits");
}

pub(super) async fn a_log_without_a_position_left_refuses_writes_and_is_read(world: &mut World) {
    let log = world.log().await;
    let name = log.namespace().name.clone();
    let beyond = log.import(vec![record("a-1", 0, POSITION_MAX + 1, Timestamp::from_micros(1))]).await;
    assert!(matches!(beyond, Err(Error::Full(_))), "{beyond:?}");
    log.import(vec![record("a-1", 0, POSITION_MAX - 1, Timestamp::from_micros(1))]).await.expect("it fits");
    let two = append(vec![entry("a-1", Expected::Any, vec![message("T"), message("T")])]);
    let refused = log.append(two).await;
    assert!(matches!(refused, Err(Error::Full(None))), "one position is left: {refused:?}");
    assert_eq!(write(&log, "b-1", "T").await.last_global_position, POSITION_MAX);
    is_full_and_read(&log).await;
    if world.reopen().await {
        is_full_and_read(&world.store.log(&name).await.expect("it lives")).await;
    }
}

/// The log has two messages, at the two highest positions.
async fn is_full_and_read(log: &Arc<Log>) {
    for (stream, expected) in [("a-1", Expected::Any), ("c-1", Expected::NoStream)] {
        let refused = write_expecting(log, stream, expected, message("T")).await;
        assert!(matches!(refused, Err(Error::Full(None))), "{refused:?}");
    }
    let places = [POSITION_MAX - 1, POSITION_MAX];
    assert_eq!(global_positions(&all(log).await), places);
    let backward = Read { direction: Direction::Backward, from: None, ..Read::forward(category("b"), 0, 1) };
    assert_eq!(global_positions(&read(log, backward).await), places[1..]);
    let mut subscription = subscribe(log, everything(), Start::Global(1));
    let poked: Vec<i64> = take(&mut subscription, 2).await.into_iter().map(|poke| poke.2).collect();
    assert_eq!(poked, places);
}

pub(super) async fn a_stream_without_a_position_left_refuses_its_own_writes_alone(world: &mut World) {
    let log = world.log().await;
    log.import(vec![record("a-1", POSITION_MAX, 1, Timestamp::from_micros(1))]).await.expect("it fits");
    // More streams than versions are remembered, so that the last of this one is not.
    for at in 0..4 {
        write(&log, &format!("b-{at}"), "T").await;
    }
    let tasks: Vec<_> = ["a-1", "b-1", "a-1", "b-2"]
        .map(|stream| {
            let log = log.clone();
            tokio::spawn(async move { write_expecting(&log, stream, Expected::Any, message("T")).await })
        })
        .into();
    for (at, task) in tasks.into_iter().enumerate() {
        match task.await.expect("a writer does not panic") {
            Err(Error::Full(Some(stream))) if at % 2 == 0 => assert_eq!(&*stream, "a-1"),
            Ok(written) if at % 2 == 1 => assert_eq!(written.first_position, 1),
            outcome => panic!("{at}: {outcome:?}"),
        }
    }
    let a = read(&log, stream_read("a-1", None, Direction::Backward, 10)).await;
    assert_eq!(positions(&a), [POSITION_MAX]);
    assert_eq!(log.counts().await.expect("the storage answers").messages, 7);
}

pub(super) async fn a_correlation_that_no_stream_can_have_is_written(world: &mut World) {
    let log = world.log().await;
    let correlated = |name: &str| NewMessage {
        metadata: Some(format!(r#"{{"correlationStreamName":"{name}"}}"#).into()),
        ..message("T")
    };
    let neighbours = vec![correlated("order-1"), correlated(r"or\u0000der-1"), message("T")];
    log.append(append(vec![entry("a-1", Expected::Any, neighbours)])).await.expect("metadata is free text");
    let filter = Filter { correlation: Some("order".into()), ..everything() };
    assert_eq!(global_positions(&read(&log, Read::forward(filter, 0, 10)).await), [1]);
    assert_eq!(all(&log).await[1].metadata.as_deref(), Some(r#"{"correlationStreamName":"or\u0000der-1"}"#));
}
