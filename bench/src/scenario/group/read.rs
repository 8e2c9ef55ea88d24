//! One member reads everything, by pages of 1,000, and stores a checkpoint with each.

use eventodb_protocol::group::reply::{GroupRead, Membership};
use serde::de::IgnoredAny;
use serde_json::json;

use super::super::Turn;
use super::super::catch_up::expect_all;
use super::{Known, PARTITIONS, create, delete};
use crate::load::{Lane, Loaded};
use crate::rpc;
use crate::wire::{Address, Reply};

/// Messages in a page.
const PAGE: u64 = 1_000;

/// Reads all preloaded messages.
pub(crate) async fn run(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let (address, last) = (turn.main(), turn.session.filled().await?.last);
    let group = create(&address, &json!({ "partitions": PARTITIONS })).await?;
    let joined = rpc::call(&address, &json!(["group.join", group, { "instance": uuid::Uuid::now_v7() }])).await?;
    let known = Known::of(&group, &serde_json::from_value::<Membership>(joined)?);
    let lane = Reading { address: address.clone(), known, request: Vec::new(), last, is_done: false };
    let loaded = turn.load(&address, vec![lane]).await;
    delete(&address, &group).await?;
    let mut loaded = loaded?;
    expect_all(turn.session, &mut loaded, last);
    Ok(loaded)
}

#[derive(Debug)]
struct Reading {
    address: Address,
    known: Known,
    request: Vec<u8>,
    last: u64,
    is_done: bool,
}

impl Lane for Reading {
    fn request(&mut self) -> &[u8] {
        self.request = self.address.call(&self.known.body("group.read", json!({ "batchSize": PAGE }))).bytes;
        &self.request
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        let page: GroupRead<IgnoredAny> = serde_json::from_slice(reply.success()?)?;
        self.is_done = page.up_to.values().all(|&position| u64::try_from(position).is_ok_and(|at| at >= self.last));
        Ok(self.known.page(page).len() as u64)
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}
