//! Checkpoints while another session of PostgreSQL keeps a snapshot open, so that no old version of a row can go.

use anyhow::Context as _;
use serde_json::json;
use uuid::Uuid;

use super::super::Turn;
use super::{Known, PARTITIONS, create, delete};
use crate::load::{Lane, Loaded};
use crate::measure::Second;
use crate::rpc;
use crate::wire::{Address, Reply};

/// Each lane is the only member of a group of its own, and moves all its checkpoints with each heartbeat.
pub(crate) async fn run(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let address = turn.main();
    let head = i64::try_from(rpc::head(&address).await?)?;
    let mut lanes = Vec::new();
    for _ in 0..turn.case.width {
        let group = create(&address, &json!({ "partitions": PARTITIONS })).await?;
        let joined = rpc::call(&address, &json!(["group.join", group, { "instance": Uuid::now_v7() }])).await?;
        let known = Known::of(&group, &serde_json::from_value(joined)?);
        lanes.push(Moving { address: address.clone(), known, request: Vec::new(), position: 0, head });
    }
    let groups: Vec<String> = lanes.iter().map(|lane| lane.known.group.clone()).collect();
    let snapshot = turn.session.main.database().context("the server has no database")?.connect().await?;
    snapshot.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await?;
    let mut loaded = turn.load(&address, lanes).await?;
    snapshot.batch_execute("COMMIT").await?;
    for group in groups {
        delete(&address, &group).await?;
    }
    let (first, last) = ends(&loaded.measured.seconds);
    loaded.readings =
        [("first_minute_s", first), ("last_minute_s", last), ("last_share", last / first.max(f64::EPSILON))].into();
    Ok(loaded)
}

/// Requests a second in the first minute and in the last; of a run that is shorter than ten minutes, in its tenths.
fn ends(seconds: &[Second]) -> (f64, f64) {
    // The last second is not whole.
    let seconds = &seconds[..seconds.len().saturating_sub(1)];
    let count = (seconds.len() / 10).clamp(1, 60).min(seconds.len());
    let pace = |part: &[Second]| part.iter().map(|second| second.requests as f64).sum::<f64>() / count.max(1) as f64;
    (pace(&seconds[..count]), pace(&seconds[seconds.len() - count..]))
}

#[derive(Debug)]
struct Moving {
    address: Address,
    known: Known,
    request: Vec<u8>,
    position: i64,
    head: i64,
}

impl Lane for Moving {
    fn request(&mut self) -> &[u8] {
        self.position = (self.position + 1).min(self.head);
        self.known.read = (0..PARTITIONS).map(|number| (number, self.position)).collect();
        self.request = self.address.call(&self.known.body("group.heartbeat", json!({}))).bytes;
        &self.request
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        reply.success().map(|_| 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_run_are_a_tenth_of_it_and_at_most_a_minute() {
        let of = |paces: &[u64]| paces.iter().map(|&requests| Second { requests, max_ms: 1.0 }).collect::<Vec<_>>();
        assert_eq!(ends(&of(&[9, 8, 7, 3])), (9.0, 7.0));
        let minutes: Vec<u64> = (0..601).map(|second| second / 60).collect();
        assert_eq!(ends(&of(&minutes)), (0.0, 9.0));
        assert_eq!(ends(&[]), (0.0, 0.0));
    }
}
