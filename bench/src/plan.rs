//! How long, how much and how fast each case is, by the arguments and the table of scenarios.

use std::time::Duration;

use crate::args::{Args, Backend};
use crate::load::Plan;
use crate::ramp::Ramp;
use crate::scenario::{Case, Rate, Scenario};

/// Messages of three memtables of the server's default size. A write run that is shorter shows no index at work.
pub const LEAST_ON_SQLITE: u64 = 200_000;

/// What a ceiling is after this time, it is after any.
const LONGEST_CEILING: Duration = Duration::from_secs(30);

pub(crate) fn rounds(args: &Args, scenario: Scenario) -> u32 {
    args.rounds.filter(|_| !scenario.is_once()).unwrap_or(scenario.usual_rounds())
}

/// Whether rounds are as many and as long as targets speak of.
pub(crate) fn is_long_enough(args: &Args, scenario: Scenario) -> bool {
    const ROUNDS: u32 = 3;
    const SECONDS: f64 = 10.0;
    let Some(usual) = scenario.usual_duration().map(|usual| usual.as_secs_f64()) else { return true };
    let seconds = args.duration.unwrap_or(usual);
    if scenario.is_once() { seconds >= usual } else { rounds(args, scenario) >= ROUNDS && seconds >= SECONDS }
}

/// How long, how much and how fast a case is, on that backend.
pub(crate) fn plan(args: &Args, backend: Option<Backend>, case: Case) -> Plan {
    let scenario = case.scenario;
    let rate = rate(args, scenario);
    let usual = match backend {
        Some(Backend::Sqlite | Backend::Memory) => LEAST_ON_SQLITE,
        Some(Backend::Postgres) | None => 0,
    };
    // A load with a rate takes as long as it is asked to, however many messages that makes.
    let least = if scenario.spec().writes && rate.is_none() { args.least.unwrap_or(usual) } else { 0 };
    let Some(usual) = scenario.usual_duration() else {
        return Plan { duration: Duration::from_secs(24 * 3600), least, rate, ..Plan::default() };
    };
    let ramp = Ramp::new(&args.ramp).filter(|_| scenario.has_connections());
    let is_warmed_up = args.count.is_none() && ramp.is_none();
    let asked = args.duration.map_or(usual, Duration::from_secs_f64);
    let asked = if scenario.is_ceiling() { asked.min(LONGEST_CEILING) } else { asked };
    Plan {
        warm_up: if is_warmed_up { Duration::from_secs_f64(args.warm_up) } else { Duration::ZERO },
        duration: ramp.as_ref().map_or(asked, Ramp::duration),
        count: args.count,
        least,
        rate,
        ramp,
    }
}

/// Requests a second that a scenario sends; without one as many as are answered.
pub(crate) fn rate(args: &Args, scenario: Scenario) -> Option<f64> {
    match scenario.spec().rate {
        Rate::Unpaced => None,
        Rate::Free => args.rate,
        Rate::At(usual) => Some(args.rate.unwrap_or(usual)),
        Rate::PerNamespace => Some(args.rate.unwrap_or(args.namespaces as f64)),
    }
}

pub(crate) fn subscribers(args: &Args, scenario: Scenario) -> u64 {
    args.subscribers.unwrap_or(scenario.spec().subscribers)
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
        for &scenario in Scenario::value_variants().iter().filter(|scenario| scenario.spec().writes) {
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
