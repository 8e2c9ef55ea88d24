//! Consumer groups: the rules of the store beside a model of them, in a simulation with faults of every kind.

mod client;
mod dice;
mod oracle;
mod pair;
mod readings;
mod rules;
mod run;
mod scenarios;
mod world;

use rules::Rules;
use run::{Make, STEPS, first_failure, shortened};
use world::Plan;

/// Steps of a run in CI.
const STEPS_IN_CI: u64 = 20_000;

/// Runs the steps that `EVENTODB_TEST_GROUPS_STEPS` says, and fails with the shortest failure.
fn simulate(make: Make<'_>) {
    let steps = std::env::var("EVENTODB_TEST_GROUPS_STEPS");
    let steps = steps.map_or(STEPS_IN_CI, |steps| steps.parse().expect("EVENTODB_TEST_GROUPS_STEPS is a number"));
    if let Some(failed) = first_failure(0..steps.div_ceil(STEPS), Plan::default(), make) {
        panic!("{}", shortened(failed.seed, Plan::default(), make));
    }
}

#[test]
fn the_model_keeps_the_invariants() {
    simulate(&|| None);
}

#[test]
fn the_rules_answer_as_the_model() {
    simulate(&|| Some(Box::<Rules>::default()));
}
