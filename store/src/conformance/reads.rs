//! Promises about reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use eventodb_protocol::filter::Traits;
use eventodb_protocol::message::{Expected, Message, NewMessage};
use eventodb_protocol::request::Read;
use eventodb_protocol::{ConsumerGroup, Direction, Filter, Scope, Timestamp, name};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use super::World;
use super::appends::record;
use super::support::*;
use crate::log::Log;
use crate::log::parts::is_watched;

/// Streams whose names are as odd as they may be.
pub(super) const ODD_STREAMS: [&str; 12] =
    ["a", "a-", "a-1", "a-1+x", "a-+", "a-+y", "a-ü🎉", "a-b-c", "a-b-d+e", "a--", "a-1-2", "a-long name with spaces"];

/// Twelve messages in `a-1` (even) and `b-1` (odd), of types `T0` to `T2`.
async fn twelve(world: &World) -> Arc<Log> {
    let log = world.log().await;
    for at in 0..12 {
        write(&log, if at % 2 == 0 { "a-1" } else { "b-1" }, &format!("T{}", at % 3)).await;
    }
    log
}

pub(super) async fn a_stream_is_read_by_position(world: &mut World) {
    let log = twelve(world).await;
    let forward = |from, limit| stream_read("a-1", from, Direction::Forward, limit);
    for (from, limit, expected) in [
        (None, 100, vec![0, 1, 2, 3, 4, 5]),
        (Some(-5), 2, vec![0, 1]),
        (Some(3), 100, vec![3, 4, 5]),
        (Some(5), 1, vec![5]),
        (Some(6), 100, vec![]),
        (Some(i64::MAX), 100, vec![]),
        (Some(0), 0, vec![]),
    ] {
        assert_eq!(positions(&read(&log, forward(from, limit)).await), expected, "from {from:?}, {limit}");
    }
    let until = Read { until: Some(3), ..forward(Some(2), 100) };
    assert_eq!(positions(&read(&log, until).await), vec![2, 3]);
    assert_eq!(read(&log, stream_read("none", None, Direction::Forward, 10)).await, vec![]);
}

pub(super) async fn a_stream_is_read_by_global_position(world: &mut World) {
    let log = twelve(world).await;
    for (from, until, expected) in [
        (0, None, vec![1, 3, 5, 7, 9, 11]),
        (4, None, vec![5, 7, 9, 11]),
        (5, Some(9), vec![5, 7, 9]),
        (6, Some(6), vec![]),
        (12, None, vec![]),
        (99, None, vec![]),
    ] {
        let wanted = Read { until, ..Read::forward(stream("a-1"), from, 100) };
        assert_eq!(global_positions(&read(&log, wanted).await), expected, "{from} to {until:?}");
    }
}

pub(super) async fn pages_say_how_far_they_are_complete(world: &mut World) {
    let log = twelve(world).await;
    for (from, until, limit, expected_count, complete) in [
        (1, None, 100, 6, 12),
        (1, None, 3, 3, 5),
        (1, None, 6, 6, 11),
        (1, Some(8), 100, 4, 8),
        (1, Some(99), 100, 6, 12),
        (12, None, 100, 0, 12),
        (50, None, 100, 0, 12),
        (5, None, 0, 0, 4),
    ] {
        let page = log.read(Read { until, ..Read::forward(category("a"), from, limit) }).await.expect("it is read");
        let told = page.head();
        assert_eq!(messages(page).await.len(), expected_count);
        assert_eq!(told, Some(complete), "{from} to {until:?}, {limit}");
    }
    let page = log.read(Read::forward(category("no-category"), 1, 10)).await.expect("it is read");
    assert_eq!(page.head(), Some(12));
    let backward = Read { direction: Direction::Backward, from: None, ..Read::forward(everything(), 0, 3) };
    assert_eq!(log.read(backward).await.expect("it is read").head(), None);
}

pub(super) async fn a_category_is_its_streams(world: &mut World) {
    let log = world.log().await;
    for stream in ["a-1", "a-2", "b-1", "a", "a-", "ab-1", "A-1", "a+b-1", "-x"] {
        write(&log, stream, "T").await;
    }
    for (wanted, expected) in [
        ("a", vec![1, 2, 4, 5]),
        ("b", vec![3]),
        ("ab", vec![6]),
        ("A", vec![7]),
        ("a+b", vec![8]),
        ("a-1", vec![]),
        ("none", vec![]),
    ] {
        let found = read(&log, Read::forward(category(wanted), 0, 100)).await;
        assert_eq!(global_positions(&found), expected, "{wanted}");
    }
    assert_eq!(global_positions(&all(&log).await), (1..=9).collect::<Vec<_>>());
}

