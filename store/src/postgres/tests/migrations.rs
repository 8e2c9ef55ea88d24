//! Data that the first schema version holds, used by this version: opened, migrated, read, appended to.
//!
//! It begins with the first step of each schema whatever steps there are by now, and says how many it has taken since.

use eventodb_protocol::message::Expected;
use eventodb_protocol::request::ListPage;
use eventodb_protocol::{Grant, Token, group, name};
use eventodb_schema::{Migration, POSTGRES_LOG, POSTGRES_REGISTRY};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::fixture::{Fixture, open_store, settings};
use crate::Error;
use crate::conformance::support::{PATIENCE, all, is_conflict, message, namespace, write, write_expecting};
use crate::postgres::connection::Connection;
use crate::postgres::{Postgres, Settings};
use crate::testing::tell;
use eventodb_testing::postgres;

pub(super) const NAME: &str = "old";
/// What `migrations` was in the first version.
const MIGRATIONS: &str = "CREATE TABLE {log}.migrations (
    version bigint PRIMARY KEY, oldest_binary text NOT NULL, applied_at timestamptz NOT NULL)";
/// Stream, position, metadata of each message.
pub(super) const MESSAGES: [(&str, i64, Option<&str>); 5] = [
    ("account-1", 0, None),
    ("account-2", 0, Some(r#"{"correlationStreamName":"transfer-7"}"#)),
    ("account-1", 1, Some("{}")),
    ("transfer-7", 0, None),
    ("account-1", 2, None),
];

fn id(global_position: i64) -> Uuid {
    Uuid::from_u128(u128::try_from(global_position).expect("positive"))
}

/// A schema as the first version made it.
async fn first_step(url: &str, schema: &str, steps: &[Migration]) {
    let first = steps.first().expect("there is one");
    let text = format!(
        "CREATE SCHEMA {schema}; {MIGRATIONS}; {}; INSERT INTO {schema}.migrations VALUES (1, '{}', now())",
        first.sql, first.oldest_binary
    );
    postgres::run(url, &text.replace("{log}", schema)).await;
}

/// A database of the first version: a namespace with messages in three batches, one of them folded into the
/// counts, and a fence; and a namespace that was deleted, whose schema is still there.
pub(super) async fn first_version(url: &str, token: &Token) {
    first_step(url, "eventodb", POSTGRES_REGISTRY).await;
    let session = postgres::connect(url).await;
    let namespace = "INSERT INTO eventodb.namespaces (name, token_hash, description, metadata, created_at, deleted_at)
                     VALUES ($1, $2, 'from the first version', '{}', '2024-01-31T12:00:00Z', $3::text::timestamptz)
                     RETURNING incarnation";
    let hash = token.hash();
    for (name, deleted_at) in [("gone", Some("2024-02-01T00:00:00Z")), (NAME, None)] {
        let row = session.query_one(namespace, &[&name, &&hash.as_bytes()[..], &deleted_at]).await.expect("good SQL");
        first_step(url, &format!("eventodb_{}", row.get::<_, i64>(0)), POSTGRES_LOG).await;
    }
    let insert =
        "INSERT INTO eventodb_2.messages (global_position, stream, position, starts_stream, category, stream_hash,
                                                   type, correlation, id, time, metadata, data)
                  VALUES ($1, $2, $3, $4, $5, $6, 'T', $7, $8, '2024-01-31T12:00:00Z', $9, '{}')";
    for ((stream, position, metadata), global_position) in MESSAGES.into_iter().zip(1i64..) {
        let correlation = (global_position == 2).then_some("transfer");
        let (category, hash) = (name::category(stream), group::stream_hash(stream));
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 9] = [
            &global_position,
            &stream,
            &position,
            &(position == 0),
            &category,
            &hash,
            &correlation,
            &id(global_position),
            &metadata,
        ];
        session.execute(insert, &values).await.expect("good SQL");
    }
    let rest = "INSERT INTO eventodb_2.batches VALUES
                    (1, '00000000-0000-0000-0000-0000000000b1', 2, 2, 2, '2024-01-31T12:00:00Z'),
                    (2, '00000000-0000-0000-0000-0000000000b2', 2, 2, 2, '2024-01-31T12:00:00Z'),
                    (3, '00000000-0000-0000-0000-0000000000b3', 4, 4, 3, '2024-01-31T12:00:00Z'),
                    (4, '00000000-0000-0000-0000-0000000000b4', 5, 5, 3, '2024-01-31T12:00:00Z');
                INSERT INTO eventodb_2.categories VALUES ('account', 2, 2);
                UPDATE eventodb_2.folded SET position = 2";
    session.batch_execute(rest).await.expect("good SQL");
}

