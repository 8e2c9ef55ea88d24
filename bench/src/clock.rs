//! The cost of a round around its requests: processor time, memory, and the work that is left behind the answers.

use std::time::{Duration, Instant};

use crate::host::{Host, cpu};
use crate::load::{Loaded, Plan};
use crate::report::{Cost, Round};
use crate::resident;

/// Runs from the first connection of a round on.
#[derive(Debug)]
pub(crate) struct Clock {
    server: Option<u32>,
    has_rate: bool,
    begin: Instant,
    generator: Duration,
    used: Duration,
    resident: resident::Watch,
}

impl Clock {
    /// Begins, and watches the server's process.
    pub(crate) fn begin(server: Option<u32>, plan: &Plan) -> Self {
        Self {
            server,
            has_rate: plan.rate.is_some(),
            resident: resident::Watch::begin(server, plan.warm_up),
            generator: used(Some(std::process::id())),
            used: used(server),
            begin: Instant::now(),
        }
    }

    /// Ends; after a load that writes to a host, once everything there is indexed.
    pub(crate) async fn end(self, loaded: &Loaded, written: Option<&Host>) -> anyhow::Result<Round> {
        let ended = Instant::now();
        let server = used(self.server).saturating_sub(self.used).as_secs_f64();
        let generator = used(Some(std::process::id())).saturating_sub(self.generator);
        let resident = self.resident.end().await;
        let settle_s = match written {
            Some(host) => host.caught_up(ended).await?,
            None => 0.0,
        };
        let cost = Cost {
            generator_s: generator.as_secs_f64(),
            server_s: loaded.server_s.unwrap_or(server),
            // The pace of a load with a rate is given: work after it makes it no slower.
            settle_s: if self.has_rate { 0.0 } else { settle_s },
            wall_s: (ended - self.begin).as_secs_f64(),
        };
        Ok(Round::new(loaded, cost, resident))
    }
}

fn used(pid: Option<u32>) -> Duration {
    pid.and_then(cpu).unwrap_or_default()
}
