//! Writes to many categories beside a category that a thousand listen to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::poke;
use super::write::Write;
use crate::load::{self, Loaded, Plan};
use crate::measure::Gauge;
use crate::wire::Address;

/// Runs both, once all subscribe, for as long as the writes take; what is measured is the writes, the pokes' figures beside.
pub(crate) async fn run(
    address: &Address,
    plan: Plan,
    lanes: Vec<Write>,
    pokes: poke::Plan,
    gauge: Arc<Gauge>,
) -> anyhow::Result<Loaded> {
    let (over, ready) = (Arc::clone(&pokes.over), Arc::clone(&pokes.ready));
    let writes = async {
        // At full speed they would make the subscribers wait for as long as they take.
        ready.notified().await;
        let written = load::run(address, plan, lanes, Arc::clone(&gauge)).await;
        over.store(true, Ordering::Relaxed);
        written
    };
    let (mut written, poked) = tokio::try_join!(writes, poke::run(address, pokes, Arc::clone(&gauge)))?;
    let p99 = poked.measured.latencies.value_at_quantile(0.99) as f64 / 1e6;
    let pokes = poked.measured.messages as f64 / poked.elapsed.as_secs_f64().max(f64::EPSILON);
    written.readings = [("pokes_s", pokes), ("poke_p99_ms", p99)].into();
    written.measured.fail(poked.measured);
    Ok(written)
}
