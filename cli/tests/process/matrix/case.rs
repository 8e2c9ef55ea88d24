//! One row of the matrix: a phase of a server's life with a fault in it, and what must hold afterwards.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::super::http::Http;
use super::super::server::{BINARY, Server, TOKEN};
use super::injector::{Fault, Injector, Survey, pid_of};
use super::ledger::Ledger;
use super::patiently;

/// How long a row waits for its call. If the call is not made by then, the phase does not make it this time.
pub(super) const REACHED_WITHIN: Duration = Duration::from_secs(3);
/// How long a lasting fault lasts.
pub(super) const FAULT_FOR: Duration = Duration::from_millis(300);
/// The token of the namespace that is created under faults. The caller chooses it, so that a lost reply does not lose
/// it.
const CREATED: (&str, &str) =
    ("created", "ns_Y3JlYXRlZA_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
/// The second namespace of all scenes, and its token.
pub(super) const OTHER: (&str, &str) =
    ("other", "ns_b3RoZXI_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");

/// The phases of a server's life in which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It starts on the files of a server that was killed.
    Start,
    /// It is written to.
    Load,
    /// It is written to, and killed as soon as a call has failed.
    Killed,
    /// It stops.
    Close,
    /// A namespace is created and written to.
    Create,
    /// A namespace is deleted.
    Delete,
}

impl Phase {
    pub(super) const ALL: [Self; 6] = [Self::Start, Self::Load, Self::Killed, Self::Close, Self::Create, Self::Delete];
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Start => "start",
            Self::Load => "load",
            Self::Killed => "killed",
            Self::Close => "close",
            Self::Create => "create",
            Self::Delete => "delete",
        })
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) phase: Phase,
    pub(super) fault: Fault,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { call, file, error, nth, lasts } = &self.fault;
        let file = if file.is_empty() { "(directory)" } else { file };
        let when = format!("{nth}.{}", if *lasts { " on" } else { "" });
        write!(formatter, "{:6} | {file:18} | {call:9} | {error:6} | {when:6} |", self.phase)
    }
}

/// A data directory with two namespaces that a killed server has left.
pub(super) struct Template {
    directory: TempDir,
    ledgers: [Ledger; 2],
}

impl Template {
    pub(super) async fn prepare() -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let server = Server::start(&directory.path().join("data"), &[]).await;
        let mut http = server.connect().await;
        create(&mut http, OTHER).await.expect("a namespace is created");
        let ledgers = [Ledger::new("default", TOKEN), Ledger::new(OTHER.0, OTHER.1)];
        for ledger in &ledgers {
            for _ in 0..5 {
                ledger.until_written(&server.address).await.expect("writes are taken");
            }
        }
        server.kill().await;
        Self { directory, ledgers }
    }

    /// A directory of its own for a row.
    pub(super) fn copy(&self) -> Result<Scene> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().canonicalize()?.join("data");
        self.copy_to(data, directory)
    }

    /// The same, with the data in another directory.
    pub(super) fn copy_to(&self, data: PathBuf, directory: TempDir) -> Result<Scene> {
        std::fs::create_dir(&data)?;
        for entry in std::fs::read_dir(self.directory.path().join("data"))? {
            let entry = entry?;
            std::fs::copy(entry.path(), data.join(entry.file_name()))?;
        }
        Ok(Scene { directory, data, ledgers: self.ledgers.iter().map(Ledger::fork).collect() })
    }
}

/// Creates a namespace. If it exists already, a call whose reply was lost has created it.
pub(super) async fn create(http: &mut Http, (name, token): (&str, &str)) -> Result<()> {
    let create = json!(["ns.create", name, { "token": token }]);
    insist(http, &create, 409).await
}

