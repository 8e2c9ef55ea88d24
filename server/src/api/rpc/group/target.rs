//! What the calls on a group share: which group, whether the caller may touch it, and waiting.

use std::time::Duration;

use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::{MemberCall, group_name};
use eventodb_protocol::{ErrorCode, Right};
use eventodb_store::Named;

use crate::api::auth::{self, Caller};
use crate::api::errors::Failure;
use crate::api::rpc::context::Context;

/// A group that exists, and whose categories the caller may touch with this right. The call meets no other one, also if
/// that takes its name meanwhile.
///
/// # Errors
/// `GROUP_NOT_FOUND`, `AUTH_UNAUTHORIZED`.
pub(super) async fn named(
    context: &Context<'_>,
    caller: &Caller,
    call: &mut Call<'_>,
    right: Right,
) -> Result<Named, Failure> {
    let name = group_name(call, context.limits())?;
    let allowed = caller.check_group(right, &name).await?;
    Ok(Named::new(&name, allowed))
}

/// As [`named`], for a call of a member: the group, and the member, which stands behind it.
pub(super) async fn member_of(
    context: &Context<'_>,
    caller: &Caller,
    call: &mut Call<'_>,
) -> Result<(Named, String), Failure> {
    let group = named(context, caller, call, Right::Consume).await?;
    let member = call.string("member")?.into_owned();
    Ok((group, member))
}

/// The caller's token, as a group's audit has it.
pub(super) fn token_of(caller: &Caller) -> Option<String> {
    caller.token_id().map(|id| id.0.to_string())
}

/// As [`waiting`], for a call of a member. If there is no place for it to wait, what a heartbeat does is done
/// nevertheless, before it is refused: a member must not lose its lease because others wait.
///
/// # Errors
/// As [`waiting`].
pub(super) async fn waiting_member<T>(
    context: &mut Context<'_>,
    caller: &Caller,
    (group, member, call): (&Named, &str, MemberCall),
    reply: impl Future<Output = eventodb_store::Result<T>>,
) -> Result<T, Failure> {
    match waiting(context, caller, call.wait_ms, reply).await {
        Err(refused) if refused.code() == ErrorCode::Overloaded => {
            let call = MemberCall { wait_ms: 0, ..call };
            // Boxed, because it is rare: all calls that wait would carry the room for it.
            Box::pin(caller.log().groups().heartbeat(group, member, call, &context.state.stopping)).await?;
            Err(refused)
        }
        replied => replied,
    }
}

/// Waits for a reply that may take `ms` milliseconds, in one of the places for calls that wait. It fails when the token of
/// its caller ends.
///
/// # Errors
/// `OVERLOADED` if there is no place, `AUTH_UNAUTHORIZED`, and those of the call.
pub(super) async fn waiting<T>(
    context: &mut Context<'_>,
    caller: &Caller,
    ms: i64,
    reply: impl Future<Output = eventodb_store::Result<T>>,
) -> Result<T, Failure> {
    if ms == 0 {
        return Ok(reply.await?);
    }
    context.record.wait = Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    let _place = context.state.place_to_wait(caller.namespace(), context.credentials.token())?;
    tokio::select! {
        biased;
        () = caller.ended() => Err(auth::ended()),
        reply = reply => Ok(reply?),
    }
}
