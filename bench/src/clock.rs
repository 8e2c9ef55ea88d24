//! What a round costs around its requests: processor time, memory, and the work that is left behind the answers.

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
    /// Begins, with an eye on the server's process.
    pub(crate) fn begin(server: Option<u32>, plan: &Plan) -> Self {
        Self {
            server,
            has_rate: plan.rate.is_some(),
            resident: resident::Watch::begin(server, plan.warm_up),
            generator: of(Some(std::process::id())),
            used: of(server),
            begin: Instant::now(),
        }
    }

    /// Ends; of a load that writes to a host, once everything there is indexed.
    pub(crate) async fn end(self, loaded: &Loaded, written: Option<&Host>) -> anyhow::Result<Round> {
        let ended = Instant::now();
        let used = of(self.server).saturating_sub(self.used).as_secs_f64();
        let generator = of(Some(std::process::id())).saturating_sub(self.generator);
        let resident = self.resident.end().await;
        let settle_s = match written {
            Some(host) => host.caught_up(ended).await?,
            None => 0.0,
        };
        let cost = Cost {
            generator_s: generator.as_secs_f64(),
            server_s: loaded.server_s.unwrap_or(used),
            // What is sent at a rate does not become slower by what is done after it.
            settle_s: if self.has_rate { 0.0 } else { settle_s },
            wall_s: (ended - self.begin).as_secs_f64(),
        };
        Ok(Round::new(loaded, cost, resident))
    }
}

fn of(pid: Option<u32>) -> Duration {
    pid.and_then(cpu).unwrap_or_default()
}
