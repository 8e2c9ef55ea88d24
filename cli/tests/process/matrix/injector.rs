//! Makes system calls of a running process fail: `strace` attaches to it, lets the calls on one file fail, and
//! detaches.
//!
//! strace counts the calls of each thread by itself. "The n-th call" therefore is the n-th one of a thread, and several
//! threads may meet the fault before the injector detaches. Each case prints how many calls failed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::patiently;

/// The calls by which a store uses its files.
pub(super) const CALLS: [&str; 9] =
    ["openat", "pread64", "pwrite64", "fdatasync", "fsync", "ftruncate", "mmap", "unlink", "rename"];

/// How often the trace is checked.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Which calls on which file fail, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    pub(super) call: &'static str,
    /// Its name in the data directory; empty for the directory itself.
    pub(super) file: String,
    pub(super) error: &'static str,
    pub(super) nth: u32,
    /// Whether all calls from the n-th one on fail, until the injector detaches.
    pub(super) lasts: bool,
}

impl Fault {
    fn arguments(&self, data: &Path) -> Vec<String> {
        let file = if self.file.is_empty() { data.to_owned() } else { data.join(&self.file) };
        let when = if self.lasts { "+" } else { "" };
        let inject = format!("inject={}:error={}:when={}{when}", self.call, self.error, self.nth);
        let trace = format!("trace={}", self.call);
        ["-P", &file.to_string_lossy(), "-e", &trace, "-e", &inject].map(str::to_owned).into()
    }
}

/// How many calls a thread made on each file, at most: (file, call) → count.
pub(super) type Survey = BTreeMap<(String, &'static str), u32>;

/// An strace that is attached to a process.
pub(super) struct Injector {
    strace: Child,
    trace: PathBuf,
}

impl Injector {
    /// Begins to let calls of a process fail.
    pub(super) async fn attach(pid: u32, data: &Path, fault: &Fault, trace: PathBuf) -> Result<Self> {
        Self::start(&[pid], fault.arguments(data), trace, Path::new("/")).await
    }

    /// The same for several processes and their children, whose files are named relative to `data`.
    pub(super) async fn attach_all(pids: &[u32], data: &Path, fault: &Fault, trace: PathBuf) -> Result<Self> {
        let mut arguments = fault.arguments(data);
        arguments.extend(["-P".to_owned(), fault.file.clone()]);
        Self::start(pids, arguments, trace, data).await
    }

    /// Only records which calls are made.
    pub(super) async fn survey(pid: u32, trace: PathBuf) -> Result<Self> {
        let arguments = vec!["-e".to_owned(), format!("trace={}", CALLS.join(","))];
        Self::start(&[pid], arguments, trace, Path::new("/")).await
    }

    async fn start(pids: &[u32], arguments: Vec<String>, trace: PathBuf, directory: &Path) -> Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-qq", "-o"]).arg(&trace).args(arguments).current_dir(directory);
        command.args(pids.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]));
        command.stderr(Stdio::null()).kill_on_drop(true);
        let strace = command.spawn().context("strace is needed: `apt-get install strace`, or `make deps`")?;
        let mut injector = Self { strace, trace };
        patiently("strace attaches", injector.until_attached(pids)).await??;
        Ok(injector)
    }

    async fn until_attached(&mut self, pids: &[u32]) -> Result<()> {
        // A process that has ended meanwhile needs no tracer.
        let exists = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
        while !pids.iter().all(|pid| is_traced(*pid) || !exists(*pid)) {
            if let Some(status) = self.strace.try_wait()? {
                anyhow::bail!("strace cannot attach: {status}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn told(&self) -> String {
        std::fs::read(&self.trace).map(|trace| String::from_utf8_lossy(&trace).into_owned()).unwrap_or_default()
    }

    /// How many calls have failed.
    pub(super) fn failed(&self) -> usize {
        self.told().matches("(INJECTED)").count()
    }

    /// Waits until a call has failed, at most for this time. Returns whether one has.
    pub(super) async fn until_failed(&self, within: Duration) -> bool {
        let failed = async {
            while self.failed() == 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(within, failed).await.is_ok()
    }

    /// Begins to end the fault. [`Self::detach`] waits until it has ended.
    pub(super) fn let_be(&self) -> Result<()> {
        match self.strace.id().map(|pid| kill_process(pid_of(pid), Signal::INT)) {
            // strace has ended with the process.
            None | Some(Ok(()) | Err(Errno::SRCH)) => Ok(()),
            Some(Err(error)) => Err(error).context("strace can be told to detach"),
        }
    }

    /// Ends the fault, and returns how many calls have failed.
    pub(super) async fn detach(mut self) -> Result<usize> {
        self.let_be()?;
        patiently("strace detaches", self.strace.wait()).await??;
        Ok(self.failed())
    }

    /// The recorded trace.
    pub(super) async fn surveyed(self, data: &Path) -> Result<Survey> {
        let trace = self.trace.clone();
        self.detach().await?;
        count(&std::fs::read_to_string(trace).context("strace wrote it")?, data)
    }
}

fn is_traced(pid: u32) -> bool {
    let traced = |path: PathBuf| {
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    };
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    tasks.is_ok_and(|tasks| tasks.flatten().all(|task| traced(task.path())))
}

pub(super) fn pid_of(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id")
}

/// Counts the calls in a trace: each line has the thread, the call, and the file in `<…>` or `"…"`.
fn count(trace: &str, data: &Path) -> Result<Survey> {
    let data = data.to_str().context("a temporary folder's name")?;
    let mut by_thread: BTreeMap<(&str, String, &'static str), u32> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some(call) = CALLS
            .into_iter()
            .find(|call| rest.trim_start().strip_prefix(call).is_some_and(|arguments| arguments.starts_with('(')))
        else {
            continue;
        };
        let Some((_, after)) = rest.split_once(data) else { continue };
        let Some((file, _)) = after.split_once(['>', '"']) else { continue };
        let file = file.trim_start_matches('/').to_owned();
        *by_thread.entry((thread, file, call)).or_default() += 1;
    }
    ensure!(!by_thread.is_empty(), "strace saw no call on {data}");
    let mut survey = Survey::new();
    for ((_, file, call), calls) in by_thread {
        let most = survey.entry((file, call)).or_default();
        *most = calls.max(*most);
    }
    Ok(survey)
}

#[test]
fn a_trace_is_counted_by_thread_and_file() {
    let trace = "7 openat(AT_FDCWD</w>, \"/d/lock\", O_RDWR) = 3</d/lock>\n\
                 7 pwrite64(3</d/1.log.db>, \"a\", 1, 0) = 1\n\
                 8 pwrite64(3</d/1.log.db>, \"a\", 1, 0) = 1\n\
                 7 pwrite64(3</d/1.log.db>, \"a\", 1, 0) = 1\n\
                 7 fsync(3</d>) = 0\n\
                 7 <... fsync resumed>) = 0\n";
    let survey = count(trace, Path::new("/d")).expect("there are calls");
    let counted: Vec<_> = survey.iter().map(|((file, call), calls)| (file.as_str(), *call, *calls)).collect();
    assert_eq!(counted, [("", "fsync", 1), ("1.log.db", "pwrite64", 2), ("lock", "openat", 1)]);
}
