//! A report on every file of a data directory or of a backup.

use std::collections::HashSet;
use std::path::Path;

use eventodb_schema::{SQLITE_INDEX, SQLITE_LOG, SQLITE_REGISTRY};
use rusqlite::Connection;
use serde::Serialize;

use super::super::connection::{self, Attach};
use super::super::directory::Directory;
use super::super::index_file;
use super::super::paths::set_up;
use super::check_log::{self, LogCheck, Problems};
use super::files::{self, Namespace};
use super::manifest::{self, BackedUpFile, Manifest, describe};
use super::{Error, Progress, check_index, database};
use crate::error::Chain;

/// The findings about a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether it is a backup on which no server was started yet.
    pub is_backup: bool,
    /// Each file, the registry first.
    pub files: Vec<FileReport>,
}

/// The findings about one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Its name in the directory.
    pub file: String,
    /// Its content, in words.
    pub holds: String,
    /// Its problems, in words; empty if it is sound.
    pub problems: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong with any file.
    pub fn is_sound(&self) -> bool {
        self.files.iter().all(|file| file.problems.is_empty())
    }
}

/// Looks at every file of a backup, whose checksums tell every changed byte, or of a data directory
/// that no server uses. Changes nothing.
///
/// # Errors
/// [`Error`], if something could not be read. Problems that are found are in the report.
pub fn verify(directory: &Path, progress: &mut Progress<'_>) -> Result<Report, Error> {
    if !directory.join(manifest::FILE).exists() {
        super::registry_of(directory)?;
    }
    // A server that was started on a backup has left its lock there, and has changed the files.
    let untouched = !directory.join("lock").exists();
    match Manifest::read(directory)? {
        Some(manifest) if untouched => verify_backup(directory, &manifest, progress),
        _ => verify_data_directory(directory, progress),
    }
}

fn verify_backup(directory: &Path, manifest: &Manifest, progress: &mut Progress<'_>) -> Result<Report, Error> {
    let mut reports = Vec::new();
    for expected in &manifest.files {
        let mut problems = Problems::default();
        compare(directory, expected, &mut problems, progress);
        let namespace = manifest
            .namespaces
            .iter()
            .find(|namespace| files::name_of(&files::log_path(directory, namespace.incarnation)) == expected.name);
        let holds = match namespace {
            Some(namespace) => {
                let path = directory.join(&expected.name);
                let check = open_and_check(&path, &mut problems, progress);
                let unchecked = check.as_ref().map_or(0, |check| check.unchecked);
                if let Some(check) = check
                    && (check.messages, check.head) != (namespace.messages, namespace.head)
                {
                    problems.add(format!(
                        "it holds {} messages up to {}, the manifest says {} up to {}",
                        check.messages, check.head, namespace.messages, namespace.head
                    ));
                }
                holds_log(&format!("namespace {}", namespace.namespace), namespace.messages, unchecked)
            }
            None => holds_registry(manifest.namespaces.len()),
        };
        reports.push(FileReport { file: expected.name.clone(), holds, problems: problems.into_lines() });
    }
    Ok(Report { is_backup: true, files: reports })
}

/// Compares a file with its entry in the manifest.
fn compare(directory: &Path, expected: &BackedUpFile, problems: &mut Problems, progress: &mut Progress<'_>) {
    match describe(&directory.join(&expected.name), progress) {
        Err(error) => problems.add(format!("it cannot be read: {}", Chain(&error))),
        Ok(found) if found.bytes != expected.bytes => {
            problems.add(format!("it has {} bytes, the manifest says {}", found.bytes, expected.bytes));
        }
        Ok(found) if found.sha256 != expected.sha256 => {
            problems.add(format!(
                "its bytes have changed: SHA-256 {}, the manifest says {}",
                found.sha256, expected.sha256
            ));
        }
        Ok(_) => {}
    }
}

