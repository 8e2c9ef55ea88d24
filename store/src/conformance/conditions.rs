//! Promises about conditions of appends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use eventodb_protocol::filter::Traits;
use eventodb_protocol::message::{Expected, Message};
use eventodb_protocol::reply::Appended;
use eventodb_protocol::request::{Append, Check};
use eventodb_protocol::{Condition, Matching};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use super::World;
use super::support::*;
use crate::Error;
use crate::error::{Conflict, Result};
use crate::log::Log;

fn matching(categories: &[&str], types: &[&str]) -> Matching {
    Matching::categories(categories.iter().copied()).types(types.iter().copied())
}

fn condition(categories: &[&str], types: &[&str], after: impl Into<Option<i64>>) -> Check {
    Check::Condition(Condition { matching: matching(categories, types), after: after.into() })
}

/// An append of one message under these checks.
fn conditional(stream: &str, kind: &str, checks: Vec<Check>) -> Append {
    Append { checks, ..append(vec![entry(stream, Expected::Any, vec![message(kind)])]) }
}

/// The positions that failed conditions tell, with their places among the checks.
fn found(outcome: Result<Vec<Appended>>) -> Vec<(usize, Option<i64>)> {
    let Err(Error::ConditionFailed(conflicts)) = outcome else { panic!("a condition fails: {outcome:?}") };
    let told = conflicts.into_iter().map(|conflict| match conflict {
        Conflict::Condition { check, found, .. } => (check, found),
        version @ Conflict::Version { .. } => panic!("no stream was checked: {version:?}"),
    });
    told.collect()
}

/// Messages at 1 to 6: `Opened` and `Closed` in turn, in the categories `a`, `b` and `c`.
async fn six(world: &World) -> Arc<Log> {
    let log = world.log().await;
    for at in 0..6 {
        write(&log, ["a-1", "b-1", "c-1"][at % 3], ["Opened", "Closed"][at % 2]).await;
    }
    log
}

pub(super) async fn a_condition_fails_if_a_message_matches(world: &mut World) {
    let log = six(world).await;
    for (categories, types, last) in [
        (&["a"][..], &[][..], Some(4)),
        (&["a"], &["Opened"], Some(1)),
        (&["a"], &["Closed"], Some(4)),
        (&["a", "b"], &["Opened"], Some(5)),
        (&[], &["Opened"], Some(5)),
        (&[], &["Opened", "Closed", "Never"], Some(6)),
        (&[], &["Never"], None),
        (&["none"], &[], None),
        (&["none"], &["Opened"], None),
        (&["a-1"], &[], None),
        (&[""], &["Closed"], Some(6)),
    ] {
        for after in [0, 1, 3, 4, 5, 6] {
            let check = condition(categories, types, after);
            let outcome = log.append(conditional("x-1", "Tried", vec![check])).await;
            let fails = last.is_some_and(|last| last > after);
            assert_eq!(outcome.is_err(), fails, "{categories:?} {types:?} after {after}: {outcome:?}");
            if fails {
                let told = found(outcome);
                assert!(told[0].1.is_some_and(|at| at > after && at <= 6), "{categories:?} {types:?}: {told:?}");
            }
        }
        let outcome = log.append(conditional("x-1", "Tried", vec![condition(categories, types, None)])).await;
        assert_eq!(outcome.is_err(), last.is_some(), "{categories:?} {types:?}: {outcome:?}");
    }
}

