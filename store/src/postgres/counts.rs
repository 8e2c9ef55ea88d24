//! Counting the messages of all logs, each log at its node by a statement of its own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::error::Failure;
use super::node::Node;
use super::pool::retrying;
use super::registry;
use super::shared::Shared;
use super::statement::MESSAGE_COUNT;
use super::storage::count;
use crate::model::Incarnation;

/// Statements that are sent together.
const COUNT_AT_ONCE: usize = 100;

type Counts = Vec<(Incarnation, u64)>;

/// How many messages each living incarnation holds. One that was never opened holds none; one that is deleted meanwhile
/// is left out.
pub(super) async fn message_counts(shared: &Shared) -> Result<Counts, Failure> {
    let living = retrying!(shared.readers, connection => registry::logs(connection))?;
    let logs: Vec<Incarnation> = living.iter().map(|(log, _)| *log).collect();
    let away = shared.places.away(&logs).await?;
    let (made, unused): (Vec<_>, Vec<_>) =
        living.into_iter().partition(|(log, is_at_home)| *is_at_home || away.contains_key(log));
    let made: Vec<Incarnation> = made.into_iter().map(|(log, _)| log).collect();
    let mut counts: Counts = unused.into_iter().map(|(log, _)| (log, 0)).collect();
    counts.extend(counts_of(shared, &made, away).await?);
    let counted: HashSet<Incarnation> = counts.iter().map(|(log, _)| *log).collect();
    let missed: Vec<Incarnation> = made.into_iter().filter(|log| !counted.contains(log)).collect();
    if !missed.is_empty() && shared.places.are_several() {
        // They were deleted, or have moved between the two questions.
        let away = shared.places.away(&missed).await?;
        counts.extend(counts_of(shared, &missed, away).await?);
    }
    Ok(counts)
}

/// The counts of those of these logs that are where they are said to be.
async fn counts_of(
    shared: &Shared,
    logs: &[Incarnation],
    mut away: HashMap<Incarnation, Arc<Node>>,
) -> Result<Counts, Failure> {
    let home = shared.places.home();
    let mut nodes: Vec<(Arc<Node>, Vec<Incarnation>)> = Vec::new();
    for &log in logs {
        let node = away.remove(&log).unwrap_or_else(|| Arc::clone(home));
        match nodes.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &node)) {
            Some((_, logs)) => logs.push(log),
            None => nodes.push((node, vec![log])),
        }
    }
    let counts = try_join_all(nodes.iter().map(|(node, logs)| counts_at(node, logs))).await?;
    Ok(counts.into_iter().flatten().collect())
}

async fn counts_at(node: &Node, logs: &[Incarnation]) -> Result<Counts, Failure> {
    let readers = &node.pools().await.readers;
    let mut counts = Vec::with_capacity(logs.len());
    for logs in logs.chunks(COUNT_AT_ONCE) {
        let texts: Vec<String> = logs.iter().map(|&log| MESSAGE_COUNT.on(log).text()).collect();
        for (log, outcome) in logs.iter().zip(retrying!(readers, connection => connection.query_each(&texts))?) {
            match outcome {
                Ok(row) => counts.push((*log, row.map_or(0, |row| count(row.get(1))))),
                Err(failure) if failure.is_missing() => {}
                Err(failure) => return Err(failure),
            }
        }
    }
    Ok(counts)
}
