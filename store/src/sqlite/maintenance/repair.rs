//! Making damaged files anew.
//!
//! An index is derived: if it does not fit, it is dropped and built from the log. A log is not: the readable messages
//! of a damaged one are saved into a new file, and the damaged one stays beside it.

use std::path::Path;

use eventodb_schema::{SQLITE_LOG, SQLITE_REGISTRY};
use rusqlite::params;
use serde::Serialize;

use super::super::connection::{self, Attach};
use super::super::directory::Directory;
use super::super::paths::{remove_database, set_up};
use super::super::{groups, index_file, indexer};
use super::check_log::{self, Problems};
use super::files::{self, Namespace};
use super::rewrite::{Saved, rewrite};
use super::verify::{check_index_of, check_log_of, fewer_than_counted};
use super::{Error, Progress, Step, database, io, shown};

/// Messages that are indexed in one transaction.
const BATCH: usize = 8_192;

/// The repair of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Its name in the directory.
    pub file: String,
    /// The problems that it had, in words; empty if it was sound.
    pub problems: Vec<String>,
    /// The steps that were done, in words; with [`Permissions::dry_run`] those that would be.
    pub done: Vec<String>,
    /// Whether it can be used now.
    pub is_usable: bool,
}

/// How far a repair may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Let a log that lost its end be written to again, so that the lost positions are given out anew.
    pub accept_loss: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Makes the files of a data directory usable again, as far as that can be done without a backup.
/// Sound files stay as they are.
///
/// - An index that does not fit its log is built anew.
/// - A log with damaged messages that can be read to its end stays as it is: see [`super::give_up()`].
/// - If a log cannot be read to its end, all messages before the first damaged one are kept.
/// - If two messages have one id, or one position in a stream, the first is kept. A sound store would have refused the
///   later one: it is set aside in a file that `import` reads.
/// - A log that lost its end stays refused for writes until the loss is accepted.
///
/// # Errors
/// [`Error`], if it could not go on. The steps until then stay done.
pub fn repair(directory: &Path, permissions: Permissions, progress: &mut Progress<'_>) -> Result<Vec<Outcome>, Error> {
    let path = super::registry_of(directory)?;
    let _taken = Directory::take(directory)?;
    let registry = files::open_live(&path, SQLITE_REGISTRY)?;
    let mut problems = Problems::default();
    check_log::pages(&registry, &mut problems);
    let namespaces = files::namespaces(&registry);
    if let Err(error) = &namespaces {
        problems.add(format!("the namespaces cannot be read: {error}"));
    }
    if !problems.is_empty() {
        return Ok(vec![Outcome {
            file: files::name_of(&path),
            problems: problems.into_lines(),
            done: vec!["nothing: take it from a backup".to_owned()],
            is_usable: false,
        }]);
    }
    let sound = Outcome { file: files::name_of(&path), problems: Vec::new(), done: Vec::new(), is_usable: true };
    let mut outcomes = vec![sound];
    for namespace in namespaces.map_err(database(&path))? {
        let log = files::log_path(directory, namespace.incarnation);
        if namespace.messages == Some(0) && !files::is_begun(&log) {
            continue;
        }
        let index = files::index_path(directory, namespace.incarnation);
        if let Some(outcome) = foreign(&log, &namespace) {
            outcomes.push(outcome);
            continue;
        }
        // Before the log is made anew, and before its index is.
        let known = known_head(&log, &index, &namespace);
        let mut outcome = repair_log(&log, &namespace, permissions, progress)?;
        if !outcome.is_usable {
            outcomes.push(outcome);
            continue;
        }
        if permissions.dry_run && !outcome.done.is_empty() {
            // What its end and its index will be like is not known yet.
            outcomes.push(outcome);
            continue;
        }
        let head = head_of(&log)?;
        if head < known {
            lost_end(&mut outcome, head, known, permissions);
            if permissions.accept_loss && !permissions.dry_run {
                renew_groups(&log, head)?;
            }
        }
        if !outcome.problems.is_empty() && !permissions.dry_run {
            let marked = if permissions.accept_loss { head } else { known };
            note(&path, &namespace, marked)?;
        }
        outcomes.push(outcome);
        outcomes.push(repair_index(&log, &index, permissions, progress)?);
    }
    Ok(outcomes)
}

fn repair_log(
    path: &Path,
    namespace: &Namespace,
    permissions: Permissions,
    progress: &mut Progress<'_>,
) -> Result<Outcome, Error> {
    let check = check_log_of(path, progress);
    let (sound, damaged) = (check.problems.is_empty(), !check.damaged.is_empty());
    let mut outcome = Outcome {
        file: files::name_of(path),
        problems: check.problems.into_lines(),
        done: Vec::new(),
        is_usable: true,
    };
    if sound {
        if let Some(problem) = fewer_than_counted(namespace, check.messages) {
            outcome.problems.push(problem);
            outcome.done.push("the registry counts anew; only a backup can bring messages back".to_owned());
        }
        return Ok(outcome);
    }
    if damaged {
        outcome.done.push(format!(
            "nothing about its damaged messages: take them from a backup, or give each up with --namespace {} --give-up \
             POSITION; until then reading ends before them",
            namespace.name
        ));
        outcome.is_usable = false;
        return Ok(outcome);
    }
    if permissions.dry_run {
        let step =
            "its readable messages go into a new file, and what is lost is told; the damaged file is kept beside it";
        outcome.done.push(step.to_owned());
        return Ok(outcome);
    }
    match rewrite(path, namespace, progress)? {
        Some(saved) => outcome.done = told(&saved),
        None => {
            outcome.done.push("nothing: no message can be read; take it from a backup".to_owned());
            outcome.is_usable = false;
        }
    }
    Ok(outcome)
}

