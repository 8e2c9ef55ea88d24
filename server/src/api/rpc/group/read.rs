//! `group.read`: the next messages of a member's partitions.

use axum::response::Response;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::ReadGroup;
use eventodb_protocol::wire;

use super::target::{member_of, waiting_member};
use crate::api::auth::Caller;
use crate::api::errors::Failure;
use crate::api::reply;
use crate::api::rpc::context::Context;
use crate::api::rpc::page::Memory;

/// Times that a page's text is in memory: as rows, and as the reply.
const COPIES: usize = 2;
/// Bytes of a reply beside its rows, for each partition that the group may have.
const FRAME: usize = 64 * 1024;

pub(in super::super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let (group, member) = member_of(context, &caller, call).await?;
    let read = ReadGroup::parse(call)?;
    let (state, exchange, call) = (context.state, context.exchange, read.heartbeat.clone());
    let mut memory = Memory::new(exchange.account());
    let room = |bytes: usize| memory.hold(COPIES * bytes + FRAME).is_ok();
    // It is kept once while it waits, whatever it is handed through.
    let reply = Box::pin(caller.log().groups().read(&group, &member, read, &state.stopping, room));
    let page = waiting_member(context, &caller, (&group, &member, call), reply).await?;
    Ok(reply::text(wire::group_read(page)))
}