fn open_and_check(path: &Path, problems: &mut Problems, progress: &mut Progress<'_>) -> Option<LogCheck> {
    match files::open_still(path, SQLITE_LOG) {
        Ok(log) => {
            let mut check = check_log::check(&log, path, progress);
            std::mem::take(&mut check.problems).into_lines().into_iter().for_each(|line| problems.add(line));
            Some(check)
        }
        Err(error) => {
            problems.add(Chain(&error).to_string());
            None
        }
    }
}

fn verify_data_directory(directory: &Path, progress: &mut Progress<'_>) -> Result<Report, Error> {
    let _taken = Directory::take(directory)?;
    let path = files::registry_path(directory);
    let registry = files::open_live(&path, SQLITE_REGISTRY)?;
    let mut problems = Problems::default();
    check_log::pages(&registry, &mut problems);
    let namespaces = match files::namespaces(&registry) {
        Ok(namespaces) => namespaces,
        Err(error) => {
            problems.add(format!("the namespaces cannot be read: {error}"));
            Vec::new()
        }
    };
    let of_registry = FileReport {
        file: files::name_of(&path),
        holds: holds_registry(namespaces.iter().filter(|namespace| !namespace.is_of_self_tests()).count()),
        problems: problems.into_lines(),
    };
    let mut reports = vec![of_registry];
    for namespace in &namespaces {
        reports.extend(verify_namespace(directory, namespace, progress));
    }
    reports.extend(strays(directory, &registry).map_err(database(&path))?);
    Ok(Report { is_backup: false, files: reports })
}

fn verify_namespace(directory: &Path, namespace: &Namespace, progress: &mut Progress<'_>) -> Vec<FileReport> {
    let path = files::log_path(directory, namespace.incarnation);
    if namespace.messages == Some(0) && !files::is_begun(&path) {
        // It was never used.
        return Vec::new();
    }
    let LogCheck { messages, gaps, unchecked, mut problems, .. } = check_log_of(&path, progress);
    let mut holds = holds_log(&namespace.title(), messages, unchecked);
    if gaps > 0 {
        holds.push_str(&format!(", {gaps} global positions were left out by an import or a repair"));
    }
    let log_is_sound = problems.is_empty();
    let index = files::index_path(directory, namespace.incarnation);
    of_another_moment(namespace, &path, &index).into_iter().for_each(|problem| problems.add(problem));
    if log_is_sound && let Some(problem) = fewer_than_counted(namespace, messages) {
        problems.add(problem);
    }
    let mut reports = vec![FileReport { file: files::name_of(&path), holds, problems: problems.into_lines() }];
    if index.exists() {
        // If the log is damaged, it cannot be told whether the index is right.
        let checked = if log_is_sound { check_index_of(&path, &index, progress) } else { Some(Problems::default()) };
        let mut holds = format!("index of {}", namespace.title());
        if checked.is_none() {
            holds.push_str(", of an earlier version and not compared: the server brings it up to date as it starts");
        }
        let problems = checked.unwrap_or_default().into_lines();
        reports.push(FileReport { file: files::name_of(&index), holds, problems });
    }
    reports
}

/// Looks at a log of a data directory.
pub(super) fn check_log_of(path: &Path, progress: &mut Progress<'_>) -> LogCheck {
    match files::open_live(path, SQLITE_LOG) {
        Ok(log) => check_log::check(&log, path, progress),
        Err(error) => {
            let mut check = LogCheck::default();
            check.problems.add(match path.exists() {
                true => Chain(&error).to_string(),
                false => "it is missing".to_owned(),
            });
            check
        }
    }
}

/// Contradictions between a log and the evidence about it.
pub(super) fn of_another_moment(namespace: &Namespace, log: &Path, index: &Path) -> Option<String> {
    let log = files::open_live(log, SQLITE_LOG).ok()?;
    if !namespace.owns(&log).ok()? {
        return Some("it is the log of another namespace".to_owned());
    }
    let head = files::head(&log).ok()?;
    let known = files::known_head(namespace, &log, index);
    (head < known)
        .then(|| format!("it ends at global position {head}, and {known} was acknowledged: it has lost its end"))
}

