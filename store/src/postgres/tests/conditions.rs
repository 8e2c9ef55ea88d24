//! Conditions that exclude each other, raced through two servers.

use std::sync::Arc;

use eventodb_protocol::message::Expected;
use eventodb_protocol::request::{Append, Check, Read};
use eventodb_protocol::{Condition, Matching};

use super::pair::Pair;
use crate::conformance::support::{append, entry, everything, message, read};
use crate::error::{Conflict, Error};
use crate::log::Log;

const WRITERS: usize = 16;
/// Rounds, unless `EVENTODB_TEST_ROUNDS` says how many.
const ROUNDS: usize = 50;

/// Takes the seat, unless somebody did after a position.
async fn take_seat(log: Arc<Log>, writer: usize, round: usize, after: Option<i64>) -> Result<i64, Error> {
    let kind = format!("Taken{round}");
    let matching = Matching::categories(["seat"]).types([kind.as_str()]);
    let wanted = Append {
        checks: vec![Check::Condition(Condition { matching, after })],
        ..append(vec![entry(&format!("seat-{writer}"), Expected::Any, vec![message(&kind)])])
    };
    log.append(wanted).await.map(|results| results[0].first_global_position)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_conditions_exactly_one_wins_through_two_servers() {
    let rounds = std::env::var("EVENTODB_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let pair = Pair::new().await;
    let logs = pair.logs().await;
    for round in 0..rounds {
        // What one server was read up to may be more than the other knows.
        let page = logs[round % 2].read(Read::forward(everything(), i64::MAX, 1)).await.expect("it answers");
        let after = if round % 3 > 0 { page.head() } else { None };
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(take_seat(Arc::clone(&logs[writer % 2]), writer, round, after)))
            .collect();
        let (mut won, mut lost) = (Vec::new(), Vec::new());
        for task in tasks {
            match task.await.expect("a writer does not panic") {
                Ok(position) => won.push(position),
                Err(Error::ConditionFailed(conflicts)) => lost.extend(conflicts),
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        assert_eq!((won.len(), lost.len()), (1, WRITERS - 1), "round {round}");
        let told =
            |conflict: &Conflict| matches!(conflict, Conflict::Condition { found, .. } if *found == Some(won[0]));
        assert!(lost.iter().all(told), "round {round}: {won:?} {lost:?}");
    }
    let written = read(&logs[0], Read::forward(everything(), 0, 10_000)).await;
    assert_eq!(written.len(), rounds, "one message a round");
    pair.close().await;
}
