//! A PgBouncer in transaction mode, the real one, which may know no prepared statements.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::config::{Config, Host};

use crate::{ports, postgres};

/// A running PgBouncer before a PostgreSQL, for all of its databases. It ends when it is dropped.
#[derive(Debug)]
pub struct Pooler {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    /// Starts one that has at most `connections` to each database of the server that `url` names. With fewer of them than
    /// there are sessions, they change hands all the time.
    ///
    /// # Panics
    /// It does not start. The message says what to install if there is no PgBouncer.
    pub async fn start(url: &str, connections: usize) -> Self {
        let server: Config = url.parse().expect("a good URL");
        let Some(Host::Tcp(host)) = server.get_hosts().first() else { panic!("the tests' server is on a port") };
        let port = ports::free().expect("a free port");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("pgbouncer.ini");
        let password = String::from_utf8_lossy(server.get_password().unwrap_or_default()).into_owned();
        // Connections to a database that nobody uses any more end soon: a test may make hundreds of databases.
        let configuration = format!(
            "[databases]\n* = host={host} port={} user={} password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = {connections}\nmax_client_conn = 200\n\
             server_idle_timeout = 3\nserver_login_retry = 1\n",
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

    /// The URL by which clients reach the database that `url` names.
    ///
    /// # Panics
    /// The URL names no database.
    pub fn url(&self, url: &str) -> String {
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