#[tokio::test]
async fn what_the_first_version_has_written_is_used_by_this_one() {
    let url = postgres::database().await;
    let token = Token::generate(NAME);
    first_version(&url, &token).await;
    let (registry, log) = (POSTGRES_REGISTRY.len() - 1, POSTGRES_LOG.len() - 1);
    tell(&format!("steps since the first version: {registry} of the registry, {log} of a log"));
    if registry + log > 0 {
        let fixed = Settings { auto_migrate: false, ..settings(&url) };
        assert!(Postgres::open(fixed).await.is_err(), "it would have to be changed");
    }

    let store = open_store(settings(&url), crate::Settings::default()).await;
    let access = store.authorize(&token).await.expect("it answers").expect("the token is still good");
    assert_eq!(access.grant(), &Grant::everything());
    let log = access.log();
    let found = all(log).await;
    let places: Vec<_> =
        found.iter().map(|m| (&*m.stream, m.position, m.metadata.as_deref(), m.global_position, m.id)).collect();
    let expected: Vec<_> =
        MESSAGES.into_iter().zip(1..).map(|((stream, at, metadata), n)| (stream, at, metadata, n, id(n))).collect();
    assert_eq!(places, expected);
    assert!(found.iter().all(|message| message.time.to_string().starts_with("2024-01-31T12:00:00")));
    let info = store.info(NAME).await.expect("it lives");
    assert_eq!((info.message_count, info.stream_count, &*info.description), (5, 3, "from the first version"));
    let everything = ListPage { prefix: String::new(), after: None, limit: 1000 };
    let categories = log.categories(&everything).await.expect("it answers");
    let categories: Vec<_> = categories.iter().map(|c| (&*c.category, c.stream_count, c.message_count)).collect();
    assert_eq!(categories, [("account", 2, 4), ("transfer", 1, 1)]);

    let conflict = write_expecting(log, "account-1", Expected::Version(1), message("T")).await;
    assert!(is_conflict(&conflict.expect_err("it has three")));
    let mut repeated = message("T");
    repeated.id = Some(id(4));
    let again = write_expecting(log, "transfer-7", Expected::Any, repeated).await.expect("it was written before");
    assert_eq!(again.first_global_position, 4);
    let next = write_expecting(log, "account-1", Expected::Version(2), message("T")).await.expect("it is so");
    assert_eq!((next.first_position, next.first_global_position), (3, 6));
    let names = "SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace WHERE nspname LIKE 'eventodb%'";
    let session = postgres::connect(&url).await;
    let left = async || session.query_one(names, &[]).await.expect("good SQL").get::<_, String>(0);
    let is_dropped = async { while left().await != "eventodb eventodb_2" {} };
    timeout(PATIENCE, is_dropped).await.expect("what was deleted goes");
    store.close().await;
    Postgres::migrate(&settings(&url)).await.expect("there is nothing to do");
}

#[tokio::test]
async fn a_backup_that_runs_does_not_hold_up_a_migration() {
    let url = postgres::database().await;
    let token = Token::generate(NAME);
    first_version(&url, &token).await;
    // As pg_dump does for as long as it takes.
    let dump = postgres::connect(&url).await;
    let read = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM eventodb_2.messages, eventodb_2.folded";
    dump.batch_execute(read).await.expect("good SQL");
    let store = open_store(settings(&url), crate::Settings::default()).await;
    let access = store.authorize(&token).await.expect("it answers").expect("the token is still good");
    write_expecting(access.log(), "account-1", Expected::Version(2), message("T")).await.expect("it is so");
    assert_eq!(without_key(&url).await, "eventodb_2.folded", "the backup has it");
    store.close().await;

    dump.batch_execute("ROLLBACK").await.expect("it is open");
    let store = open_store(settings(&url), crate::Settings::default()).await;
    let is_made = async { while !without_key(&url).await.is_empty() {} };
    timeout(PATIENCE, is_made).await.expect("the key is made once nobody is in the way");
    store.close().await;
}

