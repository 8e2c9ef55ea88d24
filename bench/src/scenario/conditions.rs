//! Writes beside appends with conditions on a million older messages.

use super::Turn;
use super::write::{InTurn, message};
use crate::load::{self, Loaded, Plan};
use crate::rpc;

/// Messages that a condition looks at: more than a server keeps in memory.
const OVER: u64 = 1_000_000;
/// Connections that send conditions.
const CONDITIONAL: u64 = 16;

/// Writes at the turn's width, first beside the same appends without a condition, then beside those with one. The readings
/// tell of the conditions.
pub(super) async fn run(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let (plain, _) = beside(&turn, None).await?;
    let after = rpc::head(&turn.main()).await?.saturating_sub(OVER);
    let (mut written, conditional) = beside(&turn, Some(after)).await?;
    let of_plain = written.pace(written.measured.messages) / plain.pace(plain.measured.messages).max(f64::EPSILON);
    written.readings = [
        ("of_plain", of_plain),
        ("conditions_s", conditional.pace(conditional.measured.messages)),
        ("condition_p50_ms", conditional.ms_at(0.5)),
        ("condition_p99_ms", conditional.ms_at(0.99)),
    ]
    .into();
    written.measured.fail(conditional.measured);
    Ok(written)
}

/// Writes beside appends that have a condition on what stands above `after`, if that is given.
async fn beside(turn: &Turn<'_>, after: Option<u64>) -> anyhow::Result<(Loaded, Loaded)> {
    let (address, size) = (turn.main(), turn.session.args.size);
    let lanes = (0..CONDITIONAL).map(|lane| InTurn::new(vec![address.call(&body(lane, after, size))])).collect();
    let plan = Plan { rate: None, ..turn.plan.clone() };
    tokio::try_join!(
        turn.load(&address, turn.writers(&address, 0..turn.case.width)),
        load::run(&address, plan, lanes, turn.gauge()),
    )
}

/// An append to a stream of its own, unless a message of a type that does not happen stands above `after`.
fn body(lane: u64, after: Option<u64>, size: usize) -> String {
    let message = message(size);
    let check = |after| format!(r#""checks":[{{"match":{{"types":["NeverHappened"]}},"after":{after}}}]"#);
    let checks = after.map(check).unwrap_or_default();
    format!(r#"["streams.append",[{{"stream":"beside-{lane}","messages":[{message}]}}],{{{checks}}}]"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_a_call() {
        let call = |after| serde_json::from_str::<serde_json::Value>(&body(3, after, 64)).unwrap();
        assert_eq!(call(None)[2], serde_json::json!({}));
        assert_eq!(call(Some(7))[0], "streams.append");
        assert_eq!(call(Some(7))[2]["checks"][0]["after"], 7);
    }
}