/// The problem, if the registry has counted more messages than there are.
pub(super) fn fewer_than_counted(namespace: &Namespace, messages: u64) -> Option<String> {
    let noted = namespace.messages.filter(|noted| *noted > messages)?;
    Some(format!("it holds {messages} messages, the registry has counted {noted}: it may be an older copy"))
}

/// Looks at an index beside its log. `None` if its schema is of an earlier version: it is not compared then.
pub(super) fn check_index_of(log: &Path, index: &Path, progress: &mut Progress<'_>) -> Option<Problems> {
    let mut problems = Problems::default();
    let alone = index_file::stamp_of_file_alone(index).unwrap_or_default();
    match open_index_of(log, index) {
        Ok((connection, version)) if are_empty(&connection, version) => {}
        Ok((_, 0)) => problems.add("it is empty"),
        Ok((_, version)) if version < SQLITE_INDEX.len() => return None,
        Ok((connection, _)) => {
            let follows = alone.is_none_or(|alone| index_file::follows(&connection, &alone).unwrap_or(false));
            if !follows {
                problems.add("it does not fit the write-ahead log beside it");
                return Some(problems);
            }
            problems = check_index::check(&connection, &files::name_of(index), progress);
        }
        Err(error) => problems.add(Chain(&error).to_string()),
    }
    Some(problems)
}

/// Whether neither a log nor its index, of this version, has a message. The server gives such an index what it lacks.
fn are_empty(connection: &Connection, version: usize) -> bool {
    let has_none =
        |table: &str| connection.query_row(&format!("SELECT count(*) = 0 FROM {table}"), [], |row| row.get(0));
    has_none("log.messages").unwrap_or(false) && (version == 0 || has_none("idx.ids").unwrap_or(false))
}

/// A log and its index, and the version of the index's schema. Their write-ahead logs stay as they are.
fn open_index_of(log: &Path, index: &Path) -> Result<(Connection, usize), connection::Error> {
    let databases = [Attach::log_as_it_is(log.to_owned()), Attach::index_as_it_is(index.to_owned())];
    let connection = connection::open(&databases)?;
    set_up(&connection)?;
    let (found, known) = (connection::version(&connection, "idx")?, SQLITE_INDEX.len());
    if found > known {
        return Err(connection::Error::Newer { found, known });
    }
    Ok((connection, found))
}

/// Logs and indexes that no namespace has, living or waiting to be removed.
fn strays(directory: &Path, registry: &Connection) -> rusqlite::Result<Vec<FileReport>> {
    let mut select = registry.prepare("SELECT incarnation FROM namespaces")?;
    let known: HashSet<String> = select
        .query_map([], |row| row.get::<_, i64>(0))?
        .flat_map(|number| number.map(|number| [format!("{number}.log.db"), format!("{number}.index.db")]))
        .flatten()
        .collect();
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(Vec::new()) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_ours = |name: &String| name.ends_with(".log.db") || name.ends_with(".index.db");
    let mut strays: Vec<String> = names.filter(is_ours).filter(|name| !known.contains(name)).collect();
    strays.sort_unstable();
    let report = |file: String| {
        // An index is derived, and does no harm. A server does not start beside a log whose namespace is not known.
        let of_log = "move it away, or put back the registry.db that knows it: the server does not start beside it";
        let problems = if file.ends_with(".log.db") { vec![of_log.to_owned()] } else { Vec::new() };
        FileReport { file, holds: "of no namespace in the registry".to_owned(), problems }
    };
    Ok(strays.into_iter().map(report).collect())
}

fn holds_log(title: &str, messages: u64, unchecked: u64) -> String {
    let checked = match unchecked {
        0 => String::new(),
        unchecked => format!(", {unchecked} of them from an earlier version and without a checksum yet"),
    };
    format!("log of {title}, {messages} messages{checked}")
}

fn holds_registry(namespaces: usize) -> String {
    format!("{namespaces} namespaces")
}
