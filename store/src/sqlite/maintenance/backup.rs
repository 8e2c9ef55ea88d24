//! Copying a store that a server may be writing to.
//!
//! The server is not asked and not held up. A log is append-only, so that its messages up to a head stay the same: they
//! are copied in slices, each read in a transaction of its own. Indexes are left out, because they are built from the
//! logs. The copy is made in a directory that gets its name at the very end, so that there never is half a backup.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use eventodb_protocol::Timestamp;
use eventodb_schema::{SQLITE_LOG, SQLITE_REGISTRY};
use rusqlite::{Connection, params};

use super::super::checksum::{Checker, Seed};
use super::super::connection::{self, Attach};
use super::super::directory::{create_private, parent};
use super::super::evidence;
use super::super::groups;
use super::super::paths::beside;
use super::super::tokens;
use super::super::whole_row::{self, Import};
use super::copied::Copied;
use super::files::{self, Namespace};
use super::manifest::{BackedUpNamespace, Manifest, describe};
use super::{Error, Progress, Step, database, io, shown};

/// Messages in one slice of the copy.
const SLICE_ROWS: usize = 4096;
/// Bytes of text after which a slice ends.
const SLICE_BYTES: usize = 8 * 1024 * 1024;
/// How often the namespaces are copied that were replaced while they were copied before.
const ROUNDS: usize = 10;

/// Copies a data directory, in use or not, into `output`, which must be new or empty. The copy is a
/// data directory itself. A namespace that is deleted meanwhile is not in it, and is reported. One that is replaced
/// meanwhile is in it. A damaged message is copied as it is, and reported.
///
/// # Errors
/// [`Error`]; nothing is left of the copy then.
pub fn backup(data_dir: &Path, output: &Path, progress: &mut Progress<'_>) -> Result<Manifest, Error> {
    let created_at = Timestamp::now();
    let registry_path = super::registry_of(data_dir)?;
    let unfinished = Unfinished::create(output)?;
    let target = &unfinished.0;
    let registry = files::open_live(&registry_path, SQLITE_REGISTRY)?;
    let mut living = files::namespaces(&registry).map_err(database(&registry_path))?;
    living.retain(|namespace| !namespace.is_of_self_tests());
    let mut missing: BTreeMap<i64, String> =
        living.iter().map(|namespace| (namespace.origin, namespace.name.clone())).collect();
    let mut copied = Vec::new();
    for _ in 0..ROUNDS {
        for namespace in living {
            let outcome = copy(data_dir, target, &namespace, progress);
            if files::lives(&registry, namespace.incarnation).map_err(database(&registry_path))? {
                missing.remove(&namespace.origin);
                copied.push((outcome?, namespace));
            } else {
                leave_out(data_dir, target, namespace.incarnation)?;
            }
        }
        // Another incarnation may have taken the place of one that does not live any more.
        living = files::namespaces(&registry).map_err(database(&registry_path))?;
        living.retain(|namespace| missing.contains_key(&namespace.origin));
        if living.is_empty() {
            break;
        }
    }
    if let Some(replaced) = living.pop() {
        return Err(Error::ReplacedAgain(replaced.name));
    }
    write_registry(&registry, &registry_path, target, &copied)?;

    let mut described = vec![describe(&files::registry_path(target), progress)?];
    for (_, namespace) in &copied {
        let file = files::log_path(target, namespace.incarnation);
        if file.exists() {
            described.push(describe(&file, progress)?);
        }
    }
    for file in &described {
        files::sync(&target.join(&file.name))?;
    }
    let namespaces = copied.into_iter().map(|(copied, _)| copied).collect();
    let manifest =
        Manifest { deleted: missing.into_values().collect(), ..Manifest::new(created_at, namespaces, described) };
    manifest.write(target)?;
    files::sync(target)?;
    unfinished.finish(output)?;
    Ok(manifest)
}

/// A backup under another name until it is whole. It is removed if it never becomes whole.
struct Unfinished(PathBuf);

