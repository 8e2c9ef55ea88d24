//! A server for one test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::{DEFAULT_NAMESPACE, Token};
use eventodb_server::{Config, Mode, Stop, Totals};
use eventodb_store::model::NewNamespace;
use eventodb_store::sqlite::{self, Location, Sqlite};
use eventodb_store::{EventStore, Settings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::client::{Client, Reply};

/// How long anything may take that should happen; a bound for liveness, not an expectation of speed.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The token of `default`.
    pub(crate) token: Token,
    pub(crate) store: Arc<EventStore>,
    pub(crate) stop: Stop,
    task: JoinHandle<Totals>,
}

impl Server {
    /// A server in test mode.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server in production mode.
    pub(crate) async fn start_production() -> Self {
        Self::start_with(|config| config.mode = Mode::Production).await
    }

    /// A server with other settings than those of test mode.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(Settings::default(), change).await
    }

    /// A server on a store with these settings.
    pub(crate) async fn start_on(settings: Settings, change: impl FnOnce(&mut Config)) -> Self {
        let backend = Sqlite::open(Location::Memory, sqlite::Settings::default()).expect("memory opens");
        let store = EventStore::open(backend, settings).await.expect("the store opens");
        let token = Token::generate(DEFAULT_NAMESPACE);
        let default = NewNamespace {
            name: DEFAULT_NAMESPACE.to_owned(),
            token_hash: token.hash(),
            description: String::new(),
            metadata: "{}".to_owned(),
        };
        store.create(default).await.expect("an empty store has no default");
        let mut config = Config { mode: Mode::test(), ..Config::default() };
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stop = Stop::default();
        let task = tokio::spawn(eventodb_server::run(listener, Arc::clone(&store), config, stop.clone()));
        Self { address, token, store, stop, task }
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// The reply to a call on a connection of its own, with a token.
    pub(crate) async fn call(&self, token: &str, body: &str) -> Reply {
        self.connect().await.call(Some(token), body).await
    }

    /// The text of the result of a call, which must succeed.
    pub(crate) async fn rpc(&self, token: &str, body: &str) -> String {
        let reply = self.call(token, body).await;
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        reply.text()
    }

    /// Tokens of `default` that may read everything, only write, and read one category.
    pub(crate) async fn limited_tokens(&self) -> [String; 3] {
        let mut made = [const { String::new() }; 3];
        let limits = [
            json!({"rights": ["read"]}),
            json!({"rights": ["write"]}),
            json!({"rights": ["read"], "categories": ["a"]}),
        ];
        for (token, limit) in made.iter_mut().zip(limits) {
            let created = self.rpc(self.token.as_str(), &json!(["token.create", limit]).to_string()).await;
            let created: Value = serde_json::from_str(&created).expect("JSON");
            created["token"].as_str().expect("a token").clone_into(token);
        }
        made
    }

    /// Waits until this number of connections are open. One of them is the connection that asks.
    pub(crate) async fn has_connections(&self, count: usize) {
        let mut client = self.connect().await;
        within("the number of connections", async {
            while client.call(None, r#"["sys.health"]"#).await.json()["connections"] != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Writes this number of messages to a stream.
    pub(crate) async fn fill(&self, token: &str, stream: &str, count: usize, data: &str) {
        for _ in 0..count.div_ceil(1000) {
            let message = format!(r#"{{"type":"T","data":{data}}}"#);
            let messages = vec![message; count.min(1000)].join(",");
            self.rpc(token, &format!(r#"["stream.append","{stream}",[{messages}]]"#)).await;
        }
    }

    /// Waits for the end of a server that was told to stop.
    pub(crate) async fn ended(self) {
        within("the server's end", self.task).await.expect("the server does not panic");
    }
}

/// A token of a namespace that nobody has used.
pub(crate) fn fresh() -> String {
    let name = format!("test-{}", uuid::Uuid::new_v4());
    Token::generate(&name).to_string()
}

/// What a future comes to, soon.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}
