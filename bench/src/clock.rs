//! The cost of a round around its requests: processor time, memory, and the work that is left behind the answers.

use std::time::{Duration, Instant};

use crate::host::{Host, used};
use crate::load::{Loaded, Plan};
use crate::measure::Measured;
use crate::report::{Figures, Round};
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
        let server_s = used(self.server).saturating_sub(self.used).as_secs_f64();
        let generator = used(Some(std::process::id())).saturating_sub(self.generator);
        let resident_mib = self.resident.end().await;
        let settled_s = match written {
            Some(host) => host.caught_up(ended).await?,
            None => 0.0,
        };
        // The pace of a load with a rate is given: work after it makes it no slower.
        let settle_s = if self.has_rate { 0.0 } else { settled_s };
        let wall_s = (ended - self.begin).as_secs_f64().max(f64::EPSILON);
        let elapsed_s = (loaded.elapsed.as_secs_f64() + settle_s).max(f64::EPSILON);
        let Measured { latencies, messages, errors, first_error, seconds } = &loaded.measured;
        let figures = Figures {
            ops: latencies.len() as f64 / elapsed_s,
            messages: *messages as f64 / elapsed_s,
            avg: latencies.mean() / 1e6,
            p50: loaded.ms_at(0.5),
            p95: loaded.ms_at(0.95),
            p99: loaded.ms_at(0.99),
            p999: loaded.ms_at(0.999),
            max: latencies.max() as f64 / 1e6,
            generator_cpu: generator.as_secs_f64() / wall_s,
            server_cpu: loaded.server_s.unwrap_or(server_s) / wall_s,
            settle_s,
            resident_mib: resident_mib.iter().copied().fold(0.0, f64::max),
        };
        Ok(Round {
            figures,
            elapsed_s: loaded.elapsed.as_secs_f64(),
            seconds: seconds.clone(),
            fsync_seconds: loaded.fsync_seconds.clone(),
            resident_mib,
            latencies: loaded.measured.buckets(),
            readings: loaded.readings.iter().map(|(&name, &value)| (name.to_owned(), value)).collect(),
            errors: *errors,
            first_error: first_error.clone(),
        })
    }
}
