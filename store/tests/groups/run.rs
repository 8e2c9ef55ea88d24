//! Runs seeds, and makes what failed as short as possible.

use crate::pair::Subject;
use crate::world::{Plan, Stop, World};

/// Makes what is tested, once for each run.
pub(crate) type Make<'a> = &'a dyn Fn() -> Option<Box<dyn Subject>>;

/// Steps of one seed.
pub(crate) const STEPS: u64 = 400;
/// Events of a failure that are printed.
const LAST_EVENTS: usize = 40;
/// Runs by which a failure is made shorter.
const ATTEMPTS: usize = 400;

/// A run that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) seed: u64,
    pub(crate) message: String,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, plan: Plan, make: Make<'_>) -> Result<(), Failed> {
    let steps: Vec<u64> = (0..STEPS).collect();
    outcome(seed, &steps, plan, make, false).map_err(|(message, _)| Failed { seed, message })
}

/// Runs seeds until one fails.
pub(crate) fn first_failure(seeds: impl IntoIterator<Item = u64>, plan: Plan, make: Make<'_>) -> Option<Failed> {
    seeds.into_iter().find_map(|seed| run(seed, plan, make).err())
}

/// The steps of a failed seed without those that it fails without, and the last events of that shorter run.
pub(crate) fn shortened(seed: u64, plan: Plan, make: Make<'_>) -> String {
    let steps = shrink((0..STEPS).collect(), |steps| outcome(seed, steps, plan, make, false).is_err());
    let (message, trace) =
        outcome(seed, &steps, plan, make, true).err().unwrap_or_else(|| ("it fails no more".to_owned(), Vec::new()));
    let events = trace[trace.len().saturating_sub(LAST_EVENTS)..].join("\n  ");
    format!("seed {seed}: {message}\nin {} of {STEPS} steps: {steps:?}\n  {events}", steps.len())
}

/// Leaves out pieces, from halves to single steps, as long as it still fails.
fn shrink(mut steps: Vec<u64>, fails: impl Fn(&[u64]) -> bool) -> Vec<u64> {
    let (mut size, mut attempts) = (steps.len().div_ceil(2), 0);
    while size > 0 {
        let (mut at, before) = (0, steps.len());
        while at < steps.len() && attempts < ATTEMPTS {
            attempts += 1;
            let shorter: Vec<u64> = [&steps[..at], &steps[(at + size).min(steps.len())..]].concat();
            if fails(&shorter) { steps = shorter } else { at += size }
        }
        if size == 1 && (steps.len() == before || attempts >= ATTEMPTS) {
            break;
        }
        size = if size == 1 { 1 } else { size / 2 };
    }
    steps
}

/// Runs these steps of a seed. A failure comes with its events, if they are traced.
fn outcome(seed: u64, steps: &[u64], plan: Plan, make: Make<'_>, is_traced: bool) -> Result<(), (String, Vec<String>)> {
    let mut world = match World::new(seed, plan, make(), is_traced) {
        Ok(world) => world,
        Err(stop) => return Err((told(stop), Vec::new())),
    };
    let result = world.run(steps);
    result.map_err(|stop| (told(stop), world.trace))
}

fn told(stop: Stop) -> String {
    match stop {
        Stop::Broken(message) => message,
        other => format!("a call that must succeed does not: {other:?}"),
    }
}

#[test]
fn a_failure_is_made_as_short_as_it_can_be() {
    let fails = |steps: &[u64]| steps.contains(&17) && steps.contains(&303);
    assert_eq!(shrink((0..400).collect(), fails), [17, 303]);
}
