//! What the arguments mean for each scenario: how long, how much and how fast it is.

use std::time::Duration;

use crate::args::{Args, Backend};
use crate::load::Plan;
use crate::ramp::Ramp;
use crate::scenario::{Case, Scenario};

/// Messages of three memtables of the server's default size: below that a write run shows no index at work.
pub const LEAST_ON_SQLITE: u64 = 200_000;

/// Rounds of a scenario.
pub(crate) fn rounds(args: &Args, scenario: Scenario) -> u32 {
    args.rounds.filter(|_| !scenario.is_once()).unwrap_or(scenario.usual_rounds())
}

/// Whether rounds are as many and as long as targets speak of.
pub(crate) fn is_long_enough(args: &Args, scenario: Scenario) -> bool {
    /// What a figure wants that has a pace.
    const ROUNDS: u32 = 3;
    const SECONDS: f64 = 10.0;
    let usual = scenario.usual_duration().as_secs_f64();
    let seconds = args.duration.unwrap_or(usual);
    match scenario {
        _ if scenario.is_whole() => true,
        _ if scenario.is_once() => seconds >= usual,
        _ => rounds(args, scenario) >= ROUNDS && seconds >= SECONDS,
    }
}

/// How long, how much and how fast a case is, on that backend.
pub(crate) fn plan(args: &Args, backend: Option<Backend>, case: Case) -> Plan {
    let scenario = case.scenario;
    let is_whole = scenario.is_whole();
    let rate = rate(args, scenario);
    let usual = match backend {
        Some(Backend::Sqlite | Backend::Memory) => LEAST_ON_SQLITE,
        Some(Backend::Postgres) | None => 0,
    };
    let least = if scenario.writes() { args.least.unwrap_or(usual) } else { 0 };
    let ramp = Ramp::new(&args.ramp).filter(|_| scenario.has_connections());
    let duration = match (&ramp, args.duration) {
        _ if is_whole => Duration::from_secs(24 * 3600),
        (Some(ramp), _) => ramp.duration(),
        (None, Some(seconds)) => Duration::from_secs_f64(seconds),
        (None, None) => scenario.usual_duration(),
    };
    Plan {
        warm_up: match is_whole || args.count.is_some() || ramp.is_some() {
            true => Duration::ZERO,
            false => Duration::from_secs_f64(args.warm_up),
        },
        duration,
        count: args.count.filter(|_| !is_whole),
        // A rate says how long so many messages take.
        least: if rate.is_none() { least } else { 0 },
        rate,
        ramp,
    }
}

/// Requests a second that a scenario sends; without one as many as are answered.
pub(crate) fn rate(args: &Args, scenario: Scenario) -> Option<f64> {
    match scenario {
        _ if scenario.is_ceiling() => None,
        Scenario::CatchUp | Scenario::CatchUpSse | Scenario::FanOutWrites => None,
        Scenario::Namespaces => Some(args.rate.unwrap_or(args.namespaces as f64)),
        _ => args.rate.or(scenario.usual_rate()),
    }
}

/// Subscribers of a scenario.
pub(crate) fn subscribers(args: &Args, scenario: Scenario) -> u64 {
    args.subscribers.unwrap_or(scenario.usual_subscribers())
}

/// Messages of the larger log.
pub(crate) fn large(args: &Args) -> u64 {
    args.large.unwrap_or(args.preload.saturating_mul(5))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::args::parsed;

    fn args(line: &[&str]) -> Args {
        parsed(line).unwrap()
    }

    fn planned(line: &[&str], scenario: Scenario) -> Plan {
        plan(&args(line), Some(Backend::Sqlite), Case::new(scenario, 64))
    }

    #[test]
    fn every_write_run_on_sqlite_outgrows_the_memtable_unless_told_otherwise() {
        for &scenario in Scenario::value_variants().iter().filter(|scenario| scenario.writes()) {
            let plan = planned(&[], scenario);
            let messages = plan.rate.map_or(0.0, |rate| rate * plan.duration.as_secs_f64()) as u64;
            assert!(plan.least.max(messages) >= LEAST_ON_SQLITE, "{scenario:?}");
        }
        assert_eq!(planned(&["--least", "7"], Scenario::Write).least, 7);
        assert_eq!(planned(&[], Scenario::SysVersion).least, 0);
        assert_eq!(plan(&args(&[]), Some(Backend::Postgres), Case::new(Scenario::Write, 64)).least, 0);
    }

    #[test]
    fn a_rate_is_the_callers_or_the_scenarios_and_never_a_ceilings() {
        assert_eq!(planned(&[], Scenario::Write).rate, None);
        assert_eq!(planned(&[], Scenario::Mixed).rate, Some(10_000.0));
        assert_eq!(planned(&["--rate", "50"], Scenario::Mixed).rate, Some(50.0));
        assert_eq!(planned(&["--rate", "50"], Scenario::Noop).rate, None);
        assert_eq!(planned(&["--namespaces", "9"], Scenario::Namespaces).rate, Some(9.0));
    }

    #[test]
    fn a_ramp_says_how_long_it_is_and_has_no_warm_up() {
        let plan = planned(&["--ramp", "3s:8,4s:1"], Scenario::Write);
        assert_eq!((plan.warm_up, plan.duration), (Duration::ZERO, Duration::from_secs(7)));
        assert!(planned(&["--ramp", "3s:8"], Scenario::Poke).ramp.is_none(), "it has no connections to change");
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [["--duration", "-1"], ["--rate", "0"], ["--warm-up", "nan"], ["--ramp", "5"]] {
            assert!(parsed(&line).is_err(), "{line:?}");
        }
    }
}
