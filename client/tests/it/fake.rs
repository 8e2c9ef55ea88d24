//! A fake server on port 0 that parses requests and answers as a test tells it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eventodb_client::{Client, RetryPolicy};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Path and query.
    pub(crate) target: String,
    pub(crate) last_event_id: Option<String>,
    pub(crate) body: String,
}

/// What the fake server does with a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A whole reply.
    Reply { status: u16, headers: String, body: String },
    /// These bytes, and then the connection is cut.
    Cut(Vec<u8>),
    /// The head of an event stream and this part of it. Then the connection is cut or stays silent.
    Events { text: String, then_cut: bool },
    /// Nothing, until the client closes the connection.
    Hang,
    /// This reply, as soon as the token is cancelled.
    Later(CancellationToken, Box<Answer>),
}

impl Answer {
    pub(crate) fn ok(body: impl Into<String>) -> Self {
        Self::Reply { status: 200, headers: String::new(), body: body.into() }
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"as the test wants"}}}}"#);
        Self::Reply { status, headers: String::new(), body }
    }

    pub(crate) fn with_header(mut self, header: &str) -> Self {
        if let Self::Reply { headers, .. } = &mut self {
            headers.push_str(header);
            headers.push_str("\r\n");
        }
        self
    }

    /// The bytes of the reply.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Reply { status, headers, body } => format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
                body.len()
            )
            .into_bytes(),
            Self::Cut(bytes) => bytes.clone(),
            Self::Hang => Vec::new(),
            Self::Later(_, reply) => reply.bytes(),
            Self::Events { text, .. } => {
                format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{text}").into_bytes()
            }
        }
    }
}

type Behaviour = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

/// A running fake.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) async fn start(behaviour: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let accepted = connections.clone();
        let (seen, behaviour): (_, Behaviour) = (requests.clone(), Arc::new(behaviour));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, behaviour.clone(), seen.clone()));
            }
        });
        Self { address, requests, connections, task }
    }

    /// A client with short waits.
    pub(crate) fn client(&self) -> Client {
        let retry = RetryPolicy { first: std::time::Duration::from_millis(1), ..RetryPolicy::default() };
        Client::builder(&format!("http://{}", self.address)).retry(retry).build().expect("a URL")
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        self.requests.lock().iter().map(|request| request.body.clone()).collect()
    }
}

async fn serve(stream: TcpStream, behaviour: Behaviour, seen: Arc<Mutex<Vec<Request>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let answer = behaviour(&request);
        seen.lock().push(request);
        if let Answer::Later(when, _) = &answer {
            when.cancelled().await;
        }
        if stream.write_all(&answer.bytes()).await.is_err() {
            return;
        }
        match answer {
            Answer::Reply { .. } | Answer::Later(..) => {}
            Answer::Cut(_) | Answer::Events { then_cut: true, .. } => return,
            // The connection stays silent until the client closes it.
            Answer::Events { .. } | Answer::Hang => {
                let _ = stream.read(&mut [0; 1]).await;
                return;
            }
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let mut body = vec![0; header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request {
        target: lines.first()?.split(' ').nth(1)?.to_owned(),
        last_event_id: header("last-event-id"),
        body: String::from_utf8(body).ok()?,
    })
}
