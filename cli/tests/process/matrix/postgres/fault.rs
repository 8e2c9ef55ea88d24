//! Faults of PostgreSQL while a server writes.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, kill_process};

use super::super::super::children::children;
use super::super::case::{FAULT_FOR, REACHED_WITHIN};
use super::super::injector::{Fault as Failing, Injector, pid_of};
use super::cut::{Operation, Point};
use super::disk::Full;
use super::scene::{LOOK_EVERY, Scene};

/// Sessions of the server with the row's database.
const SESSIONS: &str =
    "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()";
/// Sets whether sessions may write, without waiting.
const SET_READ_ONLY: &str = "ALTER SYSTEM SET default_transaction_read_only = on";
const RESET_READ_ONLY: &str = "ALTER SYSTEM RESET default_transaction_read_only";
const RELOAD: &str = "SELECT pg_reload_conf()";
/// How long PostgreSQL is stopped. A write in progress may wait for the whole time.
const AWAY_FOR: Duration = Duration::from_secs(1);
/// Interval of the checkpoints that the row makes.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);

/// A file of PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub(super) enum File {
    /// The write-ahead log's current segment.
    Wal,
    /// The table of the messages of the namespace `default`.
    Messages,
    /// Its primary key.
    Key,
    /// Which transactions have committed.
    Transactions,
    Control,
}

impl File {
    /// Its path below the data directory.
    async fn path(self, scene: &Scene<'_>) -> Result<String> {
        let log = "(SELECT 'eventodb_' || incarnation FROM eventodb.namespaces WHERE name = 'default')";
        let query = match self {
            Self::Transactions => return Ok("pg_xact/0000".to_owned()),
            Self::Control => return Ok("global/pg_control".to_owned()),
            Self::Wal => "SELECT 'pg_wal/' || pg_walfile_name(pg_current_wal_lsn())".to_owned(),
            Self::Messages => format!("SELECT pg_relation_filepath({log} || '.messages')"),
            Self::Key => format!("SELECT pg_relation_filepath({log} || '.messages_global_position')"),
        };
        scene.sql(&query).await?.pop().context("it has a path")
    }
}

impl fmt::Display for File {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Wal => "pg_wal",
            Self::Messages => "messages",
            Self::Key => "messages' key",
            Self::Transactions => "pg_xact",
            Self::Control => "pg_control",
        })
    }
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// Calls of PostgreSQL's processes on one of its files fail.
    Call { file: File, call: &'static str, error: &'static str, nth: u32, lasts: bool },
    /// The connections are cut during one operation.
    Cut(Operation, Point),
    /// A disk is full.
    Full(Full),
    /// SIGKILL to the process of one session, after which PostgreSQL ends all of them and recovers.
    KillSession,
    /// SIGKILL to the process that listens.
    KillAll,
    /// It is stopped in this mode, and started again.
    Stop(&'static str),
    /// Each session is ended, one after the other, and then all of them at once.
    EndEachSession,
    /// Sessions may not write, and then may again.
    ReadOnly,
    /// PostgreSQL is stopped, and the server gets SIGTERM before PostgreSQL is back.
    StopServerMeanwhile,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:8} | ", self.kind())?;
        match self {
            Self::Call { file, call, error, nth, lasts } => {
                let when = format!("{nth}.{}", if *lasts { " on" } else { "" });
                write!(formatter, "{file:13} | {call:9} | {error:6} | {when:6} |")
            }
            Self::Cut(operation, point) => write!(formatter, "{operation:9} | {point} |"),
            Self::Full(full) => write!(formatter, "{full} |"),
            Self::Stop(mode) => write!(formatter, "{mode} |"),
            _ => Ok(()),
        }
    }
}

