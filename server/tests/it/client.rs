//! The HTTP client of the tests, for a server that must answer: what fails fails the test.

use std::io::{ErrorKind, Result};
use std::net::SocketAddr;

use eventodb_testing::http::Connection;
pub(crate) use eventodb_testing::http::{Reply, call, head};
use tokio::net::{TcpSocket, TcpStream};

use crate::server::SOON;

/// A connection.
pub(crate) struct Client(Connection);

/// How a chunked body came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the last, empty chunk.
    Whole,
    /// With the connection.
    CutOff,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("the server listens"))
    }

    /// A connection from `127.0.0.LAST`.
    pub(crate) async fn connect_from(last: u8, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).expect("a free port");
        Self::over(socket.connect(address).await.expect("the server listens"))
    }

    /// A connection that holds little of what the client does not read.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a size");
        Self::over(socket.connect(address).await.expect("the server listens"))
    }

    fn over(stream: TcpStream) -> Self {
        Self(Connection::over(stream).with_patience(SOON))
    }

    /// The socket.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.0.stream
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.send(bytes).await.expect("the connection stands");
    }

    /// Calls a method.
    pub(crate) async fn call(&mut self, token: Option<&str>, body: &str) -> Reply {
        self.send(call(token, body)).await;
        self.reply().await
    }

    /// Sends a request without a body.
    pub(crate) async fn request(&mut self, method: &str, path: &str, token: Option<&str>) -> Reply {
        self.send(head(method, path, token, "")).await;
        if method == "HEAD" { self.head().await } else { self.reply().await }
    }

    /// The next reply, whole.
    pub(crate) async fn reply(&mut self) -> Reply {
        self.0.reply().await.expect("a whole reply")
    }

    /// The head of the next reply.
    pub(crate) async fn head(&mut self) -> Reply {
        self.0.head().await.expect("the head of a reply")
    }

    /// The rest of a chunked body.
    pub(crate) async fn chunked(&mut self) -> (Vec<u8>, End) {
        let mut body = Vec::new();
        loop {
            match self.chunk().await {
                Some(chunk) if chunk.is_empty() => return (body, End::Whole),
                Some(chunk) => body.extend(chunk),
                None => return (body, End::CutOff),
            }
        }
    }

    /// The next chunk of a chunked body: an empty one at its end, `None` if the connection ends.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let chunk: Result<_> = self.0.chunk().await;
        match chunk {
            Ok(chunk) => Some(chunk.unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => panic!("no chunk: {error}"),
        }
    }

    /// Receives some bytes; returns false at the end of the connection.
    pub(crate) async fn receive(&mut self) -> bool {
        self.0.receive().await.expect("bytes, or the end")
    }

    /// Waits for the end of the connection; returns what came before it.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        self.0.rest().await.expect("the end")
    }
}
