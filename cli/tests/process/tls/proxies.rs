//! The recipes for nginx and Caddy in `docs/OPERATIONS.md`, as they stand there but for ports and paths, in front of a server.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use eventodb_store::testing::tell;
use eventodb_testing::ports;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::*;
use crate::server::PATIENCE;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
const TESTED: &str = ": a test runs it -->\n";

/// The recipe of the page for this.
fn recipe(what: &str) -> String {
    let page = std::fs::read_to_string(PAGE).expect("the page is in the repository");
    let (_, rest) = page.split_once(&format!("<!-- {what}{TESTED}")).expect("the page has the recipe");
    let (_, rest) = rest.split_once('\n').expect("the recipe begins");
    rest.split_once("```").expect("the recipe ends").0.to_owned()
}

/// A recipe with another one in the place of its block that begins with this line.
fn with_block(recipe: &str, first: &str, block: &str) -> String {
    let (before, rest) = recipe.split_once(first).expect("the recipe has the block");
    let indent = &before[before.rfind('\n').map_or(0, |end| end + 1)..];
    let (_, after) = rest.split_once(&format!("\n{indent}}}\n")).expect("the block ends");
    format!("{}{block}{after}", before.trim_end_matches(' '))
}

/// Debian's nginx, which only root has in the path.
pub(super) fn nginx() -> Option<PathBuf> {
    program("nginx")
}

/// Debian's Caddy.
pub(super) fn caddy() -> Option<PathBuf> {
    program("caddy")
}

/// A program of Debian. In CI it has to be there.
fn program(name: &str) -> Option<PathBuf> {
    let found =
        ["/usr/sbin", "/usr/bin"].map(|place| Path::new(place).join(name)).into_iter().find(|path| path.exists());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "{name} is missing");
    if found.is_none() {
        tell(&format!("NOT TESTED: {name} is missing"));
    }
    found
}

/// A proxy that ends TLS.
pub(super) struct Proxy {
    _process: Child,
    address: String,
    authority: Authority,
    directory: TempDir,
}

/// What a proxy is started in.
struct Place {
    authority: Authority,
    directory: TempDir,
    path: String,
    port: String,
}