fn told(saved: &Saved) -> Vec<String> {
    let mut lines = vec![format!(
        "{} messages up to global position {} are in the new file; the damaged one is kept as {}",
        saved.messages, saved.head, saved.damaged
    )];
    if let Some(reason) = &saved.cut {
        let from = saved.head + 1;
        lines.push(match saved.reached {
            Some(reached) if reached >= from => {
                format!("lost: every message from global position {from} to {reached}, the last one known ({reason})")
            }
            _ => format!("lost: every message from global position {from} on, if there were any ({reason})"),
        });
    }
    lines.extend(saved.set_aside.iter().cloned());
    if let Some(file) = &saved.set_aside_file {
        lines.push(format!(
            "{} messages were set aside in {file}, as `eventodb import` reads them",
            saved.set_aside_count
        ));
    }
    lines
}

/// The report on a log, if it is the log of another namespace.
fn foreign(log: &Path, namespace: &Namespace) -> Option<Outcome> {
    if namespace.owns(&files::open_live(log, SQLITE_LOG).ok()?).ok()? {
        return None;
    }
    Some(Outcome {
        file: files::name_of(log),
        problems: vec!["it is the log of another namespace".to_owned()],
        done: vec!["nothing: put the right one in its place, from a backup perhaps".to_owned()],
        is_usable: false,
    })
}

fn known_head(log: &Path, index: &Path, namespace: &Namespace) -> i64 {
    match files::open_live(log, SQLITE_LOG) {
        Ok(log) => files::known_head(namespace, &log, index),
        Err(_) => namespace.marked_head,
    }
}

fn head_of(path: &Path) -> Result<i64, Error> {
    let log = files::open_live(path, SQLITE_LOG)?;
    files::head(&log).map_err(database(path))
}

fn lost_end(outcome: &mut Outcome, head: i64, known: i64, permissions: Permissions) {
    outcome
        .problems
        .push(format!("it ends at global position {head}, and {known} was acknowledged: it has lost its end"));
    if permissions.accept_loss {
        let from = head + 1;
        outcome
            .done
            .push(format!("the loss of global positions {from} to {known} is accepted: they are given out anew"));
    } else {
        outcome.done.push(
            "nothing about the lost end: restore a backup, or have the loss accepted with --accept-loss; until then \
             the log is read and not written to"
                .to_owned(),
        );
        outcome.is_usable = false;
    }
}

/// Members may have handled messages that are lost, above checkpoints that are not.
fn renew_groups(log: &Path, head: i64) -> Result<(), Error> {
    let failed = database(log);
    let mut connection =
        connection::open(&[Attach::log(Some(log.to_owned()))]).map_err(|error| Error::Database(shown(log), error))?;
    let transaction = connection.transaction().map_err(&failed)?;
    groups::begin_anew(&transaction, head).map_err(&failed)?;
    transaction.commit().map_err(&failed)
}

/// Has the server count the messages anew, because the registry's count is wrong by now, and marks the head that the
/// log must reach.
pub(super) fn note(registry: &Path, namespace: &Namespace, marked_head: i64) -> Result<(), Error> {
    let connection = connection::open(&[Attach::registry(Some(registry.to_owned()))])
        .map_err(|error| Error::Database(shown(registry), error))?;
    connection
        .execute(
            "UPDATE registry.namespaces SET messages = NULL, marked_head = ?2 WHERE incarnation = ?1",
            params![namespace.incarnation, marked_head],
        )
        .map_err(database(registry))?;
    Ok(())
}

fn repair_index(
    log: &Path,
    index: &Path,
    permissions: Permissions,
    progress: &mut Progress<'_>,
) -> Result<Outcome, Error> {
    let problems = match index.exists() {
        // The server brings one of an earlier version up to date.
        true => check_index_of(log, index, progress).unwrap_or_default(),
        false => {
            let mut problems = Problems::default();
            problems.add("it is missing");
            problems
        }
    };
    let sound = problems.is_empty();
    let mut outcome =
        Outcome { file: files::name_of(index), problems: problems.into_lines(), done: Vec::new(), is_usable: true };
    if !sound && permissions.dry_run {
        outcome.done.push("built anew from the log".to_owned());
    } else if !sound {
        let messages = build_index(log, index, progress)?;
        outcome.done.push(format!("built anew from the log: {messages} messages"));
    }
    Ok(outcome)
}

pub(super) fn build_index(log: &Path, index: &Path, progress: &mut Progress<'_>) -> Result<u64, Error> {
    remove_database(index).map_err(io(index))?;
    let failed = database(index);
    let mut connection = connection::open(&[Attach::log(Some(log.to_owned())), Attach::index(Some(index.to_owned()))])
        .map_err(|error| Error::Database(shown(index), error))?;
    set_up(&connection).map_err(&failed)?;
    indexer::belongs(&connection).map_err(&failed)?;
    let head: i64 = connection
        .query_row("SELECT coalesce(max(global_position), 0) FROM log.messages", [], |row| row.get(0))
        .map_err(&failed)?;
    let what = files::name_of(index);
    let mut begins_anew = true;
    loop {
        let indexed = indexer::progress(&connection).map_err(&failed)?;
        progress(Step { what: &what, done: indexed.completion.unsigned_abs(), of: head.unsigned_abs() });
        let indexer::Suffix { entries, damaged, .. } =
            indexer::suffix(&connection, indexed.completion, BATCH).map_err(&failed)?;
        indexer::note_unplaced(&connection, &damaged).map_err(&failed)?;
        if entries.is_empty() {
            return Ok(indexed.messages);
        }
        indexer::index(&mut connection, entries.iter().collect(), begins_anew).map_err(&failed)?;
        begins_anew = index_file::checkpoint(&connection).map_err(&failed)?;
    }
}
