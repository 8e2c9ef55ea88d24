//! Writes beside appends with conditions on a million older messages.

use super::Turn;
use super::write::{InTurn, message};
use crate::load::{self, Loaded, Plan};
use crate::rpc;

/// Messages that a condition looks at: more than a server keeps in memory.
const OVER: u64 = 1_000_000;
/// Connections that send conditions.
const CONDITIONAL: u64 = 16;

/// Writes at the turn's width. The readings tell of the conditions.
pub(super) async fn run(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let address = turn.main();
    let after = rpc::head(&address).await?.saturating_sub(OVER);
    let size = turn.session.args.size;
    let lanes = (0..CONDITIONAL).map(|lane| InTurn::new(vec![address.call(&body(lane, after, size))])).collect();
    let plan = Plan { rate: None, ..turn.plan.clone() };
    let (mut written, conditional) = tokio::try_join!(
        turn.load(&address, turn.writers(&address, 0..turn.case.width)),
        load::run(&address, plan, lanes, turn.gauge()),
    )?;
    written.readings = [
        ("conditions_s", conditional.pace(conditional.measured.messages)),
        ("condition_p50_ms", conditional.ms_at(0.5)),
        ("condition_p99_ms", conditional.ms_at(0.99)),
    ]
    .into();
    written.measured.fail(conditional.measured);
    Ok(written)
}

/// An append to a stream of its own, unless a message of a type that does not happen stands above `after`.
fn body(lane: u64, after: u64, size: usize) -> String {
    let message = message(size);
    let check = format!(r#"{{"match":{{"types":["NeverHappened"]}},"after":{after}}}"#);
    format!(r#"["streams.append",[{{"stream":"conditional-{lane}","messages":[{message}]}}],{{"checks":[{check}]}}]"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_a_call() {
        let call: serde_json::Value = serde_json::from_str(&body(3, 7, 64)).unwrap();
        assert_eq!(call[0], "streams.append");
        assert_eq!(call[2]["checks"][0]["after"], 7);
    }
}
