//! What statements cost over a million messages, with plans made while the log was empty as well as
//! after statistics: blocks touched and rows thrown away, whatever the plan's nodes are called.

use std::time::Duration;

use eventodb_protocol::Direction;
use serde_json::Value;
use tokio_postgres::Client;

use super::fixture::Fixture;
use crate::postgres::connection::session_text;
use crate::postgres::statement::{
    APPEND, COUNTS, FENCE, FILTER_ALL, FILTER_CATEGORIES, FILTER_STREAM, FIND, HEAD, LOCATE, LOCATE_TIME, READ_ALL,
    READ_CATEGORY, READ_STREAM, STREAMS, Template, VERSIONS,
};
use eventodb_testing::postgres;

/// 20 categories and 5,000 streams; but every third message is in one stream, and 10 are in a rare category.
const MESSAGES: &str = "
    ALTER TABLE {log}.messages SET (autovacuum_enabled = off);
    INSERT INTO {log}.messages
    SELECT n, stream, row_number() OVER (PARTITION BY stream ORDER BY n) - 1, true, split_part(stream, '-', 1),
           hashtextextended(stream, 0), CASE WHEN n % 7 = 0 THEN 'B' ELSE 'A' END,
           CASE WHEN n % 2 = 0 THEN 'order' END, ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid,
           now(), NULL, '{\"some\":\"data\",\"of\":\"usual\",\"size\":12345}'
    FROM (SELECT n, CASE WHEN n % 100000 = 0 THEN 'rare-' || n WHEN n % 3 = 0 THEN 'big-1'
                         ELSE 'c' || n % 20 || '-' || n % 5000 END AS stream
          FROM generate_series(1, 1000000) AS n) AS numbered
    ORDER BY n;
    INSERT INTO {log}.batches
    SELECT n, '00000000-0000-0000-0000-000000000001', n * 1000, n * 1000, 1, now() FROM generate_series(1, 1000) AS n";

/// One statement with the values that it is tried with, and what it may cost.
struct Trial {
    template: &'static Template,
    direction: Direction,
    values: &'static str,
    blocks: i64,
    removed: i64,
}

const fn trial(template: &'static Template, values: &'static str, blocks: i64) -> Trial {
    Trial { template, direction: Direction::Forward, values, blocks, removed: 0 }
}

const fn filtered(template: &'static Template, values: &'static str, blocks: i64, removed: i64) -> Trial {
    Trial { removed, ..trial(template, values, blocks) }
}

const fn backward(trial: Trial) -> Trial {
    Trial { direction: Direction::Backward, ..trial }
}

/// An append to streams whose versions it has to find.
const OPEN_BATCH: &str = "1000, 1000000, '00000000-0000-0000-0000-000000000001',
    '00000000-0000-0000-0000-000000000002', 1000004, 0, NULL, true,
    '{1000001, 1000002, 1000003, 1000004}', '{big-1, rare-100000, none, c7-7}', '{-1, -1, -1, -1}',
    '{false, false, false, false}', '{big, rare, none, c7}', '{1, 2, 3, 4}', '{A, A, A, A}', '{NULL, NULL, NULL, NULL}',
    ARRAY[gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid()], '{NULL, NULL, NULL, NULL}',
    '{a, b, c, d}', NULL";

const HIGH: &str = "9223372036854775807";

/// Blocks of a slice of 256 rows: each may stand in a block of its own, and be found through an index.
const SLICE: i64 = 600;
/// Blocks of a slice whose rows are found in one index and fetched through another.
const FETCHED: i64 = 2_500;

/// The statements, with what each may cost.
static TRIALS: &[Trial] = &[
    trial(&HEAD, "900", 10),
    trial(&COUNTS, "", 20),
    trial(&FENCE, "1000, 1000000, '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002'", 10),
    trial(&APPEND, OPEN_BATCH, 200),
    trial(&VERSIONS, "ARRAY['big-1', 'rare-100000', 'none', 'c7-7']", 40),
    trial(&FIND, "ARRAY['00000000-0000-0000-0000-000000000007', '00000000-0000-0000-0000-999999999999']::uuid[]", 20),
    // A row a step.
    filtered(&LOCATE, "'big-1', 500000", 200, 64),
    filtered(&LOCATE_TIME, "'2000-01-01', 1000000", 200, 64),
    filtered(&LOCATE_TIME, "'2100-01-01', 1000000", 200, 64),
    trial(&READ_ALL, "500000, HIGH, 256, 1048576, true", SLICE),
    backward(trial(&READ_ALL, "1, 500000, 256, 1048576, true", SLICE)),
    trial(&READ_STREAM, "'big-1', 150000, HIGH, 256, 1048576, true", SLICE),
    trial(&READ_STREAM, "'none', 0, HIGH, 256, 1048576, true", 10),
    backward(trial(&READ_STREAM, "'big-1', 0, HIGH, 1, 1048576, true", 20)),
    trial(&READ_CATEGORY, "'rare', 1, HIGH, 256, 1048576, true", 40),
    trial(&READ_CATEGORY, "'big', 500000, HIGH, 256, 1048576, true", SLICE),
    backward(trial(&READ_CATEGORY, "'c7', 1, HIGH, 256, 1048576, true", SLICE)),
    // Nothing passes: a window is looked at, and not a block more.
    filtered(&FILTER_ALL, "NULL, NULL, ARRAY['none'], NULL, 1, 50000, 50001, HIGH, 256, 1048576, true", 4_000, 50_000),
    filtered(
        &FILTER_CATEGORIES,
        "NULL, NULL, ARRAY['none'], NULL, ARRAY['big'], 1, 50000, 50001, HIGH, 256, 1048576, true",
        4_000,
        17_000,
    ),
    filtered(
        &FILTER_CATEGORIES,
        "NULL, NULL, NULL, 'none', ARRAY['big', 'c7'], 1, 50000, 50001, HIGH, 256, 1048576, true",
        4_000,
        20_000,
    ),
    filtered(&FILTER_CATEGORIES, "16, 3, NULL, NULL, ARRAY['rare'], 1, 50000, 50001, HIGH, 256, 1048576, true", 40, 0),
    // Something passes: it ends with the 256th. What was not vacuumed is looked at in the table too.
    filtered(
        &FILTER_CATEGORIES,
        "NULL, NULL, ARRAY['B'], NULL, ARRAY['c7'], 1, 50000, 50001, HIGH, 256, 1048576, true",
        FETCHED,
        1_900,
    ),
    backward(filtered(
        &FILTER_ALL,
        "8, 3, NULL, NULL, 950001, 1000000, 1, 950000, 256, 1048576, true",
        FETCHED,
        50_000,
    )),
    filtered(
        &FILTER_STREAM,
        "NULL, NULL, ARRAY['none'], NULL, 'big-1', 0, 4999, 5000, HIGH, 256, 1048576, true",
        5_100,
        5_000,
    ),
    trial(&STREAMS, "'', 'c1', 100", 1_000),
];