impl Unfinished {
    fn create(output: &Path) -> Result<Self, Error> {
        match fs::read_dir(output) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(Error::OutputExists(shown(output)));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(output)(error)),
        }
        let parent = parent(output);
        fs::create_dir_all(parent).map_err(io(parent))?;
        let name = format!(".{}.unfinished-{}", files::name_of(output), uuid::Uuid::new_v4().simple());
        let directory = parent.join(name);
        create_private(&directory).map_err(io(&directory))?;
        Ok(Self(directory))
    }

    fn finish(self, output: &Path) -> Result<(), Error> {
        fs::rename(&self.0, output).map_err(io(output))?;
        files::sync(parent(output))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Once the backup has its name, there is nothing under this one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies one namespace's log up to its head at this moment.
fn copy(
    data_dir: &Path,
    target: &Path,
    namespace: &Namespace,
    progress: &mut Progress<'_>,
) -> Result<BackedUpNamespace, Error> {
    let incarnation = namespace.incarnation;
    let nothing = BackedUpNamespace { namespace: namespace.name.clone(), incarnation, ..BackedUpNamespace::default() };
    let file = files::log_path(data_dir, incarnation);
    if fs::metadata(&file).map_or(0, |metadata| metadata.len()) == 0 {
        // The file is made when a namespace is first used.
        let is_new = namespace.messages == Some(0);
        return if is_new { Ok(nothing) } else { Err(Error::MissingLog(shown(&file))) };
    }
    let failed = database(&file);
    let source = files::open_live(&file, SQLITE_LOG)?;
    // Of one moment: a commit may have messages and the checkpoint that they go with.
    let beginning = source.unchecked_transaction().map_err(&failed)?;
    if !beginning.table_exists(None, "messages").map_err(&failed)? {
        return Ok(nothing);
    }
    let head = files::head(&beginning).map_err(&failed)?;
    if !namespace.owns(&beginning).map_err(&failed)? {
        return Err(Error::ForeignLog(shown(&file)));
    }
    let target_path = files::log_path(target, incarnation);
    let written = database(&target_path);
    let mut log = files::create_log(&target_path)?;
    whole_row::keep_identity(&beginning, &log).map_err(&written)?;
    if let Some(import) = Import::read(&beginning).map_err(&failed)? {
        import.insert(&log).map_err(&written)?;
    }
    groups::keep(&beginning, &log).map_err(&written)?;
    drop(beginning);
    groups::begin_anew(&log, head).map_err(&written)?;
    let seed = Seed::of(&evidence::identity(&log).map_err(&written)?);
    let (mut position, mut messages, mut damaged) = (0, 0, Vec::new());
    while position < head {
        let (slice, missing) = slice(&source, position, head).map_err(&failed)?;
        damaged.extend(missing);
        let Some(last) = slice.last() else { break };
        position = last.global_position();
        messages += slice.len() as u64;
        damaged.extend(slice.iter().filter(|copied| copied.is_damaged()).map(Copied::global_position));
        insert(&mut log, &slice, seed).map_err(&written)?;
        progress(Step { what: &namespace.name, done: position.unsigned_abs(), of: head.unsigned_abs() });
    }
    // Those of later messages do no harm.
    whole_row::keep_given_up(&source, &log, head).map_err(&written)?;
    Ok(BackedUpNamespace { head, messages, damaged, ..nothing })
}

/// Messages that follow a position, and the missing positions between them.
fn slice(source: &Connection, after: i64, head: i64) -> rusqlite::Result<(Vec<Copied>, Vec<i64>)> {
    let snapshot = source.unchecked_transaction()?;
    let checker = Checker::of_log(&snapshot)?;
    let mut select = snapshot.prepare_cached(files::whole_rows(&snapshot)?)?;
    let mut rows = select.query(params![after, head])?;
    let (mut slice, mut bytes, mut missing, mut last) = (Vec::new(), 0, Vec::new(), after);
    while slice.len() < SLICE_ROWS && bytes < SLICE_BYTES {
        let Some(row) = rows.next()? else { break };
        let row = Copied::read(row, &checker)?;
        bytes += row.bytes();
        missing.extend(checker.missing(last.saturating_add(1), row.global_position() - 1)?);
        last = row.global_position();
        slice.push(row);
    }
    Ok((slice, missing))
}

fn insert(log: &mut Connection, slice: &[Copied], seed: Seed) -> rusqlite::Result<()> {
    let transaction = log.transaction()?;
    {
        let mut insert = transaction.prepare_cached(include_str!("../sql/append.sql"))?;
        for row in slice {
            row.insert(&mut insert, seed)?;
        }
    }
    transaction.commit()
}

/// Removes the copy of a namespace that was deleted meanwhile, and the files that reading it has put beside the file
/// that the server removed. Its number is never used again.
fn leave_out(data_dir: &Path, target: &Path, incarnation: i64) -> Result<(), Error> {
    let source = files::log_path(data_dir, incarnation);
    let mut paths = vec![files::log_path(target, incarnation)];
    if !source.exists() {
        paths.extend([beside(&source, "-wal"), beside(&source, "-shm")]);
    }
    for path in paths {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&path)(error)),
            _ => {}
        }
    }
    Ok(())
}

fn write_registry(
    source: &Connection,
    source_path: &Path,
    target: &Path,
    copied: &[(BackedUpNamespace, Namespace)],
) -> Result<(), Error> {
    // Numbers that were used are not used again, even if their namespaces are gone.
    let last: i64 = source
        .query_row("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'namespaces'", [], |row| row.get(0))
        .map_err(database(source_path))?;
    let path = files::registry_path(target);
    let registry = connection::open(&[Attach::registry(Some(path.clone()))])
        .map_err(|error| Error::Database(shown(&path), error))?;
    fill_registry(&registry, last, copied).map_err(database(&path))
}

fn fill_registry(registry: &Connection, last: i64, copied: &[(BackedUpNamespace, Namespace)]) -> rusqlite::Result<()> {
    registry.pragma_update(Some("registry"), "journal_mode", "DELETE")?;
    let transaction = registry.unchecked_transaction()?;
    for (copied, namespace) in copied {
        let Namespace { incarnation, name, description, metadata, created_at, identity, origin, .. } = namespace;
        // If the log has lost its end, the copy has, too.
        let marked_head = copied.head.max(namespace.marked_head);
        transaction.execute(
            include_str!("../sql/registry_copy.sql"),
            params![
                incarnation,
                name,
                description,
                metadata,
                created_at,
                copied.messages,
                identity,
                marked_head,
                origin,
                namespace.protected,
                namespace.quota.messages,
                namespace.quota.bytes
            ],
        )?;
        namespace.tokens.iter().try_for_each(|token| tokens::save(registry, token))?;
    }
    transaction.execute("DELETE FROM registry.sqlite_sequence WHERE name = 'namespaces'", [])?;
    transaction.execute("INSERT INTO registry.sqlite_sequence (name, seq) VALUES ('namespaces', ?1)", [last])?;
    transaction.commit()
}
