//! Rules for every text that this backend can send, and for the bodies of its functions. They keep it fit for a database
//! that is spread over nodes, where each namespace is on one of them; see docs/decisions/0130.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use eventodb_schema::POSTGRES_LOG;

use crate::postgres::statement::TEXTS;
use eventodb_testing::postgres;

/// Statements of an append, and of what decides whether one is written.
const APPEND_PATH: &[&str] =
    &["append", "fence", "settle", "tombstone", "unseal", "head", "head_below", "versions", "find"];

/// Functions that begin a transaction of several statements, and why nothing that is acknowledged rests on it.
const TRANSACTIONS: &[(&str, &str, &str)] = &[
    ("change.rs", "begin", "the registry alone, and what it acknowledges is read after the commit"),
    ("keys.rs", "make", "for the time limit of the change alone; what is missing is made later"),
    ("migrate.rs", "migrate", "nobody is told that a step is done: each opening looks"),
    ("purge.rs", "drop_schema", "for the time limit of the drop alone; what stays is dropped later"),
    ("turns.rs", "take", "holds a lock and writes nothing"),
    ("upkeep.rs", "fold", "nobody is told that counts are folded: each reader looks"),
];

/// A text without its comments, with one space between its words.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// All statements, with what stands for parts of them in its place, and the steps that make the functions.
fn texts() -> Vec<(&'static str, String)> {
    let synchronous = include_str!("../sql/synchronous.sql").trim_end();
    let passes = include_str!("../sql/passes.sql").trim_end();
    let home = include_str!("../sql/home.sql").trim_end();
    let whole = |text: &str| {
        code(&text.replace("{synchronous}", synchronous).replace("{passes}", passes).replace("{home}", home))
    };
    let functions = POSTGRES_LOG.iter().filter(|step| step.sql.contains("CREATE FUNCTION"));
    let functions = functions.map(|step| ("a function", code(step.sql)));
    TEXTS.iter().map(|(name, text)| (*name, whole(text))).chain(functions).collect()
}

/// Whether a text changes rows that are there.
fn changes_rows(code: &str) -> bool {
    let mut words = code.split(' ');
    let mut before = "";
    words.any(|word| {
        let word = word.trim_start_matches('(');
        let found = word == "DELETE" || word == "UPDATE" && before != "FOR" && before != "KEY";
        before = word;
        found
    })
}

/// The names that follow `pg_catalog.` in a text, each with the character behind it.
fn of_catalog(code: &str) -> impl Iterator<Item = (&str, Option<char>)> {
    code.split("pg_catalog.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        (&rest[..end], rest[end..].chars().next())
    })
}

async fn names(query: &str) -> BTreeSet<String> {
    let session = postgres::connect(&postgres::database().await).await;
    session.query(query, &[]).await.expect("good SQL").iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_statement_is_on_one_namespace_or_on_the_registry() {
    for (name, code) in texts() {
        assert!(!(code.contains("eventodb.") && code.contains("{log}")), "{name}: {code}");
    }
}

#[tokio::test]
async fn a_statement_joins_no_table_of_the_catalogue_with_ours() {
    let relations = names("SELECT relname::text FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace").await;
    for (name, code) in texts() {
        let is_ours = code.contains("eventodb.") || code.contains("{log}.");
        let joins = is_ours && of_catalog(&code).any(|(of, _)| relations.contains(of));
        assert!(!joins, "{name}: {code}");
    }
}

#[tokio::test]
async fn no_change_of_rows_calls_a_volatile_function() {
    let volatile = "SELECT proname::text FROM pg_proc
                    WHERE provolatile = 'v' AND pronamespace = 'pg_catalog'::regnamespace";
    let volatile = names(volatile).await;
    for (name, code) in texts() {
        let calls = of_catalog(&code).any(|(of, next)| next == Some('(') && volatile.contains(of));
        assert!(!(changes_rows(&code) && calls), "{name}: {code}");
    }
}

#[test]
fn no_write_of_an_append_is_in_a_common_table_expression() {
    for (name, code) in texts() {
        let is_of_append = APPEND_PATH.contains(&name) || name == "a function";
        for what in ["INSERT", "UPDATE", "DELETE"] {
            let writes = code.contains(&format!("AS ( {what}")) || code.contains(&format!("AS ({what}"));
            assert!(!(is_of_append && writes), "{name}: {code}");
        }
    }
}

#[test]
fn transactions_of_several_statements_acknowledge_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgres");
    let mut found = BTreeSet::new();
    for file in fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it is read").path()) {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let mut function = "";
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("fn ") {
                function = rest.split(['(', '<']).next().unwrap_or_default();
            }
            if line.contains("connection.begin") {
                let name = file.file_name().expect("it has one").to_string_lossy().into_owned();
                found.insert((name, function.to_owned()));
            }
        }
    }
    let known = TRANSACTIONS.iter().map(|(file, function, _)| ((*file).to_owned(), (*function).to_owned()));
    assert_eq!(found, known.collect());
}

#[test]
fn what_changes_rows_is_told_from_what_locks_them() {
    for changes in ["UPDATE t SET a = 1", "WITH d AS (DELETE FROM t)", "INSERT INTO t ON CONFLICT DO UPDATE SET a = 1"]
    {
        assert!(changes_rows(changes), "{changes}");
    }
    for reads in ["SELECT a FROM t FOR UPDATE", "SELECT a FROM t FOR NO KEY UPDATE", "SELECT deleted FROM t"] {
        assert!(!changes_rows(reads), "{reads}");
    }
}