#[tokio::test(flavor = "multi_thread")]
async fn statements_follow_an_index_however_old_the_plan() {
    let fixture = Fixture::new().await;
    // A schema that Citus has moved has lost the hint.
    fixture.sql("ALTER TABLE {log}.messages ALTER COLUMN category RESET (n_distinct)").await;
    let session = postgres::connect(&fixture.url).await;
    session.batch_execute(&session_text(Duration::from_secs(60))).await.expect("good SQL");
    for (at, trial) in TRIALS.iter().enumerate() {
        prepare(&session, &fixture, at, trial).await;
        // The plan is made now, of an empty log.
        explain(&session, at, trial).await;
    }
    fixture.sql(MESSAGES).await;
    check(&session, TRIALS, "planned while empty").await;
    session.batch_execute("DISCARD PLANS").await.expect("good SQL");
    check(&session, TRIALS, "planned without statistics").await;
    fixture.sql("ANALYZE {log}.messages").await;
    fixture.sql("ANALYZE {log}.batches").await;
    check(&session, TRIALS, "planned after ANALYZE").await;
    fixture.sql("VACUUM (ANALYZE) {log}.messages").await;
    check(&session, TRIALS, "planned after VACUUM").await;
}

async fn prepare(session: &Client, fixture: &Fixture, at: usize, trial: &Trial) {
    let text = trial.template.ordered(fixture.log, trial.direction).text();
    let types: Vec<String> = trial.template.types.iter().map(|ty| ty.name().to_owned()).collect();
    let types = if types.is_empty() { String::new() } else { format!("({})", types.join(", ")) };
    session.batch_execute(&format!("PREPARE trial_{at} {types} AS {text}")).await.expect("good SQL");
}

async fn check(session: &Client, trials: &[Trial], when: &str) {
    for (at, trial) in trials.iter().enumerate() {
        let mut plan = explain(session, at, trial).await;
        if touched(&plan) > trial.blocks {
            // A function plans its statements while it runs, and reads the catalogue again where another session has
            // changed it. The next call does not.
            plan = explain(session, at, trial).await;
        }
        let blocks = touched(&plan);
        let removed = removed(&plan);
        let what = format!("{when}, {:?} {}: {blocks} blocks, {removed} rows removed", trial.template, trial.values);
        assert!(blocks <= trial.blocks && removed <= trial.removed, "{what}\n{plan:#}");
    }
}

/// The blocks that a plan has touched.
fn touched(plan: &Value) -> i64 {
    number(plan, "Shared Hit Blocks") + number(plan, "Shared Read Blocks")
}

/// Runs a statement, undoes it, and says what it cost.
async fn explain(session: &Client, at: usize, trial: &Trial) -> Value {
    let values = trial.values.replace("HIGH", HIGH);
    let values = if values.is_empty() { values } else { format!("({values})") };
    session.batch_execute("BEGIN").await.expect("good SQL");
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE trial_{at} {values}");
    let rows = session.simple_query(&explain).await.unwrap_or_else(|error| panic!("{explain}: {error:?}"));
    session.batch_execute("ROLLBACK").await.expect("good SQL");
    let text: String = rows
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    let explained: Value = serde_json::from_str(&text).expect("PostgreSQL writes JSON");
    explained[0]["Plan"].clone()
}

fn number(plan: &Value, key: &str) -> i64 {
    plan[key].as_f64().unwrap_or_default() as i64
}

/// Rows that were read and thrown away, in all nodes.
fn removed(plan: &Value) -> i64 {
    let loops = number(plan, "Actual Loops").max(1);
    let own: i64 = ["Rows Removed by Filter", "Rows Removed by Index Recheck", "Rows Removed by Join Filter"]
        .iter()
        .map(|key| number(plan, key))
        .sum();
    let below = plan["Plans"].as_array().into_iter().flatten().map(removed);
    own * loops + below.sum::<i64>()
}
