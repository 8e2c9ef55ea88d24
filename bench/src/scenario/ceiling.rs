//! One round of a ceiling.

use super::Turn;
use crate::ceiling::fsync as disk;
use crate::load::Loaded;

/// The call that the no-op server is sent, again and again. What is compared with it for the server's cost alone sends the
/// same, so that the generator has no more to do.
pub(super) const NOOP_BODY: &str =
    r#"["stream.write","bench0000-00000000",{"type":"Deposited","data":{"amount":1234}}]"#;

pub(super) async fn noop(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    turn.repeat(&turn.session.noop, NOOP_BODY).await
}

pub(super) async fn fsync(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    disk::run(turn.session.directory.path(), turn.plan.duration, None, turn.gauge()).await
}

pub(super) async fn sqlite(turn: Turn<'_>, is_indexed: bool) -> anyhow::Result<Loaded> {
    let gauge = turn.gauge();
    let ceiling = turn.session.sqlite(is_indexed)?;
    tokio::task::block_in_place(|| ceiling.run(turn.case.width, turn.plan.duration, &gauge))
}

pub(super) async fn postgres(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let gauge = turn.gauge();
    turn.session.postgres().await?.run(turn.case.width, turn.plan.duration, &gauge).await
}
