//! Consumer groups from outside: members are processes, servers and databases die, and what must hold is looked at where
//! the handlers write.
//!
//! The forms of CI take seconds. `make groups-check` runs the long ones.

mod cluster;
mod crew;
mod handover;
mod local;
mod member;
pub(crate) mod members;
mod moves;
mod poison;
mod sink;
mod storm;
mod waits;

use std::time::Duration;

use eventodb_client::Client;
use eventodb_client::group::reply::Why;
use eventodb_client::group::{CreateGroup, Group, ListPage};
use tokio::time::Instant;

use super::server::PATIENCE;

/// The group of all tests here.
const GROUP: &str = "g";
/// The category that it reads.
const CATEGORY: &str = "thing";

/// How often tests do what they repeat; unset, each has a small number of its own.
const ROUNDS: &str = "EVENTODB_TEST_GROUPS_ROUNDS";

/// How long a lease lasts in these tests: as short as a group allows.
const SESSION: Duration = Duration::from_secs(1);

/// Makes the group.
async fn create_group(client: &Client, partitions: u32, session: Duration) {
    let create = CreateGroup {
        categories: vec![CATEGORY.to_owned()],
        partitions: Some(partitions),
        session_ms: u64::try_from(session.as_millis()).ok(),
        ..CreateGroup::default()
    };
    client.group(GROUP).create(&create).await.expect("created");
}

/// Waits for a condition.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a group has handled everything up to a position and nothing is parked, for as long as it gets on.
async fn until_handled(group: &Group, head: i64) {
    until_handled_with(group, head, async || ()).await;
}

/// The same beside what an operator does each second.
async fn until_handled_with(group: &Group, head: i64, act: impl AsyncFn()) {
    let (mut done, mut since) = (-1, Instant::now());
    while !group.wait(head, None, SESSION).await.expect("a reply").reached
        || !group.parked(&ListPage::default()).await.expect("a list").is_empty()
    {
        act().await;
        let status = group.status().await.expect("a status");
        let handled = status.partitions.iter().map(|each| each.checkpoint).sum::<i64>();
        let parked = status.partitions.iter().map(|each| each.parked.streams).sum::<usize>();
        let now = handled - parked as i64;
        if now != done {
            (done, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "it does not get on: {status:?}");
    }
}

/// Waits until each partition has an owner that need not give it back, and all members have a fair share.
async fn until_shared(client: &Client, members: usize) {
    let group = client.group(GROUP);
    until("fair shares", async || {
        let status = group.status().await.expect("a status");
        let shares: Vec<usize> = status.members.iter().map(|member| member.partitions.len()).collect();
        let is_even = shares.iter().max().zip(shares.iter().min()).is_some_and(|(most, least)| most - least <= 1);
        let is_settled =
            status.partitions.iter().all(|each| each.owner.is_some() && !matches!(each.why, Why::Revoking { .. }));
        status.members.len() == members && is_even && is_settled
    })
    .await;
}

/// How often a test does what it repeats.
fn rounds(usual: usize) -> usize {
    usize::try_from(given(ROUNDS, usual as u64)).expect("it is little")
}

/// A number that a variable gives to a test, for its long form.
fn given(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}
