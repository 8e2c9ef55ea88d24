//! Saving the readable messages of a damaged log into a new one.
//!
//! Messages are copied in global order up to the first one that cannot be read. Later ones are not copied, because
//! readers rely on it that no message is missing before one that they have seen.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use eventodb_protocol::Timestamp;
use eventodb_schema::SQLITE_LOG;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::checksum::{Checker, Seed};
use super::super::directory::create_private_file;
use super::super::evidence;
use super::super::groups;
use super::super::paths::beside;
use super::super::whole_row::{self, Import, WholeRow};
use super::files::{self, Namespace};
use super::{Error, Progress, Step, TELL_EVERY, database, io};

/// Number of messages set aside that are reported one by one; more are only counted.
const TELL_MOST: u64 = 20;

/// The result of saving a log.
#[derive(Debug, Default)]
pub(super) struct Saved {
    pub(super) messages: u64,
    pub(super) head: i64,
    /// Why the copy ends there, if it was not the end of the log.
    pub(super) cut: Option<String>,
    /// The last global position that the damaged log or the registry is known to have had.
    pub(super) reached: Option<i64>,
    /// The file with the damaged log.
    pub(super) damaged: String,
    /// Each message that was set aside, and why, in words.
    pub(super) set_aside: Vec<String>,
    pub(super) set_aside_count: u64,
    pub(super) set_aside_file: Option<String>,
    last_time: i64,
}

/// Puts a new log in the place of a damaged one, which is kept beside it. Returns `None` and changes nothing if not one
/// message could be read.
///
/// # Errors
/// [`Error`].
pub(super) fn rewrite(path: &Path, namespace: &Namespace, progress: &mut Progress<'_>) -> Result<Option<Saved>, Error> {
    let Ok(source) = files::open_live(path, SQLITE_LOG) else { return Ok(None) };
    let stamp = Timestamp::now().as_micros();
    let new = Unfinished::beside(path)?;
    let log = files::create_log(&new.0)?;
    // If the identity cannot be read in the damaged file, the new one gets an identity of its own.
    let _ = whole_row::keep_identity(&source, &log);
    let seed = Seed::of(&evidence::identity(&log).map_err(database(&new.0))?);
    let mut copy = Copy {
        log,
        seed,
        new: &new.0,
        aside: None,
        aside_path: beside(path, &format!(".set-aside-{stamp}.ndjson")),
        saved: Saved::default(),
    };
    copy.prepare().map_err(database(&new.0))?;
    copy.rows(&source, &files::name_of(path), progress)?;
    if copy.saved.messages == 0 {
        return Ok(None);
    }
    copy.notes(&source).map_err(database(&new.0))?;
    copy.saved.reached = reached(&source, namespace);
    let mut saved = copy.finish()?;
    drop(source);

    saved.damaged = put_in_place(&new, path, stamp)?;
    Ok(Some(saved))
}

/// Puts a new log, whose connections are closed, in the place of a damaged one. Returns the name under which the
/// damaged one is kept.
///
/// # Errors
/// [`Error::File`].
pub(super) fn put_in_place(new: &Unfinished, path: &Path, stamp: i64) -> Result<String, Error> {
    files::sync(&new.0)?;
    let damaged = beside(path, &format!(".damaged-{stamp}"));
    // The log's file is moved first, because the other files are nothing without it.
    fs::rename(path, &damaged).map_err(io(path))?;
    let (wal, shm) = (beside(path, "-wal"), beside(path, "-shm"));
    if wal.exists() {
        fs::rename(&wal, beside(&damaged, "-wal")).map_err(io(&wal))?;
    }
    if shm.exists() {
        fs::remove_file(&shm).map_err(io(&shm))?;
    }
    fs::rename(&new.0, path).map_err(io(path))?;
    files::sync(path.parent().unwrap_or(Path::new(".")))?;
    Ok(files::name_of(&damaged))
}

/// A new log until it is whole.
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    /// A new log that is to take the place of another. The files of an interrupted repair are removed.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(super) fn beside(path: &Path) -> Result<Self, Error> {
        let new = Self(beside(path, ".unfinished"));
        new.remove().map_err(io(&new.0))?;
        Ok(new)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn remove(&self) -> std::io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Once the log is in its place, there is nothing under this name.
        let _ = self.remove();
    }
}

/// The last position that the log is known to have had.
fn reached(source: &Connection, namespace: &Namespace) -> Option<i64> {
    let told = source.query_row("SELECT max(global_position) FROM messages", [], |row| row.get::<_, Option<i64>>(0));
    let counted = namespace.messages.and_then(|messages| i64::try_from(messages).ok());
    told.ok().flatten().max(counted)
}

/// A copy under way.
struct Copy<'a> {
    log: Connection,
    seed: Seed,
    new: &'a Path,
    aside: Option<BufWriter<File>>,
    aside_path: PathBuf,
    saved: Saved,
}

