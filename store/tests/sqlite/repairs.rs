//! Finding damage, and making a data directory usable again.

use std::fs;
use std::path::Path;

use eventodb_store::sqlite::maintenance::{Error, FileReport, Outcome, Permissions, backup, give_up, repair, verify};
use eventodb_store::sqlite::{OpenError, Settings};
use eventodb_store::testing::logs::restamp;
use rusqlite::Connection;

use super::support::*;

/// A repair that may lose what cannot be saved.
const ACCEPTING: Permissions = Permissions { accept_loss: true, dry_run: false };

fn report(directory: &Path, file: &str) -> FileReport {
    let report = verify(directory, &mut |_| {}).expect("it can be read");
    report.files.into_iter().find(|found| found.file == file).expect("the file is told")
}

fn repaired(directory: &Path, file: &str) -> Outcome {
    let outcomes = repair(directory, ACCEPTING, &mut |_| {}).expect("it can be written");
    outcomes.into_iter().find(|outcome| outcome.file == file).expect("the file is told")
}

fn assert_sound(directory: &Path) {
    let report = verify(directory, &mut |_| {}).expect("it can be read");
    assert!(report.is_sound(), "{report:?}");
}

/// Changes a log in a way in which the store never writes one, and makes the checksums fit the changed rows.
fn tamper(directory: &Path, sql: &str) {
    let connection = Connection::open(log_file(directory)).expect("a database");
    connection.execute_batch(sql).expect("a log");
    drop(connection);
    restamp(&log_file(directory)).expect("a log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_store_stays_as_it_is() {
    let (directory, mut model) = store_of(100).await;
    assert_sound(directory.path());
    let outcomes = repair(directory.path(), Permissions::default(), &mut |_| {}).expect("it can be written");
    assert!(outcomes.iter().all(|outcome| outcome.is_usable && outcome.problems.is_empty()), "{outcomes:?}");
    let store = open(directory.path(), Settings::default()).await;
    model.check(&store).await;
    store.close().await;
}

/// A server that was killed while it made a log leaves one of another identity, and perhaps an index without content. Both
/// become what they should be with the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_and_an_index_that_were_just_made_are_sound() {
    let (directory, mut model) = store_of(0).await;
    let change = |file: &Path, sql: &str| {
        Connection::open(file).and_then(|file| file.execute_batch(sql)).expect("a database");
    };
    change(&log_file(directory.path()), "UPDATE identity SET identity = randomblob(16)");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (round, begun) in ["of another identity", "without a row", "without tables"].into_iter().enumerate() {
        match begun {
            "without a row" => change(&index_file(directory.path()), "DELETE FROM progress"),
            "without tables" => fs::write(index_file(directory.path()), b"").expect("it is ours"),
            _ => {}
        }
        assert_sound(directory.path());
        let outcomes = repair(directory.path(), Permissions::default(), &mut |_| {}).expect("it can be written");
        let is_sound = |outcome: &Outcome| outcome.is_usable && outcome.problems.is_empty();
        assert!(outcomes.iter().all(is_sound), "{begun}: {outcomes:?}");
        let nothing = give_up(directory.path(), NAME, 1, &mut |_| {}).expect_err("there is no message");
        assert!(matches!(nothing, Error::NotDamaged(..)), "{nothing}");
        let output = folder.path().join(round.to_string());
        backup(directory.path(), &output, &mut |_| {}).expect("it is sound");
        assert_sound(&output);
        let restored = open(&output, Settings::default()).await;
        model.clone().write(&log(&restored, NAME).await, 3).await;
        restored.close().await;
        assert_sound(&output);
    }
    let store = open(directory.path(), Settings::default()).await;
    model.check(&store).await;
    store.close().await;
    assert_sound(directory.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_is_left_alone() {
    let (directory, _) = store_of(5).await;
    let store = open(directory.path(), Settings::default()).await;
    for error in [
        verify(directory.path(), &mut |_| {}).expect_err("it is in use"),
        repair(directory.path(), Permissions::default(), &mut |_| {}).expect_err("it is in use"),
    ] {
        assert!(matches!(error, Error::Open(OpenError::Locked(_))), "{error}");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_behind_is_sound() {
    let (directory, mut model) = store_of(50).await;
    let store = open(directory.path(), tiny()).await;
    model.write(&log(&store, NAME).await, 40).await;
    let copy = crash_copy(directory.path());
    store.close().await;
    assert_sound(copy.path());
    let crashed = open(copy.path(), Settings::default()).await;
    model.check(&crashed).await;
    crashed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_does_not_fit_is_built_anew() {
    let (other, _) = store_of(50).await;
    let changes: [&dyn Fn(&Path); 4] = [
        &|directory| fs::remove_file(index_file(directory)).expect("it is there"),
        &|directory| fs::write(index_file(directory), [7; 9000]).expect("it is ours"),
        &|directory| {
            fs::copy(index_file(other.path()), index_file(directory)).expect("both are ours");
        },
        &|directory| {
            let connection = Connection::open(index_file(directory)).expect("a database");
            connection.execute("DELETE FROM ids WHERE global_position = 7", []).expect("an index");
        },
    ];
    for (at, change) in changes.iter().enumerate() {
        let (directory, mut model) = store_of(120).await;
        change(directory.path());
        if at > 0 {
            assert!(!report(directory.path(), "1.index.db").problems.is_empty());
        }
        let outcome = repaired(directory.path(), "1.index.db");
        assert!(outcome.is_usable && outcome.done[0].contains("120 messages"), "{outcome:?}");
        assert_sound(directory.path());
        let store = open(directory.path(), Settings::default()).await;
        model.check(&store).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_cut_at_its_end_keeps_what_can_be_read() {
    let (directory, mut model) = store_of(2_000).await;
    let file = log_file(directory.path());
    let bytes = fs::read(&file).expect("it is there");
    fs::write(&file, &bytes[..bytes.len() * 2 / 3]).expect("it is ours");
    check_cut(directory.path(), &mut model).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_damaged_in_the_middle_keeps_what_is_before() {
    const PAGE: usize = 4096;
    let (directory, mut model) = store_of(2_000).await;
    let file = log_file(directory.path());
    let mut bytes = fs::read(&file).expect("it is there");
    let middle = bytes.len() / PAGE / 2 * PAGE;
    bytes[middle..middle + PAGE].fill(0xa5);
    fs::write(&file, bytes).expect("it is ours");
    check_cut(directory.path(), &mut model).await;
}

/// Whether the file is a damaged log that a repair kept. Its write-ahead log does not count.
fn is_kept(file: &Path) -> bool {
    let file = file.to_string_lossy();
    file.contains(".damaged-") && !file.ends_with("-wal")
}

async fn check_cut(directory: &Path, model: &mut Model) {
    assert!(!report(directory, "1.log.db").problems.is_empty());
    let damaged = fs::read(log_file(directory)).expect("it is there");
    let only_told = Permissions { dry_run: true, ..ACCEPTING };
    let planned = repair(directory, only_told, &mut |_| {}).expect("it can be read");
    let planned = planned.iter().find(|outcome| outcome.file == "1.log.db").expect("the file is told");
    assert!(!planned.problems.is_empty() && planned.done[0].contains("into a new file"), "{planned:?}");
    assert_eq!(fs::read(log_file(directory)).expect("it is there"), damaged, "nothing is changed");
    let outcome = repaired(directory, "1.log.db");
    assert!(outcome.is_usable, "{outcome:?}");
    let told = outcome.done.iter().find(|line| line.starts_with("lost:")).expect("it says what is lost").clone();
    let words = told.split_whitespace().collect::<Vec<_>>();
    let number = words.iter().find_map(|word| word.parse::<usize>().ok()).expect("it says from where");
    let kept = number - 1;
    assert!(kept > 100 && kept < 2_000, "{told}");
    assert!(told.contains("to 2000"), "{told}");
    let mut files = fs::read_dir(directory).expect("it is there").map(|file| file.expect("a file").path());
    let beside = files.find(|file| is_kept(file)).expect("the damaged one is kept");
    assert_eq!(fs::read(beside).expect("it is there"), damaged);
    assert_sound(directory);
    model.0.truncate(kept);
    let store = open(directory, Settings::default()).await;
    model.check(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_garbage_is_left_as_it_is() {
    let (directory, _) = store_of(20).await;
    fs::write(log_file(directory.path()), [7; 9000]).expect("it is ours");
    assert!(!report(directory.path(), "1.log.db").problems.is_empty());
    let outcome = repaired(directory.path(), "1.log.db");
    assert!(!outcome.is_usable && outcome.done[0].contains("backup"), "{outcome:?}");
    assert_eq!(fs::read(log_file(directory.path())).expect("it is there"), [7; 9000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubled_id_is_set_aside() {
    let (directory, mut model) = store_of(100).await;
    tamper(
        directory.path(),
        "UPDATE messages SET id = (SELECT id FROM messages WHERE global_position = 10) WHERE global_position = 100",
    );
    let told = report(directory.path(), "1.log.db").problems.join("\n");
    assert!(told.contains("global positions 10 and 100"), "{told}");
    let outcome = repaired(directory.path(), "1.log.db");
    let told = outcome.done.join("\n");
    assert!(told.contains("set aside: the message at global position 100"), "{told}");
    check_set_aside(directory.path(), &mut model).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubled_position_is_set_aside() {
    let (directory, mut model) = store_of(100).await;
    tamper(
        directory.path(),
        "UPDATE messages SET (stream, position) = (SELECT stream, position FROM messages WHERE global_position = 99)
         WHERE global_position = 100",
    );
    let told = report(directory.path(), "1.log.db").problems.join("\n");
    assert!(told.contains("twice"), "{told}");
    repaired(directory.path(), "1.log.db");
    check_set_aside(directory.path(), &mut model).await;
}

/// The last of a hundred messages was set aside, and the rest is as it was.
async fn check_set_aside(directory: &Path, model: &mut Model) {
    let mut files = fs::read_dir(directory).expect("it is there").map(|file| file.expect("a file").path());
    let aside = files.find(|file| file.extension().is_some_and(|end| end == "ndjson")).expect("a file of them");
    let lines = fs::read_to_string(aside).expect("it is text");
    assert_eq!(lines.lines().count(), 1);
    assert!(lines.contains("\"gpos\":100,\"data\":{\"at\":99}"), "{lines}");
    assert_sound(directory);
    model.0.truncate(99);
    let store = open(directory, Settings::default()).await;
    model.check(&store).await;
    store.close().await;
}

/// The store accepts a gap that a repair left, and writes further messages behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_set_aside_in_the_middle_leaves_a_known_gap() {
    let (directory, mut model) = store_of(100).await;
    tamper(
        directory.path(),
        "UPDATE messages SET id = (SELECT id FROM messages WHERE global_position = 10) WHERE global_position = 50",
    );
    repaired(directory.path(), "1.log.db");
    assert_sound(directory.path());
    model.0.remove(49);
    let store = open(directory.path(), Settings::default()).await;
    model.check(&store).await;
    store.close().await;
    assert_sound(directory.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_damage_is_told_in_words() {
    for (sql, word) in [
        ("DELETE FROM messages WHERE global_position = 50", "missing"),
        ("UPDATE messages SET starts_stream = 1 WHERE global_position = 50", "marked wrongly"),
        ("UPDATE messages SET position = 0 WHERE global_position = 50", "goes back"),
        ("UPDATE messages SET data = '{' WHERE global_position = 50", "no JSON object"),
        ("UPDATE messages SET correlation = 'x' WHERE global_position = 50", "correlation"),
    ] {
        let (directory, _) = store_of(100).await;
        tamper(directory.path(), sql);
        let told = report(directory.path(), "1.log.db").problems.join("\n");
        assert!(told.contains(word), "{sql}: {told}");
    }
}