#[tokio::test]
async fn a_migration_of_all_makes_the_keys_that_are_missing() {
    let url = postgres::database().await;
    first_version(&url, &Token::generate(NAME)).await;
    Postgres::migrate(&settings(&url)).await.expect("nobody is in the way");
    postgres::run(&url, "ALTER TABLE eventodb_2.folded DROP CONSTRAINT folded_pkey").await;
    Postgres::migrate(&settings(&url)).await.expect("nobody is in the way");
    assert_eq!(without_key(&url).await, "");
}

/// The tables that have no primary key, but for those of the deleted log of the first version.
async fn without_key(url: &str) -> String {
    let without = "SELECT coalesce(string_agg(t.oid::regclass::text, ' '), '') FROM pg_class AS t
                   WHERE t.relkind = 'r' AND t.relnamespace::regnamespace::text LIKE 'eventodb%'
                       AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = t.oid AND i.indisprimary)
                       AND NOT EXISTS (SELECT FROM eventodb.namespaces AS n WHERE n.deleted_at IS NOT NULL
                                       AND t.relnamespace::regnamespace::text = 'eventodb_' || n.incarnation)";
    postgres::connect(url).await.query_one(without, &[]).await.expect("good SQL").get(0)
}

/// Each of them is to be migrated, or made, and somebody has the lock for that.
#[tokio::test]
async fn logs_that_wait_for_a_migration_hold_up_no_others() {
    let url = postgres::database().await;
    let store = open_store(Settings { pool_max: 2, ..settings(&url) }, crate::Settings::default()).await;
    let names: Vec<String> = (0..9).map(|at| format!("n{at}")).collect();
    for name in &names {
        store.create(namespace(name, &Token::generate(name))).await.expect("the name is free");
    }
    let (first, others) = names.split_first().expect("there are some");
    let open = store.log(first).await.expect("it lives");
    let holder = postgres::connect(&url).await;
    let lock = format!("BEGIN; {}", include_str!("../sql/migration_lock.sql"));
    holder.batch_execute(&lock).await.expect("nobody has it");
    let opening: Vec<_> = others
        .iter()
        .map(|name| {
            let (store, name) = (store.clone(), name.clone());
            tokio::spawn(async move { store.log(&name).await.map(|_| ()) })
        })
        .collect();
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while holder.query_one(waiting, &[]).await.expect("good SQL").get::<_, i64>(0) < 2 {}
    for _ in 0..20 {
        write(&open, "a-1", "T").await;
        open.counts().await.expect("there is a connection");
    }
    for opening in opening {
        let outcome = timeout(PATIENCE, opening).await.expect("it gives up soon").expect("no panic");
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
    }
    holder.batch_execute("ROLLBACK").await.expect("it is open");
    write(&store.log(&others[0]).await.expect("nobody has the lock"), "a-1", "T").await;
    store.close().await;
}

#[tokio::test]
async fn a_step_is_sent_one_statement_at_a_time() {
    let mut connection = Connection::open(&settings(&postgres::database().await)).await.expect("it answers");
    let two = connection.execute_one("SELECT 1; SELECT 2", PATIENCE).await.expect_err("these are two");
    assert_eq!(two.state(), Some(&SqlState::SYNTAX_ERROR));
    for step in POSTGRES_REGISTRY.iter().chain(POSTGRES_LOG) {
        assert!(step.statements().all(|statement| !statement.is_empty()), "{}", step.sql);
    }
}

#[tokio::test]
async fn each_table_has_a_primary_key() {
    let fixture = Fixture::new().await;
    assert_eq!(without_key(&fixture.url).await, "");
}
