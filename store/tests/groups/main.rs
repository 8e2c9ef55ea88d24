//! Consumer groups: the rules of the store beside a model of them, in a simulation with faults of every kind.

mod client;
mod dice;
mod driver;
mod oracle;
mod pair;
mod readings;
mod rules;
mod run;
mod scenarios;
mod world;

use std::sync::Arc;

use driver::{Driver, Open};
use eventodb_store::postgres::{self, Postgres};
use eventodb_store::sqlite::{self, Location, Sqlite};
use eventodb_store::testing::tell;
use eventodb_store::{Backend, Settings, conformance};
use eventodb_testing::pooler::Pooler;
use rules::Rules;
use run::{Make, STEPS, first_failure, shortened};
use tokio::runtime::Runtime;
use world::Plan;

/// Steps of a run in CI.
const STEPS_IN_CI: u64 = 20_000;
/// The same where each step asks a database.
const STEPS_ON_SQLITE: u64 = 2_000;
const STEPS_ON_POSTGRES: u64 = 800;

/// Seeds after which a long run tells how far it is.
const TOLD_EVERY: u64 = 250;

/// Fewer than the store has sessions.
const CONNECTIONS_OF_A_POOLER: usize = 3;

/// Runs the steps that `EVENTODB_TEST_GROUPS_STEPS` says, and fails with the shortest failure. `EVENTODB_TEST_GROUPS_SEED`
/// is the first seed, so that a long run goes on where an earlier one has ended.
fn simulate(steps_in_ci: u64, plan: Plan, make: Make<'_>) {
    let number = |variable: &str| {
        let value = std::env::var(variable).ok()?;
        Some(value.parse::<u64>().unwrap_or_else(|_| panic!("{variable} is a number")))
    };
    let steps = number("EVENTODB_TEST_GROUPS_STEPS").unwrap_or(steps_in_ci);
    let first = number("EVENTODB_TEST_GROUPS_SEED").unwrap_or(0);
    let seeds = (first..first + steps.div_ceil(STEPS)).inspect(|seed| {
        if *seed > first && seed.is_multiple_of(TOLD_EVERY) {
            tell(&format!("{} steps, up to seed {seed}", (seed - first) * STEPS));
        }
    });
    if let Some(failed) = first_failure(seeds, plan, make) {
        panic!("{}", shortened(failed.seed, plan, make));
    }
}

#[test]
fn the_model_keeps_the_invariants() {
    simulate(STEPS_IN_CI, Plan::default(), &|| None);
}

#[test]
fn the_rules_answer_as_the_model() {
    simulate(STEPS_IN_CI, Plan::default(), &|| Some(Box::<Rules>::default()));
}

fn on_sqlite(settings: &Settings) {
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let memory = std::path::Path::new("/dev/shm");
    let make = || {
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let directory = Arc::new(directory.expect("a temporary folder"));
        let open: Open = Arc::new(move || {
            let location = Location::Directory(directory.path().to_owned());
            let settings = sqlite::Settings { min_free: 0, ..sqlite::Settings::default() };
            Box::pin(async move { Sqlite::open(location, settings).expect("the folder is ours") as Arc<dyn Backend> })
        });
        let driver = Driver::new(Arc::clone(&runtime), open, settings.clone(), true);
        Some(Box::new(driver) as Box<dyn pair::Subject>)
    };
    simulate(STEPS_ON_SQLITE, Plan::default(), &make);
}

/// A database, and the way to it. It is there until this is dropped: a long run makes thousands.
struct Dropped {
    url: String,
    way: postgres::Settings,
    runtime: Arc<Runtime>,
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.runtime.block_on(eventodb_testing::postgres::drop_database(&self.url));
    }
}

fn on_postgres(settings: &Settings) {
    on_postgres_by(settings, STEPS_ON_POSTGRES, &|url| postgres::Settings::new(url.parse().expect("a URL")));
}

/// `connect` gives the way to the database of this URL.
fn on_postgres_by(settings: &Settings, steps: u64, connect: &dyn Fn(&str) -> postgres::Settings) {
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let make = || {
        let url = runtime.block_on(eventodb_testing::postgres::database());
        let database = Dropped { way: connect(&url), url, runtime: Arc::clone(&runtime) };
        let open: Open = Arc::new(move || {
            let way = database.way.clone();
            Box::pin(async move { Postgres::open(way).await.expect("the database is ours") as Arc<dyn Backend> })
        });
        Some(Box::new(Driver::new(Arc::clone(&runtime), open, settings.clone(), false)) as Box<dyn pair::Subject>)
    };
    simulate(steps, Plan::default(), &make);
}

#[test]
fn sqlite_answers_as_the_model() {
    on_sqlite(&Settings::default());
}

#[test]
fn sqlite_answers_as_the_model_within_tiny_bounds() {
    on_sqlite(&conformance::tiny(7));
}

#[test]
fn postgres_answers_as_the_model() {
    on_postgres(&Settings::default());
}

#[test]
fn postgres_answers_as_the_model_within_tiny_bounds() {
    on_postgres(&conformance::tiny(7));
}

#[test]
fn postgres_answers_as_the_model_behind_a_pooler() {
    let runtime = Runtime::new().expect("a runtime");
    let pooler = runtime.block_on(async {
        let server = eventodb_testing::postgres::database().await;
        Pooler::start(&server, CONNECTIONS_OF_A_POOLER).await
    });
    on_postgres_by(&Settings::default(), STEPS, &|url| postgres::Settings {
        prepare: false,
        listen_url: Some(url.parse().expect("a URL")),
        ..postgres::Settings::new(pooler.url(url).parse().expect("a URL"))
    });
}