impl Fault {
    /// The name of the kind of row.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Call { .. } => "call",
            Self::Cut(..) => "cut",
            Self::Full(_) => "full",
            Self::KillSession => "kill -9 of a session",
            Self::KillAll => "kill -9 of PostgreSQL",
            Self::Stop(_) => "stop",
            Self::EndEachSession => "pg_terminate_backend",
            Self::ReadOnly => "default_transaction_read_only",
            Self::StopServerMeanwhile => "SIGTERM without PostgreSQL",
        }
    }

    /// Makes the fault happen under load, and waits until writes succeed again. Returns a description of what happened.
    pub(super) async fn strike(&self, scene: &mut Scene<'_>) -> Result<String> {
        let load = scene.load();
        scene.until_more(3, 0).await?;
        let told = self.strike_under_load(scene).await?;
        load.stop().await?;
        Ok(told)
    }

    async fn strike_under_load(&self, scene: &mut Scene<'_>) -> Result<String> {
        match self {
            Self::Call { file, call, error, nth, lasts } => {
                let fault = Failing { call, file: file.path(scene).await?, error, nth: *nth, lasts: *lasts };
                return fail_calls(scene, &fault).await;
            }
            Self::KillSession => {
                let session = scene.sql(SESSIONS).await?.pop().context("the server has a session")?;
                kill(session.parse()?)?;
            }
            Self::KillAll => {
                kill(scene.postgres.pid())?;
                tokio::time::sleep(AWAY_FOR).await;
            }
            Self::Stop(mode) => {
                tokio::task::block_in_place(|| scene.postgres.stop(mode));
                tokio::time::sleep(AWAY_FOR).await;
            }
            Self::EndEachSession => end_each_session(scene).await?,
            Self::ReadOnly => {
                scene.sql(SET_READ_ONLY).await?;
                scene.sql(RELOAD).await?;
                scene.until_more(0, 3).await?;
                scene.sql(RESET_READ_ONLY).await?;
                scene.sql(RELOAD).await?;
            }
            Self::StopServerMeanwhile => {
                tokio::task::block_in_place(|| scene.postgres.stop("fast"));
                tokio::time::sleep(AWAY_FOR).await;
                scene.stop().await?;
                return Ok("the server has ended".to_owned());
            }
            Self::Cut(..) | Self::Full(_) => {}
        }
        scene.revive();
        scene.until_more(3, 0).await?;
        Ok("got over".to_owned())
    }
}

fn kill(pid: u32) -> Result<()> {
    kill_process(pid_of(pid), Signal::KILL).context("the process is there")
}

async fn end_each_session(scene: &Scene<'_>) -> Result<()> {
    let sessions = scene.sql(SESSIONS).await?;
    ensure!(!sessions.is_empty(), "the server has sessions");
    for session in sessions {
        scene.sql(&format!("SELECT pg_terminate_backend({session})")).await?;
        scene.until_more(1, 0).await?;
    }
    scene.sql(&format!("SELECT pg_terminate_backend(pid) FROM ({SESSIONS}) AS sessions")).await?;
    Ok(())
}

/// Lets calls fail until one has failed, or for 300 ms if all of them fail.
async fn fail_calls(scene: &Scene<'_>, fault: &Failing) -> Result<String> {
    // Some calls are made only once by a process, or only for pages that are not in memory, so that new processes are
    // needed.
    let is_early = ["openat", "pread64"].contains(&fault.call);
    if is_early {
        tokio::task::block_in_place(|| scene.postgres.stop("fast"));
        // The calls fail only from now on: before, PostgreSQL would wait for a session that is just beginning.
        scene.server().signal(Signal::STOP);
        tokio::task::block_in_place(|| scene.postgres.start_again());
    }
    let data = scene.postgres.folder().join("data");
    let listener = scene.postgres.pid();
    let processes: Vec<u32> = children(listener).into_iter().chain([listener]).collect();
    let injector = Injector::attach_all(&processes, &data, fault, scene.trace()).await?;
    if is_early {
        scene.server().signal(Signal::CONT);
    }
    let over = async {
        if injector.until_failed(REACHED_WITHIN).await && fault.lasts {
            // The fault lasts for this time.
            tokio::time::sleep(FAULT_FOR).await;
        }
    };
    tokio::select! {
        () = over => {}
        () = checkpoint(scene) => {}
    }
    let failed = injector.detach().await?;
    scene.revive();
    scene.until_more(1, 0).await?;
    Ok(if failed == 0 { "the call was not made".to_owned() } else { format!("{failed} calls failed") })
}

/// Makes checkpoints until it is dropped.
async fn checkpoint(scene: &Scene<'_>) {
    loop {
        // Where it fails, PostgreSQL has met the fault.
        if scene.sql("CHECKPOINT").await.is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tokio::time::sleep(CHECKPOINT_EVERY).await;
    }
}
