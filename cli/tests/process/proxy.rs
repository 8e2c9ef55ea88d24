//! A proxy on port 0 that forwards bytes and cuts a connection at a place that a test chooses.

use std::io::Result;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// After this many bytes of a request were sent to the server.
    Request(usize),
    /// After this many bytes of a reply were sent to the client, and one more has arrived.
    Reply(usize),
}

#[derive(Default)]
struct State {
    /// The cut to come, with what is left of its bytes.
    cut: Option<Cut>,
    /// Bytes of requests and of replies that went through.
    passed: (usize, usize),
}

/// A running proxy.
pub(crate) struct Proxy {
    address: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let (server, state) = (server.to_owned(), Arc::<Mutex<State>>::default());
        let for_connections = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, server.clone(), for_connections.clone()));
            }
        });
        Self { address, state, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address on which it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Cuts the next connection that reaches this place, once.
    pub(crate) fn cut(&self, cut: Cut) {
        let before = self.state.lock().cut.replace(cut);
        assert_eq!(before, None, "the cut before did not happen");
    }

    /// Whether the cut happened.
    pub(crate) fn has_cut(&self) -> bool {
        self.state.lock().cut.is_none()
    }

    /// Bytes of requests and of replies that went through so far.
    pub(crate) fn passed(&self) -> (usize, usize) {
        self.state.lock().passed
    }
}

/// Ends with both connections closed when one of its directions ends.
async fn connection(client: TcpStream, server: String, state: Arc<Mutex<State>>) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        end = pass(from_client, to_server, |bytes| state.lock().requests(bytes)) => end,
        end = pass(from_server, to_client, |bytes| state.lock().replies(bytes)) => end,
    }
}

/// Forwards bytes until `allowed` lets fewer through than there are.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, allowed: impl Fn(usize) -> usize) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).await?;
        let through = allowed(read);
        to.write_all(&buffer[..through]).await?;
        if read == 0 || through < read {
            return Ok(());
        }
    }
}

impl State {
    fn requests(&mut self, bytes: usize) -> usize {
        let (through, cut) = match self.cut {
            Some(Cut::Request(left)) if left < bytes => (left, None),
            Some(Cut::Request(left)) => (bytes, Some(Cut::Request(left - bytes))),
            other => (bytes, other),
        };
        self.cut = cut;
        self.passed.0 += through;
        through
    }

    fn replies(&mut self, bytes: usize) -> usize {
        let (through, cut) = match self.cut {
            Some(Cut::Reply(left)) if left < bytes => (left, None),
            Some(Cut::Reply(left)) => (bytes, Some(Cut::Reply(left - bytes))),
            other => (bytes, other),
        };
        self.cut = cut;
        self.passed.1 += through;
        through
    }
}
