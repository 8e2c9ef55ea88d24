//! Thousands of namespaces, each written to once a second and with one subscriber.

use std::sync::Arc;
use std::time::Duration;

use super::Turn;
use super::listen::{Watch, beside};
use super::write::{InTurn, message};
use crate::load::{self, Loaded};
use crate::measure::Gauge;
use crate::rpc;
use crate::wire::Address;

const CONNECTIONS: usize = 64;
/// How long the last pokes may take after the last write.
const GRACE: Duration = Duration::from_secs(10);

/// Makes namespaces, with one message each.
pub(crate) async fn create(address: &Address, count: u64, gauge: &Gauge) -> anyhow::Result<Vec<Address>> {
    let mut made = Vec::new();
    for number in 0..count {
        gauge.go_on(|| format!("namespaces were made: {number} of {count}"))?;
        let namespace = rpc::create_namespace(address, &format!("bench-{number:06}")).await?;
        let message = serde_json::json!({"type": "Deposited", "data": {"amount": 1}});
        rpc::call(&namespace, &serde_json::json!(["stream.write", "account-1", message])).await?;
        made.push(namespace);
    }
    Ok(made)
}

/// Writes to each in turn at the plan's rate, each with a subscriber.
pub(super) async fn run(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let (gauge, plan) = (turn.gauge(), turn.plan.clone());
    let write = format!(r#"["stream.write","account-1",{}]"#, message(turn.session.args.size));
    let (host, namespaces) = turn.session.namespaces().await?;
    let lane = |lane| namespaces.iter().skip(lane).step_by(CONNECTIONS).map(|address| address.call(&write)).collect();
    let lanes = (0..CONNECTIONS.min(namespaces.len())).map(|number| InTurn::new(lane(number))).collect();
    // Without a position: messages that were there before are not poked.
    let asked = namespaces.iter().map(|address| (address.clone(), "all=true".to_owned())).collect();
    let watch = Arc::new(Watch::default());
    let spent = host.used();
    let writes = async {
        let loaded = load::run::<InTurn>(&host.address, plan, lanes, Arc::clone(&gauge)).await?;
        watch.poked(loaded.measured.messages, GRACE, &gauge).await;
        Ok((loaded, host.vitals()?))
    };
    let (poked, (mut loaded, vitals)) = beside(asked, Arc::clone(&watch), &gauge, writes).await?;
    let lost = loaded.measured.messages.saturating_sub(poked.measured.messages);
    if lost > 0 && !gauge.is_stopped() {
        loaded.measured.error(&anyhow::anyhow!("{lost} pokes did not come"));
    }
    loaded.server_s = Some(host.used().saturating_sub(spent).as_secs_f64());
    loaded.readings =
        [("resident_mib", vitals.resident_mib), ("files", vitals.files), ("threads", vitals.threads)].into();
    Ok(loaded)
}