impl Copy<'_> {
    /// Begins to note the ids and streams that were met so far, in files that SQLite removes by itself.
    fn prepare(&self) -> rusqlite::Result<()> {
        self.log.execute_batch(include_str!("../sql/rewrite_met.sql"))
    }

    fn rows(&mut self, source: &Connection, name: &str, progress: &mut Progress<'_>) -> Result<(), Error> {
        let prepared = files::whole_rows(source).and_then(|sql| Ok((source.prepare(sql)?, Checker::of_log(source)?)));
        let (mut select, checker) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.saved.cut = Some(error.to_string());
                return Ok(());
            }
        };
        let mut rows = select.query(params![0, i64::MAX]).map_err(database(self.new))?;
        let mut last = 0;
        loop {
            let row = match rows.next().and_then(|row| row.map(|row| WholeRow::read_checked(row, &checker)).transpose())
            {
                Ok(Some(None)) => {
                    self.saved.cut = Some("the message behind it is damaged".to_owned());
                    return Ok(());
                }
                Ok(Some(Some(row))) if row.global_position > last => row,
                Ok(Some(_)) => {
                    self.saved.cut = Some("the messages behind it are out of order".to_owned());
                    return Ok(());
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.saved.cut = Some(error.to_string());
                    return Ok(());
                }
            };
            if let Some(fault) = row.fault() {
                self.saved.cut = Some(format!("the message at global position {}: {fault}", row.global_position));
                return Ok(());
            }
            last = row.global_position;
            match self.objection(&row).map_err(database(self.new))? {
                Some(objection) => self.set_aside(&row, objection)?,
                None => self.keep(row).map_err(database(self.new))?,
            }
            if self.saved.messages.is_multiple_of(TELL_EVERY) {
                progress(Step { what: name, done: last.unsigned_abs(), of: 0 });
            }
        }
    }

    /// Why a sound store would have refused the message; `None` if it would have taken it.
    fn objection(&self, row: &WholeRow) -> rusqlite::Result<Option<String>> {
        let first: Option<i64> = self
            .log
            .prepare_cached("SELECT global_position FROM temp.met_ids WHERE id = ?1")?
            .query_row([row.id.as_bytes()], |row| row.get(0))
            .optional()?;
        if let Some(first) = first {
            return Ok(Some(format!("its id {} is that of the message at global position {first}", row.id)));
        }
        let last = self.last(&row.stream)?;
        Ok(last.filter(|last| *last >= row.position).map(|last| {
            format!("its position {} in stream {} is not above {last}, which came before it", row.position, row.stream)
        }))
    }

    fn last(&self, stream: &str) -> rusqlite::Result<Option<i64>> {
        self.log
            .prepare_cached("SELECT position FROM temp.met_streams WHERE stream = ?1")?
            .query_row([stream], |row| row.get(0))
            .optional()
    }

    fn keep(&mut self, mut row: WholeRow) -> rusqlite::Result<()> {
        row.starts_stream = self.last(&row.stream)?.is_none();
        self.log
            .prepare_cached("INSERT INTO temp.met_ids (id, global_position) VALUES (?1, ?2)")?
            .execute(params![row.id.as_bytes(), row.global_position])?;
        self.log
            .prepare_cached(include_str!("../sql/rewrite_met_stream.sql"))?
            .execute(params![row.stream, row.position])?;
        row.insert(&mut self.log.prepare_cached(include_str!("../sql/append.sql"))?, self.seed)?;
        self.saved.messages += 1;
        self.saved.head = row.global_position;
        self.saved.last_time = row.time;
        Ok(())
    }

    fn set_aside(&mut self, row: &WholeRow, objection: String) -> Result<(), Error> {
        let failed = io(&self.aside_path);
        if self.aside.is_none() {
            self.aside = Some(BufWriter::new(create_private_file(&self.aside_path).map_err(&failed)?));
            self.saved.set_aside_file = Some(files::name_of(&self.aside_path));
        }
        let file = self.aside.as_mut().expect("made above");
        file.write_all(&row.to_record()).map_err(&failed)?;
        self.saved.set_aside_count += 1;
        if self.saved.set_aside_count <= TELL_MOST {
            self.saved
                .set_aside
                .push(format!("set aside: the message at global position {}: {objection}", row.global_position));
        }
        Ok(())
    }

    /// Copies the notes on messages that were given up, and on the position up to which there may be gaps. A message
    /// that was set aside leaves a gap, as an import does.
    fn notes(&self, source: &Connection) -> rusqlite::Result<()> {
        // If the notes cannot be read in the damaged file, the markers are among the messages all the same.
        let _ = whole_row::keep_given_up(source, &self.log, self.saved.head);
        // Without their rows groups begin anew; what cannot be read is no reason to lose the messages.
        let kept = groups::keep(source, &self.log).and_then(|()| groups::begin_anew(&self.log, self.saved.head));
        if let Err(error) = kept {
            tracing::error!(%error, "the consumer groups of a damaged log cannot be read and are lost");
        }
        let import = Import::read(source).unwrap_or(None);
        let Saved { head, last_time, .. } = self.saved;
        let gaps = self.saved.set_aside_count > 0 || import.is_some_and(|import| import.last_position > head);
        let import = match import {
            Some(import) if gaps => Some(Import { last_position: head, ..import }),
            None if gaps => Some(Import { last_position: head, written_time: last_time }),
            import => import,
        };
        import.map_or(Ok(()), |import| import.insert(&self.log))
    }

    fn finish(mut self) -> Result<Saved, Error> {
        self.log.execute_batch("COMMIT").map_err(database(self.new))?;
        if let Some(mut file) = self.aside.take() {
            file.flush().and_then(|()| file.get_ref().sync_all()).map_err(io(&self.aside_path))?;
        }
        Ok(self.saved)
    }
}