/// Repeats a call until the answer is success or this status.
async fn insist(http: &mut Http, call: &Value, or: u16) -> Result<()> {
    patiently(&format!("{call} succeeds"), async {
        loop {
            match http.call(call).await? {
                (status, _) if status == 200 || status == or => return Ok(()),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await?
}

/// A row's directory, and the ledgers of its writers.
pub(super) struct Scene {
    directory: TempDir,
    pub(super) data: PathBuf,
    pub(super) ledgers: Vec<Ledger>,
}

impl Scene {
    fn trace(&self) -> PathBuf {
        self.directory.path().join("trace")
    }

    /// The server's command. Its log goes into a file.
    pub(super) fn command(&self, program: &str) -> Result<Command> {
        let log = std::fs::File::options().create(true).append(true).open(self.directory.path().join("log"))?;
        let mut command = Command::new(program);
        command.stderr(log).stdout(Stdio::piped()).kill_on_drop(true);
        Ok(command)
    }

    pub(super) async fn start(&self) -> Result<Server> {
        let mut command = self.command(BINARY)?;
        command.args(Server::arguments(&self.data));
        let started = Server::try_launch(command).await;
        started.map_err(|status| anyhow::anyhow!("without a fault the server does not start: {status}; {}", self.log()))
    }

    /// The last lines of the server's log.
    pub(super) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        log.lines().last().unwrap_or("it says nothing").chars().take(300).collect()
    }

    /// Whether the server has logged an error.
    pub(super) fn logged_errors(&self) -> bool {
        std::fs::read_to_string(self.directory.path().join("log")).is_ok_and(|log| log.contains(" ERROR "))
    }

    /// Lets all writers write until each has one acknowledged write.
    async fn write_all(&self, address: &str) -> Result<()> {
        for ledger in &self.ledgers {
            ledger.until_written(address).await?;
        }
        Ok(())
    }

    /// Compares all ledgers with a server that may refuse writes.
    pub(super) async fn check_served(&self, address: &str) -> Result<()> {
        for ledger in &self.ledgers {
            ledger.check(address).await.with_context(|| format!("namespace {}", ledger.namespace))?;
        }
        Ok(())
    }

    /// Compares all ledgers with the server.
    async fn check(&self, address: &str) -> Result<()> {
        for ledger in &self.ledgers {
            ledger.retry_unanswered(address).await?;
            ledger.check(address).await.with_context(|| format!("namespace {}", ledger.namespace))?;
        }
        Ok(())
    }

    pub(super) async fn stop(&self, mut server: Server) -> Result<()> {
        server.signal(Signal::TERM);
        let status = patiently("SIGTERM ends the server", server.child.wait()).await??;
        ensure!(status.success(), "SIGTERM ends the server with {status}; {}", self.log());
        Ok(())
    }

    /// After the fault: checks that writes work again and every acknowledged message is there, before and after a
    /// restart.
    pub(super) async fn check_afterwards(&self, server: Server) -> Result<()> {
        self.write_all(&server.address).await?;
        self.check(&server.address).await?;
        self.stop(server).await?;
        self.verify().await?;
        self.check_restart().await
    }

    async fn check_restart(&self) -> Result<()> {
        let server = self.start().await.context("restart")?;
        self.check(&server.address).await.context("after a restart")?;
        self.write_all(&server.address).await?;
        self.stop(server).await?;
        self.verify().await
    }

    async fn verify(&self) -> Result<()> {
        let verify = Command::new(BINARY).arg("verify").arg(&self.data).output();
        let found = patiently("verify ends", verify).await??;
        let told = String::from_utf8_lossy(&found.stdout);
        ensure!(found.status.success(), "verify says: {told} {}", String::from_utf8_lossy(&found.stderr));
        Ok(())
    }
}

/// Either fails calls or records which calls are made.
enum Watch<'a> {
    Inject(&'a Fault),
    Survey,
}

impl Watch<'_> {
    async fn attach(&self, pid: u32, scene: &Scene) -> Result<Injector> {
        match self {
            Self::Inject(fault) => Injector::attach(pid, &scene.data, fault, scene.trace()).await,
            Self::Survey => Injector::survey(pid, scene.trace()).await,
        }
    }

    /// Waits until the call has failed, and for as long as the fault lasts.
    async fn until_over(&self, injector: &Injector) {
        match self {
            Self::Inject(fault) => {
                if injector.until_failed(REACHED_WITHIN).await && fault.lasts {
                    // The fault lasts for this time.
                    tokio::time::sleep(FAULT_FOR).await;
                }
            }
            // Background work of the phase, such as indexing, must be traced as well.
            Self::Survey => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// The calls that a phase makes.
pub(super) async fn survey(phase: Phase, template: &Template) -> Result<Survey> {
    let mut scene = template.copy()?;
    let (injector, server) = enact(phase, &mut scene, &Watch::Survey).await?;
    let survey = injector.surveyed(&scene.data).await?;
    drop(server);
    Ok(survey)
}

impl Case {
    /// Runs the row. Returns a description of how it held, or the promise that was broken.
    pub(super) async fn run(&self, template: &Template) -> Result<String> {
        let mut scene = template.copy()?;
        let outcome = self.run_in(&mut scene).await;
        outcome.with_context(|| format!("(its log ends: {})", scene.log()))
    }

    async fn run_in(&self, scene: &mut Scene) -> Result<String> {
        let (injector, server) = enact(self.phase, scene, &Watch::Inject(&self.fault)).await?;
        let failed = injector.detach().await?;
        let refused_start = self.phase == Phase::Start && server.is_none();
        match server {
            Some(server) => scene.check_afterwards(server).await?,
            None => scene.check_restart().await?,
        }
        let tallies: Vec<String> = scene.ledgers.iter().map(Ledger::tally).collect();
        let start = if refused_start { "; the start was refused" } else { "" };
        Ok(match failed {
            0 => "the call was not made".to_owned(),
            _ => format!("{failed} calls failed; {}{start}", tallies.join("; ")),
        })
    }
}

/// Runs a phase while the server is traced. Returns the server if it still runs.
async fn enact(phase: Phase, scene: &mut Scene, watch: &Watch<'_>) -> Result<(Injector, Option<Server>)> {
    if phase == Phase::Start {
        return start_watched(scene, watch).await;
    }
    let server = scene.start().await?;
    scene.write_all(&server.address).await?;
    let injector = watch.attach(server.pid, scene).await?;
    match phase {
        Phase::Load | Phase::Killed => load(scene, watch, server, injector, phase == Phase::Killed).await,
        Phase::Close => {
            scene.stop(server).await?;
            Ok((injector, None))
        }
        Phase::Create => {
            let created = Ledger::new(CREATED.0, CREATED.1);
            let mut http = server.connect().await;
            let work = async {
                create(&mut http, CREATED).await?;
                created.until_written(&server.address).await
            };
            let injector = beside(work, watch, injector).await?;
            scene.ledgers.push(created);
            Ok((injector, Some(server)))
        }
        _ => {
            let mut http = server.connect().await;
            let work = async { insist(&mut http, &json!(["ns.delete", OTHER.0]), 404).await };
            let injector = beside(work, watch, injector).await?;
            scene.ledgers.retain(|ledger| ledger.namespace != OTHER.0);
            Ok((injector, Some(server)))
        }
    }
}

/// Does work that may succeed only without the fault: the fault is ended while the work is still retried.
async fn beside(work: impl Future<Output = Result<()>>, watch: &Watch<'_>, injector: Injector) -> Result<Injector> {
    let over = async {
        watch.until_over(&injector).await;
        injector.let_be()
    };
    let (done, over) = tokio::join!(work, over);
    over?;
    done?;
    Ok(injector)
}

async fn load(
    scene: &Scene,
    watch: &Watch<'_>,
    server: Server,
    injector: Injector,
    kill: bool,
) -> Result<(Injector, Option<Server>)> {
    let writers: Vec<_> = scene.ledgers.iter().map(|ledger| ledger.write(&server.address)).collect();
    watch.until_over(&injector).await;
    let server = if kill {
        server.kill().await;
        None
    } else {
        injector.let_be()?;
        Some(server)
    };
    for writers in writers {
        writers.stop().await?;
    }
    Ok((injector, server))
}

/// Starts a server that is traced from its first instruction on: a shell waits until it is traced, and then becomes the
/// server.
async fn start_watched(scene: &Scene, watch: &Watch<'_>) -> Result<(Injector, Option<Server>)> {
    let mut command = scene.command("sh")?;
    command.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\"", BINARY]).args(Server::arguments(&scene.data));
    let child = command.spawn()?;
    let pid = child.id().context("it runs")?;
    patiently("the shell waits", until_stopped(pid)).await?;
    let injector = watch.attach(pid, scene).await?;
    kill_process(pid_of(pid), Signal::CONT)?;
    let server = match Server::listening(child).await {
        Ok(server) => server,
        Err(status) => {
            ensure!(status.code().is_some_and(|code| code != 0), "a start that fails ends with {status}");
            ensure!(scene.log() != "it says nothing", "a start that fails says nothing");
            return Ok((injector, None));
        }
    };
    let injector = beside(scene.write_all(&server.address), watch, injector).await?;
    Ok((injector, Some(server)))
}

async fn until_stopped(pid: u32) {
    let is_stopped = |path: &Path| std::fs::read_to_string(path).is_ok_and(|stat| stat.contains(") T "));
    while !is_stopped(Path::new(&format!("/proc/{pid}/stat"))) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