pub(super) async fn all_failed_conditions_and_streams_are_told(world: &mut World) {
    let log = six(world).await;
    let checks = vec![
        condition(&["a"], &[], None),
        Check::Version { stream: "b-1".into(), expected: Expected::NoStream },
        condition(&["none"], &[], None),
        condition(&[], &["Closed"], 5),
    ];
    let told = log.append(conditional("x-1", "Tried", checks.clone())).await;
    let Err(Error::VersionConflict(conflicts)) = told else { panic!("a stream conflicts: {told:?}") };
    let places: Vec<_> = conflicts
        .iter()
        .map(|conflict| match conflict {
            Conflict::Version { check, actual, .. } => (*check, *actual),
            Conflict::Condition { check, found, .. } => (Some(*check), found.unwrap_or(0)),
        })
        .collect();
    assert_eq!(places.iter().map(|(check, _)| *check).collect::<Vec<_>>(), [Some(0), Some(1), Some(3)]);
    assert_eq!((places[1].1, places[2].1), (1, 6));
    let conditions = checks.into_iter().filter(|check| matches!(check, Check::Condition(_))).collect();
    let told = found(log.append(conditional("x-1", "Tried", conditions)).await);
    assert_eq!(told.iter().map(|(check, _)| *check).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(log.head(), 6, "nothing was written");
}

pub(super) async fn a_position_above_the_head_fails(world: &mut World) {
    let log = six(world).await;
    let outcome = log.append(conditional("x-1", "Tried", vec![condition(&["none"], &[], 7)])).await;
    let Err(Error::ConditionFailed(conflicts)) = outcome else { panic!("{outcome:?}") };
    let [Conflict::Condition { check: 0, found: None, head: 6, .. }] = &conflicts[..] else { panic!("{conflicts:?}") };
    log.append(conditional("x-1", "Tried", vec![condition(&["none"], &[], 6)])).await.expect("it is the head");
}

pub(super) async fn messages_of_the_same_append_do_not_count(world: &mut World) {
    let log = world.log().await;
    for round in 0..3 {
        let after = log.head();
        let wanted = Append {
            checks: vec![condition(&["seat"], &["Taken"], after)],
            ..append(vec![entry("seat-1", Expected::Any, vec![message("Taken"), message("Taken")])])
        };
        log.append(wanted.clone()).await.expect("only its own messages match");
        let told = found(log.append(wanted).await);
        assert!(told[0].1.is_some_and(|at| at > after), "round {round}: {told:?}");
    }
}

pub(super) async fn a_repeated_append_is_not_checked_again(world: &mut World) {
    let log = six(world).await;
    let mut wanted = conditional("seat-1", "Taken", vec![condition(&["seat"], &["Taken"], None)]);
    wanted.entries[0].messages[0].id = Some(Uuid::new_v4());
    let original = log.append(wanted.clone()).await.expect("the seat is free");
    write(&log, "a-1", "Opened").await;
    assert_eq!(log.append(wanted.clone()).await.expect("it was written before"), original);
    wanted.entries[0].messages[0].id = None;
    assert_eq!(found(log.append(wanted).await), [(0, Some(original[0].first_global_position))]);
}

pub(super) async fn one_of_many_wins_under_conditions_that_exclude_each_other(world: &mut World) {
    let log = world.log().await;
    let done = Arc::new(AtomicBool::new(false));
    let noise = tokio::spawn({
        let (log, done) = (Arc::clone(&log), Arc::clone(&done));
        async move {
            while !done.load(SeqCst) {
                write(&log, "noise-1", "Heard").await;
            }
        }
    });
    for round in 0..8 {
        let kind = format!("Taken{round}");
        let after = (round % 2 == 0).then(|| log.head());
        let tasks = (0..16).map(|writer| {
            let (log, kind) = (Arc::clone(&log), kind.clone());
            let wanted = conditional(&format!("seat-{writer}"), &kind, vec![condition(&["seat"], &[&kind], after)]);
            tokio::spawn(async move { log.append(wanted).await })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut won = Vec::new();
        let mut lost = Vec::new();
        for task in tasks {
            match task.await.expect("a writer does not panic") {
                Ok(results) => won.push(results[0].first_global_position),
                refused => lost.extend(found(refused)),
            }
        }
        assert_eq!((won.len(), lost.len()), (1, 15), "round {round}");
        assert!(lost.iter().all(|told| *told == (0, Some(won[0]))), "round {round}: {won:?} {lost:?}");
    }
    done.store(true, SeqCst);
    noise.await.expect("a writer does not panic");
}

/// Random appends under random conditions, against a plain list of messages, while others write what matches nothing.
pub(super) async fn conditions_agree_with_a_plain_model(world: &mut World) {
    let mut random = SmallRng::seed_from_u64(world.settings.pause_seed.unwrap_or(7));
    let log = world.log().await;
    let mut model: Vec<Message> = Vec::new();
    for step in 0..60 {
        let pick = |random: &mut SmallRng, from: &[&'static str]| -> Vec<&'static str> {
            from.iter().copied().filter(|_| random.random_range(0..3) == 0).collect()
        };
        let categories = pick(&mut random, &["a", "b", "none"]);
        let mut types = pick(&mut random, &["T", "U", "Never"]);
        if categories.is_empty() && types.is_empty() {
            types.push("T");
        }
        // Few look at the whole log, because with tiny bounds a read makes three steps at a time.
        let head = log.head();
        let after = (random.random_range(0..4) > 0).then(|| random.random_range((head - 20).max(0)..=head));
        let (stream, kind) = (["a-1", "b-1", "b-2"][random.random_range(0..3)], ["T", "U"][random.random_range(0..2)]);
        let noise = tokio::spawn({
            let (log, count) = (Arc::clone(&log), random.random_range(0..4));
            async move {
                for _ in 0..count {
                    write(&log, "noise-1", "Heard").await;
                }
            }
        });
        let outcome = log.append(conditional(stream, kind, vec![condition(&categories, &types, after)])).await;
        noise.await.expect("a writer does not panic");
        let filter = matching(&categories, &types).filter();
        let is_match = |message: &&Message| {
            let traits = Traits { stream: &message.stream, kind: &message.kind, correlation: None };
            message.global_position > after.unwrap_or(0) && filter.matches(traits)
        };
        let matches: Vec<i64> = model.iter().filter(is_match).map(|message| message.global_position).collect();
        match outcome {
            Ok(_) => assert!(matches.is_empty(), "step {step}: {categories:?} {types:?} {after:?}: {matches:?}"),
            refused => {
                let told = found(refused);
                assert!(told[0].1.is_some_and(|at| matches.contains(&at)), "step {step}: {told:?} of {matches:?}");
            }
        }
        model = all(&log).await;
    }
}
