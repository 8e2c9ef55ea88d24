//! Behind PgBouncer in transaction mode, the real one, which may know no prepared statements.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::config::Host;

use super::fixture::{Fixture, positions, select, settings};
use crate::storage::Backend as _;
use eventodb_testing::postgres;

/// A running PgBouncer before the tests' server.
struct Pooler {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    async fn start(url: &str) -> Self {
        let settings = settings(url);
        let server = &settings.url.hosts()[0];
        let Some(Host::Tcp(host)) = server.get_hosts().first() else { panic!("the tests' server is on a port") };
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a free port").port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("pgbouncer.ini");
        let password = String::from_utf8_lossy(server.get_password().unwrap_or_default()).into_owned();
        let configuration = format!(
            "[databases]\n* = host={host} port={} user={} password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 200\n",
            server.get_ports()[0],
            server.get_user().unwrap_or_default(),
        );
        std::fs::File::create(&file).and_then(|mut file| file.write_all(configuration.as_bytes())).expect("it is ours");
        let mut command = Command::new(program());
        command.arg("--quiet").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = postgres::unprivileged(command, folder.path()).spawn().expect("it was found");
        let pooler = Self { process, port, _folder: folder };
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        pooler
    }

    fn url(&self, url: &str) -> String {
        let (_, database) = url.rsplit_once('/').expect("it names a database");
        format!("postgres://anybody:any@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn program() -> PathBuf {
    let places = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    places
        .chain(["/usr/sbin".into()])
        .map(|place| place.join("pgbouncer"))
        .find(|program| program.is_file())
        .expect("the tests need PgBouncer: install it (Debian: apt-get install pgbouncer)")
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_through_a_pooler() {
    let direct = postgres::database().await;
    let pooler = Pooler::start(&direct).await;
    let fixture = Fixture::at(pooler.url(&direct), |settings| {
        settings.prepare = false;
        settings.listen_url = Some(direct.parse().expect("a good URL"));
    })
    .await;
    let mut hints = fixture.backend.hints().expect("they are taken once");
    assert_eq!(hints.recv().await, Some(crate::storage::Hint::All));
    let second = Fixture::at(pooler.url(&direct), |settings| settings.prepare = false).await;
    // More sessions than the pooler has connections, so that they change hands all the time.
    let all = select(eventodb_protocol::Scope::All);
    for round in 1..=10 {
        second.write(&[("a-1", "A"), ("b-1", "B")]).await;
        let reads = (0..8).map(|_| fixture.storage.read(&all));
        for slice in futures_util::future::join_all(reads).await {
            assert_eq!(positions(&slice.expect("it answers")), (1..=2 * round).collect::<Vec<i64>>());
        }
    }
    assert!(matches!(hints.recv().await, Some(crate::storage::Hint::Written(log, _)) if log == fixture.log));
    let stale = fixture.batch(&[("a-1", "A")]).await;
    fixture.write(&[("a-1", "A")]).await;
    assert!(fixture.settle(&stale).await.is_ok());
    assert_eq!(fixture.storage.counts().await.expect("it answers").messages, 21);
    fixture.backend.delete(fixture.log).await.expect("it answers").expect("it lives");
    fixture.long_ago().await;
    fixture.backend.purge().await.expect("it answers");
}
