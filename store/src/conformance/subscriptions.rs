//! Promises about subscriptions.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::{ConsumerGroup, Filter};
use futures_util::FutureExt as _;

use super::World;
use super::reads::ODD_STREAMS;
use super::support::*;
use crate::log::{Event, Start, Subscribe};

fn globals(pokes: &[Poke]) -> Vec<i64> {
    pokes.iter().map(|(_, _, global)| *global).collect()
}

pub(super) async fn history_then_live_without_a_gap(world: &mut World) {
    let log = world.log().await;
    for at in 0..30 {
        write(&log, &format!("a-{}", at % 3), "T").await;
    }
    let readers: Vec<_> = [everything(), category("a"), Filter { group: ConsumerGroup::new(0, 1), ..category("a") }]
        .into_iter()
        .map(|filter| {
            let mut subscription = subscribe(&log, filter, Start::Global(0));
            tokio::spawn(async move { take(&mut subscription, 90).await })
        })
        .collect();
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let log = log.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    write(&log, &format!("a-{writer}"), "T").await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer does not panic");
    }
    let stored: Vec<Poke> = all(&log)
        .await
        .iter()
        .map(|message| (message.stream.to_string(), message.position, message.global_position))
        .collect();
    for reader in readers {
        assert_eq!(reader.await.expect("a subscriber does not panic"), stored);
    }
}

pub(super) async fn each_kind_begins_where_it_is_told(world: &mut World) {
    let log = world.log().await;
    for at in 0..8 {
        write(&log, if at % 2 == 0 { "a-1" } else { "b-1" }, "T").await;
    }
    for (filter, start, history) in [
        (everything(), Start::Global(6), vec![6, 7, 8]),
        (everything(), Start::Now, vec![]),
        (category("a"), Start::Global(4), vec![5, 7]),
        (category("a"), Start::Global(0), vec![1, 3, 5, 7]),
        (stream("a-1"), Start::Stream(2), vec![5, 7]),
        (stream("a-1"), Start::Stream(0), vec![1, 3, 5, 7]),
        (stream("a-1"), Start::Global(2), vec![3, 5, 7]),
    ] {
        let mut subscription = subscribe(&log, filter.clone(), start);
        let mut seen = Vec::new();
        loop {
            match subscription.next().await {
                Event::Pokes(frames) => seen.extend(globals(&pokes(&frames))),
                Event::CaughtUp(head) => {
                    assert_eq!(head, 8);
                    break;
                }
                event => panic!("{event:?}"),
            }
        }
        assert_eq!(seen, history, "{filter:?} {start:?}");
    }
    // A position of the stream that does not exist yet: messages before it are not wanted.
    let mut subscription = subscribe(&log, stream("a-1"), Start::Stream(5));
    assert_eq!(subscription.next().await, Event::CaughtUp(8));
    write(&log, "a-1", "T").await;
    write(&log, "a-1", "T").await;
    assert_eq!(take(&mut subscription, 1).await, vec![("a-1".to_owned(), 5, 10)]);
}

pub(super) async fn who_reads_a_stream_is_poked_about_it(world: &mut World) {
    let log = world.log().await;
    for stream in ODD_STREAMS {
        write(&log, stream, "T").await;
    }
    for size in [1, 3, 8] {
        let mut poked = Vec::new();
        let mut live = Vec::new();
        for member in 0..size {
            let group = ConsumerGroup::new(member, size);
            let read =
                read(&log, eventodb_protocol::request::Read::forward(Filter { group, ..category("a") }, 0, 100)).await;
            let mut subscription = subscribe(&log, Filter { group, ..category("a") }, Start::Global(0));
            let mut seen = Vec::new();
            while let Event::Pokes(frames) = subscription.next().await {
                seen.extend(globals(&pokes(&frames)));
            }
            assert_eq!(seen, global_positions(&read), "{member} of {size}");
            poked.extend(seen);
            live.push((group.expect("a member"), subscription));
        }
        poked.sort_unstable();
        poked.dedup();
        assert_eq!(poked.len() as i64, log.head());
        let before = log.head();
        for stream in ODD_STREAMS {
            write(&log, stream, "T").await;
        }
        for (group, mut subscription) in live {
            let mine: Vec<i64> = ODD_STREAMS
                .iter()
                .zip(before + 1..)
                .filter(|(stream, _)| group.owns(stream))
                .map(|(_, position)| position)
                .collect();
            assert_eq!(globals(&take(&mut subscription, mine.len()).await), mine);
        }
    }
}

pub(super) async fn a_slow_subscriber_loses_nothing(world: &mut World) {
    let log = world.log().await;
    let mut subscription = subscribe(&log, category("a"), Start::Now);
    assert_eq!(subscription.next().await, Event::CaughtUp(0));
    for at in 0..40 {
        write(&log, ["a-1", "b-1"][at % 2], "T").await;
    }
    assert_eq!(globals(&take(&mut subscription, 20).await), (1..40).step_by(2).collect::<Vec<_>>());
    write(&log, "a-1", "T").await;
    assert_eq!(globals(&take(&mut subscription, 1).await), vec![41]);
}