pub(super) async fn several_categories_are_merged(world: &mut World) {
    let log = world.log().await;
    for at in 0..15 {
        write(&log, ["a-1", "b-1", "c-1"][at % 3], "T").await;
    }
    let filter = Filter::new(Scope::Categories(vec!["c".into(), "a".into(), "none".into()]));
    let expected: Vec<i64> = (1..=15).filter(|position| position % 3 != 2).collect();
    assert_eq!(global_positions(&read(&log, Read::forward(filter.clone(), 0, 100)).await), expected);
    assert_eq!(global_positions(&read(&log, Read::forward(filter.clone(), 4, 3)).await), vec![4, 6, 7]);
    let backward = Read { direction: Direction::Backward, from: Some(9), ..Read::forward(filter, 0, 4) };
    assert_eq!(global_positions(&read(&log, backward).await), vec![9, 7, 6, 4]);
}

pub(super) async fn groups_split_a_category(world: &mut World) {
    let log = world.log().await;
    for round in 0..3 {
        for stream in ODD_STREAMS {
            write(&log, stream, &format!("T{round}")).await;
        }
    }
    for size in 1..=8 {
        let mut seen = Vec::new();
        for member in 0..size {
            let group = ConsumerGroup::new(member, size);
            for filter in [Filter { group, ..category("a") }, Filter { group, ..everything() }] {
                let found = read(&log, Read::forward(filter.clone(), 0, 100)).await;
                let owner = group.expect("a member");
                assert!(found.iter().all(|message| owner.owns(&message.stream)), "{member} of {size}");
                if filter.scope != Scope::All {
                    seen.extend(global_positions(&found));
                }
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (1..=36).collect::<Vec<_>>(), "size {size}");
    }
}

pub(super) async fn types_and_correlation_filter(world: &mut World) {
    let log = world.log().await;
    for at in 0..12 {
        let metadata = match at % 4 {
            0 => None,
            1 => Some(r#"{"correlationStreamName":"order-1"}"#.into()),
            2 => Some(r#"{"correlationStreamName":"order"}"#.into()),
            _ => Some(r#"{"correlationStreamName":"ordering-1"}"#.into()),
        };
        let new = NewMessage { metadata, ..message(["T", "U", "V"][at % 3]) };
        write_expecting(&log, ["a-1", "b-1"][at % 2], Expected::Any, new).await.expect("nothing is in the way");
    }
    let types = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<_>>();
    for scope in [Scope::All, Scope::Categories(vec!["a".into(), "b".into()])] {
        let filter = Filter { types: types(&["T", "V"]), ..Filter::new(scope.clone()) };
        let found = read(&log, Read::forward(filter, 0, 100)).await;
        assert_eq!(global_positions(&found), vec![1, 3, 4, 6, 7, 9, 10, 12]);
        let filter = Filter { correlation: Some("order".into()), ..Filter::new(scope.clone()) };
        let found = read(&log, Read::forward(filter.clone(), 0, 100)).await;
        assert_eq!(global_positions(&found), vec![2, 3, 6, 7, 10, 11]);
        let filter = Filter { types: types(&["V"]), ..filter };
        assert_eq!(global_positions(&read(&log, Read::forward(filter, 0, 100)).await), vec![3, 6]);
        let filter = Filter { types: types(&["none"]), ..Filter::new(scope) };
        assert_eq!(read(&log, Read::forward(filter, 0, 100)).await, vec![]);
    }
    let filter = Filter { types: types(&["U"]), ..stream("b-1") };
    let wanted = Read { filter, ..stream_read("b-1", Some(0), Direction::Forward, 10) };
    assert_eq!(global_positions(&read(&log, wanted).await), vec![2, 8]);
}

pub(super) async fn backward_reads_mirror_forward_ones(world: &mut World) {
    let log = twelve(world).await;
    let backward = |from, until, limit| Read { until, ..stream_read("a-1", from, Direction::Backward, limit) };
    for (from, until, limit, expected) in [
        (None, None, 100, vec![5, 4, 3, 2, 1, 0]),
        (None, None, 2, vec![5, 4]),
        (Some(3), None, 100, vec![3, 2, 1, 0]),
        (Some(3), None, 2, vec![3, 2]),
        (Some(99), Some(1), 100, vec![1, 0]),
        (Some(0), None, 100, vec![0]),
        (Some(-1), None, 100, vec![]),
        (Some(i64::MIN), None, 100, vec![]),
    ] {
        let found = read(&log, backward(from, until, limit)).await;
        assert_eq!(positions(&found), expected, "from {from:?} until {until:?}, {limit}");
    }
    for (filter, from, limit, expected) in [
        (category("a"), None, 100, vec![11, 9, 7, 5, 3, 1]),
        (category("a"), Some(8), 2, vec![7, 5]),
        (everything(), Some(4), 100, vec![4, 3, 2, 1]),
        (stream("b-1"), Some(7), 2, vec![6, 4]),
        (category("none"), None, 10, vec![]),
    ] {
        let wanted = Read { direction: Direction::Backward, from, ..Read::forward(filter, 0, limit) };
        assert_eq!(global_positions(&read(&log, wanted.clone()).await), expected, "{wanted:?}");
    }
}

pub(super) async fn a_backward_read_looks_behind_what_does_not_match(world: &mut World) {
    let log = world.log().await;
    let metadata = Some(r#"{"correlationStreamName":"order-1"}"#.into());
    let correlated = NewMessage { metadata, ..message("T") };
    let written = write_expecting(&log, "a-1", Expected::Any, correlated).await.expect("nothing is in the way");
    // More than a small tail holds.
    for _ in 0..8 {
        write(&log, "a-1", "U").await;
    }
    for filter in [
        Filter { correlation: Some("order".into()), ..stream("a-1") },
        Filter { types: vec!["T".into()], ..stream("a-1") },
        Filter { correlation: Some("order".into()), ..category("a") },
    ] {
        let wanted = Read { direction: Direction::Backward, from: None, ..Read::forward(filter, 0, 1) };
        let found = read(&log, wanted.clone()).await;
        assert_eq!(global_positions(&found), [written.first_global_position], "{wanted:?}");
    }
}

pub(super) async fn the_last_message_of_a_type(world: &mut World) {
    let log = twelve(world).await;
    for (kinds, expected) in [(vec![], vec![11]), (vec!["T0"], vec![7]), (vec!["T2"], vec![9]), (vec!["none"], vec![])]
    {
        let types = kinds.iter().map(|kind: &&str| Arc::from(*kind)).collect();
        let filter = Filter { types, ..stream("a-1") };
        let wanted = Read { filter, ..stream_read("a-1", None, Direction::Backward, 1) };
        assert_eq!(global_positions(&read(&log, wanted).await), expected, "{kinds:?}");
    }
}

pub(super) async fn long_pages_come_in_chunks(world: &mut World) {
    let log = world.log().await;
    let data: Arc<str> = format!("{{\"text\":\"{}\"}}", "x".repeat(200_000)).into();
    for _ in 0..12 {
        let new = NewMessage { data: data.clone(), ..message("T") };
        write_expecting(&log, "a-1", Expected::Any, new).await.expect("nothing is in the way");
    }
    // Out of the storage, not of the tail.
    if world.reopen().await {
        let name = log.namespace().name.clone();
        let log = world.store.log(&name).await.expect("it is still there");
        let page = log.read(Read::forward(category("a"), 2, 10)).await.expect("it is read");
        assert_eq!(page.head(), Some(11));
        assert!(!page.is_gathered(), "two megabytes are not gathered before the reply begins");
        let found = messages(page).await;
        assert_eq!(global_positions(&found), (2..=11).collect::<Vec<_>>());
        assert!(found.iter().all(|message| message.data == data));
        let mut kept = Vec::new();
        let within = |bytes| {
            kept.push(bytes);
            bytes <= 100_000
        };
        let refused = log.read_within(Read::forward(category("a"), 2, 10), within).await;
        assert!(matches!(refused, Err(crate::Error::NoRoom)), "{refused:?}");
        assert!(kept.last().is_some_and(|&bytes| bytes >= 200_000), "{kept:?}");
        let page = log.read(Read { until: Some(4), ..stream_read("a-1", Some(0), Direction::Forward, 100) });
        assert_eq!(positions(&messages(page.await.expect("it is read")).await), vec![0, 1, 2, 3, 4]);
    }
}

pub(super) async fn a_read_waits_for_a_message(world: &mut World) {
    let log = twelve(world).await;
    let wait = Duration::from_secs(60);
    for filter in [category("c"), everything(), stream("c-1")] {
        let wanted = Read { wait, ..Read::forward(filter, log.head() + 1, 10) };
        let waiting = tokio::spawn({
            let log = log.clone();
            async move { read(&log, wanted).await }
        });
        while !is_watched(&log) {
            tokio::task::yield_now().await;
        }
        let written = write(&log, "c-1", "T").await;
        let found = waiting.await.expect("a reader does not panic");
        assert_eq!(global_positions(&found), vec![written.first_global_position]);
    }
    let wanted = Read { wait: Duration::from_millis(1), ..Read::forward(category("none"), 0, 10) };
    assert_eq!(read(&log, wanted).await, vec![]);
}

pub(super) async fn a_message_is_found_by_its_id(world: &mut World) {
    let mut log = twelve(world).await;
    let written = all(&log).await;
    for _ in 0..2 {
        for message in &written {
            let found = log.message(message.id).await.expect("the storage answers");
            assert_eq!(found.as_ref(), Some(message));
        }
        assert_eq!(log.message(Uuid::new_v4()).await.expect("the storage answers"), None);
        let name = log.namespace().name.clone();
        if !world.reopen().await {
            return;
        }
        log = world.store.log(&name).await.expect("it outlives the store");
    }
}

/// Messages with gaps between them, and times that ascend, some of them equal.
async fn timed(world: &World) -> Arc<Log> {
    let log = world.log().await;
    let places = [(1, 10), (2, 10), (7, 20), (8, 20), (9, 20), (50, 30), (51, 40), (1 << 40, 40)];
    let records = places.iter().enumerate().map(|(at, &(global_position, time))| {
        record(if at % 2 == 0 { "a-1" } else { "b-1" }, at as i64 / 2, global_position, Timestamp::from_micros(time))
    });
    log.import(records.collect()).await.expect("it fits");
    for stream in ["a-1", "c-1", "b-1"] {
        write(&log, stream, "T").await;
    }
    log
}

pub(super) async fn a_time_stands_for_a_position(world: &mut World) {
    let empty = world.log().await;
    assert_eq!(empty.position_at(Timestamp::now()).await.expect("the storage answers"), 1);
    let mut log = timed(world).await;
    let model = all(&log).await;
    for _ in 0..2 {
        let times = model.iter().map(|message| message.time.as_micros());
        for time in times.flat_map(|time| [time - 1, time, time + 1]).map(Timestamp::from_micros) {
            check_time(&log, &model, time).await;
        }
        let name = log.namespace().name.clone();
        if !world.reopen().await {
            return;
        }
        log = world.store.log(&name).await.expect("it outlives the store");
    }
}

/// Reads from a time on, of a log with these messages, whose times ascend.
async fn check_time(log: &Arc<Log>, model: &[Message], time: Timestamp) {
    let first = log.position_at(time).await.expect("the storage answers");
    let (earlier, later): (Vec<_>, Vec<_>) = model.iter().partition(|message| message.time < time);
    assert!(earlier.iter().all(|message| message.global_position < first), "{time}: {first}");
    assert!(later.iter().all(|message| message.global_position >= first), "{time}: {first}");
    assert!(first <= log.head() + 1, "{time}: {first}");
    let forward = Read { from: None, time: Some(time), ..Read::forward(everything(), 0, 100) };
    for filter in [everything(), category("a"), stream("b-1")] {
        let wanted = Read { filter: filter.clone(), ..forward.clone() };
        let matching = later.iter().filter(|message| filter.scope.contains(&message.stream));
        let expected: Vec<_> = matching.map(|message| message.global_position).collect();
        assert_eq!(global_positions(&read(log, wanted).await), expected, "{time} {filter:?}");
    }
    let backward = Read { direction: Direction::Backward, limit: 1, ..forward };
    let expected = later.first().copied().or(model.last()).map(|message| message.global_position);
    assert_eq!(read(log, backward).await.first().map(|message| message.global_position), expected, "{time}");
}

pub(super) async fn times_that_descend_are_found_between(world: &mut World) {
    let log = world.log().await;
    let times = [40, 10, 50, 20, 20, 60, 5, 30];
    let records = times.iter().zip(1..).map(|(time, at)| record("a-1", at, 2 * at, Timestamp::from_micros(*time)));
    log.import(records.collect()).await.expect("it fits");
    let model = all(&log).await;
    for time in (0..70).map(Timestamp::from_micros) {
        let first = log.position_at(time).await.expect("the storage answers");
        let before = model.iter().rev().find(|message| message.global_position < first);
        let at = model.iter().find(|message| message.global_position >= first);
        assert!(before.is_none_or(|message| message.time < time), "{time}: {first}");
        assert!(at.is_none_or(|message| message.time >= time), "{time}: {first}");
    }
}

/// Random appends and reads of every kind, against a plain list of messages.
pub(super) async fn reads_agree_with_a_plain_model(world: &mut World) {
    let mut random = SmallRng::seed_from_u64(world.settings.pause_seed.unwrap_or(7));
    let mut log = world.log().await;
    let mut model: Vec<Message> = Vec::new();
    for step in 0..400 {
        match random.random_range(0..100) {
            0..60 => {
                let stream_name =
                    format!("{}-{}", ["a", "b", "c"][random.random_range(0..3)], random.random_range(0..6));
                let metadata = (random.random_range(0..2) == 0)
                    .then(|| format!(r#"{{"correlationStreamName":"o{}-1"}}"#, random.random_range(0..2)).into());
                let new = NewMessage { metadata, ..message(["T", "U"][random.random_range(0..2)]) };
                write_expecting(&log, &stream_name, Expected::Any, new).await.expect("nothing is in the way");
                let after = model.last().map_or(0, |message| message.global_position);
                let new = read(&log, Read::forward(everything(), after + 1, 10)).await;
                assert_eq!(new.len(), 1, "step {step}: a write is visible to the next read");
                model.extend(new);
            }
            60..62 if step % 50 == 0 => {
                let name = log.namespace().name.clone();
                if world.reopen().await {
                    log = world.store.log(&name).await.expect("it is still there");
                }
            }
            _ => {
                let wanted = random_read(&mut random, model.len() as i64);
                let found = read(&log, wanted.clone()).await;
                assert_eq!(found, model_read(&model, &wanted), "step {step}: {wanted:?}");
            }
        }
    }
}

fn random_read(random: &mut SmallRng, head: i64) -> Read {
    let by_stream = random.random_range(0..3) == 0;
    let names: [Arc<str>; 4] = ["a".into(), "b".into(), "c".into(), "none".into()];
    let scope = if by_stream {
        Scope::Stream(format!("{}-{}", names[random.random_range(0..3)], random.random_range(0..6)).into())
    } else {
        match random.random_range(0..3) {
            0 => Scope::All,
            1 => Scope::Categories(vec![names[random.random_range(0..4)].clone()]),
            _ => Scope::Categories(vec![names[random.random_range(0..2)].clone(), names[2].clone()]),
        }
    };
    let mut filter = Filter::new(scope);
    if random.random_range(0..4) == 0 {
        filter.group = ConsumerGroup::new(random.random_range(0..3), 3);
    }
    if random.random_range(0..4) == 0 {
        filter.types = vec!["U".into()];
    }
    if random.random_range(0..4) == 0 {
        filter.correlation = Some("o1".into());
    }
    let mut bound = |chance: u32| (random.random_range(0..chance) == 0).then(|| random.random_range(0..head + 3));
    let (from, until) = (bound(2), bound(4));
    Read {
        by_stream_position: by_stream && random.random_range(0..2) == 0,
        from,
        until,
        direction: if random.random_range(0..3) == 0 { Direction::Backward } else { Direction::Forward },
        limit: random.random_range(0..12),
        ..Read::forward(filter, 0, 0)
    }
}

fn model_read(model: &[Message], read: &Read) -> Vec<Message> {
    let at = |message: &Message| if read.by_stream_position { message.position } else { message.global_position };
    let matching = model.iter().filter(|message| {
        let correlation = message.correlation();
        let within = read.until.is_none_or(|until| at(message) <= until)
            && match read.direction {
                Direction::Forward => read.from.is_none_or(|from| at(message) >= from),
                Direction::Backward => read.from.is_none_or(|from| at(message) <= from),
            };
        let (stream, kind) = (&*message.stream, &*message.kind);
        within && read.filter.matches(Traits { stream, kind, correlation: correlation.as_deref() })
    });
    let mut found: Vec<Message> = matching.cloned().collect();
    if read.direction == Direction::Backward {
        found.reverse();
    }
    found.truncate(read.limit);
    found
}

pub(super) async fn tailing_readers_see_no_position_appear_below(world: &mut World) {
    let log = world.log().await;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (log, done) = (log.clone(), done.clone());
            tokio::spawn(async move {
                let mut seen = 0;
                loop {
                    let last_look = done.load(SeqCst);
                    let found = read(&log, Read::forward(everything(), seen + 1, 100)).await;
                    let last_look = last_look && found.is_empty();
                    for message in found {
                        assert_eq!(message.global_position, seen + 1, "without a gap");
                        seen = message.global_position;
                    }
                    if last_look {
                        return seen;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let log = log.clone();
            tokio::spawn(async move {
                for at in 0..40 {
                    write(&log, &format!("c{}-{writer}", at % 7), "T").await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer does not panic");
    }
    done.store(true, SeqCst);
    for reader in readers {
        assert_eq!(reader.await.expect("a reader does not panic"), 240);
    }
    assert!(all(&log).await.iter().all(|message| name::category(&message.stream).starts_with('c')));
}
