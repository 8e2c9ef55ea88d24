//! The recipe for nginx in `docs/OPERATIONS.md`, as it stands there but for ports and paths, in front of a server.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use eventodb_store::testing::tell;
use serde_json::json;
use tokio::process::{Child, Command};

use super::*;
use crate::server::PATIENCE;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
const BEGIN: &str = "<!-- nginx: a test runs it -->\n```nginx\n";

/// The recipe of the page.
fn recipe() -> String {
    let page = std::fs::read_to_string(PAGE).expect("the page is in the repository");
    let (_, rest) = page.split_once(BEGIN).expect("the page has the recipe");
    rest.split_once("```").expect("the recipe ends").0.to_owned()
}

/// Debian's nginx, which only root has in the path.
fn nginx() -> Option<PathBuf> {
    let found = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        tell("NOT TESTED: nginx is missing");
    }
    found
}

struct Proxy {
    _nginx: Child,
    address: String,
    authority: Authority,
    directory: tempfile::TempDir,
}

impl Proxy {
    /// The recipe in front of this server.
    async fn start(nginx: &Path, server: &Server) -> Self {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
        authority.issue(Valid::Long).write(directory.path());
        let path = directory.path().to_str().expect("a temporary folder's name").to_owned();
        let port = free_port().await;
        let site = replaced(
            &recipe(),
            &[
                ("127.0.0.1:8080", &server.address),
                ("listen 443 ", &format!("listen 127.0.0.1:{port} ")),
                ("/etc/eventodb/tls.crt", &format!("{path}/tls.crt")),
                ("/etc/eventodb/tls.key", &format!("{path}/tls.key")),
                ("/var/log/nginx/eventodb.log", &format!("{path}/access.log")),
                ("/var/log/nginx/eventodb-error.log", &format!("{path}/error.log")),
            ],
        );
        let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let places: String = places.iter().map(|kind| format!("{kind}_temp_path {path}/{kind};\n")).collect();
        let whole = format!(
            "user root;\ndaemon off;\nmaster_process off;\npid {path}/pid;\nevents {{}}\nhttp {{\n{places}{site}}}\n"
        );
        std::fs::write(directory.path().join("nginx.conf"), whole).expect("the folder is ours");
        let mut command = Command::new(nginx);
        command.args(["-p", &path, "-c", "nginx.conf", "-e", "start.log"]).kill_on_drop(true);
        let nginx = command.stdin(Stdio::null()).spawn().expect("nginx starts");
        let proxy = Self { _nginx: nginx, address: format!("127.0.0.1:{port}"), authority, directory };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(&proxy.address).await.is_err() {
            assert!(Instant::now() < deadline, "nginx does not listen: {}", proxy.log("start.log"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        proxy
    }

    async fn connect(&self) -> Http<TlsStream<TcpStream>> {
        connect(&self.address, self.authority.client(&["http/1.1"], None)).await.expect("nginx is trusted")
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }
}

/// The recipe with other values, each of which it must have.
fn replaced(recipe: &str, values: &[(&str, &str)]) -> String {
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
    let proxy = Proxy::start(&nginx, &server).await;
    let mut subscriber = proxy.connect().await;
    let path = format!("/subscribe?all=true&token={TOKEN}");
    let head = eventodb_testing::http::head("GET", &path, None, "");
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
    let deadline = Instant::now() + PATIENCE;
    while !proxy.log("access.log").contains("/subscribe") {
        assert!(Instant::now() < deadline, "nginx logs nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for log in ["access.log", "error.log", "start.log"] {
        assert!(!proxy.log(log).contains("token"), "{log}: {}", proxy.log(log));
    }
}