pub(super) async fn above_the_head_is_said(world: &mut World) {
    let log = world.log().await;
    write(&log, "a-1", "T").await;
    let mut subscription = subscribe(&log, category("a"), Start::Global(4));
    assert_eq!(subscription.next().await, Event::AheadOfHead(1));
    for _ in 0..4 {
        write(&log, "a-1", "T").await;
    }
    assert_eq!(globals(&take(&mut subscription, 2).await), vec![4, 5]);
    // The next position is not above the head.
    let mut subscription = subscribe(&log, category("a"), Start::Global(6));
    assert_eq!(subscription.next().await, Event::CaughtUp(5));
}

pub(super) async fn heartbeats_tell_how_far(world: &mut World) {
    let log = world.log().await;
    write(&log, "a-1", "T").await;
    let mut subscription = log.subscribe(Subscribe {
        filter: category("a"),
        start: Start::Global(0),
        coalesce: None,
        heartbeat: Duration::from_millis(20),
    });
    assert_eq!(take(&mut subscription, 1).await.len(), 1);
    assert_eq!(subscription.next().await, Event::CaughtUp(1));
    assert_eq!(subscription.next().await, Event::Heartbeat(1));
    write(&log, "b-1", "T").await;
    // Messages that do not match are passed over, in the next heartbeat or the one after.
    while subscription.next().await != Event::Heartbeat(2) {}
    assert_eq!(subscription.position(), 2);
}

pub(super) async fn pokes_are_coalesced_to_the_newest(world: &mut World) {
    let log = world.log().await;
    let mut subscription = log.subscribe(Subscribe {
        filter: category("a"),
        start: Start::Now,
        coalesce: Some(Duration::from_millis(30)),
        heartbeat: Duration::from_secs(600),
    });
    assert_eq!(subscription.next().await, Event::CaughtUp(0));
    for at in 0..30 {
        write(&log, ["a-1", "a-2", "b-1"][at % 3], "T").await;
    }
    let mut newest = std::collections::HashMap::new();
    let mut last = 0;
    while last < 29 {
        let Event::Pokes(frames) = subscription.next().await else { continue };
        for (stream, position, global) in pokes(&frames) {
            assert!(global > last, "in order");
            last = global;
            newest.insert(stream, position);
        }
    }
    assert_eq!(newest["a-1"], 9);
    assert_eq!(newest["a-2"], 9);
}

pub(super) async fn heartbeats_come_while_pokes_are_gathered(world: &mut World) {
    let log = world.log().await;
    let mut subscription = log.subscribe(Subscribe {
        filter: everything(),
        start: Start::Now,
        coalesce: Some(Duration::from_secs(3600)),
        heartbeat: Duration::from_millis(20),
    });
    assert_eq!(subscription.next().await, Event::CaughtUp(0));
    loop {
        let writing = tokio::spawn({
            let log = Arc::clone(&log);
            async move { write(&log, "a-1", "T").await }
        });
        let before = subscription.position();
        // If the message comes while nobody waits for it, it goes out at once.
        let first = subscription.next().await;
        writing.await.expect("it is written");
        if first == Event::Heartbeat(before) && subscription.next().await == Event::Heartbeat(before) {
            return;
        }
    }
}

pub(super) async fn a_wait_that_is_given_up_loses_no_poke(world: &mut World) {
    const STREAMS: usize = 40;
    let mut log = world.log().await;
    for at in 0..STREAMS {
        write(&log, &format!("a-{at}"), "T").await;
    }
    if world.reopen().await {
        log = world.store.log(&log.namespace().name).await.expect("it is there");
    }
    for _ in 0..20 {
        let mut subscription = log.subscribe(Subscribe {
            filter: everything(),
            start: Start::Global(0),
            coalesce: Some(Duration::from_millis(1)),
            heartbeat: Duration::from_secs(600),
        });
        let mut poked = std::collections::HashSet::new();
        let mut patience = (0..8).cycle().map(|step| Duration::from_micros(100 << step));
        while poked.len() < STREAMS {
            match tokio::time::timeout(patience.next().expect("endless"), subscription.next()).await {
                Ok(Event::Pokes(frames)) => poked.extend(pokes(&frames).into_iter().map(|(stream, ..)| stream)),
                // All pokes come first.
                Ok(Event::CaughtUp(_)) => break,
                Ok(other) => panic!("{other:?}"),
                Err(_) => {}
            }
        }
        assert_eq!(poked.len(), STREAMS, "the others were merged by a wait that was given up");
    }
}

pub(super) async fn what_follows_a_poke_closely_goes_out_together(world: &mut World) {
    world.settings.poke_gap = Duration::from_secs(3600);
    if !world.reopen().await {
        return;
    }
    let log = world.log().await;
    let mut subscription = subscribe(&log, category("a"), Start::Global(0));
    assert_eq!(subscription.next().await, Event::CaughtUp(0));
    write(&log, "a-1", "T").await;
    assert_eq!(globals(&take(&mut subscription, 1).await), [1], "the first waits for nothing");
    for _ in 0..3 {
        write(&log, "a-1", "T").await;
        assert_eq!(subscription.next().now_or_never(), None, "more may come");
    }
    let mut later = subscribe(&log, category("a"), Start::Global(0));
    assert_eq!(globals(&take(&mut later, 4).await), [1, 2, 3, 4], "history waits for nothing");
}