impl Place {
    async fn new() -> Self {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
        authority.issue(Valid::Long).write(directory.path());
        let path = directory.path().to_str().expect("a temporary folder's name").to_owned();
        Self { authority, directory, path, port: ports::free().expect("a free port").to_string() }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).expect("the folder is ours");
    }

    /// Starts the proxy, whose output is a log too, and waits until it listens.
    async fn start(self, mut command: Command) -> Proxy {
        let log = File::create(self.directory.path().join("output.log")).expect("the folder is ours");
        command.current_dir(self.directory.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let _process = command.spawn().expect("the proxy starts");
        let Self { authority, directory, port, .. } = self;
        let proxy = Proxy { _process, address: format!("127.0.0.1:{port}"), authority, directory };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(&proxy.address).await.is_err() {
            assert!(Instant::now() < deadline, "the proxy does not listen: {}", proxy.log("output.log"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        proxy
    }
}

impl Proxy {
    /// The recipe for nginx in front of one server, or of two.
    pub(super) async fn of_nginx<const SERVERS: usize>(nginx: &Path, servers: [&str; SERVERS]) -> Self {
        let place = Place::new().await;
        let (path, port) = (&place.path, &place.port);
        let mut values = vec![
            ("listen 443 ", format!("listen 127.0.0.1:{port} ")),
            ("/etc/eventodb/tls.crt", format!("{path}/tls.crt")),
            ("/etc/eventodb/tls.key", format!("{path}/tls.key")),
            ("/var/log/nginx/eventodb.log", format!("{path}/access.log")),
            ("/var/log/nginx/eventodb-error.log", format!("{path}/error.log")),
        ];
        let mut site = recipe("nginx");
        match &servers[..] {
            [server] => values.push(("127.0.0.1:8080", (*server).to_owned())),
            [first, second] => {
                site = with_block(&site, "upstream eventodb {", &recipe("nginx for several servers"));
                values.extend([("10.0.0.1:8080", (*first).to_owned()), ("10.0.0.2:8080", (*second).to_owned())]);
            }
            _ => panic!("there is no such recipe"),
        }
        let site = replaced(&site, &values);
        let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let places: String = places.iter().map(|kind| format!("{kind}_temp_path {path}/{kind};\n")).collect();
        let head = format!("user root;\ndaemon off;\nmaster_process off;\npid {path}/pid;\n");
        let whole = format!("{head}events {{ worker_connections 4096; }}\nhttp {{\n{places}{site}}}\n");
        place.write("nginx.conf", &whole);
        let mut command = Command::new(nginx);
        command.args(["-p", path, "-c", "nginx.conf", "-e", "start.log"]);
        place.start(command).await
    }

    /// The recipe for Caddy in front of two servers.
    pub(super) async fn of_caddy(caddy: &Path, [first, second]: [&str; 2]) -> Self {
        let place = Place::new().await;
        let (path, port) = (&place.path, &place.port);
        let site = with_block(&recipe("caddy"), "reverse_proxy 127.0.0.1:8080 {", &recipe("caddy for several servers"));
        let site = replaced(
            &site,
            &[
                ("10.0.0.1:8080", first.to_owned()),
                ("10.0.0.2:8080", second.to_owned()),
                // Without asking anybody for a certificate.
                ("events.example.com {", format!("https://localhost:{port} {{\n    tls {path}/tls.crt {path}/tls.key")),
            ],
        );
        // It keeps its hands off the machine's ports and authorities.
        let global = "{\n    admin off\n    auto_https disable_redirects\n    skip_install_trust\n";
        place.write("Caddyfile", &site.replacen("{\n", global, 1));
        let mut command = Command::new(caddy);
        command.args(["run", "--config", "Caddyfile", "--adapter", "caddyfile"]);
        command.env("XDG_DATA_HOME", path).env("XDG_CONFIG_HOME", path).env("HOME", path);
        place.start(command).await
    }

    pub(super) async fn connect(&self) -> Http<TlsStream<TcpStream>> {
        connect(&self.address, self.authority.client(&["http/1.1"], None)).await.expect("the proxy is trusted")
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }

    /// Waits until this path is in a log, and looks for tokens in all of them.
    pub(super) async fn has_logged_no_token(&self, path: &str) {
        const LOGS: [&str; 4] = ["access.log", "error.log", "start.log", "output.log"];
        let deadline = Instant::now() + PATIENCE;
        while !LOGS.iter().any(|log| self.log(log).contains(path)) {
            assert!(Instant::now() < deadline, "the proxy logs nothing");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for log in LOGS {
            let text = self.log(log);
            assert!(!text.contains("token"), "{log}: {text}");
        }
    }
}

/// The recipe with other values, each of which it must have.
fn replaced(recipe: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(recipe.to_owned(), |recipe, (from, to)| {
        assert_eq!(recipe.matches(from).count(), 1, "{from}");
        recipe.replace(from, to)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pokes_pass_nginx_at_once_and_tokens_stay_out_of_its_logs() {
    let Some(nginx) = nginx() else { return };
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(directory.path(), &[]).await;
    let proxy = Proxy::of_nginx(&nginx, [&*server.address]).await;
    let mut subscriber = proxy.connect().await;
    let path = format!("/subscribe?all=true&token={TOKEN}");
    let head = eventodb_testing::http::head("GET", &path, None, &format!("Referer: https://localhost{path}\r\n"));
    subscriber.send(head.as_bytes()).await.expect("nginx reads");
    assert_eq!(subscriber.connection.head().await.expect("nginx answers").status, 200);
    let mut writer = proxy.connect().await;
    for position in 0..20 {
        let (status, _) =
            writer.call(&json!(["stream.write", "a-1", { "type": "T", "data": {} }])).await.expect("it answers");
        assert_eq!(status, 200);
        // Held back, it would come with later ones or not at all.
        let pokes = tokio::time::timeout(PATIENCE, subscriber.pokes()).await.expect("nothing is held back");
        assert_eq!(pokes.expect("the stream goes on").expect("the stream goes on").len(), 1, "{position}");
    }

    // It is larger than what nginx takes unless told.
    import(&mut writer, 10_000).await;
    server.stop().await;

    // The server is gone, so that nginx has an error to log.
    writer.send(eventodb_testing::http::call(Some(TOKEN), r#"["sys.version"]"#).as_bytes()).await.expect("nginx reads");
    assert_eq!(writer.connection.reply().await.expect("nginx answers").status, 502);
    drop(subscriber);
    proxy.has_logged_no_token("/subscribe").await;
}
